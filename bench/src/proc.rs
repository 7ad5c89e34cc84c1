//! What `/proc` tells about a process: processor time and memory.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

/// Processor time that a process has used, in seconds.
///
/// The scheduler counts nanoseconds per thread, which is what short runs need; threads that have
/// ended are missing there, and where the kernel does not count, ticks of 10 ms have to do.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut nanos = 0;
    let mut counted = false;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        if let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) {
            let time: u64 = text.split(' ').next().and_then(|f| f.parse().ok()).unwrap_or(0);
            nanos += time;
            counted |= time > 0;
        }
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = stat_ticks(&stat).context("an unexpected /proc/PID/stat")?;
    let from_ticks = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    Ok(if counted { nanos as f64 / 1e9 } else { from_ticks })
}

/// Processor time that this process has used, threads that have ended included, in seconds.
pub fn own_cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The body of a page.
pub fn http_get(address: SocketAddr, path: &str) -> Result<String> {
    let patience = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no page came")?;
    ensure!(head.split(' ').nth(1) == Some("200"), "{path}: {head}");
    Ok(body.to_owned())
}

/// utime + stime of a stat line, whose second field may hold blanks and parentheses.
fn stat_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    kib_field(&status, "VmRSS:").context("no VmRSS in /proc/PID/status")
}

fn kib_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_with_strange_names() {
        let line = "12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 700 30 0 0 20 0";
        assert_eq!(stat_ticks(line), Some(730));
        assert_eq!(stat_ticks("12 (a) S 1"), None);
    }

    #[test]
    fn memory_fields() {
        assert_eq!(kib_field("Name:\tx\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(kib_field("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn a_busy_process_uses_time_and_memory() {
        let pid = std::process::id();
        let before = cpu_seconds(pid).unwrap();
        let started = std::time::Instant::now();
        while started.elapsed().as_millis() < 60 {
            std::hint::spin_loop();
        }
        assert!(cpu_seconds(pid).unwrap() > before);
        assert!(resident_bytes(pid).unwrap() > 100_000);
    }
}
