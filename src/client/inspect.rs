//! Connections and subscriptions as monitoring and the log show them.

use super::{Clients, CloseReason, Connection};
use crate::inspect::{self, PAGE_ITEMS, PAGE_VISITS};
use crate::interest::SubId;
use crate::protocol::format;
use crate::types::Clocks;

impl Connection {
    /// As monitoring shows it.
    pub(crate) fn shown(&self, clocks: &Clocks) -> inspect::Connection {
        let last_activity = self.last_in.max(self.send_started);
        let name = self.name.as_deref().cloned().unwrap_or_default();
        let port = self.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        inspect::Connection {
            cid: self.id.0,
            ip: self.ip.to_string(),
            port: port.unwrap_or(0),
            user: name.user.shown().to_owned(),
            name: name.name,
            lang: name.lang,
            version: name.version,
            start: self.accepted,
            last_activity: clocks.wall_of(last_activity),
            stop: None,
            uptime: clocks.now.since(self.started),
            idle: clocks.now.since(last_activity),
            rtt: self.rtt,
            pending_bytes: self.out.pending() as u64,
            subscriptions: self.sub_count,
            in_msgs: self.traffic.in_msgs,
            in_bytes: self.traffic.in_bytes,
            out_msgs: self.traffic.out_msgs,
            out_bytes: self.traffic.out_bytes,
            stalls: self.traffic.stalls,
        }
    }

    /// What begins each of its lines in the log:
    /// `127.0.0.1:5 - cid:1 - "v1.0:go:name" - "$G/user:u"`.
    pub(crate) fn label(&self) -> String {
        let mut label = format!("{} - cid:{}", self.address, self.id.0);
        let Some(name) = &self.name else { return label };
        let version = match name.version.as_str() {
            "" => String::new(),
            version => format!("v{version}"),
        };
        let words = [version.as_str(), &name.lang, &name.name];
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let user = name.user.label();
        for text in [words.join(":"), user] {
            if !text.is_empty() {
                let quoted = format::quoted(text.as_bytes());
                label.push_str(" - ");
                label.push_str(&String::from_utf8_lossy(&quoted));
            }
        }
        label
    }

    /// Why it was closed; `ClientClosed` where the peer went away by itself.
    pub(crate) fn close_reason(&self) -> CloseReason {
        self.closing.or(self.failure).unwrap_or(CloseReason::ClientClosed)
    }
}

impl Clients {
    /// Open connections from the slot `from` on, and where the next page begins.
    pub(crate) fn connection_page(
        &self,
        clocks: &Clocks,
        from: usize,
    ) -> (Vec<inspect::Connection>, Option<usize>) {
        let mut page = Vec::new();
        let end = from.saturating_add(PAGE_VISITS);
        for slot in from..end {
            if slot >= self.conns.capacity() {
                return (page, None);
            }
            if page.len() == PAGE_ITEMS {
                return (page, Some(slot));
            }
            if let Some(conn) =
                self.conns.get(slot).filter(|conn| conn.is_open() && !conn.is_gone())
            {
                page.push(conn.shown(clocks));
            }
        }
        (page, Some(end))
    }

    /// Connections that were closed, from the oldest on.
    pub(crate) fn closed_page(&self, from: usize) -> (Vec<inspect::Connection>, Option<usize>) {
        let page = self.closed.page(from, PAGE_ITEMS);
        let next = from.saturating_add(page.len());
        (page, (next < self.closed.len()).then_some(next))
    }

    /// Subscriptions from the place `from` on that `wanted` takes by connection and filter, and
    /// where the next page begins. `filter` tells what a subscription subscribes to.
    pub(crate) fn subscription_page(
        &self,
        from: usize,
        of: &[u64],
        filter: impl Fn(SubId) -> Option<(Vec<u8>, Vec<u8>)>,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> (Vec<inspect::Subscription>, Option<usize>) {
        let mut page = Vec::new();
        let end = from.saturating_add(PAGE_VISITS);
        for place in from..end {
            if place >= self.subs.capacity() {
                return (page, None);
            }
            if page.len() == PAGE_ITEMS {
                return (page, Some(place));
            }
            let Some(sub) = self.subs.get(place) else { continue };
            let cid = self.conns[sub.conn as usize].id.0;
            if !of.is_empty() && of.binary_search(&cid).is_err() {
                continue;
            }
            let Some((subject, queue)) = filter(SubId(place as u32)) else { continue };
            if !wanted(&subject) {
                continue;
            }
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            page.push(inspect::Subscription {
                cid,
                subject: text(&subject),
                queue: text(&queue),
                sid: text(sub.sid.as_bytes()),
                msgs: sub.delivered,
                max: if sub.max == u64::MAX { 0 } else { sub.max },
            });
        }
        (page, Some(end))
    }

    /// Remembers a connection that is closed.
    pub(crate) fn remember_closed(&mut self, clocks: &Clocks, slot: u32) {
        let conn = self.conn(slot);
        let stop = Some((clocks.wall, conn.close_reason().text()));
        let shown = inspect::Connection { stop, ..conn.shown(clocks) };
        self.closed.push(shown);
    }
}
