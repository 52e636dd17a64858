//! The machine that the node runs on, from `/proc`. See proc(5).

use api::types::purenas::{CpuInfo, HostInfo, LoadInfo, MemoryInfo, UptimeInfo};

const KIB: u64 = 1024;

/// What the kernel tells of the machine; what it does not tell is empty or 0.
#[must_use]
pub fn info() -> HostInfo {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let line = |path: &str| read(path).trim().to_owned();
    let cpu = cpu(&read("/proc/cpuinfo"));
    HostInfo {
        os: line("/proc/sys/kernel/ostype"),
        os_release: line("/proc/sys/kernel/osrelease"),
        os_full_release: distribution(&read("/etc/os-release")),
        hostname: line("/proc/sys/kernel/hostname"),
        machine_arch: std::env::consts::ARCH.to_owned(),
        php_version: String::new(),
        memory: memory(&read("/proc/meminfo")),
        uptime: uptime(&read("/proc/uptime")),
        load: load(&read("/proc/loadavg"), cpu.cores),
        cpu,
    }
}

/// `PRETTY_NAME` of os-release(5).
fn distribution(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or_default().trim_matches('"').to_owned()
}

fn cpu(cpuinfo: &str) -> CpuInfo {
    let field = |name: &str| {
        let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    let of = |line: &&str| line.split(':').next().is_some_and(|key| key.trim() == "processor");
    let cores = u32::try_from(cpuinfo.lines().filter(of).count()).unwrap_or(u32::MAX);
    CpuInfo { name: field("model name").unwrap_or_default(), cores }
}

fn memory(meminfo: &str) -> MemoryInfo {
    let octets = |name: &str| {
        let value = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = value.and_then(|v| v.split_whitespace().next()).and_then(|v| v.parse().ok());
        kib.unwrap_or(0_u64).saturating_mul(KIB)
    };
    let total = octets("MemTotal");
    let free = octets("MemAvailable").min(total);
    let used = total - free;
    MemoryInfo {
        total,
        free,
        used,
        used_percent: share(used, total),
        free_percent: share(free, total),
    }
}

/// Percent with two digits.
fn share(part: u64, whole: u64) -> f64 {
    let hundredths = u128::from(part) * 10_000 / u128::from(whole.max(1));
    f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX)) / 100.0
}

fn uptime(uptime: &str) -> UptimeInfo {
    let seconds = uptime.split(['.', ' ']).next().and_then(|s| s.trim().parse().ok()).unwrap_or(0);
    UptimeInfo {
        seconds,
        days: seconds / 86_400,
        hours: seconds / 3600 % 24,
        minutes: seconds / 60 % 60,
    }
}

fn load(loadavg: &str, cores: u32) -> LoadInfo {
    let mut averages = loadavg.split_whitespace().map(|v| v.parse::<f64>().unwrap_or(0.0));
    let mut next = || averages.next().unwrap_or(0.0);
    let (la1, la5, la15) = (next(), next(), next());
    let round = |value: f64| (value * 100.0).round() / 100.0;
    let percent = |average: f64| round(average * 100.0 / f64::from(cores.max(1)));
    LoadInfo {
        la1,
        la5,
        la15,
        load_percent: percent(la1),
        load_percent1: percent(la1),
        load_percent5: percent(la5),
        load_percent15: percent(la15),
        load_avg_percent: percent((la1 + la5 + la15) / 3.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n\nprocessor\t: 1\nmodel name\t: Some CPU @ 2 GHz\n";
        assert_eq!(cpu(cpuinfo), CpuInfo { name: "Some CPU @ 2 GHz".into(), cores: 2 });
        let memory =
            memory("MemTotal:        4000 kB\nMemFree: 100 kB\nMemAvailable:    1000 kB\n");
        assert_eq!((memory.total, memory.free, memory.used), (4_096_000, 1_024_000, 3_072_000));
        assert_eq!(format!("{} {}", memory.used_percent, memory.free_percent), "75 25");
        let up = uptime("183845.12 300000.00\n");
        assert_eq!((up.seconds, up.days, up.hours, up.minutes), (183_845, 2, 3, 4));
        let load = load("0.50 1.00 2.00 1/234 5678\n", 2);
        let percents = [load.load_percent, load.load_percent5, load.load_percent15];
        assert_eq!(format!("{percents:?} {}", load.load_avg_percent), "[25.0, 50.0, 100.0] 58.33");
        assert_eq!(distribution("NAME=x\nPRETTY_NAME=\"Debian 13\"\n"), "Debian 13");
    }

    #[test]
    fn what_cannot_be_read_is_nothing() {
        assert_eq!(cpu(""), CpuInfo { name: String::new(), cores: 0 });
        assert_eq!(memory("MemTotal: x").total, 0);
        assert_eq!(uptime("").seconds, 0);
        assert_eq!(format!("{}", load("a b", 0).load_percent), "0");
    }
}
