//! Memory figures of this process and the limit of its control group, read from the kernel's files.

use std::fs;

/// Highest resident memory of this process so far, in bytes; 0 where the kernel does not say.
#[must_use]
pub fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: Option<u64> = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// The memory limit of the control group, in bytes, if there is one (version 2, then version 1).
pub(super) fn limit_bytes() -> Option<u64> {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = files.iter().find_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok())?;
    (limit < 1 << 50).then_some(limit)
}

/// Bytes that an embedded warehouse may use: what the job asks for, or less where the machine gives less, without the runner's share.
pub(super) fn warehouse_budget(asked: u64) -> u64 {
    let granted = limit_bytes().map_or(asked, |limit| limit.min(asked));
    granted / 100 * 55
}
