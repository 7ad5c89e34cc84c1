//! Joins monitoring to the reactors: asks every one of them, and adds up what they answer.

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, OnceLock};

use crate::control::{
    Health, JetStreamStatus, PageAnswer, ReactorStatus, ShardStatus, Snapshot, StatusSource,
};
use crate::inspect::Query;
use crate::reactor::Mailbox;
use crate::turn::Command;
use crate::turn::report::Report;

/// The reactors' mailboxes, once there are any: monitoring is up before they are.
pub type Mailboxes = Arc<OnceLock<Vec<Mailbox>>>;

/// Asks the reactors through their mailboxes.
pub struct Source {
    mailboxes: Mailboxes,
    jetstream: bool,
    answers: Option<Receiver<(usize, Report)>>,
    reports: Vec<Option<Report>>,
}

impl Source {
    /// A source over reactors that may still be starting.
    pub fn new(mailboxes: Mailboxes, jetstream: bool) -> Source {
        Source { mailboxes, jetstream, answers: None, reports: Vec::new() }
    }
}

impl StatusSource for Source {
    fn ask(&mut self) {
        let Some(mailboxes) = self.mailboxes.get() else { return };
        let (tell, answers) = mpsc::channel();
        self.reports = mailboxes.iter().map(|_| None).collect();
        self.answers = Some(answers);
        for (id, mailbox) in mailboxes.iter().enumerate() {
            let tell = tell.clone();
            // Nobody listens any more where the answer comes too late.
            mailbox.send(Command::Report(Box::new(move |report| drop(tell.send((id, report))))));
        }
    }

    fn poll(&mut self) -> Option<Snapshot> {
        if self.mailboxes.get().is_none() {
            let health = Health::Unavailable("the server is starting".to_owned());
            return Some(Snapshot { health, ..Snapshot::default() });
        }
        if self.answers.is_none() {
            self.ask(); // the question came before the reactors
        }
        let answers = self.answers.as_ref()?;
        while let Ok((id, report)) = answers.try_recv() {
            self.reports[id] = Some(report);
        }
        if self.reports.iter().any(Option::is_none) {
            return None;
        }
        self.answers = None;
        let reports: Vec<Report> = self.reports.drain(..).flatten().collect();
        Some(sum_up(&reports, self.jetstream))
    }

    fn reactors(&self) -> usize {
        self.mailboxes.get().map_or(0, Vec::len)
    }

    fn inspect(&mut self, reactor: usize, query: Query, answer: PageAnswer) -> bool {
        let mailbox = self.mailboxes.get().and_then(|mailboxes| mailboxes.get(reactor));
        mailbox.is_some_and(|mailbox| mailbox.send(Command::Inspect(query, answer)))
    }
}

fn sum_up(reports: &[Report], jetstream: bool) -> Snapshot {
    let mut shards: Vec<(u16, ShardStatus)> = Vec::new();
    let mut js = JetStreamStatus { accounts: 1, ..JetStreamStatus::default() };
    for report in reports {
        for (at, shard) in report.shards.iter().enumerate() {
            let disk = report.shell.disks.get(at).copied().unwrap_or_default();
            let status = ShardStatus {
                records: shard.records,
                written_bytes: disk.written_bytes,
                writes: disk.writes,
                flushes: disk.flushes,
                segments: shard.segments,
                live_bytes: shard.live_bytes,
            };
            shards.push((shard.shard, status));
            js.streams += shard.usage.streams;
            js.consumers += shard.usage.consumers;
            js.messages += shard.messages;
            js.bytes += shard.usage.memory + shard.usage.storage;
            js.memory += shard.usage.memory;
            js.storage += shard.usage.storage;
            js.reserved_memory += shard.reserved.0;
            js.reserved_storage += shard.reserved.1;
            js.api_total += shard.usage.api_total;
            js.api_errors += shard.usage.api_errors;
        }
    }
    shards.sort_by_key(|(shard, _)| *shard);
    Snapshot {
        health: Health::Ok,
        reactors: reports.iter().map(reactor).collect(),
        shards: shards.into_iter().map(|(_, status)| status).collect(),
        jetstream: jetstream.then_some(js),
    }
}

fn reactor(report: &Report) -> ReactorStatus {
    ReactorStatus {
        connections: report.connections as u64,
        total_connections: report.net.total_connections,
        subscriptions: report.subscriptions as u64,
        in_msgs: report.net.in_msgs,
        in_bytes: report.net.in_bytes,
        out_msgs: report.net.out_msgs,
        out_bytes: report.net.out_bytes,
        slow_consumers: report.net.slow_consumers,
        stale_connections: report.net.stale_connections,
        stalled_clients: report.net.stalled_clients,
        turns: report.shell.turns,
        slow_turns: report.stalls,
        preempted_turns: report.shell.preempted,
        busy_ns: report.shell.busy_ns,
        longest_turn_ns: report.shell.longest_ns,
        mesh_batches: report.shell.mesh_batches,
        mesh_full: report.shell.mesh_full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::report::ShardReport;

    #[test]
    fn a_starting_server_is_not_healthy_and_answers_at_once() {
        let mut source = Source::new(Mailboxes::default(), true);
        source.ask();
        let snapshot = source.poll();
        assert!(matches!(snapshot, Some(Snapshot { health: Health::Unavailable(_), .. })));
    }

    #[test]
    fn every_reactor_must_answer() {
        let mailboxes = Mailboxes::default();
        let made: Vec<_> = (0..2).map(|_| Mailbox::new()).collect();
        let (boxes, receivers): (Vec<_>, Vec<_>) = made.into_iter().flatten().unzip();
        assert!(mailboxes.set(boxes).is_ok());
        let mut source = Source::new(mailboxes, true);
        source.ask();
        let mut tell = |at: usize, shards: &[u16]| {
            let shards = shards.iter().map(|&shard| ShardReport {
                shard,
                records: u64::from(shard) + 10,
                messages: 1,
                ..ShardReport::default()
            });
            let report = Report { shards: shards.collect(), ..Report::default() };
            match receivers[at].try_recv() {
                Ok(Command::Report(to)) => to(report),
                _ => panic!("reactor {at} was not asked"),
            }
            source.poll()
        };
        assert_eq!(tell(1, &[1, 3]), None);
        let snapshot = tell(0, &[0, 2]);
        let Some(snapshot) = snapshot else { panic!("both have answered") };
        let records: Vec<u64> = snapshot.shards.iter().map(|s| s.records).collect();
        assert_eq!(records, [10, 11, 12, 13], "by number");
        assert_eq!(snapshot.jetstream.map(|j| j.messages), Some(4));
        assert_eq!(snapshot.reactors.len(), 2);
    }
}
