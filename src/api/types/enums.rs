//! Enumerations: JSON strings with a closed set of values.

use crate::api::json::{Path, Value, quoted};

macro_rules! text_enum {
    (
        $(#[$doc:meta])* $name:ident, $decode:ident, $error:expr,
        { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }
        aliases { $($alias:literal => $target:ident),* }
    ) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, Hash,
            rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, serde::Serialize,
        )]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// The JSON text.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        /// Decodes the text; anything else is an error.
        pub fn $decode(
            target: &mut $name,
            value: &Value,
            _path: &mut Path,
        ) -> Result<(), String> {
            let raw = value.raw;
            $(if raw == concat!("\"", $text, "\"").as_bytes() {
                *target = $name::$variant;
                return Ok(());
            })*
            $(if raw == concat!("\"", $alias, "\"").as_bytes() {
                *target = $name::$target;
                return Ok(());
            })*
            let error: fn(&Value) -> String = $error;
            Err(error(value))
        }
    };
}

fn can_not_unmarshal(value: &Value) -> String {
    format!("can not unmarshal {}", quoted(value))
}

fn raw(value: &Value) -> String {
    String::from_utf8_lossy(value.raw).into_owned()
}

text_enum!(
    /// What makes messages leave a stream.
    RetentionPolicy, retention, can_not_unmarshal,
    {
        /// Limits, deletes and purges only.
        #[default]
        Limits = "limits",
        /// Also when every interested consumer has acknowledged.
        Interest = "interest",
        /// Also when one consumer has acknowledged.
        WorkQueue = "workqueue",
    }
    aliases {}
);

text_enum!(
    /// What happens to a message that would exceed a limit.
    DiscardPolicy, discard, can_not_unmarshal,
    {
        /// The oldest give way.
        #[default]
        Old = "old",
        /// It is refused.
        New = "new",
    }
    aliases {}
);

text_enum!(
    /// Where messages are kept.
    StorageType, storage, can_not_unmarshal,
    {
        /// On disk.
        #[default]
        File = "file",
        /// In memory only.
        Memory = "memory",
    }
    aliases {}
);

text_enum!(
    /// Compression of stored messages.
    Compression, compression, |value| {
        use crate::api::json::Kind;
        match value.kind {
            Kind::String(_) | Kind::Null => "unknown compression algorithm".to_owned(),
            ref kind => {
                format!("json: cannot unmarshal {} into Go value of type string", kind.name())
            }
        }
    },
    {
        /// None.
        #[default]
        None = "none",
        /// S2, by block.
        S2 = "s2",
    }
    aliases {}
);

text_enum!(
    /// How a stream persists.
    PersistMode, persist_mode, can_not_unmarshal,
    {
        /// Before the acknowledgement.
        #[default]
        Default = "default",
        /// After it.
        Async = "async",
    }
    aliases { "" => Default }
);

text_enum!(
    /// Where a consumer starts.
    DeliverPolicy, deliver_policy, can_not_unmarshal,
    {
        /// At the first message.
        #[default]
        All = "all",
        /// At the last message.
        Last = "last",
        /// After the last message.
        New = "new",
        /// At a sequence.
        ByStartSequence = "by_start_sequence",
        /// At a time.
        ByStartTime = "by_start_time",
        /// With the last message of each subject.
        LastPerSubject = "last_per_subject",
    }
    aliases { "undefined" => All }
);

text_enum!(
    /// What a consumer's acknowledgement means.
    AckPolicy, ack_policy, can_not_unmarshal,
    {
        /// None is needed.
        #[default]
        None = "none",
        /// This one and all before it.
        All = "all",
        /// This one.
        Explicit = "explicit",
        /// By the answers to flow control.
        FlowControl = "flow_control",
    }
    aliases {}
);

text_enum!(
    /// How fast a consumer replays.
    ReplayPolicy, replay_policy, can_not_unmarshal,
    {
        /// As fast as it takes them.
        #[default]
        Instant = "instant",
        /// With the pauses they were published with.
        Original = "original",
    }
    aliases {}
);

text_enum!(
    /// Who among a priority group's members is served.
    PriorityPolicy, priority_policy, |v| format!("unknown priority policy: {}", raw(v)),
    {
        /// No priority groups.
        #[default]
        None = "none",
        /// When others fall behind.
        Overflow = "overflow",
        /// One pinned client.
        PinnedClient = "pinned_client",
        /// The lowest number first.
        Prioritized = "prioritized",
    }
    aliases {}
);

text_enum!(
    /// What a consumer create request may do.
    ConsumerAction, consumer_action, |v| format!("unknown consumer action: {}", raw(v)),
    {
        /// Create or update.
        #[default]
        CreateOrUpdate = "",
        /// Create only.
        Create = "create",
        /// Update only.
        Update = "update",
    }
    aliases {}
);
