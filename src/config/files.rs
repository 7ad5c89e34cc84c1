//! The pid file and the ports file.

use super::finish::join_host_port;
use super::loader::go_error;
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Writes the process id as bare digits. It stays when the process ends, as nats-server's does. The
/// error is the text of the `[FTL]` line.
pub fn write_pid_file(path: &Path) -> Result<(), String> {
    write(path, std::process::id().to_string().as_bytes(), 0o600)
        .map_err(|e| format!("Could not write pidfile: {e}"))
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), String> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|e| format!("open {}: {}", path.display(), go_error(&e)))
}

/// URLs of the listeners, for who started us with port -1. Empty ones are left out of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ports {
    /// Clients.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nats: Vec<String>,
    /// HTTP monitoring.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub monitoring: Vec<String>,
    /// Routes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cluster: Vec<String>,
    /// Profiling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profile: Vec<String>,
    /// WebSocket clients.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub websocket: Vec<String>,
}

impl Ports {
    /// The file's text.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// `scheme://address:port` of a listener; one that takes every address gives one URL for each
/// address of this machine.
pub fn urls(scheme: &str, bound: SocketAddr) -> Vec<String> {
    let (ip, port) = (bound.ip(), bound.port());
    let hosts = if ip.is_unspecified() { local_addresses() } else { vec![ip.to_string()] };
    hosts.iter().map(|host| format!("{scheme}://{}", join_host_port(host, port))).collect()
}

/// This machine's addresses, from the kernel's tables; the loopback address at least.
fn local_addresses() -> Vec<String> {
    let v4 = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let v6 = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    addresses(&v4, &v6)
}

/// The host addresses in the texts of `fib_trie` and `if_inet6`.
fn addresses(v4: &str, v6: &str) -> Vec<String> {
    let mut found: Vec<String> = vec![Ipv4Addr::LOCALHOST.to_string()];
    let mut last = "";
    for line in v4.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address;
        } else if line.starts_with("/32 host LOCAL")
            && last.parse::<Ipv4Addr>().is_ok()
            && !found.iter().any(|known| known == last)
        {
            found.push(last.to_owned());
        }
    }
    for line in v6.lines() {
        let digits = line.split_whitespace().next().unwrap_or_default();
        if let Ok(bits) = u128::from_str_radix(digits, 16) {
            found.push(Ipv6Addr::from_bits(bits).to_string());
        }
    }
    found
}

/// The ports file of this process.
#[derive(Debug)]
pub struct PortsFile(PathBuf);

impl PortsFile {
    /// `<dir>/<program>_<pid>.ports`.
    pub fn new(dir: &Path, program: &str) -> PortsFile {
        let name = program.rsplit('/').next().unwrap_or(program);
        PortsFile(dir.join(format!("{name}_{}.ports", std::process::id())))
    }

    /// Writes the file, once every listener listens. The error is the text of the `[ERR]` line;
    /// the broker runs on without the file.
    pub fn write(&self, ports: &Ports) -> Result<(), String> {
        write(&self.0, ports.json().as_bytes(), 0o640)
            .map_err(|e| format!("Error writing ports file ({}): {e}", self.0.display()))
    }

    /// Removes the file at a clean exit. The error is the text of the `[ERR]` line.
    pub fn remove(self) -> Result<(), String> {
        let path = self.0.display();
        std::fs::remove_file(&self.0).map_err(|e| {
            format!("Error cleaning up ports file {path}: remove {path}: {}", go_error(&e))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_json_in_one_line_without_what_is_empty() {
        let ports = Ports {
            nats: urls("nats", "[::1]:4222".parse().unwrap()),
            monitoring: urls("http", "127.0.0.1:8222".parse().unwrap()),
            ..Ports::default()
        };
        assert_eq!(
            ports.json(),
            r#"{"nats":["nats://[::1]:4222"],"monitoring":["http://127.0.0.1:8222"]}"#
        );
    }

    #[test]
    fn every_address_of_the_machine_is_named() {
        let v4 = "Local:\n  +-- 0.0.0.0/0 2 0 2\n     |-- 127.0.0.0\n        /8 host LOCAL\n     \
                  |-- 127.0.0.1\n        /32 host LOCAL\n\
                  \n     |-- 192.0.2.2\n        /32 host LOCAL\n\
                  \n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
        let v6 = "00000000000000000000000000000001 01 80 10 80       lo\n\
                  fe8000000000000000fc00fffe000001 02 40 20 80     eth0\n";
        assert_eq!(addresses(v4, v6), ["127.0.0.1", "192.0.2.2", "::1", "fe80::fc:ff:fe00:1"]);
        let any = "[::]:1".parse().unwrap();
        assert!(urls("nats", any).contains(&"nats://127.0.0.1:1".to_owned()));
    }

    #[test]
    fn files_come_and_go() {
        let dir = std::env::temp_dir().join(format!("corelane-files-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let pid = dir.join("pid");
        write_pid_file(&pid).unwrap();
        assert_eq!(std::fs::read_to_string(&pid).unwrap(), std::process::id().to_string());
        let file = PortsFile::new(&dir, "/usr/bin/nats-server");
        file.write(&Ports::default()).unwrap();
        let path = dir.join(format!("nats-server_{}.ports", std::process::id()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}");
        file.remove().unwrap();
        assert!(!path.exists() && pid.exists());
        let missing = write_pid_file(Path::new("/nonexistent/x")).unwrap_err();
        assert_eq!(
            missing,
            "Could not write pidfile: open /nonexistent/x: no such file or directory"
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
