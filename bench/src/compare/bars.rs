//! What is compared, as data: the runs, the sets they belong to and the bar of each figure.
//!
//! A run is the words of a command line, so that it can be repeated by hand. A number that ends in
//! `~` is scaled by `--scale`.

use crate::compare::server::Variant;

/// What a figure must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    /// A over B, at least.
    AtLeast(f64),
    /// As `AtLeast`, or A within a factor of 1.3 of the generator's ceiling.
    AtLeastOrCeiling(f64),
    /// A over B, at most.
    AtMost(f64),
    /// A alone, at most, in the figure's unit.
    Absolute(f64),
    /// A minus the device's own median, at most, in microseconds.
    OverDevice(f64),
    /// Only told.
    Told,
}

/// A figure of a run and its bar.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// The figure's name in the outcome.
    pub name: &'static str,
    /// What it must reach.
    pub bar: Bar,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// A scenario, in turn on both servers.
    Run(&'static str),
    /// A scenario on the first server alone.
    Alone(&'static str),
    /// Fill with these words, then kill -9 and start, as often as there are rounds.
    Restart(&'static str),
    /// Fill, then restart and replay with the second words, as often as there are rounds.
    ColdReplay(&'static str, &'static str),
    /// Fill many streams, restart, and replay single ones: at once, and after some idle seconds.
    OneOfMany(&'static str, f64),
    /// Start on nothing: time, memory, disk.
    Empty,
    /// The `nats` command line's own bench, if it was named.
    NatsCli(&'static str),
}

/// One comparison.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// The sets it belongs to.
    pub sets: &'static [&'static str],
    /// How the second server is configured.
    pub against: Variant,
    /// What is done.
    pub work: Work,
    /// What is compared.
    pub figures: &'static [Figure],
}

const fn figure(name: &'static str, bar: Bar) -> Figure {
    Figure { name, bar }
}

use Bar::{Absolute, AtLeast, AtLeastOrCeiling, AtMost, OverDevice, Told};
use Variant::{Default, SyncAlways};

/// Everything that can be compared.
pub const STEPS: &[Step] = &[
    Step {
        name: "core-1to1",
        sets: &["bars", "core", "quick"],
        against: Default,
        work: Work::Run("core-pub-sub --size 128 -d 4~"),
        figures: &[
            figure("rate", AtLeastOrCeiling(3.0)),
            figure("server_cpu_per_msg", AtMost(1.0 / 3.0)),
        ],
    },
    Step {
        name: "fanout-1to4",
        sets: &["bars", "core"],
        against: Default,
        work: Work::Run("fanout --subscribers 4 --size 128 -d 4~"),
        figures: &[figure("rate", AtLeast(2.5)), figure("server_cpu_per_msg", Told)],
    },
    Step {
        name: "request",
        sets: &["core"],
        against: Default,
        work: Work::Run("request --clients 4 --in-flight 100 -d 3~"),
        figures: &[figure("rate", Told), figure("server_cpu_per_msg", Told)],
    },
    Step {
        name: "latency",
        sets: &["bars", "core", "quick"],
        against: Default,
        work: Work::Run("latency --connections 8 -d 4~"),
        figures: &[
            figure("one_way_near.p50", AtMost(0.9)),
            figure("one_way_far.p50", AtMost(1.5)),
            figure("one_way.p99", Told),
        ],
    },
    Step {
        name: "publish-1k",
        sets: &["bars", "publish", "quick"],
        against: Default,
        work: Work::Run("js-publish --size 1KiB --clients 8 --in-flight 500 -d 5~"),
        figures: &[
            figure("rate", AtLeast(6.0)),
            figure("server_cpu_per_msg", AtMost(1.0 / 6.0)),
            figure("ack.p99", Told),
            figure("errors", Told),
        ],
    },
    Step {
        name: "publish-1k-always",
        sets: &["bars", "publish"],
        against: SyncAlways,
        work: Work::Run("js-publish --size 1KiB --clients 8 --in-flight 500 -d 5~"),
        figures: &[figure("rate", AtLeast(150.0)), figure("server_cpu_per_msg", Told)],
    },
    Step {
        name: "publish-128",
        sets: &["bars", "publish"],
        against: Default,
        work: Work::Run("js-publish --size 128 --clients 8 --in-flight 500 -d 5~"),
        figures: &[figure("rate", AtLeast(8.0)), figure("server_cpu_per_msg", Told)],
    },
    Step {
        name: "publish-10k",
        sets: &["bars", "publish"],
        against: Default,
        work: Work::Run("js-publish --size 10KiB --clients 8 --in-flight 500 -d 5~"),
        figures: &[figure("rate", AtLeast(3.0)), figure("errors", Told)],
    },
    Step {
        name: "publish-100k",
        sets: &["bars", "publish"],
        against: Default,
        work: Work::Run("js-publish --size 100KiB --clients 8 --in-flight 50 -d 5~"),
        figures: &[figure("rate", AtLeast(2.0)), figure("errors", Told)],
    },
    Step {
        name: "publish-100k-refused",
        sets: &["publish"],
        against: Default,
        work: Work::Run("js-publish --size 100KiB --clients 8 --in-flight 500 -d 3~"),
        figures: &[figure("rate", Told), figure("errors", Told)],
    },
    Step {
        name: "nats-cli",
        sets: &["bars", "publish", "cli"],
        against: Default,
        work: Work::NatsCli("500000~"),
        figures: &[figure("rate", AtLeast(1.7))],
    },
    Step {
        name: "replay-tail",
        sets: &["bars", "replay", "quick"],
        against: Default,
        work: Work::Run("js-replay --size 1KiB --msgs 100000 --consumers 1,1,1 --mode push"),
        figures: &[figure("rate", AtLeast(2.5)), figure("server_cpu_per_msg", Told)],
    },
    Step {
        name: "replay-tail-pull",
        sets: &["replay"],
        against: Default,
        work: Work::Run("js-replay --size 1KiB --msgs 100000 --consumers 1,1,1 --mode pull"),
        figures: &[figure("rate", Told), figure("server_cpu_per_msg", Told)],
    },
    Step {
        name: "replay-cold",
        sets: &["bars", "replay"],
        against: Default,
        work: Work::ColdReplay(
            "js-restart-fill --msgs 524288~ --size 1KiB --subjects 1 --streams 1",
            "js-replay --no-fill --size 1KiB --mode push",
        ),
        figures: &[figure("rate", AtLeast(2.0))],
    },
    Step {
        name: "replay-one-of-1000",
        sets: &["bars", "replay"],
        against: Default,
        work: Work::OneOfMany(
            "js-restart-fill --msgs 1048576~ --size 1KiB --subjects 1 --streams 1000",
            60.0,
        ),
        figures: &[figure("at_once", AtLeast(0.2)), figure("after_idle", AtLeast(1.0))],
    },
    Step {
        name: "ack-latency",
        sets: &["bars", "latency", "quick"],
        against: Default,
        work: Work::Run("js-ack-latency --size 1KiB --connections 8 -d 3~"),
        figures: &[
            figure("ack_near.p50", OverDevice(70.0)),
            figure("ack_far.p50", OverDevice(110.0)),
            figure("ack.p99", Told),
        ],
    },
    Step {
        name: "ack-latency-always",
        sets: &["latency"],
        against: SyncAlways,
        work: Work::Run("js-ack-latency --size 1KiB --connections 8 -d 3~"),
        figures: &[figure("ack_near.p50", Told), figure("ack.p99", Told)],
    },
    Step {
        name: "push-backlog",
        sets: &["bars", "many"],
        against: Default,
        work: Work::Alone("js-push-backlog --warmup 0 -d 5~"),
        figures: &[
            figure("slow_turns", Absolute(0.0)),
            figure("preempted_turns", Told),
            figure("longest_turn", Told),
            figure("api.p99", Absolute(10_000.0)),
            figure("core.p99", Absolute(10_000.0)),
            figure("rate", Told),
        ],
    },
    Step {
        name: "slow-streams",
        sets: &["bars", "many"],
        against: Default,
        work: Work::Run("js-slow-streams --streams 1000~ --rate 8 -d 8~"),
        figures: &[figure("server_cpus", AtMost(2.0)), figure("ack.p50", Told)],
    },
    Step {
        name: "slow-streams-always",
        sets: &["bars", "many"],
        against: SyncAlways,
        work: Work::Run("js-slow-streams --streams 1000~ --rate 8 -d 8~"),
        figures: &[
            figure("server_cpus", AtMost(0.5)),
            figure("rate", Told),
            figure("ack.p50", Told),
        ],
    },
    Step {
        name: "purge-interference",
        sets: &["bars", "purge"],
        against: Default,
        work: Work::Run("js-purge-interference --purged 1000000~ --subjects 1000000~"),
        figures: &[
            figure("p99_ratio", Absolute(3.0)),
            figure("purge", Told),
            figure("create_consumer", Told),
        ],
    },
    Step {
        name: "restart",
        sets: &["bars", "restart"],
        against: Default,
        work: Work::Restart("js-restart-fill --msgs 5000000~ --size 256 --subjects 100000~"),
        figures: &[
            figure("ready", AtMost(0.25)),
            figure("rss_filled", AtMost(1.0 / 3.0)),
            figure("rss_restarted", Told),
            figure("fill_rate", Told),
        ],
    },
    Step {
        name: "idle-connections",
        sets: &["bars", "many"],
        against: Default,
        work: Work::Run("idle-connections --connections 10000~"),
        figures: &[figure("rss_per_connection", Absolute(12.0)), figure("connect_rate", Told)],
    },
    Step {
        name: "empty",
        sets: &["bars", "restart", "quick"],
        against: Default,
        work: Work::Empty,
        figures: &[
            figure("rss", Absolute(48.0)),
            figure("disk", Absolute(4.0)),
            figure("ready", AtMost(1.0)),
        ],
    },
];

/// The steps of these sets, or of these names, in order and once each. `Err` names a stranger.
pub fn select(sets: &[String]) -> Result<Vec<&'static Step>, String> {
    let belongs = |step: &Step, set: &str| step.name == set || step.sets.contains(&set);
    for set in sets {
        if set != "all" && !STEPS.iter().any(|step| belongs(step, set)) {
            return Err(format!("there is no set or run {set:?}"));
        }
    }
    let wanted = |step: &&Step| sets.iter().any(|set| set == "all" || belongs(step, set));
    Ok(STEPS.iter().filter(wanted).collect())
}

/// The words of a run, scaled.
pub fn words(text: &str, scale: f64) -> Vec<String> {
    text.split_whitespace()
        .map(|word| match word.strip_suffix('~').and_then(|n| n.parse::<f64>().ok()) {
            // Counts stay whole; durations in seconds are small.
            Some(count) if count >= 100.0 => format!("{:.0}", (count * scale).max(1.0)),
            Some(seconds) => format!("{}", seconds * scale),
            None => word.to_owned(),
        })
        .collect()
}

/// Whether a figure reaches its bar; `None` where there is none, or nothing to judge by.
pub fn judge(
    bar: Bar,
    (a, b): (Option<f64>, Option<f64>),
    (ceiling, device): (Option<f64>, Option<f64>),
) -> Option<bool> {
    let a = a?;
    let ratio = b.filter(|&b| b > 0.0).map(|b| a / b);
    match bar {
        AtLeast(least) => Some(ratio? >= least),
        AtLeastOrCeiling(least) => {
            Some(ratio? >= least || ceiling.is_some_and(|ceiling| a >= ceiling / 1.3))
        }
        AtMost(most) => Some(ratio? <= most),
        Absolute(most) => Some(a <= most),
        OverDevice(most) => Some(a - device? <= most),
        Told => None,
    }
}

/// A bar in words.
pub fn bar_text(bar: Bar) -> String {
    match bar {
        AtLeast(least) => format!(">= {least} x"),
        AtLeastOrCeiling(least) => format!(">= {least} x or ceiling/1.3"),
        AtMost(most) => format!("<= {most:.3} x"),
        Absolute(most) => format!("<= {most}"),
        OverDevice(most) => format!("<= device + {most} us"),
        Told => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn every_run_is_a_command_line_and_every_name_is_unique() {
        for step in STEPS {
            let runs = match step.work {
                Work::Run(run)
                | Work::Alone(run)
                | Work::Restart(run)
                | Work::OneOfMany(run, _) => vec![run],
                Work::ColdReplay(fill, replay) => vec![fill, replay],
                Work::Empty | Work::NatsCli(_) => vec![],
            };
            for run in runs {
                for scale in [0.01, 1.0, 3.0] {
                    let line = ["x".to_owned()].into_iter().chain(words(run, scale));
                    Cli::try_parse_from(line).expect(run);
                }
            }
            assert_eq!(STEPS.iter().filter(|other| other.name == step.name).count(), 1);
            assert!(!step.figures.is_empty() && !step.sets.is_empty());
        }
    }

    #[test]
    fn sets_and_names_select() {
        let names = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
            select(&sets).map(|steps| steps.iter().map(|step| step.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["latency", "core-1to1"]).unwrap()[..2], ["core-1to1", "latency"]);
        assert_eq!(names(&["all"]).unwrap().len(), STEPS.len());
        assert!(names(&["nothing"]).is_err());
    }

    #[test]
    fn numbers_are_scaled() {
        assert_eq!(
            words("x -d 5~ --msgs 1000~ --size 1KiB", 0.5),
            ["x", "-d", "2.5", "--msgs", "500", "--size", "1KiB"]
        );
    }

    #[test]
    fn judgements() {
        let of = |bar, a, b| judge(bar, (Some(a), Some(b)), (Some(12.0), Some(100.0)));
        assert_eq!(of(AtLeast(3.0), 6.0, 2.0), Some(true));
        assert_eq!(of(AtLeast(3.0), 5.9, 2.0), Some(false));
        assert_eq!(of(AtLeastOrCeiling(3.0), 10.0, 9.0), Some(true));
        assert_eq!(of(AtLeastOrCeiling(3.0), 9.0, 9.0), Some(false));
        assert_eq!(of(AtMost(0.5), 1.0, 2.0), Some(true));
        assert_eq!(of(Absolute(4.0), 4.1, 0.0), Some(false));
        assert_eq!(of(OverDevice(70.0), 169.0, 30.0), Some(true));
        assert_eq!(of(OverDevice(70.0), 171.0, 30.0), Some(false));
        assert_eq!(of(Told, 1.0, 1.0), None);
        assert_eq!(of(AtLeast(1.0), 1.0, 0.0), None, "nothing to compare with");
        assert_eq!(judge(AtLeast(1.0), (Some(1.0), None), (None, None)), None);
        assert_eq!(judge(OverDevice(1.0), (Some(1.0), None), (None, None)), None);
    }
}
