//! What the host must allow before anything is bound: io_uring, locked memory, descriptors, CPUs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::uring::Uring;
use crate::limits::Limits;

/// What glommio asks for.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;
/// Descriptors that are not connections: rings, files, database, HTTP.
const DESCRIPTORS_RESERVED: u64 = 512;

/// What stands in the way, as a sentence; and what is only worth a word, into `warnings`.
pub(super) fn check(limits: &mut Limits, warnings: &mut Vec<String>) -> Result<(), String> {
    memlock()?;
    descriptors(limits, warnings);
    Uring::new().map(drop).map_err(|error| {
        format!(
            "this host does not allow io_uring ({error}): set sysctl kernel.io_uring_disabled=0, or in a container allow it \
             with --security-opt seccomp=unconfined (Linux 6.1 or newer)"
        )
    })
}

/// Raises the soft limit to the hard one.
fn raised(what: Resource) -> Rlimit {
    let limit = getrlimit(what);
    if limit.current != limit.maximum {
        // What is not allowed stays as it was.
        let _ = setrlimit(what, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    getrlimit(what)
}

fn memlock() -> Result<(), String> {
    match raised(Resource::Memlock).current {
        Some(bytes) if bytes < MEMLOCK_BYTES_MIN => Err(format!(
            "this process may lock {bytes} bytes of memory, and needs {MEMLOCK_BYTES_MIN}: raise it with ulimit -l 512 \
             (LimitMEMLOCK= for systemd, --ulimit memlock=-1 for containers)"
        )),
        _ => Ok(()),
    }
}

fn descriptors(limits: &mut Limits, warnings: &mut Vec<String>) {
    let Some(all) = raised(Resource::Nofile).current else { return };
    let left = all.saturating_sub(DESCRIPTORS_RESERVED);
    if left < u64::from(limits.connections_max) {
        warnings.push(format!(
            "at most {left} connections: this process may open {all} files (ulimit -n, or LimitNOFILE= for systemd)"
        ));
        limits.connections_max = left.max(1) as u32;
    }
}

/// The CPUs that this process may use, in order.
pub(super) fn cpus() -> Vec<usize> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    if ids.is_empty() { vec![0] } else { ids.into_iter().map(|id| id.id).collect() }
}

/// Keeps the calling thread, and those that it starts from now on, on these CPUs.
pub(super) fn pin(cpus: &[usize]) -> Result<(), String> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu);
    }
    sched_setaffinity(None, &set).map_err(|error| {
        format!("cannot use the CPUs {cpus:?}: {error}; choose others with --cpus")
    })
}
