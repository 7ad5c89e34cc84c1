//! `--signal command[=pid|pidfile]`: tells a running broker what to do.

use super::cli::failure;
use super::loader::go_error;
use super::units::quote;
use super::{Reply, SignalRequest};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;

/// Finds the process and sends the signal. Success is silent.
pub fn send(request: &SignalRequest) -> Reply {
    let running = || processes_named(Path::new("/proc"), request.persona.name());
    match deliver(request, running, kill) {
        Ok(()) => Reply::default(),
        Err(text) => failure(request.persona, &text),
    }
}

/// The signal behind a command, as nats-server's.
fn signal(command: &str) -> Option<Signal> {
    Some(match command {
        "stop" => Signal::KILL,
        "quit" => Signal::INT,
        "reopen" => Signal::USR1,
        "reload" => Signal::HUP,
        "ldm" => Signal::USR2,
        "term" => Signal::TERM,
        _ => return None,
    })
}

fn deliver(
    request: &SignalRequest,
    running: impl Fn() -> Vec<i32>,
    mut kill: impl FnMut(i32, Signal) -> Result<(), String>,
) -> Result<(), String> {
    let name = request.persona.name();
    let command = request.command.as_str();
    let pids = targets(&request.target, name, running)?;
    let mut failures = String::new();
    for pid in pids {
        let signal = signal(command).ok_or_else(|| format!("unknown signal {}", quote(command)))?;
        if let Err(why) = kill(pid, signal) {
            failures.push_str(&format!("\nsignal {} {pid}: {why}", quote(command)));
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

/// The processes that `target` means: nothing for the only one that runs, `12*` for all that run
/// and begin so, a number, or a file with a number.
fn targets(target: &str, name: &str, running: impl Fn() -> Vec<i32>) -> Result<Vec<i32>, String> {
    if target.is_empty() {
        let pids = running();
        return match pids.len() {
            0 => Err(format!("no {name} processes running")),
            1 => Ok(pids),
            _ => {
                let lines: String = pids.iter().map(|pid| format!("\n{pid}")).collect();
                Err(format!("multiple {name} processes running:{lines}"))
            }
        };
    }
    if let Some(prefix) = target.strip_suffix('*') {
        let mut pids = running();
        pids.retain(|pid| pid.to_string().starts_with(prefix));
        return Ok(pids);
    }
    let number = |text: &str| text.parse::<i32>().ok().filter(|pid| *pid > 0);
    if let Some(pid) = number(target) {
        return Ok(vec![pid]);
    }
    let Ok(text) = std::fs::read_to_string(target) else {
        return Err(format!("invalid pid: {target}"));
    };
    match number(text.trim()) {
        Some(pid) => Ok(vec![pid]),
        None => Err(format!("invalid pid: {text}")),
    }
}

fn kill(pid: i32, signal: Signal) -> Result<(), String> {
    let pid = Pid::from_raw(pid).ok_or("no such process")?;
    kill_process(pid, signal).map_err(|e| go_error(&e.into()))
}

/// Other processes with this program name, ascending.
fn processes_named(proc: &Path, name: &str) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let Ok(entries) = std::fs::read_dir(proc) else { return Vec::new() };
    let mut pids: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            let comm = std::fs::read_to_string(proc.join(pid.to_string()).join("comm"));
            comm.is_ok_and(|comm| comm.trim_end() == name)
        })
        .collect();
    pids.sort_unstable();
    pids
}

#[cfg(test)]
mod tests {
    use super::super::options::Persona;
    use super::*;

    fn run(text: &str, running: &[i32]) -> (Result<(), String>, Vec<(i32, Signal)>) {
        let (command, target) = text.split_once('=').unwrap_or((text, ""));
        let request = SignalRequest {
            persona: Persona::NatsServer,
            command: command.to_owned(),
            target: target.to_owned(),
        };
        let mut sent = Vec::new();
        let result = deliver(
            &request,
            || running.to_vec(),
            |pid, signal| {
                sent.push((pid, signal));
                if pid == 99_999_999 { Err("no such process".to_owned()) } else { Ok(()) }
            },
        );
        (result, sent)
    }

    #[test]
    fn commands_are_signals() {
        for (command, signal) in [
            ("stop", Signal::KILL),
            ("quit", Signal::INT),
            ("term", Signal::TERM),
            ("reopen", Signal::USR1),
            ("reload", Signal::HUP),
            ("ldm", Signal::USR2),
        ] {
            assert_eq!(run(&format!("{command}=7"), &[]), (Ok(()), vec![(7, signal)]));
        }
    }

    #[test]
    fn refusals_are_nats_servers() {
        for (text, running, error) in [
            ("stop", &[][..], "no nats-server processes running"),
            ("stop", &[5, 6][..], "multiple nats-server processes running:\n5\n6"),
            ("stop=99999999", &[], "\nsignal \"stop\" 99999999: no such process"),
            ("ldm=/x.pid", &[], "invalid pid: /x.pid"),
            ("stop=abc", &[], "invalid pid: abc"),
            ("stop=-5", &[], "invalid pid: -5"),
            ("stop=0", &[], "invalid pid: 0"),
            ("foo=7", &[], "unknown signal \"foo\""),
            ("=5x", &[], "invalid pid: 5x"),
        ] {
            assert_eq!(run(text, running).0, Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn targets_are_found() {
        let usr2 = Signal::USR2;
        assert_eq!(run("ldm", &[12]), (Ok(()), vec![(12, usr2)]));
        let sent = vec![(12, usr2), (123, usr2)];
        assert_eq!(run("ldm=12*", &[12, 123, 4]), (Ok(()), sent));
        assert_eq!(run("ldm=9*", &[12]), (Ok(()), vec![]));
        let file = std::env::temp_dir().join(format!("corelane-signal-{}", std::process::id()));
        std::fs::write(&file, "77\n").unwrap();
        assert_eq!(run(&format!("ldm={}", file.display()), &[]), (Ok(()), vec![(77, usr2)]));
        std::fs::write(&file, "").unwrap();
        let empty = run(&format!("ldm={}", file.display()), &[]).0;
        assert_eq!(empty, Err("invalid pid: ".to_owned()));
        std::fs::remove_file(&file).unwrap();
    }
}
