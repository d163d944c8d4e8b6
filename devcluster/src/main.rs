//! The command `devcluster`; see the library for what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    devcluster::command::main()
}
