//! Random clients on several reactors against what delivery means.

use super::*;
use crate::subject;

const FILTERS: [&str; 8] = ["a.b", "a.*", "a.>", "*.b", ">", "c.d.e", "c.*.e", "a.c"];
const SUBJECTS: [&str; 6] = ["a.b", "a.c", "c.d.e", "c.x.e", "b.b", "z"];

/// A subscription: client, sid, filter, queue group.
#[derive(Clone, Debug)]
struct Wanted {
    client: usize,
    sid: u32,
    filter: &'static str,
    queue: Option<u64>,
}

struct World {
    node: Node,
    clients: Vec<ConnId>,
    wanted: Vec<Wanted>,
    /// Everything that was ever subscribed.
    ever: Vec<Wanted>,
    subjects: Vec<&'static str>,
    sids: u32,
}

impl World {
    fn new(reactors: usize, seed: u64) -> Self {
        let mut node = Node::new(reactors, seed);
        let clients = (0..6).map(|i| node.client(i % reactors)).collect();
        World { node, clients, wanted: vec![], ever: vec![], subjects: vec![], sids: 0 }
    }

    fn any(&mut self, below: usize) -> usize {
        self.node.random.below(below as u64) as usize
    }

    fn change(&mut self) {
        if self.wanted.len() < 3 || (self.wanted.len() < 14 && self.any(2) == 0) {
            let queue = if self.any(2) == 0 { Some(self.any(2) as u64) } else { None };
            self.sids += 1;
            let wanted = Wanted {
                client: self.any(6),
                sid: self.sids,
                filter: FILTERS[self.any(FILTERS.len())],
                queue,
            };
            let group = queue.map(|q| format!(" q{q}")).unwrap_or_default();
            let line = format!("SUB {}{group} {}\r\n", wanted.filter, wanted.sid);
            self.node.send(self.clients[wanted.client], line);
            self.ever.push(wanted.clone());
            self.wanted.push(wanted);
        } else {
            let at = self.any(self.wanted.len());
            let gone = self.wanted.swap_remove(at);
            self.node.send(self.clients[gone.client], format!("UNSUB {}\r\n", gone.sid));
        }
    }

    /// Publishes a message whose payload is its number.
    fn publish(&mut self) {
        let subject = SUBJECTS[self.any(SUBJECTS.len())];
        let client = self.any(6);
        let client = self.clients[client];
        let number = format!("{:05}", self.subjects.len());
        self.node.send(client, format!("PUB {subject} 5\r\n{number}\r\n"));
        self.subjects.push(subject);
    }

    /// Who got which message: (message, sid), sorted.
    fn deliveries(&mut self) -> Vec<(usize, u32)> {
        let mut all = Vec::new();
        for &client in &self.clients.clone() {
            let text = self.node.read(client);
            let lines: Vec<&str> = text.lines().collect();
            for pair in lines.chunks(2) {
                let head: Vec<&str> = pair[0].split(' ').collect();
                let number: usize = pair[1].parse().unwrap();
                assert_eq!((head[0], head[1]), ("MSG", self.subjects[number]), "{text}");
                all.push((number, head[2].parse().unwrap()));
            }
        }
        all.sort_unstable();
        all
    }
}

#[test]
fn at_rest_each_subscription_and_one_of_each_group_gets_a_message() {
    for (reactors, seed) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
        let mut world = World::new(reactors, seed);
        for _ in 0..200 {
            world.change();
            world.node.settle();
            let first = world.subjects.len();
            for _ in 0..4 {
                world.publish();
            }
            world.node.settle();
            let got = world.deliveries();
            let mut explained = 0;
            for number in first..first + 4 {
                let subject = world.subjects[number];
                let fits = |w: &&Wanted| subject::matches(w.filter.as_bytes(), subject.as_bytes());
                for wanted in world.wanted.iter().filter(fits).filter(|w| w.queue.is_none()) {
                    assert!(got.contains(&(number, wanted.sid)), "{subject} to {wanted:?}");
                    explained += 1;
                }
                for queue in 0..2 {
                    let members = world.wanted.iter().filter(fits);
                    let members: Vec<u32> =
                        members.filter(|w| w.queue == Some(queue)).map(|w| w.sid).collect();
                    let takers = got.iter().filter(|(n, s)| *n == number && members.contains(s));
                    let takers = takers.count();
                    assert_eq!(takers, usize::from(!members.is_empty()), "{subject} q{queue}");
                    explained += takers;
                }
            }
            assert_eq!(got.len(), explained, "nobody else gets anything");
        }
    }
}

#[test]
fn while_interest_changes_nobody_gets_a_message_twice() {
    for seed in 0..40 {
        let mut world = World::new(3, seed);
        for _ in 0..150 {
            match world.any(4) {
                0 => world.change(),
                1 => {
                    let reactor = world.any(3);
                    world.node.turn(reactor);
                }
                _ => world.publish(),
            }
        }
        world.node.settle();
        let got = world.deliveries();
        let mut once = got.clone();
        once.dedup();
        assert_eq!(got, once, "seed {seed}");
        for (number, subject) in world.subjects.iter().enumerate() {
            for queue in 0..2 {
                let of_group = |sid: u32| {
                    let sub = world.ever.iter().find(|w| w.sid == sid).unwrap();
                    assert!(subject::matches(sub.filter.as_bytes(), subject.as_bytes()));
                    sub.queue == Some(queue)
                };
                let takers = got.iter().filter(|(n, sid)| *n == number && of_group(*sid)).count();
                assert!(takers <= 1, "message {number} to {takers} of q{queue}, seed {seed}");
            }
        }
    }
}

#[test]
fn whatever_clients_send_nothing_breaks() {
    let pieces: [&[u8]; 14] = [
        b"PUB a.b 5\r\nhello\r\n",
        b"PUB a..b r 0\r\n\r\n",
        b"HPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
        b"SUB a.* 1\r\nPING\r\n",
        b"SUB a.> q 2\r\n",
        b"SUB r 3\r\n",
        b"UNSUB 1\r\nUNSUB 2 1\r\n",
        b"UNSUB 3 2\r\nPING\r\n",
        b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n",
        b"CONNECT {\"echo\":false,\"protocol\":1}\r\nPING\r\n",
        b"PONG\r\n+OK\r\nINFO {}\r\n",
        b"PUB nobody r 1\r\nx\r\n",
        b"PUB $SYS.REQ.USER.INFO r 0\r\n\r\n",
        b"PUB $JS.ACK.S.C.1.2.3.4.5 r 0\r\n\r\n",
    ];
    for seed in 0..150 {
        let mut node = Node::new(2, seed);
        node.stream(1, 1, "S", &["a.>"]);
        for net in &mut node.nets {
            net.set_jetstream(true);
        }
        let conns: Vec<ConnId> = (0..3).map(|i| node.connect(i % 2)).collect();
        for _ in 0..60 {
            let conn = conns[node.random.below(3) as usize];
            if node.closed(conn).is_some() {
                continue;
            }
            let mut bytes = pieces[node.random.below(14) as usize].to_vec();
            if node.random.below(12) == 0 {
                let at = node.random.below(bytes.len() as u64) as usize;
                bytes[at] = node.random.bits() as u8;
            }
            let cut = node.random.below(bytes.len() as u64 + 1) as usize;
            node.send(conn, &bytes[..cut]);
            let reactor = node.random.below(2) as usize;
            node.turn(reactor);
            node.send(conn, &bytes[cut..]);
        }
        node.settle();
        for conn in conns {
            node.hang_up(conn);
        }
        node.settle();
        for net in &mut node.nets {
            assert_eq!((net.connections(), net.subscriptions()), (0, 0));
            assert!(!net.has_interest(AccountId(0), b"r", None));
        }
    }
}
