//! What the host offers, and whether that is enough to run the broker.
//!
//! Purpose: [`probe`] is the check that the broker makes before it starts anything, so that a host
//! that lacks something is told what it lacks, by name; the binary `corelane-tune` prints the same.
//! It must not know the broker. It runs once a process, reads `/proc` and `/sys`, tries one small
//! io_uring, and raises the limits of open files and locked memory.
//!
//! Invariant: [`probe`] succeeds only where the reactors can run.

mod device;
mod host;

pub use device::{Device, device_of, disk_free_bytes};
pub use host::{NumaNode, cpus_allowed, memory_bytes, numa_nodes, parse_cpu_list};

use io_uring::{IoUring, opcode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt;

/// Oldest kernel that has what the reactors use: deferred task work, multishot receive, messages
/// between rings.
pub const KERNEL_MIN: (u32, u32) = (6, 1);
/// Open files without which a broker is of no use.
pub const OPEN_FILES_MIN: u64 = 256;
/// Memory that an io_uring of the control executor locks.
pub const LOCKED_BYTES_MIN: u64 = 512 << 10;

/// What was found, where nothing is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The kernel's release, as it names itself.
    pub kernel: String,
    /// CPUs this process may use, ascending.
    pub cpus: Vec<u32>,
    /// Memory nodes and their CPUs.
    pub numa: Vec<NumaNode>,
    /// The host's memory.
    pub memory_bytes: u64,
    /// Open files allowed, after the limit was raised; `None` is unlimited.
    pub open_files: Option<u64>,
    /// Locked memory allowed, after the limit was raised; `None` is unlimited.
    pub locked_bytes: Option<u64>,
}

/// Why the broker cannot run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The kernel is older than [`KERNEL_MIN`].
    Kernel {
        /// Its release.
        release: String,
    },
    /// io_uring cannot be set up.
    IoUring {
        /// What stands in the way.
        why: String,
    },
    /// io_uring lacks an operation.
    Operation {
        /// Its name in the kernel's header.
        name: &'static str,
    },
    /// The CPU lacks an instruction set of x86-64-v3.
    Instructions {
        /// Its flag in `/proc/cpuinfo`.
        flag: &'static str,
    },
    /// A limit of this process is too low and cannot be raised.
    Limit {
        /// Its name.
        name: &'static str,
        /// What it allows.
        allowed: u64,
        /// What is needed.
        needed: u64,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Kernel { release } => {
                let (major, minor) = KERNEL_MIN;
                write!(f, "Linux {major}.{minor} or newer is needed, this is {release}")
            }
            Missing::IoUring { why } => write!(f, "io_uring cannot be used: {why}"),
            Missing::Operation { name } => write!(f, "io_uring has no {name} here"),
            Missing::Instructions { flag } => {
                write!(f, "the CPU has no {flag}, which this build (x86-64-v3) needs")
            }
            Missing::Limit { name, allowed, needed } => {
                write!(f, "{name} allows {allowed}, at least {needed} is needed")
            }
        }
    }
}

impl std::error::Error for Missing {}

/// Looks the host over and raises the process's limits as far as it may.
pub fn probe() -> Result<Probe, Missing> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    check_kernel(&release)?;
    if cfg!(target_arch = "x86_64") {
        check_instructions(&host::cpu_info())?;
    }
    check_io_uring()?;
    let open_files = raise(Resource::Nofile, "RLIMIT_NOFILE", OPEN_FILES_MIN)?;
    let locked_bytes = raise(Resource::Memlock, "RLIMIT_MEMLOCK", LOCKED_BYTES_MIN)?;
    Ok(Probe {
        kernel: release,
        cpus: cpus_allowed(),
        numa: numa_nodes(),
        memory_bytes: memory_bytes(),
        open_files,
        locked_bytes,
    })
}

fn check_kernel(release: &str) -> Result<(), Missing> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < KERNEL_MIN {
        return Err(Missing::Kernel { release: release.to_owned() });
    }
    Ok(())
}

/// Checks the text of `/proc/cpuinfo`. Asking the CPU through the standard library would not do: a
/// build for v3 takes its instructions for granted.
fn check_instructions(cpu_info: &str) -> Result<(), Missing> {
    let Some(flags) = cpu_info.lines().find_map(|line| line.strip_prefix("flags")) else {
        return Ok(());
    };
    for flag in ["avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"] {
        if !flags.split_whitespace().any(|known| known == flag) {
            return Err(Missing::Instructions { flag });
        }
    }
    Ok(())
}

fn check_io_uring() -> Result<(), Missing> {
    let failed = |e: std::io::Error| {
        let code = rustix::io::Errno::from_io_error(&e);
        let why = match code {
            Some(rustix::io::Errno::NOSYS) => "this kernel is built without it".to_owned(),
            Some(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => {
                "it is forbidden here (sysctl kernel.io_uring_disabled, or a container's seccomp \
                 profile)"
                    .to_owned()
            }
            Some(rustix::io::Errno::INVAL) => {
                "it has no IORING_SETUP_SINGLE_ISSUER and IORING_SETUP_DEFER_TASKRUN".to_owned()
            }
            Some(rustix::io::Errno::NOMEM) => "RLIMIT_MEMLOCK is too low".to_owned(),
            _ => e.to_string(),
        };
        Missing::IoUring { why }
    };
    let ring: IoUring =
        IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8).map_err(failed)?;
    let mut known = io_uring::Probe::new();
    ring.submitter().register_probe(&mut known).map_err(failed)?;
    for (name, code) in [
        ("IORING_OP_ACCEPT", opcode::Accept::CODE),
        ("IORING_OP_ASYNC_CANCEL", opcode::AsyncCancel::CODE),
        ("IORING_OP_FALLOCATE", opcode::Fallocate::CODE),
        ("IORING_OP_FSYNC", opcode::Fsync::CODE),
        ("IORING_OP_MSG_RING", opcode::MsgRingData::CODE),
        ("IORING_OP_READ", opcode::Read::CODE),
        ("IORING_OP_RECV", opcode::Recv::CODE),
        ("IORING_OP_SEND", opcode::Send::CODE),
        ("IORING_OP_SENDMSG", opcode::SendMsg::CODE),
        ("IORING_OP_TIMEOUT", opcode::Timeout::CODE),
        ("IORING_OP_WRITE", opcode::Write::CODE),
    ] {
        if !known.is_supported(code) {
            return Err(Missing::Operation { name });
        }
    }
    Ok(())
}

/// Raises a limit as far as the process may; gives what it then allows.
fn raise(resource: Resource, name: &'static str, needed: u64) -> Result<Option<u64>, Missing> {
    let limit = getrlimit(resource);
    if limit.current != limit.maximum {
        // If this fails, what is allowed now is what there is.
        let _ = setrlimit(resource, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    let allowed = getrlimit(resource).current;
    match allowed {
        Some(allowed) if allowed < needed => Err(Missing::Limit { name, allowed, needed }),
        _ => Ok(allowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_named() {
        for good in ["6.1.0", "6.18.44-fc-v669", "7.0-rc1", "10.2"] {
            assert_eq!(check_kernel(good), Ok(()), "{good}");
        }
        for old in ["6.0.9", "5.15.0-100-generic", "4.4", ""] {
            assert_eq!(check_kernel(old), Err(Missing::Kernel { release: old.to_owned() }));
        }
        let text = check_kernel("5.15.0").unwrap_err().to_string();
        assert_eq!(text, "Linux 6.1 or newer is needed, this is 5.15.0");
    }

    #[test]
    fn missing_instructions_are_named() {
        let all = "processor\t: 0\nflags\t\t: fpu avx2 bmi1 bmi2 f16c fma abm movbe\n";
        assert_eq!(check_instructions(all), Ok(()));
        let error = check_instructions(&all.replace("movbe", "")).unwrap_err();
        assert_eq!(error, Missing::Instructions { flag: "movbe" });
        assert_eq!(check_instructions(""), Ok(()));
    }

    #[test]
    fn limits_are_raised_or_named() {
        let open = raise(Resource::Nofile, "RLIMIT_NOFILE", 1).unwrap();
        assert_eq!(open, getrlimit(Resource::Nofile).maximum);
        if let Some(open) = open {
            let error = raise(Resource::Nofile, "RLIMIT_NOFILE", open + 1).unwrap_err();
            let text = format!("RLIMIT_NOFILE allows {open}, at least {} is needed", open + 1);
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn this_host_is_described() {
        let found = probe().expect("the tests need a host that can run the broker");
        assert!(!found.cpus.is_empty() && found.memory_bytes > 0);
        assert!(found.cpus.is_sorted());
    }
}
