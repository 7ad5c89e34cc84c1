//! `corelane-sim --seeds 2000 [--from N] [--seed N] [--ops N] [--trace] [--jobs N] [--stop]
//! [--open] [--without N]…`

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

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

thread_local! {
    static SEED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

fn reproduce(seed: u64, ops: u64) -> String {
    format!("  cargo run --release -p corelane-sim -- --seed {seed} --ops {ops}")
}

/// Runs a seed; a panic is a failure like any other (and the last, where panics abort).
fn attempt(seed: u64, options: &Options) -> Result<Report, String> {
    SEED.set(seed);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let report = run(seed, options.ops, options.print)?;
        if options.seeds.len() > 1 && seed.is_multiple_of(TWICE) {
            let again = run(seed, options.ops, false)?;
            if again.trace != report.trace {
                return Err(format!("trace {:016x}, and then {:016x}", report.trace, again.trace));
            }
        }
        Ok(report)
    }));
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
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

/// Ends the process when a seed hangs, which none can notice from inside.
fn watch(left: &AtomicUsize, running: &Mutex<BTreeMap<u64, Instant>>, ops: u64) {
    while left.load(Ordering::Relaxed) > 0 {
        std::thread::sleep(Duration::from_millis(20));
        let Ok(running) = running.lock() else { return };
        if let Some((seed, _)) = running.iter().find(|(_, begun)| begun.elapsed() > SEED_MAX) {
            println!("seed {seed} failed: it hangs\n{}", reproduce(*seed, ops));
            std::process::exit(1);
        }
    }
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
        println!("seed {}: {info}\n{}", SEED.get(), reproduce(SEED.get(), ops));
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            println!("{trace}");
        }
    }));
    let next = AtomicU64::new(0);
    let sums = Mutex::new(Sums::default());
    let jobs = options.jobs.min(options.seeds.len());
    let (left, running) = (AtomicUsize::new(jobs), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        scope.spawn(|| watch(&left, &running, ops));
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let Some(&seed) = options.seeds.get(at) else { break };
                    if let Ok(mut running) = running.lock() {
                        running.insert(seed, Instant::now());
                    }
                    let result = attempt(seed, &options);
                    if let Ok(mut running) = running.lock() {
                        running.remove(&seed);
                    }
                    let Ok(mut sums) = sums.lock() else { break };
                    sums.done += 1;
                    let Sums { all, seeds, failed, .. } = &mut *sums;
                    match result {
                        Ok(report) => {
                            all.join(&report.tally, seeds);
                            if options.seeds.len() == 1 {
                                println!("seed {seed}: trace {:016x}", report.trace);
                            }
                        }
                        Err(why) => {
                            println!("seed {seed} failed: {why}");
                            println!("{}", reproduce(seed, options.ops));
                            failed.push((seed, why));
                            if options.stop_at_first {
                                next.store(u64::MAX / 2, Ordering::Relaxed);
                            }
                        }
                    }
                }
                left.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    let Ok(sums) = sums.into_inner() else { return ExitCode::FAILURE };
    if report(&sums) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
