//! The comparisons that start and end servers as part of what they measure.

use std::{path::Path, process, thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    args::Command,
    clock,
    compare::{Context, SIDES, Side, bars, report::Compared, server::Variant},
    outcome::Outcome,
    run, stats,
};

/// Streams replayed one after the other by [`one_of_many`], at once and after idling each.
const SINGLE_REPLAYS: usize = 15;

/// Fills, then kills and starts as often as there are rounds.
pub fn restart(
    context: &Context,
    side: Side,
    against: Variant,
    words: &str,
    compared: &mut Compared,
) -> Result<()> {
    let mut server = context.start(side, against)?;
    let mut filled = context.scenario(words, &server)?;
    let rate = filled.first().and_then(|outcome| outcome.value("rate")).unwrap_or(0.0);
    run::sleep(Duration::from_secs(1))?;
    let resident = server.resident_mib()?;
    for round in 0..context.rounds {
        server.crash_and_restart()?;
        let mut outcome = filled.pop().unwrap_or_else(|| Outcome::new("restart"));
        outcome.figures.clear();
        outcome.latencies.clear();
        outcome.figure("ready", server.ready_seconds, "s");
        outcome.figure("rss_restarted", server.resident_mib()?, "MiB");
        if round == 0 {
            outcome.figure("rss_filled", resident, "MiB");
            outcome.figure("fill_rate", rate, "msgs/s");
        }
        compared.add(side, vec![outcome]);
    }
    drop(server);
    context.clean(side)
}

/// Fills, then restarts and replays as often as there are rounds.
pub fn cold_replay(
    context: &Context,
    side: Side,
    against: Variant,
    (fill, replay): (&str, &str),
    compared: &mut Compared,
) -> Result<()> {
    let mut server = context.start(side, against)?;
    context.scenario(fill, &server)?;
    for _ in 0..context.rounds {
        server.crash_and_restart()?;
        compared.add(side, context.scenario(replay, &server)?);
    }
    drop(server);
    context.clean(side)
}

/// Fills many streams that interleave, restarts, and replays single ones: at once and after an idle
/// time in which a server may put its data in order.
pub fn one_of_many(
    context: &Context,
    side: Side,
    against: Variant,
    (fill, idle): (&str, Duration),
    compared: &mut Compared,
) -> Result<()> {
    let Command::JsRestartFill(args) = context.command(fill)? else {
        bail!("{fill:?} does not fill");
    };
    ensure!(args.streams as usize >= 2 * SINGLE_REPLAYS, "too few streams");
    let mut server = context.start(side, against)?;
    context.scenario(fill, &server)?;
    server.crash_and_restart()?;
    let mut outcome = Outcome::new("replay-one-of-many").parameter("streams", args.streams);
    for (name, first) in [("at_once", 0), ("after_idle", SINGLE_REPLAYS)] {
        if first > 0 {
            run::sleep(idle)?;
        }
        let mut rates = Vec::new();
        for index in first..first + SINGLE_REPLAYS {
            // Spread over the streams; they were filled in turn.
            let stream = index as u64 * args.streams / (2 * SINGLE_REPLAYS) as u64;
            let name = &args.stream.stream;
            let words = format!(
                "js-replay --no-fill --size {} --mode push --stream {name}-{stream}",
                args.size
            );
            let outcomes = context.scenario(&words, &server)?;
            rates.extend(outcomes.first().and_then(|outcome| outcome.value("rate")));
        }
        outcome.figure(name, stats::median(&rates).unwrap_or(f64::NAN), "msgs/s");
    }
    compared.add(side, vec![outcome]);
    drop(server);
    context.clean(side)
}

/// Starts on nothing.
pub fn empty(
    context: &Context,
    side: Side,
    against: Variant,
    compared: &mut Compared,
) -> Result<()> {
    let server = context.start(side, against)?;
    let mut outcome = Outcome::new("empty");
    outcome.figure("ready", server.ready_seconds, "s");
    run::sleep(Duration::from_millis(1500))?;
    outcome.figure("rss", server.resident_mib()?, "MiB");
    outcome.figure("disk", server.disk_mib()?, "MiB");
    compared.add(side, vec![outcome]);
    Ok(())
}

/// The `nats` command line's own bench, as it publishes with acknowledgements.
pub fn nats_cli(
    context: &Context,
    against: Variant,
    (nats, count): (&Path, &str),
    compared: &mut Compared,
) -> Result<()> {
    let count = bars::words(count, context.scale).concat();
    let servers = context.start_both(against)?;
    for _ in 0..context.rounds {
        for (side, server) in SIDES.into_iter().zip(&servers) {
            let url = format!("nats://{}", server.address());
            let line = format!(
                "-s {url} bench js pub async bench.cli --create --storage file --clients 8 \
                 --size 1kb --msgs {count} --batch 500 --maxbytes 8GB --purge --no-progress"
            );
            let text = output(nats, &line, Duration::from_secs(120))?;
            let rate = aggregated_rate(&text)
                .with_context(|| format!("nats bench told no rate:\n{text}"))?;
            let mut outcome = Outcome::new("nats-cli").parameter("msgs", &count);
            outcome.figure("rate", rate, "msgs/s");
            compared.add(side, vec![outcome]);
        }
    }
    Ok(())
}

/// Runs a program to its end, which must be in time and good.
fn output(program: &Path, line: &str, limit: Duration) -> Result<String> {
    let mut child = process::Command::new(program)
        .args(line.split_whitespace())
        .stdin(process::Stdio::null())
        .stdout(process::Stdio::piped())
        .stderr(process::Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let until = clock::now() + limit.as_nanos() as clock::Nanos;
    loop {
        if child.try_wait()?.is_some() {
            break;
        }
        if clock::now() > until || run::check_interrupted().is_err() {
            let _ = child.kill();
            let _ = child.wait();
            bail!("{} took longer than {limit:?}", program.display());
        }
        thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{} failed:\n{text}", program.display());
    Ok(text)
}

/// The rate in `… aggregated stats: 110,036 msgs/sec ~ 107 MiB/sec`.
fn aggregated_rate(text: &str) -> Option<f64> {
    let (_, rest) = text.split_once("aggregated stats: ")?;
    let (rate, _) = rest.split_once(" msgs/sec")?;
    rate.replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_nats_bench() {
        let text = "x\n NATS JetStream asynchronous publisher aggregated stats: \
                    110,036 msgs/sec ~ 107 MiB/sec\n";
        assert_eq!(aggregated_rate(text), Some(110_036.0));
        assert_eq!(aggregated_rate("nothing"), None);
    }

    #[test]
    fn programs_are_bounded() {
        let second = Duration::from_secs(1);
        assert_eq!(output(Path::new("/bin/echo"), "a b", second).unwrap(), "a b\n");
        assert!(output(Path::new("/bin/false"), "", second).is_err());
        assert!(output(Path::new("/bin/sleep"), "60", Duration::from_millis(50)).is_err());
    }
}
