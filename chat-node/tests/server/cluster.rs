//! Several nodes, one room: their log in the nodes themselves.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use contract::{
    config::PEER_NAME,
    status::{Durability, Membership, NodeState, NodeStatus},
};
use tempfile::TempDir;

use crate::{
    client::{Client, tag},
    node::{FAST, Node, directory, eventually, http, program},
    pki::Authority,
};

const RESUMABLE: &str =
    "message-tags batch echo-message server-time draft/chathistory chatroom.dev/id chatroom.dev/resume";

/// A room whose nodes have places of their own: ports that stay, directories, a certificate.
struct Room {
    directory: TempDir,
    seats: Vec<Seat>,
}

#[derive(Clone)]
struct Seat {
    name: String,
    peer: SocketAddr,
    admin: SocketAddr,
    data: PathBuf,
}

fn free_port() -> SocketAddr {
    // Given back at once: whoever else asks the system for a port gets another one for a while.
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound")
}

impl Room {
    fn new(nodes: usize) -> Self {
        let directory = directory();
        let authority = Authority::new();
        fs::write(directory.path().join("ca.crt"), &authority.certificate).expect("written");
        let pair = authority.issue(PEER_NAME);
        fs::write(directory.path().join("tls.crt"), &pair.certificate).expect("written");
        fs::write(directory.path().join("tls.key"), &pair.key).expect("written");
        let seats = (0..nodes)
            .map(|n| Seat {
                name: format!("lounge-{n}"),
                peer: free_port(),
                admin: free_port(),
                data: directory.path().join(format!("data-{n}")),
            })
            .collect();
        Self { directory, seats }
    }

    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Starts a node; it is ready when the room lets it serve.
    fn start(&self, n: usize) -> JoinHandle<Node> {
        let Seat { name, peer, admin, data } = self.seats[n].clone();
        let peers: Vec<_> = self.seats.iter().map(|seat| format!("'{}'", seat.peer)).collect();
        let yaml = format!(
            "{FAST}network: lounge\nlog: {{raft: {{shards: 2, peers: [{}]}}}}\n\
             listeners: {{peer: {{address: '{peer}', tls: {{certificateFile: {}, keyFile: {}, caFile: {}}}}}}}\n",
            peers.join(", "),
            self.file("tls.crt"),
            self.file("tls.key"),
            self.file("ca.crt"),
        );
        let mut command = program();
        command.args(["--name", &name, "--advertise", &peer.to_string(), "--host", &format!("host-{n}")]);
        std::thread::spawn(move || Node::spawn_at(command, &data, &yaml, admin))
    }

    /// All nodes, of which the first begins the room.
    fn run(&self) -> Vec<Node> {
        let starting: Vec<_> = (0..self.seats.len()).map(|n| self.start(n)).collect();
        self.found(0);
        let nodes: Vec<_> = starting.into_iter().map(|node| node.join().expect("ready")).collect();
        let all = nodes.len();
        eventually("everybody votes", || {
            let cluster = status(self.seats[0].admin)?.cluster?;
            cluster.groups.iter().all(|group| group.voters.len() == all).then_some(())
        });
        nodes
    }

    fn found(&self, n: usize) {
        let admin = self.seats[n].admin;
        let member = eventually("the node says who it is", || {
            status(admin).map(|status| status.member).filter(|member| !member.is_empty())
        });
        assert_eq!(
            order(admin, "POST", "/v1/found", r#"{"member": "beef"}"#).0,
            409,
            "another member is meant"
        );
        let body = format!(r#"{{"member": "{member}"}}"#);
        assert_eq!(order(admin, "POST", "/v1/found", &body).0, 200);
    }
}

fn status(admin: SocketAddr) -> Option<NodeStatus> {
    if TcpListener::bind(admin).is_ok() {
        // Nobody is there yet.
        return None;
    }
    let (_, _, body) = http(admin, "GET /v1/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    serde_json::from_str(&body).ok()
}

fn order(admin: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let (status, _, answer) = http(admin, &request);
    (status, answer)
}

/// The node that leads a shard.
fn leader(room: &Room, shard: usize) -> usize {
    let seats = &room.seats;
    eventually("there is a leader", || {
        let cluster = seats.iter().find_map(|seat| status(seat.admin)?.cluster)?;
        let leader = &cluster.groups[shard].leader;
        let name = &cluster.members.iter().find(|member| member.id == *leader)?.name;
        seats.iter().position(|seat| seat.name == *name)
    })
}

fn talk(clients: &mut [Client], from: usize, text: &str) {
    clients[from].send(&format!("PRIVMSG #lounge :{text}."));
    for client in clients {
        client.wait(&format!("PRIVMSG #lounge :{text}."));
    }
}

fn join(node: &Node, nick: &str) -> Client {
    let mut client = Client::tcp(node).register(nick, "message-tags echo-message");
    client.join("#lounge");
    client
}

fn resume(node: &Node, token: &str, seen: &str) -> Client {
    let mut client = Client::tcp(node);
    client.send("CAP LS 302");
    client.send(&format!("CAP REQ :{RESUMABLE}"));
    client.send(&format!("RESUME {token} {seen}"));
    client.send("CAP END");
    client
}

#[test]
fn a_leader_is_killed_and_nobody_loses_a_word() {
    let room = Room::new(3);
    let mut nodes: Vec<_> = room.run().into_iter().map(Some).collect();
    let own = status(room.seats[1].admin).expect("a status");
    assert_eq!(own.durability, Durability::QuorumFsync);
    assert_eq!(own.cluster.expect("of a room of several").membership, Membership::Member);

    for round in 0..2 {
        // The channel lies in one of two shards: each of them loses its leader once.
        let victim = leader(&room, round + 1);
        let [one, two] = [(victim + 1) % 3, (victim + 2) % 3];
        let node = |nodes: &[Option<Node>], n: usize| Client::tcp(nodes[n].as_ref().expect("it runs"));
        let mut bob = node(&nodes, one).register("bob", "message-tags echo-message");
        let mut cyd = node(&nodes, two).register("cyd", "message-tags echo-message");
        let mut ann = node(&nodes, victim).register("ann", RESUMABLE);
        let token = ann.wait("RESUME TOKEN ").rsplit(' ').next().expect("a token").to_owned();
        for client in [&mut bob, &mut cyd, &mut ann] {
            client.join("#lounge");
        }
        bob.wait("ann!");
        cyd.wait("ann!");
        ann.send("PRIVMSG #lounge :seen");
        let seen = ann.wait(":seen");
        let seen = tag(&seen, "msgid").expect("a msgid").to_owned();
        nodes[victim].take().expect("it runs").kill();
        for n in 0..50 {
            bob.send(&format!("PRIVMSG #lounge :missed {n}."));
        }
        for n in 0..50 {
            bob.wait(&format!(":missed {n}."));
            cyd.wait(&format!(":missed {n}."));
        }
        let mut ann = resume(nodes[two].as_ref().expect("it runs"), &token, &seen);
        ann.wait("RESUME SUCCESS ann");
        for n in 0..50 {
            ann.wait(&format!(":missed {n}."));
        }
        ann.wait("BATCH -");
        ann.send("PRIVMSG #lounge :back");
        bob.wait(":back");
        for mut client in [ann, bob, cyd] {
            client.send("QUIT");
            client.rest();
        }
        nodes[victim] = Some(room.start(victim).join().expect("ready"));
    }
}

#[test]
fn without_a_majority_people_read_and_with_one_they_write_again() {
    let room = Room::new(3);
    let mut nodes: Vec<_> = room.run().into_iter().map(Some).collect();
    let mut ann = join(nodes[0].as_ref().expect("it runs"), "ann");
    ann.send("PRIVMSG #lounge :before");
    ann.wait(":before");
    for node in &mut nodes[1..] {
        node.take().expect("it runs").kill();
    }
    let alone = eventually("the node says so", || {
        status(room.seats[0].admin).filter(|status| status.state == NodeState::ReadOnly)
    });
    assert!(alone.reason.contains("most of the nodes"), "{}", alone.reason);
    ann.send("NAMES #lounge");
    ann.wait(" 366 ");
    ann.send("PRIVMSG #lounge :during");
    ann.wait("READ_ONLY");
    let one = room.start(1).join().expect("ready");
    eventually("it serves again", || {
        status(room.seats[0].admin).filter(|status| status.state == NodeState::Serving)
    });
    ann.send("PRIVMSG #lounge :after");
    let line = ann.wait_any(&[":during", ":after"]);
    assert!(line.contains(":after"), "what was refused was not stored: {line}");
    let mut bob = join(&one, "bob");
    bob.send("PRIVMSG ann :here");
    ann.wait(":here");
}

#[test]
fn a_member_leaves_and_its_name_comes_back_as_another() {
    let room = Room::new(3);
    let mut nodes = room.run();
    let mut clients: Vec<_> =
        nodes.iter().zip(["ann", "bob", "cyd"]).map(|(node, nick)| join(node, nick)).collect();
    clients[0].wait("cyd!");
    talk(&mut clients, 0, "all here");

    let id = status(room.seats[2].admin).expect("a status").member;
    let admin = room.seats[0].admin;
    assert_eq!(order(admin, "DELETE", "/v1/members/beef", "").0, 404);
    assert_eq!(order(admin, "DELETE", &format!("/v1/members/{id}"), "").0, 202);
    let mut gone = nodes.pop().expect("the third");
    assert!(gone.wait().success(), "{}", gone.said());
    clients.pop().expect("cyd").rest();
    eventually("it is out of every membership", || {
        let cluster = status(admin)?.cluster?;
        let out = |ids: &[String]| !ids.contains(&id);
        let out = cluster.members.iter().all(|member| member.id != id)
            && cluster.groups.iter().all(|group| out(&group.voters) && out(&group.learners));
        out.then_some(())
    });
    talk(&mut clients, 1, "two of us");

    // What its directory holds is another member's now: it comes back as a new one, from nothing.
    fs::remove_dir_all(&room.seats[2].data).expect("removed");
    let again = room.start(2).join().expect("ready");
    assert_ne!(status(room.seats[2].admin).expect("a status").member, id);
    clients.push(join(&again, "dan"));
    clients[0].wait("dan!");
    clients[1].wait("dan!");
    talk(&mut clients, 2, "three again");
}

#[test]
fn who_is_to_leave_stays_as_long_as_its_vote_is_needed() {
    let room = Room::new(3);
    let mut nodes = room.run();
    let mut clients: Vec<_> = nodes.iter().zip(["ann", "bob"]).map(|(node, nick)| join(node, nick)).collect();
    clients[0].wait("bob!");
    nodes.pop().expect("the third").kill();
    let (admin, leaving) = (room.seats[0].admin, room.seats[1].admin);
    let id = status(leaving).expect("a status").member;
    eventually("the order is taken", || {
        (order(admin, "DELETE", &format!("/v1/members/{id}"), "").0 == 202).then_some(())
    });
    eventually("it knows", || {
        status(leaving)?.cluster.filter(|cluster| cluster.membership == Membership::Leaving)
    });
    // Without it nobody would be a majority. What is looked for is that nothing happens, for longer than a step takes.
    std::thread::sleep(std::time::Duration::from_secs(2));
    talk(&mut clients, 0, "two are a majority of three");
    talk(&mut clients, 1, "this one as well");

    let _third = room.start(2).join().expect("ready");
    let mut gone = nodes.pop().expect("the second");
    assert!(gone.wait().success(), "{}", gone.said());
    clients.pop().expect("bob").rest();
    talk(&mut clients, 0, "the third took its place");
}

#[test]
fn the_room_of_a_lone_node_is_begun_with_all_it_holds() {
    let room = Room::new(3);
    let yaml = format!(
        "{FAST}network: lounge\nlog: {{local: {{shards: 2}}}}\nchat: {{channels: [{{name: '#lounge'}}]}}\n"
    );
    let lone = Node::start_with(&room.seats[0].data, &yaml);
    let mut ann = join(&lone, "ann");
    ann.send("PRIVMSG #lounge :from before");
    ann.wait(":from before");
    lone.kill();

    let nodes = room.run();
    let mut bob = Client::tcp(&nodes[2]).register("bob", "message-tags batch draft/chathistory");
    bob.join("#lounge");
    bob.send("CHATHISTORY LATEST #lounge * 10");
    bob.wait(":from before");
}

#[test]
fn a_node_without_its_part_of_the_configuration_is_refused_in_words() {
    let place = directory();
    let refused = |yaml: &str, arguments: &[&str]| -> String {
        let config = place.path().join("node.yaml");
        fs::write(&config, yaml).expect("written");
        let output = program().arg("--config").arg(&config).args(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).expect("text")
    };
    let named = ["--name", "lounge-0", "--advertise", "127.0.0.1:7000"];
    for (yaml, arguments, says) in [
        ("log: {raft: {shards: 4}}", &[][..], "log.raft.name: must be"),
        ("log: {raft: {shards: 4}}", &["--name", "a"], "log.raft.advertise: `` must be HOST:PORT"),
        ("log: {raft: {shards: 4}}", &named, "listeners.peer: must be set"),
        ("log: {raft: {shards: 4, tolerate: 9}}", &named, "log.raft.tolerate: is 9, must be from 0 to 3"),
        ("log: {raft: {shards: 4, peers: [here]}}", &named, "log.raft.peers[0]: `here` must be HOST:PORT"),
    ] {
        let said = refused(yaml, arguments);
        assert!(said.contains(says), "{yaml} {arguments:?}: {said}");
    }
    assert!(Path::new(place.path()).exists());
}
