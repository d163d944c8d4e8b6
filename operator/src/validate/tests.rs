use contract::{
    config::{FailureDomains, Listeners, LogConfig, NodeConfig, RaftLog},
    duration::Span,
};
use serde_json::json;

use super::{Defaults, Room, UserError, validate};
use crate::{
    build,
    observe::Observed,
    testing::{defaults, room, small_room},
};

fn messages(spec: serde_json::Value) -> Vec<String> {
    let errors = validate(&room(spec), &Observed::default(), &defaults()).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

fn valid(spec: serde_json::Value) -> Room {
    validate(&room(spec), &Observed::default(), &defaults()).unwrap()
}

#[test]
fn a_small_room_is_the_node_s_own_default_with_its_names() {
    let room = valid(json!({"mode": {"stateful": {}}}));
    assert_eq!(
        room.config,
        NodeConfig {
            network: "lounge".into(),
            server_name: "lounge.default".into(),
            data: "/data".into(),
            log: LogConfig::Raft(RaftLog {
                shards: 4,
                tolerate: 1,
                name: String::new(),
                advertise: String::new(),
                peers: vec!["lounge-peers.default.svc:7000".into()],
                domains: FailureDomains::default(),
            }),
            listeners: Listeners {
                control: room.config.listeners.control.clone(),
                peer: room.config.listeners.peer.clone(),
                ..Listeners::default()
            },
            ..NodeConfig::default()
        }
    );
    assert_eq!((room.image.as_str(), room.wish), ("chat-node:1", None));
}

#[test]
fn settings_reach_the_node() {
    let room = valid(json!({
        "mode": {"stateful": {"shards": 9, "tolerate": {"nodeFailures": 2}}},
        "node": {"workers": 3, "resumeWindow": "15m", "maxConnections": 7, "logLevel": "debug", "logFormat": "json"},
        "chat": {
            "motd": "a\nb",
            "channels": [{"name": "#a", "topic": "t"}],
            "history": {"maxAge": "1d", "maxMessages": 5},
            "limits": {"nickLength": 9},
        },
        "listeners": {"irc": {"enabled": false}, "web": {"port": 80, "allowedOrigins": ["https://x"]}},
    }));
    let config = &room.config;
    let LogConfig::Raft(log) = &config.log else { panic!("{:?}", config.log) };
    assert_eq!((log.shards, log.tolerate), (9, 2));
    assert_eq!(
        (config.workers, config.resume_window, config.limits.max_connections),
        (3, Span::from_secs(900), 7)
    );
    assert_eq!((config.chat.motd.as_str(), config.chat.channels[0].name.as_str()), ("a\nb", "#a"));
    assert_eq!((config.chat.history.max_messages, config.chat.limits.nick_length), (5, 9));
    assert!(config.listeners.irc.is_none());
    assert_eq!(room.ports.named(), [("web", 80)]);
    assert_eq!(config.listeners.web.as_ref().unwrap().address.port(), contract::ports::WEB);
}

#[test]
fn what_is_written_into_the_config_map_is_read_by_the_node() {
    let room = valid(json!({
        "mode": {"stateful": {}},
        "chat": {"motd": "it's: \"# quoted\"\n  - and odd", "channels": [{"name": "#ä{}", "topic": "yes"}]},
        "listeners": {"web": {"enabled": false}},
    }));
    let circumstances = build::Circumstances {
        revision: 7,
        control: String::new(),
        template_size: None,
        replicas: 3,
        partition: 3,
    };
    let map = build::objects(&room, &circumstances).config_map;
    assert_eq!(build::read_config(&map), Some(NodeConfig { revision: Some(7), ..room.config }));
}

#[test]
fn errors_come_together_and_say_the_fix() {
    let found = messages(json!({
        "mode": {"stateful": {}},
        "node": {"resumeWindow": "9999d", "drainDeadline": "1h"},
        "chat": {
            "channels": [{"name": "#Lounge"}, {"name": "#lounge"}, {"name": "#toolong", "topic": "long"}],
            "limits": {"channelLength": 7, "topicLength": 3},
        },
    }));
    assert_eq!(
        found,
        [
            "spec.chat.channels: #Lounge and #lounge are one channel, as case does not count: remove one",
            "spec.chat.channels: #toolong has 8 bytes: shorten it, or raise limits.channelLength",
            "spec.chat.channels: the topic of #toolong has 4 bytes: shorten it, or raise limits.topicLength",
            "spec.node.resumeWindow: `9999d` is too long: at most 3650d",
            "spec.node.drainDeadline: 1h is too long: write at most 10m",
        ]
    );
}

#[test]
fn an_image_is_needed_from_somewhere() {
    let errors = validate(&small_room(), &Observed::default(), &Defaults { node_image: None, ..defaults() })
        .unwrap_err();
    assert!(errors[0].to_string().contains("spec.node.image: name an image"), "{}", errors[0]);
}

#[test]
fn an_object_of_somebody_else_is_named() {
    let observed = Observed { strangers: vec!["Service default/lounge".into()], ..Observed::default() };
    let errors = validate(&small_room(), &observed, &defaults()).unwrap_err();
    assert_eq!(errors, [UserError::NameTaken { object: "Service default/lounge".into() }]);
    assert!(errors[0].to_string().contains("delete it, or give the room another name"));
}

#[test]
fn a_stateless_room_is_known_to_its_store_by_its_uid() {
    let room = valid(json!({"mode": {"stateless": {"store": {"managed": {}}}}}));
    let LogConfig::Valkey(log) = &room.config.log else { panic!("{:?}", room.config.log) };
    assert_eq!((log.shards, log.room.as_str(), log.ca_file.as_ref()), (4, "room-uid", None));
    let store = room.managed_store().unwrap();
    assert_eq!(
        (store.size.0.as_str(), store.image.as_str(), store.secret.as_str()),
        ("1Gi", "store:1", "lounge-store-roomuid")
    );
    assert!(room.volume().is_none());
}

#[test]
fn listeners_over_tls_are_served_with_the_room_s_certificates_and_are_off_unless_set() {
    let room = valid(json!({
        "mode": {"stateful": {}},
        "listeners": {"web": {"enabled": false}, "ircs": {"port": 7000, "certificateSecret": "a", "stsDuration": "30d"}, "webs": {"port": 443, "certificateSecret": "b"}},
    }));
    assert_eq!(room.ports.named(), [("irc", 6667), ("ircs", 7000), ("webs", 443)]);
    assert_eq!(
        (room.certificates.ircs.as_deref(), room.certificates.webs.as_deref()),
        (Some("a"), Some("b"))
    );
    let listeners = &room.config.listeners;
    let ircs = listeners.ircs.as_ref().unwrap();
    assert_eq!(ircs.address.port(), contract::ports::IRCS);
    assert_eq!(
        (ircs.sts_port.map(u16::from), ircs.sts_duration),
        (Some(7000), Some(Span::from_secs(30 * 86_400)))
    );
    assert_eq!(listeners.webs.as_ref().unwrap().address.port(), contract::ports::WEBS);
    let small = valid(json!({"mode": {"stateful": {}}}));
    assert!(small.config.listeners.ircs.is_none() && small.config.listeners.webs.is_none());
    assert_eq!(small.config.listeners.peer.unwrap().address.port(), contract::ports::PEER);
    assert_eq!(small.config.listeners.control.unwrap().address.port(), contract::ports::CONTROL);
}
