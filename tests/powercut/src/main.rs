//! A file system that can lose its power.
//!
//! `powercut BACKING MOUNT [--names-at-once] [--limit BYTES] [--keep SEED]` mounts a file system
//! whose durable state lies under BACKING, prints `mounted` and serves it. SIGTERM cuts the power:
//! what was not synchronised is lost (with `--keep`, a random part of it is not). SIGUSR2 lifts the
//! limit. Mounting again over the same BACKING shows what was durable.

mod disk;
mod fs;

use disk::Disk;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

fn main() {
    if let Err(why) = run() {
        eprintln!("powercut: {why}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let (mut paths, mut limit, mut seed, mut at_once) = (Vec::new(), u64::MAX, None, false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse().ok()).ok_or("a number is missing");
        match arg.as_str() {
            "--names-at-once" => at_once = true,
            "--limit" => limit = number()?,
            "--keep" => seed = Some(number()?),
            _ => paths.push(PathBuf::from(arg)),
        }
    }
    let [backing, mount] = &paths[..] else {
        return Err("usage: powercut BACKING MOUNT [--names-at-once] [--limit N] [--keep N]".into());
    };
    let disk = Disk::open(backing.clone(), at_once, limit).map_err(|e| format!("backing: {e}"))?;
    let disk = Arc::new(Mutex::new(disk));
    let signals = block_signals();
    let options = fuser::MountOption::FSName("powercut".into());
    let mut config = fuser::Config::default();
    config.mount_options.push(options);
    let mounted = fs::Mounted(Arc::clone(&disk));
    let session = fuser::spawn_mount(mounted, mount, &config).map_err(|e| format!("mount: {e}"))?;
    println!("mounted");
    loop {
        let mut signal = 0;
        // SAFETY: both pointers are to values that live across the call.
        unsafe { libc::sigwait(&signals, &mut signal) };
        let mut disk = fs::lock(&disk);
        if signal == libc::SIGUSR2 {
            disk.limit = u64::MAX;
            continue;
        }
        // The lock is kept for good: nothing is written or answered after the cut.
        let result = disk.cut(seed).map(drop).map_err(|e| format!("cut: {e}"));
        std::mem::forget(session);
        if let Err(why) = result {
            eprintln!("powercut: {why}");
        }
        // SAFETY: ends the process without running anything more of it.
        unsafe { libc::_exit(0) };
    }
}

/// Keeps the signals that this program waits for from ending it. Threads made later inherit that.
fn block_signals() -> libc::sigset_t {
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigaddset(&mut set, libc::SIGUSR2);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    }
}
