//! A measured run: threads that work, one that waits, counts and shows how far it is.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    clock::{self, Nanos},
    proc,
};

/// How long the last answers may take after a run was stopped.
const GRACE: Nanos = 5_000_000_000;

/// Set by SIGINT and SIGTERM; every wait looks at it.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Fails when the process was asked to end.
pub fn check_interrupted() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps, but ends early with an error when the process is asked to end.
pub fn sleep(time: Duration) -> Result<()> {
    let until = clock::now() + time.as_nanos() as Nanos;
    loop {
        check_interrupted()?;
        let left = until.saturating_sub(clock::now());
        if left == 0 {
            return Ok(());
        }
        thread::sleep(Duration::from_nanos(left.min(50_000_000)));
    }
}

/// Counters of one thread, on cache lines of their own.
#[repr(align(128))]
#[derive(Default)]
pub struct Meter {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Meter {
    /// Counts messages sent. Only one thread writes a meter.
    #[inline]
    pub fn add_sent(&self, count: u64) {
        self.sent.store(self.sent.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    /// Counts messages (or answers) received.
    #[inline]
    pub fn add_received(&self, count: u64) {
        self.received.store(self.received.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    /// How many were sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// How many were received.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// What the threads of a run share.
pub struct Shared {
    meters: Vec<Meter>,
    stop: AtomicBool,
    stopped_at: AtomicU64,
    finished_at: AtomicU64,
    recording: AtomicBool,
    failed: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl Shared {
    /// For this many writers of meters.
    pub fn new(meters: usize) -> Self {
        Self {
            meters: (0..meters).map(|_| Meter::default()).collect(),
            stop: AtomicBool::new(false),
            stopped_at: AtomicU64::new(0),
            finished_at: AtomicU64::new(0),
            recording: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    /// The meter of one client.
    pub fn meter(&self, index: usize) -> &Meter {
        &self.meters[index]
    }

    /// Whether the clients should come to an end.
    #[inline]
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Asks the clients to come to an end.
    pub fn stop(&self) {
        let _ = self.stopped_at.compare_exchange(
            0,
            clock::now().max(1),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the clients were asked so long ago that what is still missing will not come.
    pub fn is_overdue(&self, now: Nanos) -> bool {
        self.is_stopped() && now.saturating_sub(self.stopped_at.load(Ordering::Relaxed)) > GRACE
    }

    /// Whether latencies count: the warm-up is over.
    #[inline]
    pub fn is_recording(&self) -> bool {
        self.recording.load(Ordering::Relaxed)
    }

    /// Whether some thread failed or the process was asked to end.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || INTERRUPTED.load(Ordering::Relaxed)
    }

    fn fail(&self, why: String) {
        self.failure.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(why);
        self.failed.store(true, Ordering::Relaxed);
    }

    fn sums(&self) -> (u64, u64) {
        self.meters.iter().fold((0, 0), |(sent, received), meter| {
            (sent + meter.sent(), received + meter.received())
        })
    }
}

/// How long a run takes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What comes before counts for nothing.
    pub warmup: Duration,
    /// What is measured; the longest it may take when a count ends the run.
    pub measure: Duration,
    /// The clients end by themselves after so many messages received; measured from the start.
    pub until_received: Option<u64>,
}

/// What a run did between two moments.
#[derive(Clone, Debug, Default)]
pub struct Sampled {
    /// The time between them.
    pub seconds: f64,
    /// Messages sent.
    pub sent: u64,
    /// Messages or answers received.
    pub received: u64,
    /// The same by meter, in order: sent and received.
    pub by_meter: Vec<(u64, u64)>,
    /// Processor seconds of the server.
    pub server_cpu: Option<f64>,
    /// Processor seconds of this process.
    pub own_cpu: f64,
    /// The server's resident memory at the end.
    pub server_rss: Option<u64>,
}

/// Who is measured and how it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// The server's process, for its processor time and memory.
    pub server_pid: Option<u32>,
    /// Its monitoring port, for its turns.
    pub monitor: Option<SocketAddr>,
    /// Whether a bar is shown.
    pub progress: bool,
}

struct Moment {
    at: Nanos,
    meters: Vec<(u64, u64)>,
    server_cpu: Option<f64>,
    own_cpu: f64,
}

impl Moment {
    fn now(shared: &Shared, watch: Watch) -> Self {
        Self {
            server_cpu: watch.server_pid.and_then(|pid| proc::cpu_seconds(pid).ok()),
            own_cpu: proc::own_cpu_seconds(),
            meters: shared.meters.iter().map(|m| (m.sent(), m.received())).collect(),
            at: clock::now(),
        }
    }
}

/// The work of one thread.
pub type Job<'a, R> = Box<dyn FnOnce() -> Result<R> + Send + 'a>;

/// Runs the jobs, each on a thread, to the plan. Returns what was measured and what they returned.
pub fn run<R: Send>(
    label: &str,
    plan: Plan,
    watch: Watch,
    shared: &Shared,
    jobs: Vec<Job<'_, R>>,
) -> Result<(Sampled, Vec<R>)> {
    thread::scope(|scope| {
        let begin = Moment::now(shared, watch);
        shared.recording.store(plan.warmup.is_zero(), Ordering::Relaxed);
        let threads: Vec<_> = jobs
            .into_iter()
            .map(|job| {
                scope.spawn(move || {
                    let result = job().map_err(|error| shared.fail(format!("{error:#}"))).ok();
                    shared.finished_at.fetch_max(clock::now(), Ordering::Relaxed);
                    result
                })
            })
            .collect();
        let finished = || threads.iter().all(|thread| thread.is_finished());
        let bar = bar(label, plan, watch);
        let begin = if plan.warmup.is_zero() {
            begin
        } else {
            wait(plan.warmup, shared, &finished, |_| {});
            shared.recording.store(true, Ordering::Relaxed);
            Moment::now(shared, watch)
        };
        wait(plan.measure, shared, &finished, |elapsed| match plan.until_received {
            Some(_) => bar.set_position(shared.sums().1),
            None => bar.set_position(elapsed / 1_000_000),
        });
        let mut end = Moment::now(shared, watch);
        if finished() {
            // Short runs end between two looks at the clock.
            end.at = shared.finished_at.load(Ordering::Relaxed).clamp(begin.at + 1, end.at);
        }
        let late = plan.until_received.is_some() && !finished();
        shared.recording.store(false, Ordering::Relaxed);
        shared.stop();
        let mut results = Vec::new();
        for thread in threads {
            results.extend(thread.join().map_err(|_| anyhow!("a thread panicked"))?);
        }
        bar.finish_and_clear();
        check_interrupted()?;
        if let Some(why) = shared.failure.lock().unwrap_or_else(|e| e.into_inner()).take() {
            bail!("{why}");
        }
        if late {
            bail!("{label}: not through within {:?}", plan.measure);
        }
        Ok((sampled(&begin, &end, watch), results))
    })
}

fn wait(
    time: Duration,
    shared: &Shared,
    finished: &impl Fn() -> bool,
    mut tick: impl FnMut(Nanos),
) {
    let begin = clock::now();
    let time = time.as_nanos() as Nanos;
    loop {
        let elapsed = clock::now() - begin;
        tick(elapsed);
        if elapsed >= time || shared.has_failed() || finished() {
            return;
        }
        thread::sleep(Duration::from_nanos((time - elapsed).min(2_000_000)));
    }
}

fn sampled(begin: &Moment, end: &Moment, watch: Watch) -> Sampled {
    let by_meter: Vec<_> = end
        .meters
        .iter()
        .zip(&begin.meters)
        .map(|(end, begin)| (end.0 - begin.0, end.1 - begin.1))
        .collect();
    Sampled {
        seconds: (end.at - begin.at) as f64 / 1e9,
        sent: by_meter.iter().map(|m| m.0).sum(),
        received: by_meter.iter().map(|m| m.1).sum(),
        by_meter,
        server_cpu: end.server_cpu.zip(begin.server_cpu).map(|(end, begin)| end - begin),
        own_cpu: end.own_cpu - begin.own_cpu,
        server_rss: watch.server_pid.and_then(|pid| proc::resident_bytes(pid).ok()),
    }
}

fn bar(label: &str, plan: Plan, watch: Watch) -> ProgressBar {
    if !watch.progress {
        return ProgressBar::hidden();
    }
    let (length, style) = match plan.until_received {
        Some(count) => (count, "{msg} {wide_bar} {pos}/{len} {per_sec}"),
        None => (plan.measure.as_millis() as u64, "{msg} {wide_bar} {elapsed}"),
    };
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style).with_message(label.to_owned())
}

/// Errors that a server answered with, by text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors(pub BTreeMap<String, u64>);

impl Errors {
    /// Counts one.
    pub fn add(&mut self, text: &str) {
        match self.0.get_mut(text) {
            Some(count) => *count += 1,
            None => {
                self.0.insert(text.to_owned(), 1);
            }
        }
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: &Self) {
        for (text, count) in &other.0 {
            *self.0.entry(text.clone()).or_default() += count;
        }
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// Deals items out to threads, one after the other.
pub fn deal<T>(items: Vec<T>, threads: usize) -> Vec<Vec<T>> {
    let threads = threads.clamp(1, items.len().max(1));
    let mut hands: Vec<Vec<T>> = (0..threads).map(|_| Vec::new()).collect();
    for (index, item) in items.into_iter().enumerate() {
        hands[index % threads].push(item);
    }
    hands
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Watch = Watch { server_pid: None, monitor: None, progress: false };

    #[test]
    fn a_run_counts_between_warm_up_and_end() {
        let shared = Shared::new(2);
        let plan = Plan {
            warmup: Duration::from_millis(20),
            measure: Duration::from_millis(40),
            until_received: None,
        };
        let job = |index: usize| -> Job<'_, usize> {
            let shared = &shared;
            Box::new(move || {
                let mut recorded = false;
                while !shared.is_stopped() {
                    shared.meter(index).add_sent(1);
                    recorded |= shared.is_recording();
                    thread::sleep(Duration::from_millis(1));
                }
                assert!(recorded);
                Ok(index)
            })
        };
        let (sampled, results) = run("x", plan, QUIET, &shared, vec![job(0), job(1)]).unwrap();
        assert_eq!(results, [0, 1]);
        assert!(sampled.sent > 0 && sampled.sent < shared.meter(0).sent() + shared.meter(1).sent());
        assert_eq!(sampled.sent, sampled.by_meter.iter().map(|m| m.0).sum::<u64>());
        assert!(sampled.seconds >= 0.04);
    }

    #[test]
    fn the_first_failure_ends_a_run() {
        let shared = Shared::new(0);
        let plan =
            Plan { warmup: Duration::ZERO, measure: Duration::from_secs(60), until_received: None };
        let wait: Job<'_, ()> = Box::new(|| {
            while !shared.has_failed() {
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        let fail: Job<'_, ()> = Box::new(|| bail!("on purpose"));
        let error = run("x", plan, QUIET, &shared, vec![wait, fail]).unwrap_err();
        assert_eq!(error.to_string(), "on purpose");
    }

    #[test]
    fn a_run_that_ends_by_itself_is_timed_to_its_end() {
        let shared = Shared::new(1);
        let plan = Plan {
            warmup: Duration::ZERO,
            measure: Duration::from_secs(60),
            until_received: Some(1),
        };
        let job: Job<'_, ()> = Box::new(|| {
            thread::sleep(Duration::from_millis(5));
            Ok(())
        });
        let (sampled, _) = run("x", plan, QUIET, &shared, vec![job]).unwrap();
        assert!((0.005..1.0).contains(&sampled.seconds), "{}", sampled.seconds);
    }

    #[test]
    fn a_count_that_is_not_reached_is_an_error() {
        let shared = Shared::new(0);
        let plan = Plan {
            warmup: Duration::ZERO,
            measure: Duration::from_millis(5),
            until_received: Some(1),
        };
        let job: Job<'_, ()> = Box::new(|| {
            while !shared.is_stopped() {
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        assert!(run("x", plan, QUIET, &shared, vec![job]).is_err());
    }

    #[test]
    fn dealing_is_even() {
        assert_eq!(deal(vec![1, 2, 3, 4, 5], 2), [vec![1, 3, 5], vec![2, 4]]);
        assert_eq!(deal(vec![1], 8), [vec![1]]);
        assert_eq!(deal(Vec::<u8>::new(), 3), [Vec::<u8>::new()]);
    }

    #[test]
    fn errors_merge() {
        let (mut one, mut two) = (Errors::default(), Errors::default());
        one.add("a");
        two.add("a");
        two.add("b");
        one.merge(&two);
        assert_eq!((one.total(), one.0["a"], one.0["b"]), (3, 2, 1));
    }
}
