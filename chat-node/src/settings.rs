//! The configuration in the words of the layers below.

use chat_session::ConnectionLimits;
use chat_state::settings::{Bounds, DeclaredChannel, Limits, Settings};
use contract::config::{ChatSettings, HistorySettings, NodeConfig};

/// What becomes an entry of the log. Revision 0 stands for "the next one".
pub(crate) fn settings(config: &NodeConfig) -> Settings {
    let ChatSettings { motd, channels, history, limits } = &config.chat;
    let HistorySettings { max_age, max_messages } = history;
    let contract::config::ChatLimits {
        nick_length,
        channels_per_user,
        channel_length,
        topic_length,
        kick_length,
        away_length,
        key_length,
        list_entries,
    } = limits.clone();
    Settings {
        revision: config.revision.unwrap_or(0),
        motd: motd.clone(),
        channels: channels
            .iter()
            .map(|channel| DeclaredChannel { name: channel.name.clone(), topic: channel.topic.clone() })
            .collect(),
        history_max_age_ms: max_age.as_secs() * 1000,
        history_max_messages: *max_messages,
        resume_window_ms: config.resume_window.as_secs() * 1000,
        limits: Limits {
            nick_length,
            channels_per_user,
            channel_length,
            topic_length,
            kick_length,
            away_length,
            key_length,
            list_entries,
        },
        bounds: Bounds::default(),
    }
}

/// What concerns this node's connections alone.
pub(crate) fn connection_limits(limits: &contract::config::ConnectionLimits) -> ConnectionLimits {
    let contract::config::ConnectionLimits {
        max_connections: _,
        max_connections_per_address: _,
        registration,
        ping_after,
        pong_within,
        command_burst,
        commands_per_second,
        max_waiting_input,
        max_waiting_output,
    } = limits;
    ConnectionLimits {
        registration_ms: registration.as_secs() * 1000,
        ping_after_ms: ping_after.as_secs() * 1000,
        pong_within_ms: pong_within.as_secs() * 1000,
        command_burst: *command_burst,
        commands_per_second: *commands_per_second,
        max_waiting_input: *max_waiting_input,
        max_waiting_output: *max_waiting_output,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_the_file_are_those_of_the_state() {
        let config = NodeConfig {
            chat: ChatSettings { motd: String::new(), ..ChatSettings::default() },
            ..NodeConfig::default()
        };
        assert_eq!(settings(&config), Settings::default());
        let (file, session) = (connection_limits(&config.limits), ConnectionLimits::default());
        assert_eq!(format!("{file:?}"), format!("{session:?}"));
    }
}
