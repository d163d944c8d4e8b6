use serde_json::{Value, json};

use super::{Circumstances, objects, store_secret};
use crate::{
    observe::Observed,
    testing::{defaults, stateful_room, stateless_room},
    validate::{Room, validate},
};

fn room(store: &Value) -> Room {
    validate(&stateless_room(3, store), &Observed::default(), &defaults()).unwrap()
}

fn managed() -> Room {
    room(&json!({"managed": {"size": "2Gi", "className": "fast"}}))
}

fn valkey() -> Room {
    room(&json!({"valkey": {
        "urlFrom": {"secretKeyRef": {"name": "cred", "key": "redis-url"}},
        "caFrom": {"configMapKeyRef": {"name": "trust", "key": "root.pem"}},
    }}))
}

/// The objects as JSON, without what is not there.
fn built(room: &Room) -> Value {
    let built = objects(
        room,
        &Circumstances {
            revision: 1,
            control: "hash".into(),
            template_size: None,
            replicas: 3,
            partition: 3,
        },
    );
    json!({
        "config": super::read_config(&built.config_map),
        "service": built.client_service,
        "deployment": built.deployment,
        "budget": built.disruption_budget,
        "policy": built.network_policy,
        "set": built.stateful_set,
        "peers": built.peer_service,
        "store": built.store_stateful_set,
        "storePolicy": built.store_network_policy,
        "storeService": built.store_service,
    })
}

fn volume<'a>(pod: &'a Value, name: &str) -> &'a Value {
    pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == name).unwrap_or(&Value::Null)
}

fn mount<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    mounts.iter().find(|mount| mount["name"] == name).unwrap_or(&Value::Null)
}

#[test]
fn a_stateless_room_rolls_without_a_gap_and_has_no_volume() {
    let built = built(&valkey());
    let spec = &built["deployment"]["spec"];
    assert_eq!(spec["replicas"], 3);
    assert_eq!(spec["strategy"]["rollingUpdate"], json!({"maxSurge": 1, "maxUnavailable": 0}));
    let pod = &spec["template"]["spec"];
    assert!(!pod["volumes"].to_string().contains("persistentVolumeClaim"));
    assert_eq!(mount(pod, "data"), &Value::Null);
    assert!(pod["terminationGracePeriodSeconds"].as_i64() > Some(30), "longer than the drain");
    assert_eq!(pod["topologySpreadConstraints"][0]["whenUnsatisfiable"], "ScheduleAnyway");
    assert_eq!(built["budget"]["spec"]["maxUnavailable"], 1);
    assert_eq!(built["budget"]["spec"]["unhealthyPodEvictionPolicy"], "AlwaysAllow");
    for absent in ["set", "peers", "store", "storePolicy", "storeService"] {
        assert!(built[absent].is_null(), "{absent}");
    }
}

#[test]
fn the_node_finds_url_and_certificates_where_they_are_mounted_and_follows_their_changes() {
    let built = built(&valkey());
    let log = &built["config"]["log"]["valkey"];
    assert_eq!(log["room"], "room-uid");
    let pod = &built["deployment"]["spec"]["template"]["spec"];
    for (name, key, path) in
        [("store-url", "redis-url", &log["urlFile"]), ("store-ca", "root.pem", &log["caFile"])]
    {
        let source = volume(pod, name);
        let items = source["secret"]["items"].as_array().or(source["configMap"]["items"].as_array()).unwrap();
        let mount = mount(pod, name);
        let file = format!("{}/{}", mount["mountPath"].as_str().unwrap(), items[0]["path"].as_str().unwrap());
        assert_eq!((&json!(file), &items[0]["key"]), (path, &json!(key)));
        assert!(mount.get("subPath").is_none(), "a new value would not come through");
    }
    assert_eq!(volume(pod, "store-url")["secret"]["secretName"], "cred");
    assert_eq!(volume(pod, "store-ca")["configMap"]["name"], "trust");
}

#[test]
fn everything_runs_restricted() {
    let built = built(&managed());
    for workload in ["deployment", "store"] {
        let pod = &built[workload]["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(pod["automountServiceAccountToken"], false);
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(container["allowPrivilegeEscalation"], false);
        assert_eq!(container["readOnlyRootFilesystem"], true);
        assert_eq!(container["capabilities"], json!({"drop": ["ALL"]}));
    }
}

#[test]
fn the_room_s_own_store_flushes_before_it_answers_and_drops_nothing() {
    let built = built(&managed());
    let pod = &built["store"]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["command"], json!(["redis-server"]));
    let arguments: Vec<_> =
        container["args"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    for pair in [["--appendonly", "yes"], ["--appendfsync", "always"], ["--maxmemory-policy", "noeviction"]] {
        assert!(arguments.windows(2).any(|window| window == pair), "{arguments:?}");
    }
    let auth = volume(pod, "auth");
    let directory = mount(pod, "auth")["mountPath"].as_str().unwrap();
    assert_eq!(arguments[0], format!("{directory}/{}", auth["secret"]["items"][0]["path"].as_str().unwrap()));
    let claim = &built["store"]["spec"]["volumeClaimTemplates"][0]["spec"];
    assert_eq!(
        (&claim["storageClassName"], &claim["resources"]["requests"]["storage"]),
        (&json!("fast"), &json!("2Gi"))
    );
}

#[test]
fn nodes_and_store_share_one_secret_whose_name_is_the_room_s_alone() {
    let room = managed();
    let secret = store_secret(&room, room.managed_store().unwrap(), "s3cret");
    let data = secret.string_data.unwrap();
    assert_eq!(data["url"], "redis://default:s3cret@lounge-store.default.svc:6379/0");
    assert_eq!(data["auth.conf"], "requirepass s3cret\n");
    let name = secret.metadata.name.unwrap();
    let built = built(&room);
    for (workload, name_of_volume, key) in
        [("deployment", "store-url", "url"), ("store", "auth", "auth.conf")]
    {
        let volume = volume(&built[workload]["spec"]["template"]["spec"], name_of_volume);
        assert_eq!(volume["secret"]["secretName"], json!(name));
        assert_eq!(volume["secret"]["items"][0]["key"], key);
    }
    assert_ne!(name, crate::names::store_secret("lounge", "another-uid"));
    assert_eq!(secret.metadata.owner_references.unwrap()[0].uid, "room-uid");
}

#[test]
fn the_network_lets_through_what_is_needed() {
    let built = built(&managed());
    let store = json!({"app.kubernetes.io/name": "chat-store", "chatroom.dev/room": "lounge"});
    let nodes = json!({"app.kubernetes.io/name": "chat-node", "chatroom.dev/room": "lounge"});
    let egress = &built["policy"]["spec"]["egress"];
    assert_eq!(egress[0]["ports"][0], json!({"port": 53, "protocol": "UDP"}));
    assert_eq!(egress[1]["to"], json!([{"podSelector": {"matchLabels": store}}]));
    let policy = &built["storePolicy"]["spec"];
    assert_eq!(policy["podSelector"]["matchLabels"], store);
    assert_eq!(
        policy["ingress"],
        json!([{"from": [{"podSelector": {"matchLabels": nodes}}], "ports": [{"port": 6379, "protocol": "TCP"}]}])
    );
    assert!(
        policy["egress"].is_null() && policy["policyTypes"] == json!(["Ingress", "Egress"]),
        "it reaches nobody"
    );
    let deployed = &built["deployment"]["spec"];
    assert_eq!(deployed["selector"]["matchLabels"], nodes);
    assert_eq!(built["storeService"]["spec"]["selector"], store, "the store's pod is no node");
    let own = self::built(&valkey());
    assert_eq!(own["policy"]["spec"]["egress"][1], json!({"ports": [{"protocol": "TCP"}]}));
}

#[test]
fn a_stateful_room_has_nothing_of_a_store() {
    let built = built(&stateful());
    for absent in ["deployment", "store", "storePolicy", "storeService"] {
        assert!(built[absent].is_null(), "{absent}");
    }
    let pod = &built["set"]["spec"]["template"]["spec"];
    assert_eq!(mount(pod, "data")["mountPath"], "/data");
    assert_eq!(built["budget"]["spec"]["maxUnavailable"], 1);
}

fn stateful() -> Room {
    validate(&stateful_room(3, 1), &Observed::default(), &defaults()).unwrap()
}

#[test]
fn stateful_nodes_start_at_once_and_roll_only_as_far_as_they_are_let() {
    let built = built(&stateful());
    let spec = &built["set"]["spec"];
    assert_eq!((&spec["replicas"], &spec["podManagementPolicy"]), (&json!(3), &json!("Parallel")));
    assert_eq!(spec["updateStrategy"], json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}));
    assert_eq!(
        spec["persistentVolumeClaimRetentionPolicy"]["whenScaled"], "Retain",
        "Kubernetes does not know who is a member"
    );
    let spread: Vec<_> = spec["template"]["spec"]["topologySpreadConstraints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (&it["topologyKey"], &it["whenUnsatisfiable"]))
        .collect();
    let keys = ["kubernetes.io/hostname", "topology.kubernetes.io/zone"];
    assert_eq!(json!(spread), json!(keys.map(|key| [key, "ScheduleAnyway"])));
}

#[test]
fn stateful_nodes_find_each_other_before_they_are_ready_and_nobody_else_reaches_them() {
    let built = built(&stateful());
    let peers = &built["peers"];
    assert_eq!(peers["metadata"]["name"], "lounge-peers");
    assert_eq!(built["set"]["spec"]["serviceName"], "lounge-peers");
    assert_eq!(
        (&peers["spec"]["clusterIP"], &peers["spec"]["publishNotReadyAddresses"]),
        (&json!("None"), &json!(true))
    );
    assert_eq!(peers["spec"]["ports"][0]["port"], 7000);
    assert_eq!(built["config"]["log"]["raft"]["peers"], json!(["lounge-peers.default.svc:7000"]));
    assert_eq!(built["config"]["log"]["raft"]["tolerate"], 1);

    let container = &built["set"]["spec"]["template"]["spec"]["containers"][0];
    let env = container["env"].as_array().unwrap();
    let of = |name: &str| env.iter().find(|variable| variable["name"] == name).unwrap();
    let field = |name: &str| &of(name)["valueFrom"]["fieldRef"]["fieldPath"];
    assert_eq!(field("CHAT_NODE_NAME"), "metadata.name");
    assert_eq!(of("CHAT_NODE_ADVERTISE")["value"], "$(CHAT_NODE_NAME).lounge-peers.default.svc:7000");
    assert_eq!(field("CHAT_NODE_HOST"), "spec.nodeName");
    assert_eq!(field("CHAT_NODE_ZONE"), "metadata.labels['topology.kubernetes.io/zone']");
    let name = env.iter().position(|variable| variable["name"] == "CHAT_NODE_NAME");
    let advertise = env.iter().position(|variable| variable["name"] == "CHAT_NODE_ADVERTISE");
    assert!(name < advertise, "a variable is expanded from those before it");
    assert!(container["ports"].as_array().unwrap().iter().any(|port| port["containerPort"] == 7000));

    let nodes = json!({"app.kubernetes.io/name": "chat-node", "chatroom.dev/room": "lounge"});
    let peers = json!([{"podSelector": {"matchLabels": nodes}}]);
    let port = json!([{"port": 7000, "protocol": "TCP"}]);
    let policy = &built["policy"]["spec"];
    assert_eq!(policy["ingress"][2], json!({"from": peers, "ports": port}));
    assert!(!policy["ingress"][0]["ports"].to_string().contains("7000"), "clients do not come in there");
    assert_eq!(policy["egress"][1], json!({"to": peers, "ports": port}));
}

#[test]
fn a_stateful_node_finds_what_it_knows_its_peers_by_where_it_is_mounted() {
    let built = built(&stateful());
    let pod = &built["set"]["spec"]["template"]["spec"];
    let (volume, mount) = (volume(pod, "peers"), mount(pod, "peers"));
    assert_eq!(volume["secret"]["secretName"], "lounge-peers-roomuid");
    let tls = &built["config"]["listeners"]["peer"]["tls"];
    for (field, key) in [("certificateFile", "tls.crt"), ("keyFile", "tls.key"), ("caFile", "ca.crt")] {
        assert_eq!(tls[field], format!("{}/{key}", mount["mountPath"].as_str().unwrap()));
        assert!(volume["secret"]["items"].as_array().unwrap().iter().any(|item| item["key"] == key));
    }
}

fn secure(mode: &Value) -> Room {
    let room = crate::testing::room(json!({
        "mode": mode,
        "listeners": {
            "irc": {"enabled": false},
            "ircs": {"certificateSecret": "lounge-tls"},
            "webs": {"port": 443, "certificateSecret": "page-tls", "allowedOrigins": ["https://x"]},
        },
    }));
    validate(&room, &Observed::default(), &defaults()).unwrap()
}

/// The nodes' pods of both shapes, with everything else.
fn secure_rooms() -> [(Value, Value); 2] {
    let stateful = built(&secure(&json!({"stateful": {}})));
    let stateless = built(&secure(&json!({"stateless": {"store": {"managed": {}}}})));
    [
        (stateful["set"]["spec"]["template"].clone(), stateful),
        (stateless["deployment"]["spec"]["template"].clone(), stateless),
    ]
}

#[test]
fn the_node_finds_its_certificates_where_they_are_mounted_and_follows_their_renewal() {
    for (template, built) in secure_rooms() {
        let pod = &template["spec"];
        let pair = [("certificateFile", "tls.crt"), ("keyFile", "tls.key")];
        let all = [pair[0], pair[1], ("clientCaFile", "ca.crt")];
        for (listener, secret, files) in [
            ("ircs", "lounge-tls", pair.as_slice()),
            ("webs", "page-tls", &pair),
            ("control", "lounge-control-roomuid", &all),
        ] {
            let (volume, mount) = (volume(pod, listener), mount(pod, listener));
            assert_eq!(volume["secret"]["secretName"], secret);
            assert_eq!(volume["secret"]["defaultMode"], 0o440);
            assert!(mount.get("subPath").is_none(), "a renewed one would not come through");
            let items = volume["secret"]["items"].as_array().unwrap();
            assert_eq!(items.len(), files.len());
            for ((field, key), item) in files.iter().zip(items) {
                assert_eq!(&item["key"], key);
                let file =
                    format!("{}/{}", mount["mountPath"].as_str().unwrap(), item["path"].as_str().unwrap());
                assert_eq!(built["config"]["listeners"][listener][field], file);
            }
        }
        assert_eq!(built["config"]["listeners"]["webs"]["allowedOrigins"], json!(["https://x"]));
    }
}

#[test]
fn clients_come_in_by_the_ports_of_the_service_and_the_operator_by_its_own() {
    for (template, built) in secure_rooms() {
        let container = &template["spec"]["containers"][0];
        let ports: Vec<_> = container["ports"].as_array().unwrap().iter().collect();
        let of = |name: &str| &ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"];
        assert_eq!((of("ircs"), of("webs"), of("control")), (&json!(6697), &json!(8443), &json!(9443)));
        assert!(!ports.iter().any(|port| port["name"] == "irc"));
        assert_eq!(template["metadata"]["annotations"]["chatroom.dev/room-uid"], "room-uid");
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            assert_eq!(container[probe]["httpGet"]["port"], "admin");
        }
        let service: Vec<_> = built["service"]["spec"]["ports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|port| (&port["port"], &port["targetPort"], &port["appProtocol"]))
            .collect();
        assert_eq!(
            json!(service),
            json!([[6697, "ircs", "ircs"], [8080, "web", "http"], [443, "webs", "https"]])
        );
        let tcp = |port: u16| json!({"port": port, "protocol": "TCP"});
        let ingress = &built["policy"]["spec"]["ingress"];
        assert_eq!(ingress[0]["ports"], json!([tcp(6697), tcp(8080), tcp(8443)]));
        assert_eq!(ingress[1]["ports"], json!([tcp(9090), tcp(9443)]));
        assert_eq!(
            ingress[1]["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"],
            "chatroom-operator"
        );
    }
}

#[test]
fn what_control_ports_need_is_in_a_secret_of_the_room_s_alone() {
    let room = secure(&json!({"stateful": {}}));
    let [secret, peers] = super::certificate_secrets(&room, crate::testing::NOW).try_into().unwrap();
    let text_of = |secret: &k8s_openapi::api::core::v1::Secret, key: &str| {
        String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap()
    };
    let text = |key: &str| text_of(&secret, key);
    assert_eq!(text("ca.crt").matches("BEGIN CERTIFICATE").count(), 2, "of this window and the one before");
    assert_eq!(text("tls.crt").matches("BEGIN CERTIFICATE").count(), 1);
    assert_eq!(text("tls.key").matches("PRIVATE KEY").count(), 2, "one, with begin and end");
    assert_eq!(secret.metadata.owner_references.as_ref().unwrap()[0].uid, "room-uid");
    assert_eq!(secret.metadata.name.as_deref(), Some("lounge-control-roomuid"));
    assert_eq!(text_of(&peers, "ca.crt").matches("BEGIN CERTIFICATE").count(), 3, "and of the next window");
    assert_ne!(text_of(&peers, "tls.key"), text("tls.key"));
    assert_eq!(peers.metadata.name.as_deref(), Some("lounge-peers-roomuid"));
    let stateless = super::certificate_secrets(&managed(), crate::testing::NOW);
    assert_eq!(stateless.len(), 1, "its nodes do not talk to each other");
}
