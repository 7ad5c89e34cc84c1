//! Permission checks, as calls.
//!
//! Purpose: the one place that says whether a connection may publish, subscribe or receive. Today
//! everything is allowed that NATS does not reserve for itself; users and their permissions come
//! later behind the same calls. It must not know connections or the network. Exists once per
//! connection.

/// What a connection may do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Permissions;

impl Permissions {
    /// True if the connection may publish to `subject`.
    #[inline]
    pub fn may_publish(&self, subject: &[u8]) -> bool {
        !(matches!(subject.first(), Some(b'$' | b'_')) && is_reserved_subject(subject))
    }

    /// True if the connection may name `reply` as a reply subject.
    #[inline]
    pub fn may_reply_to(&self, reply: &[u8]) -> bool {
        !(matches!(reply.first(), Some(b'$' | b'_')) && is_reserved_reply(reply))
    }

    /// True if the connection may subscribe to `filter`, alone or in `queue`.
    #[inline]
    pub fn may_subscribe(&self, _filter: &[u8], queue: Option<&[u8]>) -> bool {
        queue != Some(b"_sys_")
    }

    /// True if a message on `subject` may be delivered to the connection.
    #[inline]
    pub fn may_receive(&self, _subject: &[u8]) -> bool {
        true
    }
}

fn is_reserved_subject(subject: &[u8]) -> bool {
    subject.starts_with(b"$GR.") || subject.starts_with(b"_GR_.") || subject.starts_with(b"$NRG.")
}

fn is_reserved_reply(reply: &[u8]) -> bool {
    reply.starts_with(b"_R_.")
        || reply.starts_with(b"$JS.ACK.")
        || reply.starts_with(b"$GR.")
        || reply.starts_with(b"_GR_.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names() {
        let permissions = Permissions;
        for (subject, publish, reply) in [
            ("foo", true, true),
            ("$GR.x", false, false),
            ("_GR_.x", false, false),
            ("$GR", true, true),
            ("$NRG.x", false, true),
            ("_R_.x", true, false),
            ("_R_", true, true),
            ("$JS.ACK.x", true, false),
            ("$JS.API.x", true, true),
            ("_INBOX.x", true, true),
        ] {
            assert_eq!(permissions.may_publish(subject.as_bytes()), publish, "{subject}");
            assert_eq!(permissions.may_reply_to(subject.as_bytes()), reply, "{subject}");
        }
        assert!(!permissions.may_subscribe(b"foo", Some(b"_sys_")));
        assert!(permissions.may_subscribe(b"foo", Some(b"q")));
    }
}
