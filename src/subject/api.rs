//! Subjects of JetStream's API, parsed.

/// What every API subject starts with.
pub const API_PREFIX: &str = "$JS.API.";

/// A request by its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiRequest<'a> {
    /// `INFO`
    Info,
    /// `STREAM.CREATE.<stream>`
    StreamCreate(&'a str),
    /// `STREAM.UPDATE.<stream>`
    StreamUpdate(&'a str),
    /// `STREAM.NAMES`
    StreamNames,
    /// `STREAM.LIST`
    StreamList,
    /// `STREAM.INFO.<stream>`
    StreamInfo(&'a str),
    /// `STREAM.DELETE.<stream>`
    StreamDelete(&'a str),
    /// `STREAM.PURGE.<stream>`
    StreamPurge(&'a str),
    /// `STREAM.MSG.GET.<stream>`
    MsgGet(&'a str),
    /// `STREAM.MSG.DELETE.<stream>`
    MsgDelete(&'a str),
    /// `DIRECT.GET.<stream>[.<subject>]`
    DirectGet {
        /// The stream.
        stream: &'a str,
        /// The subject whose last message is asked for; without it the body says what.
        subject: Option<&'a str>,
    },
    /// `CONSUMER.CREATE.<stream>[.<consumer>[.<filter>]]` and
    /// `CONSUMER.DURABLE.CREATE.<stream>.<consumer>`
    ConsumerCreate(ConsumerCreateSubject<'a>),
    /// `CONSUMER.NAMES.<stream>`
    ConsumerNames(&'a str),
    /// `CONSUMER.LIST.<stream>`
    ConsumerList(&'a str),
    /// `CONSUMER.INFO.<stream>.<consumer>`
    ConsumerInfo(ConsumerName<'a>),
    /// `CONSUMER.DELETE.<stream>.<consumer>`
    ConsumerDelete(ConsumerName<'a>),
    /// `CONSUMER.MSG.NEXT.<stream>.<consumer>`
    ConsumerNext(ConsumerName<'a>),
    /// Known and not built.
    NotSupported {
        /// What it asks for.
        verb: Refused,
        /// The stream that it is about.
        stream: &'a str,
    },
    /// For clusters only: to be refused with 10010.
    ClusterOnly {
        /// What it asks for.
        verb: Refused,
        /// The stream that it is about.
        stream: &'a str,
    },
}

/// What is known and not done here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `STREAM.SNAPSHOT`
    StreamSnapshot,
    /// `STREAM.RESTORE`
    StreamRestore,
    /// `STREAM.CANCEL_MOVE`
    StreamCancelMove,
    /// `STREAM.PEER.REMOVE`
    StreamPeerRemove,
    /// `STREAM.PEER.EVACUATE`
    StreamPeerEvacuate,
    /// `STREAM.LEADER.STEPDOWN`
    StreamLeaderStepDown,
    /// `CONSUMER.PAUSE`
    ConsumerPause,
    /// `CONSUMER.UNPIN`
    ConsumerUnpin,
    /// `CONSUMER.RESET`
    ConsumerReset,
    /// `CONSUMER.LEADER.STEPDOWN`
    ConsumerLeaderStepDown,
}

impl Refused {
    /// The verb as it stands in the subject.
    pub fn verb(self) -> &'static str {
        match self {
            Refused::StreamSnapshot => "STREAM.SNAPSHOT",
            Refused::StreamRestore => "STREAM.RESTORE",
            Refused::StreamCancelMove => "STREAM.CANCEL_MOVE",
            Refused::StreamPeerRemove => "STREAM.PEER.REMOVE",
            Refused::StreamPeerEvacuate => "STREAM.PEER.EVACUATE",
            Refused::StreamLeaderStepDown => "STREAM.LEADER.STEPDOWN",
            Refused::ConsumerPause => "CONSUMER.PAUSE",
            Refused::ConsumerUnpin => "CONSUMER.UNPIN",
            Refused::ConsumerReset => "CONSUMER.RESET",
            Refused::ConsumerLeaderStepDown => "CONSUMER.LEADER.STEPDOWN",
        }
    }
}

/// A stream and a consumer of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerName<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The consumer.
    pub consumer: &'a str,
}

/// What the subject of a consumer create says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerCreateSubject<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The consumer.
    pub consumer: Option<&'a str>,
    /// The filter: all tokens after the consumer.
    pub filter: Option<&'a str>,
    /// The legacy form `CONSUMER.DURABLE.CREATE`.
    pub durable: bool,
}

/// Parses the subject of a request. `None` for what is no API subject: it gets no answer at all.
pub fn parse(subject: &[u8]) -> Option<ApiRequest<'_>> {
    let rest = std::str::from_utf8(subject).ok()?.strip_prefix(API_PREFIX)?;
    if rest == "INFO" {
        return Some(ApiRequest::Info);
    }
    let (family, rest) = rest.split_once('.')?;
    match family {
        "STREAM" => parse_stream(rest),
        "CONSUMER" => parse_consumer(rest),
        "DIRECT" => parse_direct(rest.strip_prefix("GET.")?),
        _ => None,
    }
}

/// True for subjects that streams and consumers subscribe to themselves: where there is none,
/// nobody takes the request, while other subjects of the API are taken and not answered.
pub fn is_served_by_assets(subject: &[u8]) -> bool {
    is_pull(subject) || subject.starts_with(b"$JS.API.DIRECT.GET")
}

/// True for the subject of a request, of whatever kind and whether it makes sense or not.
#[inline]
pub fn is_request(subject: &[u8]) -> bool {
    subject.starts_with(API_PREFIX.as_bytes())
}

/// True for the subject of a pull.
#[inline]
pub fn is_pull(subject: &[u8]) -> bool {
    subject.starts_with(b"$JS.API.CONSUMER.MSG.NEXT.")
}

fn token(text: &str) -> Option<&str> {
    (!text.is_empty() && !text.contains('.')).then_some(text)
}

fn two_tokens(text: &str) -> Option<ConsumerName<'_>> {
    let (stream, consumer) = text.split_once('.')?;
    Some(ConsumerName { stream: token(stream)?, consumer: token(consumer)? })
}

fn parse_stream(rest: &str) -> Option<ApiRequest<'_>> {
    use ApiRequest::*;
    match rest {
        "NAMES" => return Some(StreamNames),
        "LIST" => return Some(StreamList),
        _ => {}
    }
    let (verb, tail) = rest.split_once('.')?;
    Some(match verb {
        "CREATE" => StreamCreate(token(tail)?),
        "UPDATE" => StreamUpdate(token(tail)?),
        "INFO" => StreamInfo(token(tail)?),
        "DELETE" => StreamDelete(token(tail)?),
        "PURGE" => StreamPurge(token(tail)?),
        "SNAPSHOT" => not_supported(Refused::StreamSnapshot, tail)?,
        "RESTORE" => not_supported(Refused::StreamRestore, tail)?,
        "CANCEL_MOVE" => cluster_only(Refused::StreamCancelMove, tail)?,
        _ => {
            let (second, stream) = tail.split_once('.')?;
            match (verb, second) {
                ("MSG", "GET") => MsgGet(token(stream)?),
                ("MSG", "DELETE") => MsgDelete(token(stream)?),
                ("PEER", "REMOVE") => cluster_only(Refused::StreamPeerRemove, stream)?,
                ("PEER", "EVACUATE") => cluster_only(Refused::StreamPeerEvacuate, stream)?,
                ("LEADER", "STEPDOWN") => cluster_only(Refused::StreamLeaderStepDown, stream)?,
                _ => return None,
            }
        }
    })
}

fn parse_consumer(rest: &str) -> Option<ApiRequest<'_>> {
    use ApiRequest::*;
    let (verb, tail) = rest.split_once('.')?;
    Some(match verb {
        "CREATE" => ConsumerCreate(parse_create(tail)?),
        "NAMES" => ConsumerNames(token(tail)?),
        "LIST" => ConsumerList(token(tail)?),
        "INFO" => ConsumerInfo(two_tokens(tail)?),
        "DELETE" => ConsumerDelete(two_tokens(tail)?),
        "PAUSE" => refused_consumer(Refused::ConsumerPause, tail)?,
        "UNPIN" => refused_consumer(Refused::ConsumerUnpin, tail)?,
        "RESET" => refused_consumer(Refused::ConsumerReset, tail)?,
        _ => {
            let (second, names) = tail.split_once('.')?;
            let names = two_tokens(names)?;
            match (verb, second) {
                ("DURABLE", "CREATE") => ConsumerCreate(ConsumerCreateSubject {
                    stream: names.stream,
                    consumer: Some(names.consumer),
                    filter: None,
                    durable: true,
                }),
                ("MSG", "NEXT") => ConsumerNext(names),
                ("LEADER", "STEPDOWN") => {
                    ClusterOnly { verb: Refused::ConsumerLeaderStepDown, stream: names.stream }
                }
                _ => return None,
            }
        }
    })
}

fn parse_create(tail: &str) -> Option<ConsumerCreateSubject<'_>> {
    let mut parts = tail.splitn(3, '.');
    let stream = token(parts.next()?)?;
    let consumer = match parts.next() {
        Some(text) => Some(token(text)?),
        None => None,
    };
    let filter = parts.next();
    if filter.is_some_and(|f| f.split('.').any(str::is_empty)) {
        return None;
    }
    Some(ConsumerCreateSubject { stream, consumer, filter, durable: false })
}

fn parse_direct(tail: &str) -> Option<ApiRequest<'_>> {
    let (stream, subject) = match tail.split_once('.') {
        Some((stream, subject)) => (stream, Some(subject)),
        None => (tail, None),
    };
    if subject.is_some_and(|s| s.split('.').any(str::is_empty)) {
        return None;
    }
    Some(ApiRequest::DirectGet { stream: token(stream)?, subject })
}

fn not_supported<'a>(verb: Refused, stream: &'a str) -> Option<ApiRequest<'a>> {
    Some(ApiRequest::NotSupported { verb, stream: token(stream)? })
}

fn refused_consumer<'a>(verb: Refused, names: &'a str) -> Option<ApiRequest<'a>> {
    not_supported(verb, two_tokens(names)?.stream)
}

fn cluster_only<'a>(verb: Refused, stream: &'a str) -> Option<ApiRequest<'a>> {
    Some(ApiRequest::ClusterOnly { verb, stream: token(stream)? })
}

impl<'a> ApiRequest<'a> {
    /// The stream whose shard answers, if it exists. `None` for what makes, changes or removes
    /// streams and what concerns all of them: the catalogue's shard answers it.
    pub fn stream(&self) -> Option<&'a str> {
        use ApiRequest::*;
        match *self {
            StreamInfo(stream)
            | StreamPurge(stream)
            | MsgGet(stream)
            | MsgDelete(stream)
            | ConsumerNames(stream)
            | ConsumerList(stream)
            | DirectGet { stream, .. }
            | NotSupported { stream, .. }
            | ClusterOnly { stream, .. } => Some(stream),
            ConsumerCreate(create) => Some(create.stream),
            ConsumerInfo(name) | ConsumerDelete(name) | ConsumerNext(name) => Some(name.stream),
            Info | StreamCreate(_) | StreamUpdate(_) | StreamDelete(_) | StreamNames
            | StreamList => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create<'a>(
        stream: &'a str,
        consumer: Option<&'a str>,
        filter: Option<&'a str>,
        durable: bool,
    ) -> Option<ApiRequest<'a>> {
        let subject = ConsumerCreateSubject { stream, consumer, filter, durable };
        Some(ApiRequest::ConsumerCreate(subject))
    }

    #[test]
    fn subjects() {
        use ApiRequest::*;
        let name = ConsumerName { stream: "S", consumer: "C" };
        for (tail, want) in [
            ("INFO", Some(Info)),
            ("INFO.x", None),
            ("STREAM.CREATE.S", Some(StreamCreate("S"))),
            ("STREAM.CREATE.S.T", None),
            ("STREAM.CREATE", None),
            ("STREAM.NAMES", Some(StreamNames)),
            ("STREAM.NAMES.x", None),
            ("STREAM.MSG.GET.S", Some(MsgGet("S"))),
            ("STREAM.MSG.DELETE.S", Some(MsgDelete("S"))),
            ("STREAM.MSG.GET.S.x", None),
            ("STREAM.TEMPLATE.NAMES", None),
            ("CONSUMER.CREATE.S", create("S", None, None, false)),
            ("CONSUMER.CREATE.S.C", create("S", Some("C"), None, false)),
            ("CONSUMER.CREATE.S.C.a.>", create("S", Some("C"), Some("a.>"), false)),
            ("CONSUMER.CREATE.S.C.a..b", None),
            ("CONSUMER.DURABLE.CREATE.S.C", create("S", Some("C"), None, true)),
            ("CONSUMER.DURABLE.CREATE.S", None),
            ("CONSUMER.INFO.S.C", Some(ConsumerInfo(name))),
            ("CONSUMER.INFO.S.C.D", None),
            ("CONSUMER.MSG.NEXT.S.C", Some(ConsumerNext(name))),
            ("DIRECT.GET.S", Some(DirectGet { stream: "S", subject: None })),
            ("DIRECT.GET.S.a.b", Some(DirectGet { stream: "S", subject: Some("a.b") })),
            ("DIRECT.GET", None),
            (
                "STREAM.PEER.REMOVE.S",
                Some(ClusterOnly { verb: Refused::StreamPeerRemove, stream: "S" }),
            ),
            (
                "STREAM.SNAPSHOT.S",
                Some(NotSupported { verb: Refused::StreamSnapshot, stream: "S" }),
            ),
            ("META.LEADER.STEPDOWN", None),
            ("", None),
        ] {
            let subject = format!("$JS.API.{tail}");
            assert_eq!(parse(subject.as_bytes()), want, "{subject}");
        }
        assert_eq!(parse(b"$JS.ACK.x"), None);
        assert_eq!(parse(b"$JS.API.STREAM.INFO.\xff"), None);
    }
}
