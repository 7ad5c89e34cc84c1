//! The command line of corelane-bench.

use std::{fs, io::IsTerminal, process::ExitCode, sync::Arc, sync::atomic::AtomicBool};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use corelane_bench::{
    args::{Cli, Command},
    compare,
    outcome::Outcome,
    run::{self, Watch},
    scenario,
};
use serde_json::Value;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corelane-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<()> {
    let cli = Cli::parse();
    watch_signals()?;
    let watch = Watch {
        server_pid: cli.common.server_pid,
        monitor: cli.common.monitor,
        progress: !cli.common.no_progress && std::io::stderr().is_terminal(),
    };
    let mut whole = true;
    let json = match &cli.command {
        Command::Compare(args) => {
            let report = compare::run(args, watch.progress, cli.common.ceiling)?;
            println!("{}", report.to_text());
            whole = report.failures.is_empty();
            report.to_json()
        }
        Command::Runs => {
            print!("{}", compare::list());
            Value::Null
        }
        command => {
            let run = if cli.common.ceiling { scenario::run_with_ceiling } else { scenario::run };
            let outcomes = run(command, cli.common.server, watch)?;
            for outcome in &outcomes {
                println!("{}", outcome.to_text());
            }
            outcomes.iter().map(Outcome::to_json).collect()
        }
    };
    if let Some(file) = &cli.common.json {
        fs::write(file, serde_json::to_vec_pretty(&json)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    ensure!(whole, "not everything could be measured");
    Ok(())
}

/// A first SIGINT or SIGTERM ends the run in order, children included; a second one at once.
fn watch_signals() -> Result<()> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&asked))?;
        signal_hook::flag::register(signal, Arc::clone(&asked))?;
    }
    std::thread::spawn(move || {
        while !asked.load(std::sync::atomic::Ordering::Relaxed) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        run::INTERRUPTED.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    Ok(())
}
