//! `corelane-sim --seeds 2000 [--from N] [--seed N] [--ops N] [--trace] [--jobs N] [--stop]
//! [--open] [--without N]…`

use std::process::ExitCode;
use std::time::Duration;

use corelane_sim::pool::{Pool, current_seed};
use corelane_sim::tally::{ABSENT, ALL, Tally};
use corelane_sim::{Report, run};

/// Seeds that once failed: every run begins with them.
const REGRESSIONS: &str = include_str!("../seeds.txt");
/// Seeds that fail and whose fault is not mended yet, with what they showed: a run names them and
/// leaves them out, unless `--seed` or `--open` asks for them.
const OPEN: &str = include_str!("../open.txt");
/// Every so manieth seed runs twice: the same seed gives the same trace.
const TWICE: u64 = 64;
/// A seed that takes longer hangs: a turn has no end.
const SEED_MAX: Duration = Duration::from_secs(300);
/// From so many seeds on, a rare thing that hardly ever happened fails the run.
const SEEDS_FOR_RARE: u64 = 500;

struct Options {
    seeds: Vec<u64>,
    ops: u64,
    print: bool,
    jobs: usize,
    stop_at_first: bool,
}

fn options() -> Result<Options, String> {
    let mut args = std::env::args().skip(1);
    let (mut count, mut from, mut one, mut ops) = (100, 1_000, None, 2_000);
    let (mut print, mut stop_at_first, mut open) = (false, false, false);
    let mut without = Vec::new();
    let mut jobs = std::thread::available_parallelism().map_or(1, usize::from);
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u64, String> {
            let text = args.next().ok_or(format!("{arg} needs a number"))?;
            text.parse().map_err(|_| format!("{arg}: {text} is no number"))
        };
        match arg.as_str() {
            "--seeds" => count = number()?,
            "--from" => from = number()?,
            "--seed" => one = Some(number()?),
            "--ops" => ops = number()?,
            "--jobs" => jobs = number()?.max(1) as usize,
            "--trace" => print = true,
            "--stop" => stop_at_first = true,
            "--without" => without.push(number()?),
            "--open" => open = true,
            _ => return Err(format!("unknown argument {arg}")),
        }
    }
    let kept = REGRESSIONS.lines().filter_map(|l| l.split_whitespace().next()?.parse().ok());
    let seeds = match one {
        Some(seed) => vec![seed],
        None => {
            let faults = OPEN.lines().filter(|l| !l.starts_with('#'));
            let number = |l: &str| l.split_whitespace().next()?.parse::<u64>().ok();
            let left_out: Vec<u64> =
                if open { Vec::new() } else { faults.clone().filter_map(number).collect() };
            if !open {
                faults.for_each(|fault| println!("open, not run: seed {fault}"));
            }
            let wanted = |seed: &u64| !left_out.contains(seed) && !without.contains(seed);
            kept.chain(from..from + count).filter(wanted).collect()
        }
    };
    Ok(Options { seeds, ops, print, jobs, stop_at_first })
}

fn reproduce(seed: u64, ops: u64) -> String {
    format!("  cargo run --profile sim -p corelane-sim -- --seed {seed} --ops {ops}")
}

/// Runs a seed, some of them twice.
fn attempt(seed: u64, options: &Options) -> Result<Report, String> {
    let report = run(seed, options.ops, options.print)?;
    if options.seeds.len() > 1 && seed.is_multiple_of(TWICE) {
        let again = run(seed, options.ops, false)?;
        if again.trace != report.trace {
            return Err(format!("trace {:016x}, and then {:016x}", report.trace, again.trace));
        }
    }
    Ok(report)
}

#[derive(Default)]
struct Sums {
    all: Tally,
    seeds: Tally,
    failed: Vec<(u64, String)>,
    done: u64,
}

fn report(sums: &Sums) -> bool {
    let mut good = true;
    for what in ALL {
        let (times, seeds) = (sums.all.count(what), sums.seeds.count(what));
        let absent = ABSENT.contains(&what);
        let rare = seeds * 100 < sums.done && !absent;
        let mark = if absent {
            " (not built yet)"
        } else if rare {
            " (too rare)"
        } else {
            ""
        };
        println!("{:<24} {times:>10} times in {seeds:>6} seeds{mark}", format!("{what:?}"));
        good &= !rare || sums.done < SEEDS_FOR_RARE;
    }
    let t = &sums.all;
    t.worst.lines().iter().for_each(|line| println!("at most, {line}"));
    println!(
        "{} seeds, {} operations, {} acknowledged, {} delivered, {} audited, {} failed",
        sums.done,
        t.ops,
        t.acked,
        t.delivered,
        t.audited,
        sums.failed.len()
    );
    good && sums.failed.is_empty()
}

/// Ends the process when a seed hangs: its thread cannot be ended.
fn end_for(seed: u64, ops: u64) {
    println!("seed {seed} failed: it hangs\n{}", reproduce(seed, ops));
    std::process::exit(1);
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("corelane-sim: {why}");
            return ExitCode::from(2);
        }
    };
    let ops = options.ops;
    std::panic::set_hook(Box::new(move |info| {
        println!("seed {}: {info}\n{}", current_seed(), reproduce(current_seed(), ops));
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            println!("{trace}");
        }
    }));
    let pool =
        Pool { jobs: options.jobs, stop_at_first: options.stop_at_first, seed_max: SEED_MAX };
    let mut sums = Sums::default();
    let each = |seed, result: Result<Report, String>| {
        sums.done += 1;
        match result {
            Ok(report) => {
                sums.all.join(&report.tally, &mut sums.seeds);
                if options.seeds.len() == 1 {
                    println!("seed {seed}: trace {:016x}", report.trace);
                }
            }
            Err(why) => {
                println!("seed {seed} failed: {why}");
                println!("{}", reproduce(seed, ops));
                sums.failed.push((seed, why));
            }
        }
    };
    pool.run(&options.seeds, |seed| attempt(seed, &options), each, |seed| end_for(seed, ops));
    for (seed, _) in &sums.failed {
        println!("failed: seed {seed}");
    }
    if report(&sums) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
