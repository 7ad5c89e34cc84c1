//! `$SYS.REQ.USER.INFO`: the one system service that every client may ask.

use super::entry::Message;
use super::jetstream::JetStream;
use super::net::Net;
use super::route::Source;
use crate::types::{Timestamp, WallTime};

/// The subject of the service.
pub(super) const SUBJECT: &[u8] = b"$SYS.REQ.USER.INFO";

/// `at` as RFC 3339 in UTC with nanoseconds, without trailing zeros.
pub(super) fn rfc3339(at: WallTime) -> String {
    let seconds = at.0.div_euclid(1_000_000_000);
    let nanos = at.0.rem_euclid(1_000_000_000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if nanos > 0 {
        let fraction = format!(".{nanos:09}");
        text.push_str(fraction.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (ns, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00Z"),
            (1_795_401_015_330_714_765, "2026-11-23T02:30:15.330714765Z"),
            (1_795_401_015_500_000_000, "2026-11-23T02:30:15.5Z"),
        ] {
            assert_eq!(rfc3339(WallTime(ns)), want);
        }
    }
}
