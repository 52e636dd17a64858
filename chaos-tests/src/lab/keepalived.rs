//! The yardstick: a plain keepalived VRRPv3 address in the same lab, moved by the same kind of fault.

use super::netns::{ip_batch, run};
use super::topology::WORK_DIR;
use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const VIP: &str = "10.253.0.100";
/// Time between two probes of the address.
const PROBE_MS: &str = "5";

/// Two keepalived routers and a client on a switch of their own.
pub struct Keepalived {
    children: Vec<Child>,
}

impl Keepalived {
    /// Builds the network and starts both routers: 100 ms adverts, priorities 150 and 100.
    ///
    /// # Errors
    /// When keepalived or fping is missing, or the network cannot be built.
    pub fn start() -> Result<Self> {
        let mut lines = String::from("netns add tdm-ka1\nnetns add tdm-ka2\nnetns add tdm-kac\n");
        for (n, ns) in ["tdm-ka1", "tdm-ka2", "tdm-kac"].iter().enumerate() {
            lines += &format!("link add ka-{n} netns tdm-sw type veth peer name e0 netns {ns}\n");
        }
        ip_batch(None, &lines)?;
        let mut switch = String::from(
            "link add br-ka type bridge stp_state 0 mcast_snooping 0\nlink set br-ka up\n",
        );
        for n in 0..3 {
            switch += &format!("link set ka-{n} master br-ka up\n");
        }
        ip_batch(Some("tdm-sw"), &switch)?;
        for (n, ns) in ["tdm-ka1", "tdm-ka2", "tdm-kac"].iter().enumerate() {
            ip_batch(
                Some(ns),
                &format!("link set lo up\nlink set e0 up\naddr add 10.253.0.{}/24 dev e0\n", n + 1),
            )?;
        }
        let mut children = Vec::new();
        for (n, priority) in [(1, 150), (2, 100)] {
            children.push(router(n, priority)?);
        }
        Ok(Self { children })
    }

    /// Cuts the active router's cable and returns the longest silence of the address, `runs` times.
    ///
    /// # Errors
    /// When the address never answers, or fping says nothing.
    pub fn gaps(&self, runs: usize) -> Result<Vec<Duration>> {
        let mut gaps = Vec::new();
        for _ in 0..runs {
            self.settle()?;
            let probe = Command::new("nsenter")
                .args([
                    "--net=/run/netns/tdm-kac",
                    "fping",
                    "-D",
                    "-l",
                    "-p",
                    PROBE_MS,
                    "-t",
                    "300",
                    VIP,
                ])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .context("fping")?;
            wait(Duration::from_millis(700));
            ip_batch(Some("tdm-sw"), "link set ka-0 down\n")?;
            wait(Duration::from_millis(1500));
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(i32::try_from(probe.id())?),
                nix::sys::signal::Signal::SIGINT,
            )?;
            let out = probe.wait_with_output()?;
            gaps.push(longest_silence(&String::from_utf8_lossy(&out.stdout))?);
            ip_batch(Some("tdm-sw"), "link set ka-0 up\n")?;
        }
        Ok(gaps)
    }

    /// Waits until the first router holds the address.
    fn settle(&self) -> Result<()> {
        for _ in 0..100 {
            if run("ip", &["-n", "tdm-ka1", "addr", "show", "dev", "e0"])?.contains(VIP)
                && !run("ip", &["-n", "tdm-ka2", "addr", "show", "dev", "e0"])?.contains(VIP)
            {
                return Ok(());
            }
            wait(Duration::from_millis(100));
        }
        bail!("keepalived did not take its address within 10 s")
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn router(n: usize, priority: u8) -> Result<Child> {
    let dir = Path::new(WORK_DIR);
    let conf = dir.join(format!("ka{n}.conf"));
    let text = format!(
        "global_defs {{\n router_id k{n}\n vrrp_version 3\n vrrp_garp_master_repeat 1\n vrrp_garp_master_delay 0\n}}\n\
         vrrp_instance V1 {{\n state BACKUP\n interface e0\n virtual_router_id 77\n priority {priority}\n advert_int 0.1\n \
         virtual_ipaddress {{\n {VIP}/24\n }}\n}}\n"
    );
    std::fs::write(&conf, text)?;
    Command::new("nsenter")
        .arg(format!("--net=/run/netns/tdm-ka{n}"))
        .args(["keepalived", "-n", "-l", "-P", "-f"])
        .arg(&conf)
        .arg("-p")
        .arg(dir.join(format!("ka{n}.pid")))
        .arg("-r")
        .arg(dir.join(format!("ka{n}.vpid")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run keepalived; is its package installed?")
}

/// The longest time between two replies in `fping -D -l` output: `[1700000000.12345] 10.0.0.1 : [0], ...`.
fn longest_silence(output: &str) -> Result<Duration> {
    let mut last: Option<f64> = None;
    let mut longest = 0.0f64;
    let replies = output.lines().filter(|l| l.contains("bytes"));
    for line in replies {
        let at: f64 = line
            .strip_prefix('[')
            .and_then(|l| l.split(']').next())
            .and_then(|t| t.parse().ok())
            .with_context(|| format!("fping said {line:?}"))?;
        if let Some(last) = last {
            longest = longest.max(at - last);
        }
        last = Some(at);
    }
    if last.is_none() {
        bail!("the keepalived address never answered");
    }
    Ok(Duration::from_secs_f64(longest))
}

/// Lets a part of the scenario last; nothing is being waited for.
fn wait(time: Duration) {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silence_is_found_in_fping_output() {
        let output = "[1700000000.100] 10.0.0.1 : [0], 64 bytes, 0.05 ms\n\
                      [1700000000.105] 10.0.0.1 : [1], 64 bytes, 0.05 ms\n\
                      [1700000000.200] 10.0.0.1 : [2], timed out\n\
                      [1700000000.455] 10.0.0.1 : [9], 64 bytes, 0.05 ms\n";
        let gap = longest_silence(output).unwrap();
        assert!((gap.as_secs_f64() - 0.35).abs() < 1e-6, "{gap:?}");
        assert!(longest_silence("").is_err());
    }
}
