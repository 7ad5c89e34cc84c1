//! From `argv` to a [`Command`].

use super::draft::{self, Draft, Findings};
use super::flags::{self, Flags};
use super::options::{CORELANE_VERSION, NATS_VERSION, Options, Persona};
use super::units::quote;
use super::usage::{usage, usage_tls};
use super::{Command, Loader, Reply, SignalRequest, digest, finish, parser};
use std::path::PathBuf;

/// Reads a command line, the program's name first, and the configuration file it names.
pub fn parse(args: &[String], loader: &mut dyn Loader) -> Command {
    let name = args.first().map(String::as_str).unwrap_or_default();
    let persona = persona(name);
    match command(persona, args.get(1..).unwrap_or_default(), loader) {
        Ok(command) => command,
        Err(text) => Command::Done(failure(persona, &text)),
    }
}

/// Which program we are, by the last part of `argv[0]`.
pub fn persona(program: &str) -> Persona {
    match program.rsplit('/').next() {
        Some("nats-server") => Persona::NatsServer,
        _ => Persona::Corelane,
    }
}

/// An error as nats-server prints one before its log is open: exit code 1.
pub fn failure(persona: Persona, text: &str) -> Reply {
    Reply { stderr: format!("{}: {text}\n", persona.name()), code: 1, ..Reply::default() }
}

fn print(stdout: String) -> Command {
    Command::Done(Reply { stdout, ..Reply::default() })
}

/// What `-v` prints.
pub fn version_text(persona: Persona) -> String {
    let nats = format!("nats-server: v{NATS_VERSION}\n");
    match persona {
        Persona::NatsServer => nats,
        Persona::Corelane => format!("corelane: v{CORELANE_VERSION}\n{nats}"),
    }
}

fn command(persona: Persona, args: &[String], loader: &mut dyn Loader) -> Result<Command, String> {
    let flags = match flags::parse(args) {
        Ok(flags) => flags,
        Err(text) => {
            // As in nats-server, a flag in error shows the usage and is a success.
            let reply = Reply { stdout: usage(persona), stderr: format!("{text}\n"), code: 0 };
            return Ok(Command::Done(reply));
        }
    };
    if flags.version {
        return Ok(print(version_text(persona)));
    }
    if flags.help {
        return Ok(print(usage(persona)));
    }
    if flags.help_tls {
        return Ok(print(usage_tls()));
    }
    if let Some(word) = flags.words.first() {
        return match word.to_lowercase().as_str() {
            "version" => Ok(print(version_text(persona))),
            "help" => Ok(print(usage(persona))),
            _ => Err(format!("unrecognized command: {}", quote(word))),
        };
    }
    if let Some(text) = flags.signal.as_deref().filter(|text| !text.is_empty()) {
        return signal(persona, text);
    }
    start(persona, &flags, loader)
}

fn signal(persona: Persona, text: &str) -> Result<Command, String> {
    let mut parts = text.split('=');
    let command = parts.next().unwrap_or_default().to_owned();
    let target = parts.next().unwrap_or_default().to_owned();
    let rest: Vec<&str> = parts.collect();
    if !rest.is_empty() {
        return Err(format!("invalid signal parameters: [{}]", rest.join(" ")));
    }
    Ok(Command::Signal(SignalRequest { persona, command, target }))
}

fn start(persona: Persona, flags: &Flags, loader: &mut dyn Loader) -> Result<Command, String> {
    let config = flags.config.as_deref().filter(|path| !path.is_empty());
    if flags.test && config.is_none() {
        let text = "must specify [-c, --config] option to check configuration file syntax";
        return Err(text.to_owned());
    }
    // A store directory on the command line makes one in the file a duplicate.
    let mut draft = Draft { store_dir: flags.draft.store_dir.clone(), ..Draft::default() };
    draft.store_dir = draft.store_dir.filter(|dir| !dir.is_empty());
    let mut sum = String::new();
    let mut notes = String::new();
    if let Some(path) = config {
        (sum, notes) = load(path, flags.test, &mut draft, loader)?;
        if flags.test {
            let name = persona.name();
            let stderr = format!("{name}: configuration file {path} is valid ({sum})\n");
            return Ok(Command::Done(Reply { stderr, ..Reply::default() }));
        }
    }
    if let Some(name) = flags.unsupported {
        return Err(format!("flag --{name} is not supported yet"));
    }
    flags::merge(&mut draft, &flags.draft);
    let mut options: Options = finish::finish(&draft, persona)?;
    options.config_file = config.map(PathBuf::from);
    options.config_digest = sum;
    options.notes = notes;
    Ok(Command::Run(Box::new(options)))
}

/// Reads a file into `draft`; gives its digest and its warnings.
fn load(
    path: &str,
    test: bool,
    draft: &mut Draft,
    loader: &mut dyn Loader,
) -> Result<(String, String), String> {
    let map = parser::parse_file(path, loader)?;
    let mut found = Findings::default();
    if map.is_empty() {
        found.warnings.push((None, format!("{path}: config has no values or is empty")));
    }
    draft::read(&map, draft, &mut found);
    match found.refusal(test) {
        Some(lines) => Err(lines),
        None => Ok((digest::digest(&map), found.warning_lines())),
    }
}
