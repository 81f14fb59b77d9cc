//! What processes and the machine use.

use std::time::Duration;

/// Processor time of this process so far, all threads, in user and kernel mode.
pub(crate) fn cpu() -> Duration {
    // SAFETY: plain numbers, for which zeros are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: it writes to `usage` alone.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let time = |time: libc::timeval| {
        Duration::new(time.tv_sec as u64, 0) + Duration::from_micros(time.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Lets this process open as many files and sockets as the system allows.
pub(crate) fn raise_file_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls read and write `limit` alone.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

/// What all processors of the machine have done so far, in ticks of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    busy: u64,
    idle: u64,
}

impl Done {
    /// The share of the time since then in which they were busy, where any has passed.
    pub(crate) fn since(self, before: Self) -> Option<f64> {
        let busy = self.busy.saturating_sub(before.busy) as f64;
        let all = busy + self.idle.saturating_sub(before.idle) as f64;
        (all > 0.0).then(|| busy / all)
    }
}

/// What they have done so far, where the system tells.
pub(crate) fn done() -> Option<Done> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let numbers = stat.lines().next()?.strip_prefix("cpu ")?;
    let numbers: Vec<u64> = (numbers.split_whitespace())
        .map_while(|number| number.parse().ok())
        .collect();
    // The fourth and fifth are idle; what guests did is counted twice.
    let idle = numbers.get(3)? + numbers.get(4)?;
    let all: u64 = numbers.iter().take(8).sum();
    Some(Done {
        busy: all - idle,
        idle,
    })
}

/// The machine and what runs on it besides, in one line.
pub(crate) fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("unknown");
    format!(
        "{cores} x {model}, Linux {}, load {load} at the start",
        kernel.trim()
    )
}
