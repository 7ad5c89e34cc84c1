//! The servers that are compared: how each is started, when it is ready, how it is ended. Only
//! processes started here are ever ended, and all of them are, whatever happens.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    clock::{self, SECOND},
    conn::Conn,
    proc, run,
};

/// How a server is configured. Only nats-server knows more than one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// As it comes.
    Default,
    /// nats-server with `sync_interval: always`.
    SyncAlways,
}

/// How to start a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name in the results.
    pub name: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// nats-server at this path, with a configuration file of ours.
    Nats(PathBuf),
    /// Words with `{port}` and `{dir}` in them, and perhaps `{monitor}`.
    Command(Vec<String>),
}

impl Spec {
    /// Reads `[NAME=]COMMAND`.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, command) = match text.split_once('=') {
            Some((name, rest)) if !name.contains(['/', ' ', '{', '-']) || name == "nats-server" => {
                (Some(name), rest)
            }
            _ => (None, text),
        };
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        let Some(program) = words.first() else { bail!("{text:?} names no program") };
        let file_name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
        let name = name.unwrap_or(&file_name).to_owned();
        if words.len() == 1 && name == "nats-server" {
            return Ok(Self { name, kind: Kind::Nats(PathBuf::from(program)) });
        }
        ensure!(command.contains("{port}"), "{text:?} does not say where {{port}} goes");
        Ok(Self { name, kind: Kind::Command(words) })
    }

    /// Whether it tells of its turns.
    fn has_monitor(&self) -> bool {
        match &self.kind {
            Kind::Nats(_) => false,
            Kind::Command(words) => words.iter().any(|word| word.contains("{monitor}")),
        }
    }

    fn command(&self, variant: Variant, ports: [u16; 2], home: &Path) -> Result<Command> {
        let [port, monitor] = ports;
        let data = home.join("data");
        match &self.kind {
            Kind::Nats(path) => {
                let file = home.join("nats.conf");
                fs::write(&file, nats_config(variant, port, &data))?;
                let mut command = Command::new(path);
                command.arg("-c").arg(file);
                Ok(command)
            }
            Kind::Command(words) => {
                let data = data.to_string_lossy();
                let fill = |word: &String| {
                    word.replace("{port}", &port.to_string())
                        .replace("{monitor}", &monitor.to_string())
                        .replace("{dir}", &data)
                };
                let mut command = Command::new(fill(&words[0]));
                command.args(words[1..].iter().map(fill));
                Ok(command)
            }
        }
    }
}

/// The least that nats-server needs to be comparable.
fn nats_config(variant: Variant, port: u16, data: &Path) -> String {
    let sync = match variant {
        Variant::Default => "",
        Variant::SyncAlways => "  sync_interval: always\n",
    };
    format!(
        "listen: \"127.0.0.1:{port}\"\nmax_payload: 8MB\n\
         jetstream {{\n  store_dir: \"{}\"\n{sync}}}\n",
        data.display()
    )
}

/// A running server.
pub struct Server {
    spec: Spec,
    variant: Variant,
    home: PathBuf,
    /// For clients, and for monitoring.
    ports: [u16; 2],
    child: Child,
    /// From start to the answer to the first JetStream request.
    pub ready_seconds: f64,
}

/// How long a server may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(120);

impl Server {
    /// Starts a server on a free port, with its data below `home`, and waits until it is ready.
    pub fn start(spec: &Spec, variant: Variant, home: &Path) -> Result<Self> {
        fs::create_dir_all(home.join("data"))?;
        // Both at once, so that they differ.
        let free = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let ports = [free[0].local_addr()?.port(), free[1].local_addr()?.port()];
        drop(free);
        let mut server = Self {
            child: spawn(spec, variant, ports, home)?,
            spec: spec.clone(),
            variant,
            home: home.to_owned(),
            ports,
            ready_seconds: 0.0,
        };
        server.wait_ready()?;
        Ok(server)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[0]))
    }

    /// The address of its monitoring, if it was given one.
    pub fn monitor(&self) -> Option<SocketAddr> {
        self.spec.has_monitor().then(|| SocketAddr::from(([127, 0, 0, 1], self.ports[1])))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory, in MiB.
    pub fn resident_mib(&self) -> Result<f64> {
        Ok(proc::resident_bytes(self.pid())? as f64 / f64::from(1 << 20))
    }

    /// What its data takes on the disk, in MiB.
    pub fn disk_mib(&self) -> Result<f64> {
        Ok(allocated_bytes(&self.home.join("data"))? as f64 / f64::from(1 << 20))
    }

    /// Ends it with SIGKILL and starts it again on the same data.
    pub fn crash_and_restart(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(&self.spec, self.variant, self.ports, &self.home)?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let begun = clock::now();
        let limit = begun + READY_LIMIT.as_secs() * SECOND;
        loop {
            run::check_interrupted()?;
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.spec.name, self.last_words());
            }
            if self.answers() {
                self.ready_seconds = (clock::now() - begun) as f64 / 1e9;
                return Ok(());
            }
            if clock::now() > limit {
                let words = self.last_words();
                bail!("{} was not ready within {READY_LIMIT:?}:\n{words}", self.spec.name);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn answers(&self) -> bool {
        let Ok(mut conn) = Conn::open(self.address()) else { return false };
        let patience = Duration::from_secs(5);
        conn.request_json_within("$JS.API.INFO", &Value::Null, patience).is_ok()
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.home.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its data is thrown away; there is nothing to end gently for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(spec: &Spec, variant: Variant, ports: [u16; 2], home: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(home.join("log"))?;
    spec.command(variant, ports, home)?
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", spec.name))
}

/// What the files below a directory take on the disk.
fn allocated_bytes(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += if meta.is_dir() { allocated_bytes(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(sum)
}

/// A directory for all data of a comparison, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one below `parent`, or below the system's place for such.
    pub fn new(parent: Option<&Path>) -> Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = parent.join(format!("corelane-bench-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// An empty directory below it.
    pub fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs() {
        let spec = Spec::parse("nats-server=/opt/nats-server").unwrap();
        assert_eq!(spec.kind, Kind::Nats("/opt/nats-server".into()));
        let spec = Spec::parse("/usr/bin/nats-server").unwrap();
        assert_eq!(
            (spec.name.as_str(), &spec.kind),
            ("nats-server", &Kind::Nats("/usr/bin/nats-server".into()))
        );
        let spec = Spec::parse("target/corelane -p {port} -m {monitor} -js -sd {dir}").unwrap();
        assert_eq!(spec.name, "corelane");
        let command = spec.command(Variant::Default, [7, 8], Path::new("/h")).unwrap();
        let words: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
        assert_eq!(words, ["-p", "7", "-m", "8", "-js", "-sd", "/h/data"]);
        assert!(spec.has_monitor());
        let spec = Spec::parse("old=/x/corelane -p {port} --opt=1").unwrap();
        assert_eq!(spec.name, "old");
        let spec = Spec::parse("/x/corelane --port={port}").unwrap();
        assert_eq!(spec.name, "corelane");
        assert!(Spec::parse("corelane -p 1").is_err());
        assert!(Spec::parse("").is_err());
    }

    #[test]
    fn configurations() {
        let text = nats_config(Variant::SyncAlways, 4, Path::new("/d"));
        assert!(text.contains("listen: \"127.0.0.1:4\""));
        assert!(text.contains("store_dir: \"/d\"\n  sync_interval: always\n}"));
        assert!(!nats_config(Variant::Default, 4, Path::new("/d")).contains("sync_interval"));
    }

    #[test]
    fn scratch_is_removed() {
        let scratch = Scratch::new(None).unwrap();
        let path = scratch.path().to_owned();
        let below = scratch.fresh("x").unwrap();
        fs::write(below.join("f"), vec![1; 10_000]).unwrap();
        assert!(allocated_bytes(&path).unwrap() >= 8192);
        assert_eq!(fs::read_dir(scratch.fresh("x").unwrap()).unwrap().count(), 0);
        drop(scratch);
        assert!(!path.exists());
    }
}
