use crate::args::Global;
use crate::error::CliError;
use crate::output;
use api::types::FieldError;
use api::types::config::{
    self, ArchiveList, CommitRequest, CommitResponse, CompareResponse, ConfigChange, ConfigView,
    DeleteRequest, EditResponse, RollbackRequest, SetRequest,
};
use api::{Answer, Client};
use clap::Subcommand;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// The running configuration, or an archived version of it. Secrets are masked.
    ///
    /// Examples:
    ///   bngctl config show
    ///   bngctl config show pools.home
    ///   bngctl config show --version 4711
    #[command(verbatim_doc_comment)]
    Show {
        /// Only what is below this path.
        path: Option<String>,
        /// An archived version; see `config history`.
        #[arg(long, value_name = "VERSION")]
        version: Option<u64>,
    },
    /// Set one value of the candidate.
    ///
    /// The value is JSON; what is no JSON is taken as text.
    ///
    /// Examples:
    ///   bngctl config set pppoe.lcp_echo_interval 10
    ///   bngctl config set pools.home.rate_down 100mbit
    ///   bngctl config set pools.home.dns '["9.9.9.9", "1.1.1.1"]'
    #[command(verbatim_doc_comment)]
    Set {
        /// Keys from the root, separated by dots.
        path: String,
        /// The new value.
        value: String,
    },
    /// Remove one key of the candidate, with everything below it.
    Delete {
        /// Keys from the root, separated by dots.
        path: String,
    },
    /// The differences between running and candidate, and what a commit would refuse.
    Compare,
    /// Make the candidate the running configuration, on all nodes at once.
    ///
    /// Without differences, confirms a commit that waits for it.
    Commit {
        /// Kept with the archived version.
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// Commit, and go back after a time unless `config commit` confirms it.
    ///
    /// Example: bngctl config commit-confirm --within 120
    CommitConfirm {
        /// Seconds until it goes back, 10 to 86400.
        #[arg(long, value_name = "SECONDS", default_value_t = 600,
            value_parser = clap::value_parser!(u32).range(10..=86_400))]
        within: u32,
        /// Kept with the archived version.
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// Load an archived version as the candidate; nothing is applied until a commit.
    Rollback {
        /// Its version; the one before the last commit when absent.
        version: Option<u64>,
    },
    /// Drop the candidate.
    Discard,
    /// The archived versions, newest first.
    History,
    /// Replace the candidate by a file.
    Load {
        /// JSON, as `config show --json` prints under `data.config`.
        file: PathBuf,
    },
    /// Edit the candidate in $EDITOR.
    Edit,
}

pub(crate) async fn run(global: &Global, command: ConfigCommand) -> Result<(), CliError> {
    let client = global.client()?;
    let json = global.json;
    match command {
        ConfigCommand::Show { path, version } => {
            show(json, &client, path.as_deref(), version).await
        }
        ConfigCommand::Set { path, value } => {
            let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
            edited(json, &client.config_set(&SetRequest { path, value }).await?)
        }
        ConfigCommand::Delete { path } => {
            edited(json, &client.config_delete(&DeleteRequest { path }).await?)
        }
        ConfigCommand::Compare => {
            output::answer(json, &client.config_compare().await?, compare_text)
        }
        ConfigCommand::Commit { comment } => {
            let request = CommitRequest { comment, confirm_s: None };
            output::answer(json, &client.config_commit(&request).await?, committed)
        }
        ConfigCommand::CommitConfirm { within, comment } => {
            let request = CommitRequest { comment, confirm_s: Some(within) };
            output::answer(json, &client.config_commit(&request).await?, |done| {
                format!(
                    "{}\ngoes back in {within} s unless `bngctl config commit` confirms it",
                    committed(done)
                )
            })
        }
        ConfigCommand::Rollback { version } => {
            let request = RollbackRequest { version, back: None };
            edited(json, &client.config_rollback(&request).await?)
        }
        ConfigCommand::Discard => output::answer(json, &client.config_discard().await?, |done| {
            format!("{} differences dropped", done.count)
        }),
        ConfigCommand::History => output::answer(json, &client.config_history().await?, history),
        ConfigCommand::Load { file } => {
            let text = std::fs::read_to_string(&file).map_err(|e| CliError::file(&file, e))?;
            let tree = serde_json::from_str(&text).map_err(|e| CliError::file(&file, e))?;
            edited(json, &client.config_load(&tree).await?)
        }
        ConfigCommand::Edit => edit(json, &client).await,
    }
}

async fn show(
    json: bool,
    client: &Client,
    path: Option<&str>,
    version: Option<u64>,
) -> Result<(), CliError> {
    let answer = match version {
        Some(version) => client.config_version(version).await?,
        None => client.config().await?,
    };
    let mut at = &answer.data.config;
    if let Some(path) = path {
        for key in config::keys(path).map_err(|e| CliError::Usage(e.to_string()))? {
            let none = || CliError::NotFound(format!("there is no {path}"));
            at = at.get(key).ok_or_else(none)?;
        }
    }
    output::answer(json, &answer, |view: &ConfigView| {
        let text = serde_json::to_string_pretty(at).unwrap_or_default();
        let waiting = view
            .confirm
            .as_ref()
            .map(|c| format!("\n# committed by {}, waits for its confirmation", c.author));
        let pending =
            if view.pending { "\n# the candidate differs: bngctl config compare" } else { "" };
        format!("{text}{}{pending}", waiting.unwrap_or_default())
    })
}

fn edited(json: bool, answer: &Answer<EditResponse>) -> Result<(), CliError> {
    output::answer(json, answer, |done| with_errors(lines(&done.changes), &done.errors))
}

fn lines(changes: &[ConfigChange]) -> String {
    if changes.is_empty() {
        "no difference to the running configuration".to_owned()
    } else {
        config::text(changes).trim_end().to_owned()
    }
}

fn with_errors(text: String, errors: &[FieldError]) -> String {
    let refused = errors.iter().map(|e| format!("\n! {}: {}", e.path, e.message));
    std::iter::once(text).chain(refused).collect()
}

fn compare_text(answer: &CompareResponse) -> String {
    with_errors(lines(&answer.changes), &answer.errors)
}

fn committed(done: &CommitResponse) -> String {
    if done.confirmed {
        return format!("confirmed: version {} stays", done.version);
    }
    let mut text = format!("version {} runs, {} values changed", done.version, done.count);
    if !done.unchecked.is_empty() {
        text.push_str(&format!("\nnot asked before: {}", done.unchecked.join(", ")));
    }
    text
}

fn history(list: &ArchiveList) -> String {
    let mut table = output::table(&["VERSION", "AT", "AUTHOR", "CHANGED", "COMMENT"]);
    for v in &list.versions {
        table.add_row([
            v.version.to_string(),
            crate::format::time(v.at),
            v.author.clone(),
            v.changed.to_string(),
            v.comment.clone(),
        ]);
    }
    output::rows(&table)
}

/// Hands the candidate to the editor and loads what it leaves.
async fn edit(json: bool, client: &Client) -> Result<(), CliError> {
    let editor = std::env::var("VISUAL").or_else(|_| std::env::var("EDITOR"));
    let editor = editor.map_err(|_| CliError::Usage("set EDITOR to your editor".to_owned()))?;
    let candidate = client.config_candidate().await?.data.config;
    let file = tempfile::Builder::new()
        .prefix("tandem-config-")
        .suffix(".json")
        .tempfile()
        .map_err(|e| CliError::file("a temporary file", e))?;
    let before = serde_json::to_string_pretty(&candidate).unwrap_or_default();
    std::fs::write(file.path(), &before).map_err(|e| CliError::file(file.path(), e))?;
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = Command::new(program)
        .args(words)
        .arg(file.path())
        .status()
        .map_err(|e| CliError::file(program, e))?;
    if !status.success() {
        return Err(CliError::Usage(format!("{program} ended with {status}: nothing was changed")));
    }
    let after = std::fs::read_to_string(file.path()).map_err(|e| CliError::file(file.path(), e))?;
    if after == before {
        return output::line("nothing was changed");
    }
    let tree = serde_json::from_str(&after).map_err(|e| CliError::file(file.path(), e))?;
    edited(json, &client.config_load(&tree).await?)
}
