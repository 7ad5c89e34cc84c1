//! Seeds on worker threads. A seed that panics failed like any other: the others run on.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the watch looks for a seed that hangs.
const WATCH: Duration = Duration::from_millis(20);

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// The seed that this thread runs, for what is printed about a panic.
pub fn current_seed() -> u64 {
    SEED.get()
}

/// How seeds are run.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// Worker threads.
    pub jobs: usize,
    /// No seed is begun after one that failed.
    pub stop_at_first: bool,
    /// A seed that takes longer hangs.
    pub seed_max: Duration,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Runs every seed. `each` gets the results one at a time, `hangs` is called (again and again)
    /// with a seed that takes too long, which cannot be noticed from inside.
    pub fn run<T: Send>(
        &self,
        seeds: &[u64],
        attempt: impl Fn(u64) -> Result<T, String> + Sync,
        each: impl FnMut(u64, Result<T, String>) + Send,
        hangs: impl Fn(u64) + Sync,
    ) {
        let jobs = self.jobs.clamp(1, seeds.len().max(1));
        let (next, left) = (AtomicUsize::new(0), AtomicUsize::new(jobs));
        let running = Mutex::new(BTreeMap::new());
        let each = Mutex::new(each);
        std::thread::scope(|scope| {
            scope.spawn(|| self.watch(&left, &running, &hangs));
            for _ in 0..jobs {
                scope.spawn(|| {
                    while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                        SEED.set(seed);
                        locked(&running).insert(seed, Instant::now());
                        let result = catch_unwind(AssertUnwindSafe(|| attempt(seed)));
                        locked(&running).remove(&seed);
                        let result = result.unwrap_or_else(|panic| Err(text_of(&*panic)));
                        if result.is_err() && self.stop_at_first {
                            next.store(seeds.len(), Ordering::Relaxed);
                        }
                        locked(&each)(seed, result);
                    }
                    left.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
    }

    fn watch(
        &self,
        left: &AtomicUsize,
        running: &Mutex<BTreeMap<u64, Instant>>,
        hangs: &impl Fn(u64),
    ) {
        while left.load(Ordering::Relaxed) > 0 {
            std::thread::sleep(WATCH);
            let long = |begun: &Instant| begun.elapsed() > self.seed_max;
            let hung = locked(running).iter().find(|(_, begun)| long(begun)).map(|(s, _)| *s);
            hung.into_iter().for_each(hangs);
        }
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stop_at_first: bool, jobs: usize) -> BTreeMap<u64, Result<u64, String>> {
        let pool = Pool { jobs, stop_at_first, seed_max: Duration::from_secs(60) };
        let seeds: Vec<u64> = (0..100).collect();
        let mut results = BTreeMap::new();
        let attempt = |seed: u64| {
            assert!(!seed.is_multiple_of(10), "seed {seed} breaks");
            if seed % 10 == 5 { Err("it is wrong".to_owned()) } else { Ok(seed) }
        };
        let each = |seed, result| assert!(results.insert(seed, result).is_none());
        pool.run(&seeds, attempt, each, |_| {});
        results
    }

    #[test]
    fn a_seed_that_panics_does_not_hide_the_others() {
        for jobs in [1, 4] {
            let results = run(false, jobs);
            assert_eq!(results.len(), 100);
            for (seed, result) in results {
                let want = match seed % 10 {
                    0 => Err(format!("panic: seed {seed} breaks")),
                    5 => Err("it is wrong".to_owned()),
                    _ => Ok(seed),
                };
                assert_eq!(result, want);
            }
        }
    }

    #[test]
    fn it_can_stop_at_the_first_failure() {
        let results = run(true, 1);
        assert_eq!(results.len(), 1);
        assert!(results[&0].is_err());
    }
}
