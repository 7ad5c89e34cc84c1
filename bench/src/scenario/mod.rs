//! What can be measured. Each scenario takes a server's address, its arguments and who to watch,
//! and returns outcomes. Scenarios know the wire and the driver, not what the numbers are compared
//! with.

pub mod ack_latency;
pub mod backlog;
pub mod core;
pub mod device;
pub mod latency;
pub mod many;
pub mod publish;
pub mod purge;
pub mod replay;
pub mod request;
pub mod whitepaper;
pub mod window;

use std::{
    net::{SocketAddr, TcpListener},
    sync::atomic::AtomicBool,
};

use anyhow::{Result, bail};

use crate::{args::Command, outcome::Outcome, run::Watch, sink};

/// How many threads the generator uses at most by itself.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs a scenario, first against the built-in sink if its rate is to be told as the ceiling.
pub fn run_with_ceiling(
    command: &Command,
    server: SocketAddr,
    watch: Watch,
) -> Result<Vec<Outcome>> {
    let sink = sink::Background::start()?;
    let unwatched = Watch { server_pid: None, monitor: None, ..watch };
    let ceilings = run(command, sink.address, unwatched)?;
    drop(sink);
    let mut outcomes = run(command, server, watch)?;
    for (outcome, ceiling) in outcomes.iter_mut().zip(&ceilings) {
        let Some(rate) = ceiling.value("rate") else { continue };
        outcome.figure("ceiling", rate, "msgs/s");
    }
    Ok(outcomes)
}

/// Runs a scenario.
pub fn run(command: &Command, server: SocketAddr, watch: Watch) -> Result<Vec<Outcome>> {
    match command {
        Command::CorePubSub(args) => {
            let shape = (args.pairs, usize::from(!args.no_subscriber));
            let one = |&size: &usize| {
                core::settle()?;
                core::run("core-pub-sub", server, &args.load, watch, shape, size)
            };
            args.size.iter().map(one).collect()
        }
        Command::Fanout(args) => {
            let one = |&size: &usize| {
                core::settle()?;
                core::run("fanout", server, &args.load, watch, (1, args.subscribers), size)
            };
            args.size.iter().map(one).collect()
        }
        Command::Request(args) => Ok(vec![request::run(server, args, watch)?]),
        Command::Latency(args) => Ok(vec![latency::run(server, args, watch)?]),
        Command::JsPublish(args) => {
            args.size.iter().map(|&size| publish::run(server, args, watch, size)).collect()
        }
        Command::JsAckLatency(args) => Ok(vec![ack_latency::run(server, args, watch)?]),
        Command::JsRestartFill(args) => Ok(vec![publish::run_fill(server, args, watch)?]),
        Command::JsReplay(args) => replay::run(server, args, watch),
        Command::JsSustained(args) => Ok(vec![replay::run_sustained(server, args, watch)?]),
        Command::JsPushBacklog(args) => Ok(vec![backlog::run(server, args, watch)?]),
        Command::JsSlowStreams(args) => Ok(vec![many::run_streams(server, args, watch)?]),
        Command::IdleConnections(args) => Ok(vec![many::run_idle(server, args, watch)?]),
        Command::JsPurgeInterference(args) => Ok(vec![purge::run(server, args, watch)?]),
        Command::Whitepaper(args) => whitepaper::run(server, args, watch),
        Command::Device(args) => Ok(vec![device::run(args)?]),
        Command::Sink(args) => {
            let listener = TcpListener::bind(("127.0.0.1", args.port))?;
            eprintln!("listening on {}", listener.local_addr()?);
            sink::serve(&listener, &AtomicBool::new(false))?;
            Ok(Vec::new())
        }
        Command::Compare(_) | Command::Runs => bail!("not a scenario that one server runs"),
    }
}
