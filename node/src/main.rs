//! `bngd`: one node of a Tandem cluster.

use clap::{CommandFactory as _, Parser, Subcommand};
use dataplane::DataplaneError;
use node::config::{Config, ConfigError};
use node::daemon::{Daemon, DaemonError};
use node::member::MemberError;
use node::telemetry::{self, TelemetryError};
use raft_store::OpenError;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// One node of a Tandem cluster: a distributed active/standby broadband network gateway.
#[derive(Parser)]
#[command(name = "bngd", version, about, after_help = EXAMPLES)]
struct Args {
    /// Settings of this node.
    #[arg(
        long,
        short,
        global = true,
        env = "BNGD_CONFIG",
        default_value = "/etc/tandem/bngd.toml"
    )]
    config: PathBuf,
    /// Log filter, such as `info` or `node=debug,info`.
    #[arg(long, global = true, env = "BNGD_LOG", default_value = "info")]
    log: String,
    /// Log as JSON, one object per line.
    #[arg(long, global = true, env = "BNGD_LOG_JSON")]
    log_json: bool,
    /// Send traces to this OpenTelemetry collector: OTLP over gRPC, such as http://192.0.2.9:4317.
    #[arg(long, global = true, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp: Option<String>,
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
    /// Write the manual pages, as roff, into a folder.
    #[command(hide = true)]
    Man {
        /// Where to; it must exist.
        dir: PathBuf,
    },
}

const EXAMPLES: &str = "Examples:
  bngd --config /etc/tandem/bngd.toml
  bngd check-config --config ./bngd.toml
  bngd dev --sessions 20

Exit codes:
  0   stopped in order
  1   failed; starting it again may help
  2   wrong usage
  65  the store lost or changed what this node had acknowledged: take the node out and join it anew
  77  the kernel refuses what a data node needs: capabilities are missing
  78  the configuration is wrong";

/// Exit codes after which starting again changes nothing; the service unit names them too. The numbers are
/// those of sysexits.h.
const EXIT_USAGE: u8 = 2;
const EXIT_STORE_DAMAGED: u8 = 65;
const EXIT_NO_PERMISSION: u8 = 77;
const EXIT_CONFIG: u8 = 78;

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bngd: {error:#}");
            exit_code(&error)
        }
    }
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<ConfigError>() {
        return ExitCode::from(EXIT_CONFIG);
    }
    if error.is::<TelemetryError>() {
        return ExitCode::from(EXIT_USAGE);
    }
    let daemon = error.downcast_ref::<DaemonError>();
    // The machine does not keep the timer profile of the configuration: a restart changes nothing.
    if let Some(DaemonError::Profile(_)) = daemon {
        return ExitCode::from(EXIT_CONFIG);
    }
    let Some(DaemonError::Member(member)) = daemon else { return ExitCode::FAILURE };
    match member {
        MemberError::Store(OpenError::Corrupt { .. } | OpenError::Owner { .. }) => {
            ExitCode::from(EXIT_STORE_DAMAGED)
        }
        MemberError::Dataplane(DataplaneError::Privilege { .. }) => {
            ExitCode::from(EXIT_NO_PERMISSION)
        }
        MemberError::Socket { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            ExitCode::from(EXIT_NO_PERMISSION)
        }
        MemberError::Store(_)
        | MemberError::Dataplane(_)
        | MemberError::Lease { .. }
        | MemberError::Socket { .. } => ExitCode::FAILURE,
    }
}

/// One page for bngd and one for each of its commands, in section 8.
fn man(dir: &Path) -> anyhow::Result<()> {
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    for page in shown.chain([&command]) {
        clap_mangen::Man::new(page.clone()).section("8").generate_to(dir)?;
    }
    Ok(())
}

fn run(args: Args) -> anyhow::Result<()> {
    let mut telemetry = telemetry::Settings {
        filter: args.log,
        json: args.log_json,
        otlp: args.otlp,
        node: "dev".to_owned(),
    };
    match args.command.unwrap_or(Task::Run) {
        Task::CheckConfig => {
            let config = Config::load(&args.config)?;
            println!("{}: good: {} node {:?}", args.config.display(), role(&config), config.name);
            Ok(())
        }
        Task::Run => {
            let config = Config::load(&args.config)?;
            telemetry.node.clone_from(&config.name);
            on_runtime(&telemetry, async move { Ok(Daemon::prepare(config).await?.run().await?) })
        }
        Task::Man { dir } => man(&dir),
        Task::Dev(dev) => on_runtime(&telemetry, node::dev::run(dev)),
    }
}

fn role(config: &Config) -> &'static str {
    match config.role {
        model::NodeRole::Data => "data",
        model::NodeRole::Witness => "witness",
    }
}

fn on_runtime(
    settings: &telemetry::Settings,
    main: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider is installed already"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let guard = runtime.block_on(async { telemetry::init(settings) })?;
    let outcome = runtime.block_on(main);
    if let Err(error) = &outcome {
        tracing::error!("{error:#}");
    }
    drop(guard);
    // A thread that hangs on a failed disk must not keep the process from ending.
    runtime.shutdown_background();
    outcome
}
