//! Prints what the host offers to the broker, and what it lacks.
//!
//! `corelane-tune [directory]`: the directory is where the store is to be, by default the one it is
//! started in.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let dir = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let found = corelane_tune::probe();
    match &found {
        Ok(found) => {
            println!("kernel        {}", found.kernel);
            println!("cpus          {} {:?}", found.cpus.len(), found.cpus);
            for node in &found.numa {
                println!("numa node     {} cpus {:?}", node.id, node.cpus);
            }
            println!("memory        {} MiB", found.memory_bytes >> 20);
            println!("open files    {}", limit(found.open_files));
            println!("locked bytes  {}", limit(found.locked_bytes));
        }
        Err(missing) => println!("missing       {missing}"),
    }
    match corelane_tune::device_of(&dir) {
        Some(device) => {
            let cache = if device.volatile_cache { "volatile cache" } else { "no volatile cache" };
            let kind = if device.rotational { "spinning" } else { "solid state" };
            let (logical, physical) = (device.logical_block, device.physical_block);
            println!("device        {} {}", device.name, device.model);
            println!("              {kind}, {cache}, blocks of {logical} and {physical} bytes");
        }
        None => println!("device        none to see under {}", dir.display()),
    }
    if let Some(free) = corelane_tune::disk_free_bytes(&dir) {
        println!("free          {} MiB", free >> 20);
    }
    if found.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn limit(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}
