//! CPUs, memory nodes, memory.

use rustix::thread::{CpuSet, sched_getaffinity};
use std::fs;

/// A memory node and its CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumaNode {
    /// Its number.
    pub id: u32,
    /// CPUs near it, ascending.
    pub cpus: Vec<u32>,
}

/// CPUs this process may use, ascending.
pub fn cpus_allowed() -> Vec<u32> {
    let Ok(set) = sched_getaffinity(None) else { return vec![0] };
    let count = u32::try_from(CpuSet::MAX_CPU).unwrap_or(1024);
    (0..count).filter(|cpu| set.is_set(*cpu as usize)).collect()
}

/// The host's memory nodes, by number; none where the kernel tells none.
pub fn numa_nodes() -> Vec<NumaNode> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/node") else { return Vec::new() };
    let mut nodes: Vec<NumaNode> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let id = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
            let list = fs::read_to_string(entry.path().join("cpulist")).ok()?;
            Some(NumaNode { id, cpus: parse_cpu_list(&list) })
        })
        .collect();
    nodes.sort_by_key(|node| node.id);
    nodes
}

/// The numbers of the kernel's list form, `0-3,8`; what is not one is left out.
pub fn parse_cpu_list(text: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            cpus.extend(first..=last.min(first.saturating_add(4095)));
        }
    }
    cpus.sort_unstable();
    cpus.dedup();
    cpus
}

/// The host's memory in bytes; 0 if it is not told.
pub fn memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    memory_total(&text)
}

fn memory_total(meminfo: &str) -> u64 {
    meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib << 10)
}

pub(crate) fn cpu_info() -> String {
    fs::read_to_string("/proc/cpuinfo").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse_cpu_list("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(parse_cpu_list("5,1-2,2"), [1, 2, 5]);
        assert_eq!(parse_cpu_list(""), [0_u32; 0]);
        assert_eq!(parse_cpu_list("x,3-1"), [0_u32; 0]);
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(memory_total("MemFree: 1 kB\nMemTotal:       24684084 kB\n"), 24_684_084 << 10);
        assert_eq!(memory_total(""), 0);
    }
}
