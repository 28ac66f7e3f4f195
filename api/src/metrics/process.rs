//! What the process itself takes, where the system tells: memory, processor time, open files.

use std::time::Duration;

use metrics::{Unit, gauge, with_recorder};

const MEMORY: &str = "process_resident_memory_bytes";
const CPU: &str = "process_cpu_seconds";
const FILES: &str = "process_open_fds";

pub(super) fn describe() {
    with_recorder(|recorder| {
        let words = "Memory that the process holds.";
        recorder.describe_gauge(MEMORY.into(), Some(Unit::Bytes), words.into());
        let words = "Processor time that the process has used.";
        recorder.describe_gauge(CPU.into(), Some(Unit::Seconds), words.into());
        recorder.describe_gauge(FILES.into(), Some(Unit::Count), "Files and sockets that are open.".into());
    });
}

/// What the process takes now. Reads files of the kernel, which answer at once.
pub(super) struct Usage {
    memory_bytes: Option<i64>,
    cpu: Option<Duration>,
    open_files: Option<usize>,
}

impl Usage {
    pub(super) fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib = |line: &str| {
            line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
        };
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self {
            memory_bytes: status.lines().find_map(kib),
            cpu: cpu_of(&stat),
            open_files: std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count),
        }
    }

    pub(super) fn record(&self) {
        if let Some(bytes) = self.memory_bytes {
            gauge!(MEMORY).set(super::number(bytes));
        }
        if let Some(cpu) = self.cpu {
            gauge!(CPU).set(cpu.as_secs_f64());
        }
        if let Some(files) = self.open_files.and_then(|files| u32::try_from(files).ok()) {
            gauge!(FILES).set(f64::from(files));
        }
    }
}

/// User and system time of a line of `/proc/<pid>/stat`, which counts in hundredths of a second on every Linux.
fn cpu_of(stat: &str) -> Option<Duration> {
    // The name of the program may hold anything but ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).map(str::parse::<u64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some(Duration::from_millis(user.checked_add(system)?.checked_mul(10)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_past_any_program_name() {
        let stat = "42 (a) b 1 2) S 1 42 42 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 3 0 1 1 1";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu_of(""), None);
    }
}
