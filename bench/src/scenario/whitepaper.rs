//! The tables of "Comparing NATS.io with Amazon Kinesis" (Synadia, prices of January 2025):
//! publish, replay with one to four consumers, and both at once, beside the paper's figures. Those
//! came from three c5n.xlarge servers with gp3 disks and three replicas; how many replicas are
//! used here, the arguments say.

use std::net::SocketAddr;

use anyhow::Result;
use clap::Parser as _;

use crate::{
    args::{Cli, Mode, Storage, Whitepaper},
    outcome::{Outcome, Table, number},
    run::Watch,
};

/// Payload bytes of the paper's rows.
const SIZES: [usize; 4] = [1 << 10, 5 << 10, 10 << 10, 100 << 10];
/// Figure 2: messages per second, published by eight clients.
const PUBLISHED: [f64; 4] = [69_592.0, 28_059.0, 17_531.0, 2_741.0];
/// Figure 3: messages per second, all of one to four consumers together.
const REPLAYED: [[f64; 4]; 4] = [
    [408_055.0, 723_248.0, 783_773.0, 699_929.0],
    [113_474.0, 114_158.0, 170_521.0, 151_914.0],
    [57_200.0, 57_293.0, 86_110.0, 76_864.0],
    [5_791.0, 11_008.0, 8_713.0, 11_577.0],
];
/// Figure 4: messages per second of each of one to four consumers, while eight clients publish.
const SUSTAINED: [[f64; 4]; 4] = [
    [51_408.0, 49_428.0, 50_096.0, 49_909.0],
    [24_739.0, 23_123.0, 21_899.0, 21_663.0],
    [14_000.5, 14_595.0, 13_333.0, 13_733.0],
    [1_746.0, 1_885.0, 1_790.0, 1_754.0],
];
/// Unacknowledged bytes of all clients together: more, and nats-server refuses some.
const IN_FLIGHT_BYTES: usize = 40 << 20;

/// The three tables and where their rows come from.
struct Session<'a> {
    server: SocketAddr,
    watch: Watch,
    args: &'a Whitepaper,
    outcomes: Vec<Outcome>,
    published: Table,
    replayed: Table,
    sustained: Table,
}

/// Runs everything. The last outcome holds the tables.
pub fn run(server: SocketAddr, args: &Whitepaper, watch: Watch) -> Result<Vec<Outcome>> {
    let table = |title: &str| Table::new(&[title, "consumers", "msgs/s", "MiB/s", "paper", "x"]);
    let mut session = Session {
        server,
        watch,
        args,
        outcomes: Vec::new(),
        published: table("published, all clients"),
        replayed: table("replayed, all consumers"),
        sustained: table("sustained, each consumer"),
    };
    for &size in &args.size {
        session.size(size)?;
    }
    let mut summary = Outcome::new("whitepaper").parameter("replicas", args.stream.replicas);
    summary.tables = [&session.published, &session.replayed, &session.sustained]
        .map(|table| table.to_text(2))
        .to_vec();
    session.outcomes.push(summary);
    Ok(session.outcomes)
}

impl Session<'_> {
    /// All rows of one size.
    fn size(&mut self, size: usize) -> Result<()> {
        let paper = SIZES.iter().position(|&known| known == size);
        let told = |table: &[[f64; 4]; 4], consumers: usize| {
            paper.and_then(|at| table[at].get(consumers - 1).copied())
        };
        let args = self.args;
        let mode = if args.mode == Mode::Push { "push" } else { "pull" };
        let (load, stream) = (load_words(args, size), stream_words(args));

        let rate = self.measure(&format!("js-publish {load} {stream}"), "rate")?;
        self.published.row(row(size, None, rate, paper.map(|at| PUBLISHED[at])));

        // One stream for all replays; the next publish run makes it anew.
        let msgs = (args.volume / size.max(1)).max(1);
        let fill = format!(
            "js-restart-fill --size {size} --msgs {msgs} --subjects 1 --limit 600s {stream}"
        );
        self.measure(&fill, "rate")?;
        for consumers in 1..=args.consumers_max {
            let words = format!(
                "js-replay --no-fill --size {size} --mode {mode} --consumers {consumers} \
                 --limit 600s {stream}"
            );
            let rate = self.measure(&words, "rate")?;
            self.replayed.row(row(size, Some(consumers), rate, told(&REPLAYED, consumers)));
        }
        for consumers in 1..=args.consumers_max {
            let words =
                format!("js-sustained {load} --mode {mode} --consumers {consumers} {stream}");
            let rate = self.measure(&words, "consumer_rate")?;
            self.sustained.row(row(size, Some(consumers), rate, told(&SUSTAINED, consumers)));
        }
        Ok(())
    }

    /// Runs one command line, shows it and returns a figure of it.
    fn measure(&mut self, words: &str, figure: &str) -> Result<f64> {
        let line = ["corelane-bench"].into_iter().chain(words.split_whitespace());
        let command = Cli::try_parse_from(line)?.command;
        let outcomes = super::run(&command, self.server, self.watch)?;
        let rate = outcomes.last().and_then(|outcome| outcome.value(figure));
        eprintln!("{words}: {}", rate.map_or("-".to_owned(), number));
        self.outcomes.extend(outcomes);
        Ok(rate.unwrap_or(f64::NAN))
    }
}

fn load_words(args: &Whitepaper, size: usize) -> String {
    let most = IN_FLIGHT_BYTES / args.clients.max(1) / size.max(1);
    let in_flight = args.in_flight.min(most.max(10));
    format!(
        "--size {size} --clients {} --in-flight {in_flight} -d {} --warmup {}",
        args.clients,
        args.load.duration.as_secs_f64(),
        args.load.warmup.as_secs_f64()
    )
}

fn stream_words(args: &Whitepaper) -> String {
    let storage = if args.stream.storage == Storage::Memory { "memory" } else { "file" };
    format!(
        "--stream {} --replicas {} --storage {storage}",
        args.stream.stream, args.stream.replicas
    )
}

fn row(size: usize, consumers: Option<usize>, rate: f64, paper: Option<f64>) -> Vec<String> {
    let told = |value: Option<f64>| value.map_or(String::new(), number);
    let name = if size.is_multiple_of(1024) {
        format!("{} KiB", size / 1024)
    } else {
        format!("{size} B")
    };
    vec![
        name,
        consumers.map_or(String::new(), |consumers| consumers.to_string()),
        number(rate),
        number(rate * size as f64 / f64::from(1 << 20)),
        told(paper),
        told(paper.map(|paper| rate / paper)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_beside_the_paper() {
        let cells = row(1024, Some(2), 139_184.0, Some(PUBLISHED[0]));
        assert_eq!(cells, ["1 KiB", "2", "139,184", "135.9", "69,592", "2.00"]);
        assert_eq!(row(100, None, 1.0, None)[0], "100 B");
    }

    #[test]
    fn no_more_is_in_flight_than_a_server_takes() {
        let cli = Cli::parse_from(["x", "whitepaper"]);
        let crate::args::Command::Whitepaper(args) = cli.command else { panic!("whitepaper") };
        assert!(load_words(&args, 1 << 10).contains("--in-flight 500 "));
        assert!(load_words(&args, 100 << 10).contains("--in-flight 51 "));
    }
}
