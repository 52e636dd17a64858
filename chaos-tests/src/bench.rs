//! `bench failover`: the gap on the wire for each fault, beside keepalived's in the same run.

use crate::lab::cluster::{Profile, Settings};
use crate::lab::faults::Fault;
use crate::lab::keepalived::Keepalived;
use crate::lab::probe::Percentiles;
use crate::lab::subscribers::{Kept, Plan};
use crate::lab::topology;
use crate::scenario::{Lab, Measured};
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Flags of the benchmark.
#[derive(Clone, Debug, clap::Args)]
pub struct FailoverArgs {
    /// Sessions, half PPPoE and half DHCP.
    #[arg(long, default_value_t = 200)]
    pub sessions: usize,
    /// How often each fault strikes.
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
    /// Faults, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "kill,pause,power,partition,planned")]
    pub faults: Vec<Fault>,
    /// Timers of the cluster.
    #[arg(long, value_enum, default_value_t)]
    pub profile: Profile,
    /// Print only one line of JSON at the end.
    #[arg(long)]
    pub json: bool,
}

struct Row {
    fault: Fault,
    up: Vec<Duration>,
    down: Vec<Duration>,
    /// One value per run: the median session's gap.
    medians: Vec<f64>,
    kept: Kept,
    recovery: Vec<Duration>,
}

/// Runs the benchmark on a built network.
///
/// # Errors
/// When a fault is not survived, or the lab fails.
pub async fn failover(args: FailoverArgs) -> Result<()> {
    let say = |text: &str| {
        if !args.json {
            println!("{text}");
        }
    };
    let half = args.sessions / 2;
    let plan = Plan::new(args.sessions - half, half);
    let plain = Settings::plain(plan.pppoe, 3600, "policer")?;
    let settings = Settings { profile: args.profile, ..plain };
    let mut lab = Lab::raise_with(plan, settings, args.json).await?;
    let mut rows = Vec::new();
    for &fault in &args.faults {
        let mut row = Row::new(fault);
        for run in 1..=args.runs {
            let measured = lab.measure(fault).await?;
            let gap = measured.gap();
            let led = if measured.led { ", the owner led Raft" } else { "" };
            say(&format!(
                "{fault} {run}/{}: p50 {} ms, max {} ms{led}",
                args.runs, gap.p50, gap.max
            ));
            row.add(&measured);
        }
        rows.push(row);
    }
    let owners = lab.watcher.owners_max();
    drop(lab);
    let keepalived = Keepalived::start()?;
    let runs = args.runs.max(3);
    let mut gaps = tokio::task::spawn_blocking(move || keepalived.gaps(runs)).await??;
    let yardstick = Percentiles::of(&mut gaps);
    if !args.json {
        print_table(&rows, yardstick, owners);
    }
    println!("{}", json_line(&args, &rows, yardstick, owners));
    topology::clean()?;
    Ok(())
}

impl Row {
    fn new(fault: Fault) -> Self {
        Self {
            fault,
            up: vec![],
            down: vec![],
            medians: vec![],
            kept: Kept::default(),
            recovery: vec![],
        }
    }

    fn add(&mut self, m: &Measured) {
        self.medians.push(m.gap().p50);
        self.up.extend(&m.up);
        self.down.extend(&m.down);
        self.kept.sessions += m.kept.sessions;
        self.kept.kept += m.kept.kept;
        self.kept.lost += m.kept.lost;
        self.kept.redialled += m.kept.redialled;
        self.recovery.push(m.recovery);
    }

    fn gap(&self) -> Percentiles {
        Percentiles::of_both(&self.up, &self.down)
    }
}

fn print_table(rows: &[Row], yardstick: Percentiles, owners: usize) {
    println!(
        "\nFAULT      UP p50/p99/max ms        DOWN p50/p99/max ms      KEPT         LOST  REDIALLED  VS KEEPALIVED"
    );
    for row in rows {
        let text = |p: Percentiles| format!("{}/{}/{}", p.p50, p.p99, p.max);
        let (up, down) =
            (Percentiles::of(&mut row.up.clone()), Percentiles::of(&mut row.down.clone()));
        let ratio = row.gap().p50 / yardstick.p50.max(0.001);
        let kept = format!("{}/{}", row.kept.kept, row.kept.sessions);
        println!(
            "{:<10} {:<24} {:<24} {kept:<12} {:<5} {:<10} {ratio:.2}",
            row.fault.name(),
            text(up),
            text(down),
            row.kept.lost,
            row.kept.redialled
        );
    }
    println!(
        "keepalived (100 ms adverts, cable cut): p50 {} ms, max {} ms",
        yardstick.p50, yardstick.max
    );
    println!("owners on the wire at one time, at most: {owners}");
}

fn json_line(args: &FailoverArgs, rows: &[Row], yardstick: Percentiles, owners: usize) -> Value {
    let mut faults = Map::new();
    for row in rows {
        let gap = row.gap();
        let value = json!({
            "runs": row.medians.len(),
            "gap_ms": gap,
            "gap_up_ms": Percentiles::of(&mut row.up.clone()),
            "gap_down_ms": Percentiles::of(&mut row.down.clone()),
            "recovery_ms": Percentiles::of(&mut row.recovery.clone()),
            "kept": row.kept.kept,
            "lost": row.kept.lost,
            "redialled": row.kept.redialled,
            "vs_keepalived": (gap.p50 / yardstick.p50.max(0.001) * 100.0).round() / 100.0,
        });
        faults.insert(row.fault.name().to_owned(), value);
    }
    json!({
        "sessions": args.sessions,
        "faults": faults,
        "keepalived_gap_ms": yardstick,
        "owners_on_wire_max": owners,
    })
}
