//! What the system says of this process, as every Prometheus client tells it. Read from `/proc`, so there is nothing of it on macOS.

use std::fs;

/// One look.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// CPU time of all threads, in seconds; not of the processes that decode.
    pub cpu_seconds: f64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Unix time at which it started, in seconds.
    pub started: f64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// How many it may open; `None`: any number.
    pub max_fds: Option<u64>,
}

/// Looks; `None` where the system does not say.
pub fn look() -> Option<Process> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let (cpu, pages, started) = fields(&stat)?;
    let open_fds = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(Process {
        cpu_seconds: cpu as f64 / ticks,
        resident_bytes: pages * rustix::param::page_size() as u64,
        started: boot + started as f64 / ticks,
        // Less the one that reads the folder.
        open_fds: open_fds.saturating_sub(1),
        max_fds: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
    })
}

/// Ticks of CPU time, pages of resident memory, and ticks from the boot to the start. The program's name may hold spaces and parentheses.
fn fields(stat: &str) -> Option<(u64, u64, u64)> {
    let rest: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| rest.get(at)?.parse::<u64>().ok();
    // Fields 14, 15, 22 and 24 of proc(5); the first here is field 3.
    Some((number(11)? + number(12)?, number(21)?, number(19)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_s_name_cannot_shift_the_fields() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 500 60 0 0 20 0 7 0 12345 1000000 2500 18446744073709551615 1";
        assert_eq!(fields(stat), Some((560, 2500, 12345)));
        assert_eq!(fields("42"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn it_sees_this_process() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let seen = look().unwrap();
        assert!(seen.resident_bytes > 1 << 20 && seen.open_fds >= 3, "{seen:?}");
        assert!(seen.started <= now + 1.0 && seen.started > now - 86_400.0, "{seen:?} at {now}");
    }
}
