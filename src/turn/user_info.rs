//! `$SYS.REQ.USER.INFO`: the one system service that every client may ask.

use super::entry::Message;
use super::jetstream::JetStream;
use super::net::Net;
use super::route::Source;
use crate::api::time::rfc3339;
use crate::types::Timestamp;

/// The subject of the service.
pub(super) const SUBJECT: &[u8] = b"$SYS.REQ.USER.INFO";

impl Net {
    /// Answers a request for the user's own information.
    pub(super) fn answer_user_info<J: JetStream>(
        &mut self,
        now: Timestamp,
        request: &Message<'_>,
        js: &mut J,
    ) {
        if request.reply.is_empty() {
            return;
        }
        self.events += 1;
        let info = &self.settings.info;
        let flags = if info.jetstream { 7 } else { 0 };
        let answer = serde_json::json!({
            "server": {
                "name": info.server_name,
                "host": info.host,
                "id": info.server_id,
                "ver": info.version,
                "jetstream": info.jetstream,
                "flags": flags,
                "seq": self.events,
                "time": rfc3339(self.clocks.wall),
            },
            "data": { "user": "", "account": "$G", "account_name": "$G" },
        })
        .to_string();
        let message = Message {
            account: request.account,
            subject: request.reply,
            payload: answer.as_bytes(),
            ..Message::default()
        };
        self.route(now, Source { origin: self.server(), ..Source::default() }, &message, js);
    }
}
