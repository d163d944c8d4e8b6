//! The `chat-node` program.

fn main() -> std::process::ExitCode {
    chat_node::cli::run()
}
