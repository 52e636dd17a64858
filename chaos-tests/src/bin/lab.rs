//! The lab's program; `cargo xtask` builds and runs it.

use anyhow::Result;
use chaos_tests::lab::{machine, topology};
use chaos_tests::{access, bench, chaos, demo, install, policy};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Labs in network namespaces: demo, access networks, benchmark, chaos. Needs root.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Subscribers dial in, the owner dies, nobody redials.
    Demo(demo::DemoArgs),
    /// VLANs, NAT, shaping and real DHCP clients, across a takeover.
    Access(access::AccessArgs),
    /// Measure the gap of each fault.
    BenchFailover(bench::FailoverArgs),
    /// Seeded random faults, with everything checked.
    Chaos(chaos::ChaosArgs),
    /// Install the Debian package on three machines and run a cluster from it.
    Install(install::InstallArgs),
    /// Static subscribers, bindings, bans and rates on the wire, before and after a takeover.
    Policy(policy::PolicyArgs),
    /// Remove what a lab left behind.
    Clean,
    /// Holds the machine of a node; part of `install`.
    #[command(hide = true)]
    Machine {
        /// The node, from 0.
        node: usize,
    },
    /// Process 1 of a machine; part of `install`.
    #[command(hide = true)]
    MachineInit {
        /// The node, from 0.
        node: usize,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Clean => {
            let removed = topology::clean()?;
            println!("removed {removed} namespaces");
            return Ok(());
        }
        Task::Machine { node } => return machine::outer(node),
        Task::MachineInit { node } => return machine::init(node),
        Task::Install(ref args) if install::skip(args)? => return Ok(()),
        Task::Install(_)
        | Task::Demo(_)
        | Task::Access(_)
        | Task::BenchFailover(_)
        | Task::Chaos(_)
        | Task::Policy(_) => {}
    }
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider is installed already"))?;
    demo::prepare()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let kept = matches!(task, Task::Demo(demo::DemoArgs { keep: true, .. }));
    let outcome = runtime.block_on(async {
        let work = async {
            match task {
                Task::Demo(args) => demo::run(args).await,
                Task::Access(args) => access::run(args).await,
                Task::BenchFailover(args) => bench::failover(args).await,
                Task::Chaos(args) => chaos::run(args).await,
                Task::Install(args) => install::run(args).await,
                Task::Policy(args) => policy::run(args).await,
                Task::Clean | Task::Machine { .. } | Task::MachineInit { .. } => Ok(()),
            }
        };
        tokio::select! {
            outcome = work => outcome,
            _ = tokio::signal::ctrl_c(), if !kept => Err(anyhow::anyhow!("interrupted")),
        }
    });
    drop(runtime);
    if let Err(error) = &outcome {
        keep_logs();
        if let Err(cleaning) = topology::clean() {
            eprintln!("lab: cleaning up after {error:#}: {cleaning:#}");
        }
    }
    outcome
}

/// Copies the daemons' logs out of the lab's folder, so that a failure can be read.
fn keep_logs() {
    let to = std::env::temp_dir().join("tandem-lab-logs");
    let _ = std::fs::create_dir_all(&to);
    let Ok(nodes) = std::fs::read_dir(topology::WORK_DIR) else { return };
    for node in nodes.flatten() {
        let log = node.path().join("bngd.log");
        if log.exists() {
            let name = format!("{}.log", node.file_name().to_string_lossy());
            let _ = std::fs::copy(&log, to.join(name));
        }
    }
    eprintln!("lab: the daemons' logs are in {}", to.display());
}
