//! Two servers in the same run: paired rounds in turn (A, B, A, B, …), medians, ratios, bars.
//!
//! *Must not know*: how a scenario measures. It starts servers, repeats command lines and compares
//! figures by name. Each comparison starts both servers anew on empty directories, so that none
//! inherits the heap of the one before; the other server is idle while one is measured.

pub mod bars;
pub mod report;
pub mod server;
mod special;

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, anyhow};
use clap::Parser;

use crate::{
    args::{self, Cli, Command},
    clock::{self, Nanos},
    compare::{
        bars::{Bar, Figure, Step, Work},
        report::{Compared, Report},
        server::{Scratch, Server, Spec, Variant},
    },
    outcome::Outcome,
    run::Watch,
    scenario, sink,
};

/// One of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one under test.
    A,
    /// What it is compared with.
    B,
}

/// Both, in the order of a round.
pub const SIDES: [Side; 2] = [Side::A, Side::B];

/// What the steps need to know.
pub struct Context {
    specs: [Spec; 2],
    scratch: Scratch,
    rounds: usize,
    scale: f64,
    nats: Option<PathBuf>,
    progress: bool,
    ceiling: bool,
    deadline: Nanos,
}

/// Writes of the device measurement before each round that needs it.
const DEVICE_WRITES: usize = 400;

/// Runs the comparison. The report holds what was done when time ran out, a step failed or the
/// process was asked to end. With `ceiling`, the generator's own rate is told wherever there is
/// one.
pub fn run(args: &args::Compare, progress: bool, ceiling: bool) -> Result<Report> {
    let steps = bars::select(&args.sets).map_err(|error| anyhow!(error))?;
    // Ten thousand connections take as many files here and in the servers, which inherit the limit.
    scenario::many::raise_file_limit()?;
    let context = Context {
        specs: [Spec::parse(&args.a)?, Spec::parse(&args.b)?],
        scratch: Scratch::new(args.dir.as_deref())?,
        rounds: args.rounds.max(1),
        scale: args.scale,
        nats: args.nats.clone(),
        progress,
        ceiling,
        deadline: clock::now() + args.time_limit.as_nanos() as Nanos,
    };
    let mut report = Report::new(&context.specs[0].name, &context.specs[1].name);
    for step in steps {
        if context.is_late() {
            report.left_out.push(format!("{}: the time was over", step.name));
            continue;
        }
        eprintln!("{}", step.name);
        match context.step(step) {
            Ok(Some(compared)) => {
                eprint!("{}", report::step_text(step, &compared));
                report.steps.push((step, compared));
            }
            Ok(None) => report.left_out.push(format!("{}: needs --nats", step.name)),
            Err(error) => {
                eprintln!("  failed: {error:#}");
                report.failures.push(format!("{}: {error:#}", step.name));
            }
        }
        if crate::run::check_interrupted().is_err() {
            break;
        }
    }
    Ok(report)
}

/// What there is to choose from, as text.
pub fn list() -> String {
    let mut text = String::new();
    for step in bars::STEPS {
        text.push_str(&format!("{:22} {:28} {:?}\n", step.name, step.sets.join(","), step.work));
    }
    text
}

impl Context {
    fn is_late(&self) -> bool {
        clock::now() > self.deadline
    }

    fn step(&self, step: &Step) -> Result<Option<Compared>> {
        let mut compared = Compared::default();
        match step.work {
            Work::Run(words) => self.rounds_of(step, words, &mut compared)?,
            // The other one would not answer for minutes.
            Work::Alone(words) => {
                let server = self.start(Side::A, step.against)?;
                for _ in 0..self.rounds {
                    compared.add(Side::A, self.scenario(words, &server)?);
                }
            }
            Work::Restart(words) => {
                for side in SIDES {
                    special::restart(self, side, step.against, words, &mut compared)?;
                }
            }
            Work::ColdReplay(fill, replay) => {
                for side in SIDES {
                    let runs = (fill, replay);
                    special::cold_replay(self, side, step.against, runs, &mut compared)?;
                }
            }
            Work::OneOfMany(fill, idle) => {
                let idle = Duration::from_secs_f64(idle * self.scale);
                for side in SIDES {
                    special::one_of_many(self, side, step.against, (fill, idle), &mut compared)?;
                }
            }
            Work::Empty => {
                for _ in 0..self.rounds {
                    for side in SIDES {
                        special::empty(self, side, step.against, &mut compared)?;
                    }
                }
            }
            Work::NatsCli(count) => {
                let Some(nats) = &self.nats else { return Ok(None) };
                special::nats_cli(self, step.against, (nats, count), &mut compared)?;
            }
        }
        Ok(Some(compared))
    }

    /// Rounds of one scenario, in turn on both servers.
    fn rounds_of(&self, step: &Step, words: &str, compared: &mut Compared) -> Result<()> {
        let servers = self.start_both(step.against)?;
        let asked = |figure: &Figure| matches!(figure.bar, Bar::AtLeastOrCeiling(_));
        if self.ceiling || step.figures.iter().any(asked) {
            compared.ceiling = self.ceiling_of(words)?;
        }
        for round in 0..self.rounds {
            if round > 0 && self.is_late() {
                break;
            }
            if step.figures.iter().any(|figure| matches!(figure.bar, Bar::OverDevice(_))) {
                rustix::fs::sync();
                let device = scenario::device::overwrites(self.scratch.path(), DEVICE_WRITES)?;
                compared.device.push(device.at(0.5));
            }
            for (side, server) in SIDES.into_iter().zip(&servers) {
                let outcomes = self.scenario(words, server)?;
                compared.add(side, outcomes);
            }
        }
        Ok(())
    }

    /// The generator's rate against the sink, for the scenarios whose rate means something there.
    fn ceiling_of(&self, words: &str) -> Result<Option<f64>> {
        let command = self.command(words)?;
        let bounded = matches!(
            command,
            Command::CorePubSub(_)
                | Command::Fanout(_)
                | Command::Request(_)
                | Command::JsPublish(_)
                | Command::JsReplay(_)
        );
        if !bounded {
            return Ok(None);
        }
        let sink = sink::Background::start()?;
        let watch = Watch { server_pid: None, monitor: None, progress: self.progress };
        let outcomes = scenario::run(&command, sink.address, watch)?;
        Ok(outcomes.first().and_then(|outcome| outcome.value("rate")))
    }

    fn start_both(&self, against: Variant) -> Result<[Server; 2]> {
        let a = self.start(Side::A, against)?;
        Ok([a, self.start(Side::B, against)?])
    }

    /// Starts a server on an empty directory. Only the second one has variants.
    fn start(&self, side: Side, against: Variant) -> Result<Server> {
        let (name, variant) = match side {
            Side::A => ("a", Variant::Default),
            Side::B => ("b", against),
        };
        Server::start(&self.specs[side as usize], variant, &self.scratch.fresh(name)?)
    }

    /// Removes what a server left, once it has ended.
    fn clean(&self, side: Side) -> Result<()> {
        self.scratch.fresh(if side == Side::A { "a" } else { "b" }).map(drop)
    }

    fn command(&self, words: &str) -> Result<Command> {
        let words = bars::words(words, self.scale);
        let line = ["corelane-bench".to_owned()].into_iter().chain(words);
        Ok(Cli::try_parse_from(line)?.command)
    }

    /// Runs a scenario on one server. What the other one left to the kernel to be written is
    /// written first, so that nobody's flushes wait for somebody else's bytes.
    fn scenario(&self, words: &str, server: &Server) -> Result<Vec<Outcome>> {
        rustix::fs::sync();
        let watch = Watch {
            server_pid: Some(server.pid()),
            monitor: server.monitor(),
            progress: self.progress,
        };
        scenario::run(&self.command(words)?, server.address(), watch)
    }
}
