//! The device itself: 4 KiB overwritten past the page cache and flushed, one at a time. It is what
//! a lone durable publish cannot be faster than.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use anyhow::{Context, Result};

use crate::{args::Device, clock, outcome::Outcome, run, stats::Latencies};

const BLOCK: usize = 4096;
const FILE_BYTES: u64 = 4 << 20;

/// Measures the device under a directory.
pub fn run(args: &Device) -> Result<Outcome> {
    let latencies = overwrites(&args.directory, args.writes)?;
    let mut outcome = Outcome::new("device")
        .parameter("directory", args.directory.display())
        .parameter("writes", args.writes);
    outcome.latency("overwrite_and_flush", &latencies);
    Ok(outcome)
}

/// Overwrites blocks of a file that was written before.
pub fn overwrites(directory: &Path, writes: usize) -> Result<Latencies> {
    let path = directory.join(format!(".corelane-bench-{}", std::process::id()));
    let result = measure(&path, writes);
    let _ = std::fs::remove_file(&path);
    result
}

fn measure(path: &Path, writes: usize) -> Result<Latencies> {
    let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .custom_flags(direct)
        .open(path)
        .with_context(|| format!("no direct writes to {}", path.display()))?;
    // Direct writes want an aligned buffer: the aligned part of one that is twice as large.
    let buffer = vec![b'x'; 2 * BLOCK];
    let block = &buffer[buffer.as_ptr().align_offset(BLOCK)..][..BLOCK];
    for at in 0..FILE_BYTES / BLOCK as u64 {
        file.write_all_at(block, at * BLOCK as u64)?;
    }
    file.sync_all()?;
    let mut latencies = Latencies::new();
    for index in 0..writes as u64 {
        let nanos = overwrite(&file, block, index)?;
        // The first ones find everything cold.
        if index >= writes as u64 / 20 {
            latencies.record(nanos);
        }
        run::check_interrupted()?;
    }
    Ok(latencies)
}

fn overwrite(file: &File, block: &[u8], index: u64) -> Result<u64> {
    let begun = clock::now();
    file.write_all_at(block, index * BLOCK as u64 % FILE_BYTES)?;
    file.sync_data()?;
    Ok(clock::now() - begun)
}
