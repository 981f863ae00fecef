//! CPU time and memory, of the server by its process and of our own threads, as the kernel counts them.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time that a process has had, all threads; `None`: it is not there.
pub(super) fn cpu_of(pid: u32) -> Option<Duration> {
    let mut sum = 0;
    // What the scheduler counted, to the nanosecond; `stat` has only hundredths of a second.
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat"));
        let Ok(text) = text else { continue };
        sum += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(sum))
}

/// Resident memory of a process, in bytes.
pub(super) fn rss_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib << 10)
}

/// CPU time of the calling thread.
pub(super) fn own_cpu() -> Duration {
    let spec = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(spec.tv_sec as u64, spec.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_had_time_and_has_memory() {
        let me = std::process::id();
        assert!(cpu_of(me).is_some_and(|cpu| cpu >= own_cpu()));
        assert!(rss_of(me).is_some_and(|bytes| bytes > 1 << 20));
        assert_eq!((cpu_of(u32::MAX), rss_of(u32::MAX)), (None, None));
    }
}
