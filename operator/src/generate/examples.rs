//! Example rooms.

use serde_json::{Value, json};

/// Name of the file, what it shows, the room.
pub(super) fn rooms() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("lounge", "The smallest room: one node, its log on a volume of its own.", lounge()),
        (
            "stateful",
            "A room of three nodes that keep the log together: one of them may fail, and people talk on.",
            stateful(),
        ),
        (
            "stateless",
            "A room of three nodes that keep nothing: the log is in a store that the operator runs, for trying out.",
            stateless(),
        ),
        (
            "shared-store",
            "A room of nodes that keep nothing: the log is in a Valkey or Redis of yours, known by a Secret.",
            shared_store(),
        ),
        ("team", "A room with settings: channels, history, limits, more threads, a port of its own.", team()),
    ]
}

fn lounge() -> Value {
    json!({
        "apiVersion": "chatroom.dev/v1alpha1",
        "kind": "ChatRoom",
        "metadata": {"name": "lounge"},
        "spec": {
            "replicas": 1,
            "mode": {"stateful": {"tolerate": {"nodeFailures": 0}}},
            "chat": {
                "motd": "Welcome to the lounge.",
                "channels": [{"name": "#lounge", "topic": "Come in, sit down."}],
            },
        },
    })
}

fn stateful() -> Value {
    json!({
        "apiVersion": "chatroom.dev/v1alpha1",
        "kind": "ChatRoom",
        "metadata": {"name": "forum"},
        "spec": {
            "replicas": 3,
            "mode": {"stateful": {"tolerate": {"nodeFailures": 1}, "storage": {"size": "1Gi"}}},
            "chat": {
                "motd": "Welcome to the forum.",
                "channels": [{"name": "#forum", "topic": "A majority remembers."}],
            },
        },
    })
}

fn stateless() -> Value {
    json!({
        "apiVersion": "chatroom.dev/v1alpha1",
        "kind": "ChatRoom",
        "metadata": {"name": "plaza"},
        "spec": {
            "replicas": 3,
            "mode": {"stateless": {"store": {"managed": {}}}},
            "chat": {
                "motd": "Welcome to the plaza.",
                "channels": [{"name": "#plaza", "topic": "Any node will do."}],
            },
        },
    })
}

fn shared_store() -> Value {
    json!({
        "apiVersion": "chatroom.dev/v1alpha1",
        "kind": "ChatRoom",
        "metadata": {"name": "market"},
        "spec": {
            "replicas": 3,
            "mode": {"stateless": {"shards": 8, "store": {"valkey": {
                "urlFrom": {"secretKeyRef": {"name": "market-store", "key": "url"}},
                "caFrom": {"configMapKeyRef": {"name": "market-store-ca", "key": "ca.crt"}},
            }}}},
            "node": {"resources": {
                "requests": {"cpu": "200m", "memory": "128Mi"},
                "limits": {"memory": "512Mi"},
            }},
            "chat": {"channels": [{"name": "#market", "topic": "Buy and sell"}]},
        },
    })
}

fn team() -> Value {
    json!({
        "apiVersion": "chatroom.dev/v1alpha1",
        "kind": "ChatRoom",
        "metadata": {"name": "team"},
        "spec": {
            "replicas": 1,
            "mode": {"stateful": {
                "shards": 8,
                "tolerate": {"nodeFailures": 0},
                "storage": {"size": "2Gi", "retain": "Delete"},
            }},
            "node": {
                "workers": 2,
                "resources": {
                    "requests": {"cpu": "200m", "memory": "128Mi"},
                    "limits": {"memory": "512Mi"},
                },
                "maxConnections": 5_000,
                "resumeWindow": "15m",
                "logFormat": "json",
            },
            "chat": {
                "motd": "The team's room.\nBe kind.",
                "channels": [
                    {"name": "#general", "topic": "Everything"},
                    {"name": "#incidents", "topic": "What is broken"},
                ],
                "history": {"maxAge": "30d", "maxMessages": 50_000},
                "limits": {"nickLength": 20, "channelsPerUser": 50},
            },
            "listeners": {
                "irc": {"port": 6667},
                "web": {"port": 80, "allowedOrigins": ["https://chat.example.org"]},
            },
            "service": {"type": "NodePort"},
        },
    })
}
