//! The lines of a start and of an end, in nats-server's words and order, which tools read.
//!
//! A start logs [`start`], then [`http_monitor`] if there is one, then [`jetstream`] and what
//! recovery tells and [`jetstream_took`], then [`listening`], writes the ports file, and logs
//! [`READY`].

use super::finish::join_host_port;
use super::options::{CORELANE_VERSION, JetStreamOptions, NATS_VERSION, Options, Persona};
use super::units::{format_bytes, format_duration};
use std::time::Duration;

/// Process managers and tests wait for this line.
pub const READY: &str = "Server is ready";
/// First line of a shutdown.
pub const SHUTDOWN: &str = "Initiating Shutdown...";
/// Follows [`SHUTDOWN`] where JetStream runs.
pub const JETSTREAM_SHUTDOWN_BEGIN: &str = "Initiating JetStream Shutdown...";
/// JetStream's data is at rest.
pub const JETSTREAM_SHUTDOWN_END: &str = "JetStream Shutdown";
/// Last line of all.
pub const EXITING: &str = "Server Exiting..";
/// First line of lame duck mode.
pub const LAME_DUCK: &str = "Entering lame duck mode, stop accepting new clients";

/// `Trapped "terminated" signal`.
pub fn trapped(signal: &str) -> String {
    format!("Trapped \"{signal}\" signal")
}

/// The first lines: who this is and what it reads.
pub fn start(options: &Options, server_id: &str) -> Vec<String> {
    let name = options.server_name.as_deref().unwrap_or(server_id);
    let mut lines = vec![format!("Starting {}", options.persona.name())];
    match options.persona {
        Persona::NatsServer => {
            lines.push(format!("  Version:  {NATS_VERSION}"));
            lines.push(format!("  Git:      [{}]", git_commit()));
        }
        Persona::Corelane => {
            lines.push(format!("  Version:  {CORELANE_VERSION}"));
            lines.push(format!("  NATS:     {NATS_VERSION}"));
        }
    }
    lines.push(format!("  Name:     {name}"));
    lines.push(format!("  ID:       {server_id}"));
    if let Some(file) = &options.config_file {
        let file = file.display();
        lines.push(format!("Using configuration file: {file} ({})", options.config_digest));
    }
    lines
}

/// What stands where NATS shows its commit: our own version.
pub fn git_commit() -> String {
    format!("corelane-{CORELANE_VERSION}")
}

/// `Starting http monitor on h:p`, with the port that was bound.
pub fn http_monitor(host: &str, port: u16) -> String {
    format!("Starting http monitor on {}", join_host_port(host, port))
}

/// `Listening for client connections on h:p`, with the port that was bound.
pub fn listening(host: &str, port: u16) -> String {
    format!("Listening for client connections on {}", join_host_port(host, port))
}

/// The text of the `[FTL]` line when a listener cannot listen.
pub fn cannot_listen(host: &str, port: u16, why: &std::io::Error) -> String {
    let address = join_host_port(host, port);
    if why.raw_os_error().is_none() {
        // The name could not be resolved.
        return format!(
            "Error listening on port: {address}, \"listen tcp: lookup {host}: no such host\""
        );
    }
    let why = super::loader::go_error(why);
    format!("Error listening on port: {address}, \"listen tcp {address}: bind: {why}\"")
}

/// JetStream's lines before recovery. The sizes are those the start settled on.
pub fn jetstream(
    options: &JetStreamOptions,
    memory_bytes: u64,
    store_bytes: u64,
    api_level: u32,
) -> Vec<String> {
    let bytes = |number: u64| format_bytes(i64::try_from(number).unwrap_or(i64::MAX));
    let dir = options.store_dir.display();
    let mut lines = vec![
        "Starting JetStream".to_owned(),
        "---------------- JETSTREAM ----------------".to_owned(),
        format!("  Strict:          {}", options.strict),
        format!("  Max Memory:      {}", bytes(memory_bytes)),
        format!("  Max Storage:     {}", bytes(store_bytes)),
        format!("  Store Directory: \"{dir}\""),
        format!("  API Level:       {api_level}"),
        "-------------------------------------------".to_owned(),
    ];
    if !options.store_dir_given {
        lines.push(format!("No store directory was given, using the default \"{dir}\""));
    }
    lines
}

/// `Took 2.2ms to start JetStream`.
pub fn jetstream_took(time: Duration) -> String {
    let ns = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    format!("Took {} to start JetStream", format_duration(ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_tells_who_it_is() {
        let mut options = Options::defaults(Persona::NatsServer);
        options.config_file = Some("f.conf".into());
        options.config_digest = "sha256:00".to_owned();
        assert_eq!(
            start(&options, "NID"),
            [
                "Starting nats-server",
                "  Version:  2.15.1",
                "  Git:      [corelane-0.1.0]",
                "  Name:     NID",
                "  ID:       NID",
                "Using configuration file: f.conf (sha256:00)",
            ]
        );
        options.persona = Persona::Corelane;
        options.server_name = Some("here".to_owned());
        let lines = start(&options, "NID");
        assert_eq!(lines[..3], ["Starting corelane", "  Version:  0.1.0", "  NATS:     2.15.1"]);
        assert_eq!(lines[3], "  Name:     here");
    }

    #[test]
    fn listeners_are_named_as_tools_read_them() {
        assert_eq!(listening("0.0.0.0", 4222), "Listening for client connections on 0.0.0.0:4222");
        assert_eq!(http_monitor("::1", 8222), "Starting http monitor on [::1]:8222");
        let why = std::io::Error::from_raw_os_error(libc::EADDRINUSE);
        assert_eq!(
            cannot_listen("127.0.0.1", 4222, &why),
            "Error listening on port: 127.0.0.1:4222, \
             \"listen tcp 127.0.0.1:4222: bind: address already in use\""
        );
        assert_eq!(
            jetstream_took(Duration::from_nanos(96_694)),
            "Took 96.694µs to start JetStream"
        );
    }

    #[test]
    fn a_default_store_is_said_in_the_log() {
        let options = JetStreamOptions::defaults(Persona::Corelane);
        let lines = jetstream(&options, 1_000_000_000, 61_798_041_600, 0);
        assert!(lines.contains(&"  Max Memory:      953.67 MB".to_owned()), "{lines:?}");
        assert!(lines.contains(&"  Max Storage:     57.55 GB".to_owned()), "{lines:?}");
        let dir = "  Store Directory: \"./corelane-data/jetstream\"".to_owned();
        assert!(lines.contains(&dir), "{lines:?}");
    }
}
