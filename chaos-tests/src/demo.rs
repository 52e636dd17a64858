//! The main job, in a minute: subscribers dial in, the owner dies, nobody redials.

use crate::counters::Watch;
use crate::lab::cluster::{GROUP, Profile, Settings};

use crate::lab::faults::Fault;
use crate::lab::probe::Percentiles;
use crate::lab::subscribers::Plan;
use crate::lab::topology::{self, Topology};
use crate::scenario::{DATA_NODES, Lab, Measured, cluster_table};
use anyhow::{Result, ensure};
use serde_json::json;
use std::io::IsTerminal as _;

/// Flags of the demo.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct DemoArgs {
    /// PPPoE subscribers.
    #[arg(long, default_value_t = 100)]
    pub pppoe: usize,
    /// DHCP subscribers.
    #[arg(long, default_value_t = 100)]
    pub dhcp: usize,
    /// Timers of the cluster.
    #[arg(long, value_enum, default_value_t)]
    pub profile: Profile,
    /// Leave the lab up and print commands to try.
    #[arg(long)]
    pub keep: bool,
    /// Print nothing but one line of JSON at the end.
    #[arg(long)]
    pub json: bool,
}

/// Builds the lab; call before any thread runs, since the process moves into the lab's namespace.
///
/// # Errors
/// When not root or the network cannot be built.
pub fn prepare() -> Result<()> {
    Topology::build(DATA_NODES)?;
    crate::lab::cluster::enter_ops()
}

/// Runs the demo on a built network.
///
/// # Errors
/// What failed, or what did not come out as promised.
pub async fn run(args: DemoArgs) -> Result<()> {
    let quiet = args.json;
    let plan = Plan::new(args.pppoe, args.dhcp);
    let plain = Settings::plain(plan.pppoe, 3600, "policer")?;
    let settings = Settings { profile: args.profile, ..plain };
    let mut lab = Lab::raise_with(plan, settings, quiet).await?;
    let say = |text: String| {
        if !quiet {
            println!("{text}");
        }
    };
    say(format!("\n{}", cluster_table(&lab.cluster.status().await?)));
    let owner = lab.cluster.owner().await?;
    let counters = Watch::start(&lab).await?;
    counters.told(&lab).await?;
    let before = counters.still(&lab).await?;
    say(format!(
        "killing the owner, {owner}, with SIGKILL while every session sends and receives ..."
    ));
    let kill = lab.measure(Fault::Kill).await?;
    report(&say, "kill", &kill);
    let after = counters.still(&lab).await?;
    let missing_kill = Watch::missing(&before, &after);
    say(format!("\n{}", cluster_table(&lab.cluster.status().await?)));
    say(format!("moving the group back to {owner} by plan ..."));
    let planned = lab.measure(Fault::Planned).await?;
    report(&say, "planned", &planned);
    let missing_planned = Watch::missing(&after, &counters.still(&lab).await?);
    say(format!(
        "  packets of a session missing in its counters: {missing_kill} after the kill, {missing_planned} after the move"
    ));
    counters.verdict()?;
    let owners = lab.watcher.owners_max();
    let (kill_gap, planned_gap) = (kill.gap(), planned.gap());
    let kept = kill.kept.kept.min(planned.kept.kept);
    let total = args.pppoe + args.dhcp;
    say(format!("\nkept {kept}/{total}, never more than {owners} owner on the wire"));
    if args.json {
        let gap = |p: Percentiles| json!({"p50": p.p50, "max": p.max});
        let line = json!({
            "sessions": {"pppoe": args.pppoe, "dhcp": args.dhcp},
            "kept": kept,
            "gap_ms": {"kill": gap(kill_gap), "planned": gap(planned_gap)},
            "owners_on_wire_max": owners,
            "packets_uncounted_max": {"kill": missing_kill, "planned": missing_planned},
        });
        println!("{line}");
    }
    ensure!(kept == total, "{} of {total} sessions were lost or redialled", total - kept);
    ensure!(owners == 1, "{owners} nodes sent from the virtual MAC at the same time");
    let bound = Watch::between_reports(&lab);
    ensure!(
        missing_kill <= bound,
        "{missing_kill} packets uncounted after the kill, at most {bound}"
    );
    ensure!(missing_planned == 0, "{missing_planned} packets uncounted after the planned move");
    if args.keep {
        return keep(lab).await;
    }
    drop(lab);
    topology::clean()?;
    Ok(())
}

fn report(say: &impl Fn(String), name: &str, m: &Measured) {
    let (up, down) = (Percentiles::of(&mut m.up.clone()), Percentiles::of(&mut m.down.clone()));
    say(format!(
        "  {name}: gap on the wire up p50 {} ms, max {} ms; down p50 {} ms, max {} ms (probes every 20 ms)",
        up.p50, up.max, down.p50, down.max
    ));
    say(format!("  kept {}/{}", m.kept.kept, m.kept.sessions));
}

/// Prints what can be tried. On a terminal it waits for Ctrl-C with the subscribers alive; else it
/// leaves the nodes running and returns.
async fn keep(lab: Lab) -> Result<()> {
    let (user, password) = crate::lab::cluster::ADMIN;
    let bngctl = crate::lab::cluster::sibling("bngctl")?.display().to_string();
    let ops = "ip netns exec tdm-ops";
    println!(
        "\nthe lab is up; from another terminal:\n\n\
         {ops} {bngctl} --insecure --url https://10.255.0.1:8443 --url https://10.255.0.2:8443 login \
         --username {user} --password {password}\n\
         {ops} {bngctl} cluster status\n\
         {ops} {bngctl} session list\n\
         {ops} {bngctl} group failover {GROUP}\n\
         {ops} curl -sk https://10.255.0.1:8443/api/v1/health\n\
         {ops} curl -sk -X POST https://10.255.0.2:8443/api/v1/auth/login -H 'Content-Type: application/json' \
         -d '{{\"username\":\"{user}\",\"password\":\"{password}\"}}'\n"
    );
    if std::io::stdin().is_terminal() {
        println!("Ctrl-C takes it down");
        tokio::signal::ctrl_c().await?;
        drop(lab);
        topology::clean()?;
    } else {
        println!("cargo xtask lab clean takes it down; the simulated subscribers end now");
        let Lab { watcher, subscribers, cluster } = lab;
        drop(watcher);
        drop(subscribers);
        cluster.leave_running();
    }
    Ok(())
}
