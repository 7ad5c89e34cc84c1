//! A server process under test: started on a random port over a store of its own, killed on drop.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take from its start to its ports file.
const START_MAX: Duration = Duration::from_secs(10);

/// Which server a transcript is played to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The binary of this package, or the one that `CORELANE_BIN` names.
    Corelane,
    /// The reference, named by `NATS_SERVER_BIN` or found on the `PATH`.
    NatsServer,
}

impl Kind {
    /// The word that transcripts use for it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Corelane => "corelane",
            Kind::NatsServer => "nats-server",
        }
    }

    /// The program to start, or nothing where the reference is not installed.
    pub fn program(self) -> Option<PathBuf> {
        match self {
            Kind::Corelane => Some(
                std::env::var_os("CORELANE_BIN")
                    .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_corelane")), PathBuf::from),
            ),
            Kind::NatsServer => match std::env::var_os("NATS_SERVER_BIN") {
                Some(path) => Some(PathBuf::from(path)),
                None => std::env::split_paths(&std::env::var_os("PATH")?)
                    .map(|dir| dir.join("nats-server"))
                    .find(|path| path.is_file()),
            },
        }
    }
}

/// What a server is started with besides its port and its store.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Text of a configuration file.
    pub config: String,
    /// Further flags.
    pub args: Vec<String>,
    /// Without `-js`.
    pub core_only: bool,
    /// Reactors and shards of corelane; 0 leaves both to it.
    pub reactors: u16,
    /// An archive whose directory `store` it begins with, instead of an empty store.
    pub archive: Option<PathBuf>,
    /// Descriptors that it may open; 0 leaves the limit as it is.
    pub descriptors: u64,
}

/// A running server.
pub struct Server {
    kind: Kind,
    setup: Setup,
    dir: PathBuf,
    child: Child,
    port: u16,
}

impl Server {
    /// Starts a server over an empty store and waits until it is ready.
    pub fn start(kind: Kind, setup: Setup) -> Result<Server, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("server-{}-{count}", std::process::id());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        if let Some(archive) = &setup.archive {
            let unpacked =
                Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&dir).status();
            if !unpacked.is_ok_and(|status| status.success()) {
                return Err(format!("{} cannot be unpacked", archive.display()));
            }
        }
        let (child, port) = spawn(kind, &setup, &dir)?;
        Ok(Server { kind, setup, dir, child, port })
    }

    /// The port it accepts clients on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: `kill` takes no pointers; the child is ours and has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Stops it (with a kill when asked) and starts it again over the same store.
    pub fn restart(&mut self, kill: bool) -> Result<(), String> {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(if kill { libc::SIGKILL } else { libc::SIGTERM });
        }
        self.wait_exit(Duration::from_secs(10)).ok_or("the server did not stop")?;
        let (child, port) = spawn(self.kind, &self.setup, &self.dir)?;
        (self.child, self.port) = (child, port);
        Ok(())
    }

    /// Waits until it has ended and gives its exit code (-1 for a signal).
    pub fn wait_exit(&mut self, max: Duration) -> Option<i32> {
        let end = Instant::now() + max;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status.code().unwrap_or(-1));
            }
            if Instant::now() > end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// All that it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// The end of what it logged.
    pub fn log_tail(&self) -> String {
        tail(&self.dir)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn tail(dir: &Path) -> String {
    let text = fs::read_to_string(dir.join("log")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn spawn(kind: Kind, setup: &Setup, dir: &Path) -> Result<(Child, u16), String> {
    let program = kind.program().ok_or("no such server here")?;
    let ports = dir.join("ports");
    let _ = fs::remove_dir_all(&ports);
    fs::create_dir_all(&ports).map_err(|e| e.to_string())?;
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .map_err(|e| e.to_string())?;
    let mut command = Command::new(&program);
    command.args(["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir"]).arg(&ports);
    if !setup.core_only {
        command.arg("-js").arg("-sd").arg(dir.join("store"));
    }
    let mut config = setup.config.clone();
    if kind == Kind::Corelane {
        if setup.reactors > 0 {
            // Not pinned: many servers share the machine.
            let n = setup.reactors;
            config.push_str(&format!("\ncorelane {{ reactors: {n}, shards: {n}, pin: false }}\n"));
        }
        config.push_str(&std::env::var("CORELANE_EXTRA_CONFIG").unwrap_or_default());
    }
    if !config.is_empty() {
        let file = dir.join("server.conf");
        fs::write(&file, config + "\n").map_err(|e| e.to_string())?;
        command.arg("-c").arg(file);
    }
    if setup.descriptors > 0 {
        let files = libc::rlimit { rlim_cur: setup.descriptors, rlim_max: setup.descriptors };
        let lower = move || {
            // SAFETY: it only reads `files`, and may be called between fork and exec.
            match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &files) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: `lower` neither allocates nor takes locks.
        unsafe { command.pre_exec(lower) };
    }
    let mut child = command
        .args(&setup.args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(|e| e.to_string())?)
        .stderr(log)
        .spawn()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    match wait_port(&mut child, &ports) {
        Ok(port) => Ok((child, port)),
        Err(why) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(format!("{} {why}:\n{}", program.display(), tail(dir)))
        }
    }
}

/// The port in the ports file, once it is there and whole.
fn wait_port(child: &mut Child, ports: &Path) -> Result<u16, String> {
    let end = Instant::now() + START_MAX;
    loop {
        let entry = fs::read_dir(ports).ok().and_then(|mut list| list.next()).and_then(Result::ok);
        let text = entry.and_then(|e| fs::read_to_string(e.path()).ok()).unwrap_or_default();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let url = json["nats"][0].as_str().unwrap_or_default();
        if let Some(port) = url.rsplit(':').next().and_then(|p| p.parse().ok()) {
            return Ok(port);
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("ended ({status}) before it was ready"));
        }
        if Instant::now() > end {
            return Err("was not ready in time".into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
