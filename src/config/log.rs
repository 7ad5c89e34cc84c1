//! The log: nats-server's lines, on standard error or in a file.
//!
//! A shell: it reads the clock and writes files. One [`Logger`] serves the process; cloning it is
//! cheap. A line that is written at once takes a lock and waits for the sink. Reactors hand theirs
//! over instead ([`Logger::post`]): a thread writes them, and what it cannot take is left out and
//! counted, so that a log that nobody reads stops no reactor and fills no memory.

use super::loader::go_error;
use super::options::LogOptions;
use crate::logline::{Level, LogLine};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::fmt::{Arguments, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of lines that wait for the writing thread at most.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// How long the end of the process waits for lines to be written.
const FLUSH_MAX: Duration = Duration::from_millis(500);

fn label(level: Level) -> &'static str {
    match level {
        Level::Info => "[INF]",
        Level::Warn => "[WRN]",
        Level::Error => "[ERR]",
        Level::Fatal => "[FTL]",
        Level::Debug => "[DBG]",
        Level::Trace => "[TRC]",
    }
}

/// A handle to the process's log.
#[derive(Clone, Debug)]
pub struct Logger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pid: u32,
    /// The zone of the times; `None` leaves them out.
    zone: Option<TimeZone>,
    sink: Mutex<Sink>,
    /// The thread that writes what reactors hand over, once it runs.
    writer: OnceLock<Writer>,
}

/// Lines on their way to the writing thread.
#[derive(Debug)]
struct Writer {
    texts: Sender<String>,
    waiting_bytes: AtomicUsize,
    left_out: AtomicU64,
}

#[derive(Debug)]
enum Sink {
    Stderr,
    File(LogFile),
    /// For tests: lines in memory.
    Memory(Vec<u8>),
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    /// Bytes after which the file is put aside; 0 is never.
    limit: u64,
    /// Files kept, this one included; 0 keeps all.
    files_max: u32,
}

impl Logger {
    /// Opens the log that `options` ask for. The error is the line that nats-server writes before
    /// it exits with 1.
    pub fn open(options: &LogOptions) -> Result<Logger, String> {
        let zone = zone(options);
        let sink = match &options.file {
            None => Sink::Stderr,
            Some(path) => match LogFile::open(path, options) {
                Ok(file) => Sink::File(file),
                Err(e) => {
                    let mut line = String::new();
                    write_time(&mut line, now(zone.as_ref().unwrap_or(&TimeZone::UTC)), false);
                    let shown = path.display();
                    let _ = write!(line, "error opening file: open {shown}: {}", go_error(&e));
                    return Err(line);
                }
            },
        };
        Ok(Logger::with_sink(zone, sink))
    }

    /// A log into memory, for tests; [`Logger::taken`] gives what was written.
    pub fn memory(options: &LogOptions) -> Logger {
        Logger::with_sink(zone(options), Sink::Memory(Vec::new()))
    }

    fn with_sink(zone: Option<TimeZone>, sink: Sink) -> Logger {
        Logger(Arc::new(Inner {
            pid: std::process::id(),
            zone,
            sink: Mutex::new(sink),
            writer: OnceLock::new(),
        }))
    }

    /// What a log into memory holds, which is then empty.
    pub fn taken(&self) -> String {
        match &mut *self.sink() {
            Sink::Memory(bytes) => String::from_utf8_lossy(&std::mem::take(bytes)).into_owned(),
            _ => String::new(),
        }
    }

    /// An `[INF]` line.
    pub fn info(&self, text: Arguments<'_>) {
        self.line(Level::Info, text);
    }

    /// A `[WRN]` line.
    pub fn warn(&self, text: Arguments<'_>) {
        self.line(Level::Warn, text);
    }

    /// An `[ERR]` line.
    pub fn error(&self, text: Arguments<'_>) {
        self.line(Level::Error, text);
    }

    /// A `[FTL]` line, after all that was handed over. The caller then exits with 1.
    pub fn fatal(&self, text: Arguments<'_>) {
        self.flush();
        self.line(Level::Fatal, text);
    }

    /// Opens the file again under its name, after somebody moved it (SIGUSR1).
    pub fn reopen(&self) {
        let result = match &mut *self.sink() {
            Sink::File(file) => Some(file.reopen()),
            _ => None,
        };
        match result {
            None => self.info(format_args!("File log re-open ignored, not a file logger")),
            Some(Ok(())) => self.info(format_args!("File log re-opened")),
            Some(Err(e)) => self.error(format_args!("Error re-opening log file: {}", go_error(&e))),
        }
    }

    /// Starts the thread that writes what [`Logger::post`] takes. Without it, that writes itself.
    pub fn start_writer(&self) -> io::Result<()> {
        let (sender, texts) = mpsc::channel();
        let writer = Writer {
            texts: sender,
            waiting_bytes: AtomicUsize::new(0),
            left_out: AtomicU64::new(0),
        };
        if self.0.writer.set(writer).is_ok() {
            let logger = self.clone();
            std::thread::Builder::new().name("log".to_owned()).spawn(move || logger.run(&texts))?;
        }
        Ok(())
    }

    /// Takes lines of a reactor, to be written in order soon. Neither waits nor grows without
    /// bound: lines beyond [`WAITING_BYTES_MAX`] are left out, and their number is logged.
    pub fn post(&self, lines: Vec<LogLine>) {
        let time = self.time();
        let mut text = String::new();
        for l in &lines {
            push_line(&mut text, self.0.pid, time, l.level, format_args!("{}", l.text));
        }
        let Some(writer) = self.0.writer.get() else { return self.write(&text) };
        let bytes = text.len();
        let waiting = writer.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
        let taken = waiting + bytes <= WAITING_BYTES_MAX && writer.texts.send(text).is_ok();
        if !taken {
            writer.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
            writer.left_out.fetch_add(lines.len() as u64, Ordering::AcqRel);
        }
    }

    /// Waits until what was handed over is written, for a moment at most.
    pub fn flush(&self) {
        let Some(writer) = self.0.writer.get() else { return };
        let begun = Instant::now();
        while writer.waiting_bytes.load(Ordering::Acquire) > 0 && begun.elapsed() < FLUSH_MAX {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn run(&self, texts: &Receiver<String>) {
        let Some(writer) = self.0.writer.get() else { return };
        while let Ok(text) = texts.recv() {
            self.write(&text);
            writer.waiting_bytes.fetch_sub(text.len(), Ordering::AcqRel);
            let left_out = writer.left_out.swap(0, Ordering::AcqRel);
            if left_out > 0 {
                self.warn(format_args!("{left_out} lines were left out: the log is too slow"));
            }
        }
    }

    fn sink(&self) -> MutexGuard<'_, Sink> {
        self.0.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn time(&self) -> Option<DateTime> {
        self.0.zone.as_ref().map(now)
    }

    fn line(&self, level: Level, text: Arguments<'_>) {
        self.write(&line(self.0.pid, self.time(), level, text));
    }

    /// Writes whole lines.
    fn write(&self, lines: &str) {
        match &mut *self.sink() {
            // There is nobody to tell that the log cannot be written.
            Sink::Stderr => drop(io::stderr().lock().write_all(lines.as_bytes())),
            Sink::Memory(bytes) => bytes.extend_from_slice(lines.as_bytes()),
            Sink::File(file) => {
                file.write(lines);
                if file.is_full() {
                    let (level, text) = match file.rotate(now(&TimeZone::UTC)) {
                        Ok(name) => (
                            Level::Info,
                            format!("Rotated log, backup saved as \"{}\"", name.display()),
                        ),
                        Err(e) => (Level::Error, format!("Unable to rotate log: {}", go_error(&e))),
                    };
                    file.write(&line(self.0.pid, self.time(), level, format_args!("{text}")));
                }
            }
        }
    }
}

fn zone(options: &LogOptions) -> Option<TimeZone> {
    match (options.time, options.time_utc) {
        (false, _) => None,
        (true, true) => Some(TimeZone::UTC),
        (true, false) => Some(local()),
    }
}

/// The system's zone. Where no `TZ` names another, it is read from its file: finding out its name
/// would take a walk through all zones that there are.
fn local() -> TimeZone {
    let named = std::env::var_os("TZ").is_some();
    let file = if named { None } else { std::fs::read("/etc/localtime").ok() };
    let zone = file.and_then(|bytes| TimeZone::tzif("Local", &bytes).ok());
    zone.unwrap_or_else(TimeZone::system)
}

fn now(zone: &TimeZone) -> DateTime {
    zone.to_datetime(jiff::Timestamp::now())
}

/// `2026/08/21 10:00:00.000000 `, or without the fraction.
fn write_time(out: &mut String, time: DateTime, micros: bool) {
    let (date, clock) = (time.date(), time.time());
    let _ = write!(out, "{:04}/{:02}/{:02} ", date.year(), date.month(), date.day());
    let _ = write!(out, "{:02}:{:02}:{:02}", clock.hour(), clock.minute(), clock.second());
    if micros {
        let _ = write!(out, ".{:06}", clock.subsec_nanosecond() / 1000);
    }
    out.push(' ');
}

/// One line of the log, with its newline.
fn line(pid: u32, time: Option<DateTime>, level: Level, text: Arguments<'_>) -> String {
    let mut line = String::with_capacity(128);
    push_line(&mut line, pid, time, level, text);
    line
}

fn push_line(
    out: &mut String,
    pid: u32,
    time: Option<DateTime>,
    level: Level,
    text: Arguments<'_>,
) {
    let _ = write!(out, "[{pid}] ");
    if let Some(time) = time {
        write_time(out, time, true);
    }
    let _ = writeln!(out, "{} {text}", label(level));
}

impl LogFile {
    fn open(path: &Path, options: &LogOptions) -> io::Result<LogFile> {
        let file = open_for_append(path)?;
        let size = file.metadata()?.len();
        Ok(LogFile {
            path: path.to_owned(),
            file,
            size,
            limit: options.size_limit_bytes,
            files_max: options.files_max,
        })
    }

    fn write(&mut self, line: &str) {
        if self.file.write_all(line.as_bytes()).is_ok() {
            self.size += line.len() as u64;
        }
    }

    fn is_full(&self) -> bool {
        self.limit > 0 && self.size > self.limit
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = open_for_append(&self.path)?;
        self.size = self.file.metadata()?.len();
        Ok(())
    }

    /// Puts the file aside under the name of the time and begins another.
    fn rotate(&mut self, time: DateTime) -> io::Result<PathBuf> {
        let mut name = self.path.clone().into_os_string();
        name.push(backup_suffix(time));
        let name = PathBuf::from(name);
        // What cannot be put aside now may be later, after as much again.
        self.limit = self.limit.saturating_add(self.size);
        std::fs::rename(&self.path, &name)?;
        self.limit -= self.size;
        self.reopen()?;
        self.remove_oldest();
        Ok(name)
    }

    /// Removes the oldest backups beyond the number of files to keep.
    fn remove_oldest(&self) {
        let (Some(dir), Some(own), true) =
            (self.path.parent(), self.path.file_name(), self.files_max > 0)
        else {
            return;
        };
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let prefix = format!("{}.", own.to_string_lossy());
        let Ok(entries) = std::fs::read_dir(dir) else { return };
        let mut backups: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.strip_prefix(&prefix).is_some_and(is_backup_suffix))
            .collect();
        // The names sort by time.
        backups.sort();
        let keep = usize::try_from(self.files_max - 1).unwrap_or(usize::MAX);
        for name in backups.iter().take(backups.len().saturating_sub(keep)) {
            let _ = std::fs::remove_file(dir.join(name));
        }
    }
}

fn open_for_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

/// `.2026.11.23.02.49.14.146032968`
fn backup_suffix(time: DateTime) -> String {
    let (date, clock) = (time.date(), time.time());
    format!(
        ".{:04}.{:02}.{:02}.{:02}.{:02}.{:02}.{:09}",
        date.year(),
        date.month(),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second(),
        clock.subsec_nanosecond()
    )
}

/// True for what follows the dot of a backup's name.
fn is_backup_suffix(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    matches!(parts.len(), 6 | 7)
        && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(file: Option<PathBuf>) -> LogOptions {
        LogOptions { file, time: false, ..LogOptions::default() }
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("corelane-log-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_line_is_nats_servers() {
        let time = DateTime::constant(2026, 8, 21, 10, 0, 7, 12_345_678);
        let text = format_args!("Server is ready");
        let with_time = line(77, Some(time), Level::Info, text);
        assert_eq!(with_time, "[77] 2026/08/21 10:00:07.012345 [INF] Server is ready\n");
        assert_eq!(line(77, None, Level::Fatal, text), "[77] [FTL] Server is ready\n");
    }

    #[test]
    fn what_is_taken_is_gone() {
        let log = Logger::memory(&options(None));
        log.warn(format_args!("yes"));
        let pid = std::process::id();
        assert_eq!(log.taken(), format!("[{pid}] [WRN] yes\n"));
        log.reopen();
        assert!(log.taken().contains("[INF] File log re-open ignored, not a file logger"));
    }

    #[test]
    fn what_is_handed_over_is_written_in_order() {
        let log = Logger::memory(&options(None));
        log.post(vec![LogLine::warn("a")]);
        log.start_writer().unwrap();
        for n in 0..100 {
            log.post(vec![LogLine::warn(format!("b{n}")), LogLine::warn("c")]);
        }
        log.flush();
        let pid = std::process::id();
        let want: String =
            (0..100).map(|n| format!("[{pid}] [WRN] b{n}\n[{pid}] [WRN] c\n")).collect();
        assert_eq!(log.taken(), format!("[{pid}] [WRN] a\n{want}"));
    }

    #[test]
    fn what_the_writer_cannot_take_is_counted() {
        let log = Logger::memory(&options(None));
        log.start_writer().unwrap();
        let held = log.sink();
        let line = || LogLine::warn("x".repeat(WAITING_BYTES_MAX / 4));
        for _ in 0..10 {
            log.post(vec![line()]);
        }
        let waiting = log.0.writer.get().unwrap().waiting_bytes.load(Ordering::Acquire);
        assert!(waiting <= WAITING_BYTES_MAX, "{waiting}");
        drop(held);
        log.flush();
        let begun = Instant::now();
        let mut text = log.taken();
        while !text.contains("7 lines were left out") && begun.elapsed() < Duration::from_secs(5) {
            text.push_str(&log.taken());
        }
        assert_eq!(text.lines().filter(|l| l.len() > 1000).count(), 3);
        assert!(text.contains("[WRN] 7 lines were left out: the log is too slow\n"));
    }

    #[test]
    fn a_moved_file_is_opened_again() {
        let dir = scratch("reopen");
        let path = dir.join("a.log");
        let log = Logger::open(&options(Some(path.clone()))).unwrap();
        log.info(format_args!("one"));
        std::fs::rename(&path, dir.join("old")).unwrap();
        log.info(format_args!("two"));
        log.reopen();
        let read = |p: &Path| std::fs::read_to_string(p).unwrap();
        assert!(read(&dir.join("old")).ends_with("[INF] two\n"));
        assert!(read(&path).ends_with("[INF] File log re-opened\n"));
        assert!(!read(&path).contains("two"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_removed() {
        let dir = scratch("rotate");
        let path = dir.join("a.log");
        let limits = LogOptions { size_limit_bytes: 200, files_max: 3, ..options(Some(path)) };
        let log = Logger::open(&limits).unwrap();
        for number in 0..100 {
            log.info(format_args!("line {number}"));
        }
        let mut files: Vec<String> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files.len(), 3, "{files:?}");
        assert_eq!(files[0], "a.log");
        let current = std::fs::read_to_string(dir.join("a.log")).unwrap();
        assert!(current.contains("Rotated log, backup saved as \""), "{current}");
        assert!(current.contains(&files[2]), "{current}");
        let last = std::fs::read_to_string(dir.join(&files[2])).unwrap();
        assert!(last.len() > 200 && last.len() < 300, "{}", last.len());
        let all = last + &current;
        assert!(all.contains("line 99"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_log_that_cannot_be_opened_says_so_as_go_does() {
        let error = Logger::open(&options(Some("/nonexistent/x".into()))).unwrap_err();
        let (time, text) = error.split_at(20);
        assert_eq!(text, "error opening file: open /nonexistent/x: no such file or directory");
        assert_eq!(time.len(), 20);
    }
}
