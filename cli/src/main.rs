//! `bngctl`: shows and changes a Tandem cluster through its API.

mod args;
mod audit;
mod cluster;
mod config;
mod error;
mod events;
mod format;
mod group;
mod key;
mod login;
mod output;
mod policy;
mod profile;
mod session;
mod system;
mod user;
mod webhook;

use args::{Cli, Command};
use clap::Parser;
use error::CliError;
use std::io::Write;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli).await {
        // Whoever reads our output had enough of it: not a failure.
        Ok(()) | Err(CliError::OutputClosed) => ExitCode::SUCCESS,
        Err(e) => {
            if let (Some(body), true) = (e.body(), e.wants_json()) {
                let _closed = writeln!(std::io::stdout(), "{body}");
            }
            let _closed = writeln!(std::io::stderr(), "bngctl: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

async fn run(cli: Cli) -> Result<(), CliError> {
    let json = cli.global.json;
    let done = match cli.command {
        Command::Login(args) => login::run(&cli.global, args).await,
        Command::Logout => login::logout(&cli.global).await,
        Command::User(command) => user::run(&cli.global, command).await,
        Command::Key(command) => key::run(&cli.global, command).await,
        Command::Audit(args) => audit::run(&cli.global, args).await,
        Command::Cluster(command) => cluster::run(&cli.global, command).await,
        Command::Group(command) => group::run(&cli.global, command).await,
        Command::Session(command) => session::run(&cli.global, command).await,
        Command::Policy(command) => policy::run(&cli.global, command).await,
        Command::Config(command) => config::run(&cli.global, command).await,
        Command::Events(command) => events::run(&cli.global, command).await,
        Command::Webhook(command) => webhook::run(&cli.global, command).await,
        Command::Version => system::version(&cli.global).await,
        Command::Completions { shell } => system::completions(shell),
        Command::Man { dir } => system::man(&dir),
    };
    done.map_err(|e| e.in_json(json))
}
