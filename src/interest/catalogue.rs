//! The replica of the stream catalogue, as far as routing needs it, and the table of JetStream's
//! own subjects.

use super::AccountId;

use crate::subject;
use crate::types::{CreditKind, ReactorId, ShardId, StreamId};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// How the long form of acknowledgement and flow-control subjects begins here: no domain, and the
/// hash of the account `$G` (the first eight bytes of its SHA-256, each modulo 62 a character).
const HERE: &[u8] = b"_.szMpdrwD.";

/// Where a stream lives and what it captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPlace {
    /// The stream's account.
    pub account: AccountId,
    /// The stream.
    pub id: StreamId,
    /// Its name.
    pub name: Box<[u8]>,
    /// Its shard.
    pub shard: ShardId,
    /// The reactor that hosts the shard.
    pub reactor: ReactorId,
    /// The credit that publishes into it are charged to.
    pub credit: CreditKind,
    /// The subject filters it captures.
    pub subjects: Vec<Box<[u8]>>,
}

/// What JetStream does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The stream captures the subject.
    Stream {
        /// The stream.
        stream: StreamId,
        /// Its shard.
        shard: ShardId,
        /// The credit that it is charged to.
        credit: CreditKind,
    },
    /// A `$JS.API.` request about a stream that exists, or, without one, for shard 0.
    Api {
        /// The shard that answers.
        shard: ShardId,
        /// The stream the subject names, if it exists.
        stream: Option<StreamId>,
    },
    /// An acknowledgement on `$JS.ACK.`.
    Ack {
        /// The stream.
        stream: StreamId,
        /// Its shard.
        shard: ShardId,
    },
    /// An answer to flow control on `$JS.FC.`.
    FlowControl {
        /// The stream.
        stream: StreamId,
        /// Its shard.
        shard: ShardId,
    },
}

impl Target {
    /// The shard it concerns.
    pub fn shard(&self) -> ShardId {
        match *self {
            Target::Stream { shard, .. }
            | Target::Api { shard, .. }
            | Target::Ack { shard, .. }
            | Target::FlowControl { shard, .. } => shard,
        }
    }
}

impl Target {
    /// The credit that a message to it is charged to.
    pub fn credit(&self, subject: &[u8]) -> CreditKind {
        match *self {
            Target::Stream { credit, .. } => credit,
            _ => request_credit(subject),
        }
    }
}

/// The credit that a message on one of JetStream's own subjects is charged to.
pub fn request_credit(subject: &[u8]) -> CreditKind {
    match subject::api::is_request(subject) && !subject::api::is_pull(subject) {
        true => CreditKind::Request,
        false => CreditKind::Consume,
    }
}

/// A target and the reactor that hosts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The reactor.
    pub reactor: ReactorId,
    /// The target there.
    pub target: Target,
}

/// The streams that exist.
#[derive(Debug)]
pub struct Catalogue {
    by_id: HashMap<StreamId, StreamPlace, FixedState>,
    /// By account, then by name.
    by_name: Vec<HashMap<Box<[u8]>, StreamId, FixedState>>,
    hasher: FixedState,
    enabled: bool,
    meta_reactor: ReactorId,
}

impl Catalogue {
    /// An empty catalogue with JetStream off. `meta_reactor` hosts shard 0.
    pub fn new(seed: u64, meta_reactor: ReactorId) -> Self {
        let hasher = FixedState::with_seed(seed);
        Catalogue {
            by_id: HashMap::with_hasher(hasher.clone()),
            by_name: Vec::new(),
            hasher,
            enabled: false,
            meta_reactor,
        }
    }

    /// Turns the subjects of JetStream's API on or off.
    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    /// A stream by its name.
    pub fn by_name(&self, account: AccountId, name: &[u8]) -> Option<&StreamPlace> {
        let id = self.by_name.get(account.0 as usize)?.get(name)?;
        self.by_id.get(id)
    }

    /// Adds a stream; returns what was known under its id before.
    pub(super) fn insert(&mut self, place: StreamPlace) -> Option<StreamPlace> {
        let before = self.remove(place.id);
        let account = place.account.0 as usize;
        while self.by_name.len() <= account {
            self.by_name.push(HashMap::with_hasher(self.hasher.clone()));
        }
        self.by_name[account].insert(place.name.clone(), place.id);
        self.by_id.insert(place.id, place);
        before
    }

    /// Removes a stream.
    pub(super) fn remove(&mut self, stream: StreamId) -> Option<StreamPlace> {
        let place = self.by_id.remove(&stream)?;
        let names = &mut self.by_name[place.account.0 as usize];
        if names.get(&place.name) == Some(&stream) {
            names.remove(&place.name);
        }
        Some(place)
    }

    /// Who takes a subject of JetStream itself. `subject` starts with `$JS.`.
    pub fn destination(&self, account: AccountId, subject: &[u8]) -> Option<Destination> {
        if !self.enabled || !subject::is_routable(subject) {
            return None;
        }
        let rest = subject.strip_prefix(b"$JS.")?;
        if rest.starts_with(b"API.") {
            return Some(self.api(account, subject));
        }
        let is_ack = rest.starts_with(b"ACK.");
        let rest = rest.strip_prefix(b"ACK.").or_else(|| rest.strip_prefix(b"FC."))?;
        let tokens = rest.split(|&b| b == b'.').count();
        let at = match (is_ack, tokens) {
            (true, 7) | (false, 3) => 0,
            (true, 9..) | (false, 5) if rest.starts_with(HERE) => 2,
            _ => return None,
        };
        let name = rest.split(|&b| b == b'.').nth(at)?;
        let place = self.by_name(account, name)?;
        let (stream, shard) = (place.id, place.shard);
        let target = match is_ack {
            true => Target::Ack { stream, shard },
            false => Target::FlowControl { stream, shard },
        };
        Some(Destination { reactor: place.reactor, target })
    }

    fn api(&self, account: AccountId, subject: &[u8]) -> Destination {
        let stream = subject::api::parse(subject).and_then(|request| request.stream());
        match stream.and_then(|name| self.by_name(account, name.as_bytes())) {
            Some(place) => Destination {
                reactor: place.reactor,
                target: Target::Api { shard: place.shard, stream: Some(place.id) },
            },
            None => Destination {
                reactor: self.meta_reactor,
                target: Target::Api { shard: ShardId(0), stream: None },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_of_jetstream() {
        let mut catalogue = Catalogue::new(1, ReactorId(0));
        let ask = |catalogue: &Catalogue, subject: &str| {
            catalogue.destination(AccountId(0), subject.as_bytes())
        };
        assert_eq!(ask(&catalogue, "$JS.API.INFO"), None);
        catalogue.set_enabled(true);
        let (stream, shard) = (StreamId(9), ShardId(3));
        catalogue.insert(StreamPlace {
            account: AccountId(0),
            id: stream,
            name: b"S"[..].into(),
            shard,
            reactor: ReactorId(2),
            credit: CreditKind::Publish,
            subjects: vec![],
        });
        let api = Target::Api { shard, stream: Some(stream) };
        let meta = Target::Api { shard: ShardId(0), stream: None };
        let ack = Target::Ack { stream, shard };
        let fc = Target::FlowControl { stream, shard };
        for (subject, want) in [
            ("$JS.API.INFO", Some((0, meta))),
            ("$JS.API.WHAT.EVER", Some((0, meta))),
            ("$JS.API.STREAM.CREATE.S", Some((0, meta))),
            ("$JS.API.STREAM.DELETE.S", Some((0, meta))),
            ("$JS.API.STREAM.INFO.S", Some((2, api))),
            ("$JS.API.STREAM.INFO.T", Some((0, meta))),
            ("$JS.API.STREAM.MSG.GET.S", Some((2, api))),
            ("$JS.API.DIRECT.GET.S.a.b", Some((2, api))),
            ("$JS.API.CONSUMER.CREATE.S.C.f.>", Some((2, api))),
            ("$JS.API.CONSUMER.MSG.NEXT.S.C", Some((2, api))),
            ("$JS.API.CONSUMER.LEADER.STEPDOWN.S.C", Some((2, api))),
            ("$JS.API.STREAM.SNAPSHOT.S", Some((2, api))),
            ("$JS.API.STREAM.UPDATE.S", Some((0, meta))),
            ("$JS.ACK.S.C.1.2.3.4.5", Some((2, ack))),
            ("$JS.ACK.T.C.1.2.3.4.5", None),
            ("$JS.ACK.S.C.1", None),
            ("$JS.ACK._.szMpdrwD.S.C.1.2.3.4.5", Some((2, ack))),
            ("$JS.ACK._.szMpdrwD.S.C.1.2.3.4.5.x", Some((2, ack))),
            ("$JS.ACK._.other.S.C.1.2.3.4.5", None),
            ("$JS.ACK.domain.szMpdrwD.S.C.1.2.3.4.5", None),
            ("$JS.FC.S.C.abcd", Some((2, fc))),
            ("$JS.EVENT.x", None),
            ("$JS.API.", None),
            ("$JS.API..", None),
            ("$JS.API.STREAM.INFO.", None),
            ("$JS.API.STREAM..INFO.S", None),
            ("$JS.API.DIRECT.GET.S.a..b", None),
            ("$JS.ACK.S.C.1.2.3.4.", None),
            ("$JS.ACK.S..1.2.3.4.5", None),
            ("$JS.FC.S.C.", None),
        ] {
            let got = ask(&catalogue, subject);
            let want = want.map(|(r, target)| Destination { reactor: ReactorId(r), target });
            assert_eq!(got, want, "{subject}");
        }
        catalogue.remove(stream);
        assert_eq!(ask(&catalogue, "$JS.ACK.S.C.1.2.3.4.5"), None);
    }
}
