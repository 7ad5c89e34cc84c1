//! Pages for monitoring.

use super::core::Core;
use super::net::Net;
use super::route::ACCOUNT;
use crate::inspect::{Connection, Matching, Page, Query, Subscription};
use crate::subject;
use crate::types::Timestamp;

impl Net {
    /// Open connections from a place on, and where the next page begins.
    pub fn connection_page(&self, from: usize) -> (Vec<Connection>, Option<usize>) {
        self.clients.connection_page(&self.clocks, from)
    }

    /// Closed connections, the oldest first, and where the next page begins.
    pub fn closed_page(&self, from: usize) -> (Vec<Connection>, Option<usize>) {
        self.clients.closed_page(from)
    }

    /// Subscriptions of some connections or all, of those that match `subject` if it is not empty.
    pub fn subscription_page(
        &self,
        from: usize,
        of: &[u64],
        subject: &[u8],
    ) -> (Vec<Subscription>, Option<usize>) {
        let filter = |sub| self.interest.filter_of(ACCOUNT, sub);
        let wanted = |filter: &[u8]| subject.is_empty() || subject::matches(filter, subject);
        self.clients.subscription_page(from, of, filter, wanted)
    }

    /// What is known of matching.
    pub fn matching(&self) -> Matching {
        let stats = self.clients.stats;
        let mut matching = Matching {
            subscriptions: self.clients.subscriptions() as u64,
            inserts: stats.added_subscriptions,
            removes: stats.removed_subscriptions,
            matches: stats.in_msgs,
            searches: self.interest.walks(),
            ..Matching::default()
        };
        for fanout in self.interest.fanouts() {
            matching.plans += 1;
            matching.fanout += fanout as u64;
            matching.fanout_max = matching.fanout_max.max(fanout as u64);
        }
        matching
    }
}

impl Core {
    /// Answers a question of monitoring, in a bounded part of a turn.
    pub fn inspect(&mut self, now: Timestamp, query: &Query) -> Page {
        match query {
            Query::Connections { from } => {
                let (page, next) = self.net.connection_page(*from);
                Page::Connections(page, next)
            }
            Query::Closed { from } => {
                let (page, next) = self.net.closed_page(*from);
                Page::Connections(page, next)
            }
            Query::Subscriptions { from, of, subject } => {
                let (page, next) = self.net.subscription_page(*from, of, subject);
                Page::Subscriptions(page, next)
            }
            Query::Matching => Page::Matching(self.net.matching()),
            Query::Streams { from: (shard, place) } => {
                let shards = &mut self.shards.0;
                let Some(found) = shards.get_mut(*shard) else {
                    return Page::Streams(Vec::new(), None);
                };
                let (page, next) = found.stream_page(now, *place);
                let next = match next {
                    Some(place) => Some((*shard, place)),
                    None if *shard + 1 < shards.len() => Some((*shard + 1, 0)),
                    None => None,
                };
                Page::Streams(page, next)
            }
            Query::Consumers { stream, after } => {
                let mut found = None;
                self.speak(now, |shard, out| {
                    if found.is_none() {
                        found = shard.consumer_page(now, stream, after, out);
                    }
                });
                let (page, more) = found.unwrap_or_default();
                Page::Consumers(page, more)
            }
            Query::Find { stream, consumer } => {
                let mut shards = self.shards.0.iter();
                let found = shards.find_map(|shard| shard.finds(stream, consumer));
                Page::Found(found.is_some(), found.unwrap_or(false))
            }
        }
    }
}
