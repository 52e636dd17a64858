//! `bngd`: one node of a Tandem cluster.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use node::config::Config;
use node::daemon::Daemon;
use std::path::PathBuf;
use std::process::ExitCode;

/// One node of a Tandem cluster: a distributed active/standby broadband network gateway.
#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES)]
struct Args {
    /// Settings of this node.
    #[arg(long, short, global = true, env = "BNGD_CONFIG", default_value = "/etc/bngd/bngd.toml")]
    config: PathBuf,
    /// Log filter, such as `info` or `node=debug,info`.
    #[arg(long, global = true, env = "BNGD_LOG", default_value = "info")]
    log: String,
    /// Log as JSON, one object per line.
    #[arg(long, global = true, env = "BNGD_LOG_JSON")]
    log_json: bool,
    #[command(subcommand)]
    command: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// Run the daemon (the default).
    Run,
    /// Check the configuration and say what is wrong, with key and line.
    CheckConfig,
    /// Run a single node without root and without packets, for people who write API clients.
    Dev(node::dev::DevArgs),
}

const EXAMPLES: &str = "Examples:
  bngd --config /etc/bngd/bngd.toml
  bngd check-config --config ./bngd.toml
  bngd dev --sessions 20";

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = log_to_stderr(&args) {
        eprintln!("bngd: {error:#}");
        return ExitCode::from(2);
    }
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            eprintln!("bngd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr(args: &Args) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log).context("--log")?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if args.log_json {
        log.json().init()
    } else {
        log.init()
    }
    Ok(())
}

fn run(args: Args) -> anyhow::Result<()> {
    match args.command.unwrap_or(Task::Run) {
        Task::CheckConfig => {
            let config = Config::load(&args.config)?;
            println!("{}: good: {} node {:?}", args.config.display(), role(&config), config.name);
            Ok(())
        }
        Task::Run => {
            let config = Config::load(&args.config)?;
            on_runtime(async move { Ok(Daemon::prepare(config).await?.run().await?) })
        }
        Task::Dev(dev) => on_runtime(node::dev::run(dev)),
    }
}

fn role(config: &Config) -> &'static str {
    match config.role {
        model::NodeRole::Data => "data",
        model::NodeRole::Witness => "witness",
    }
}

fn on_runtime(main: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider is installed already"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(main);
    // A thread that hangs on a failed disk must not keep the process from ending.
    runtime.shutdown_background();
    outcome
}
