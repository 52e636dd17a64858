use crate::audit::AuditArgs;
use crate::cluster::ClusterCommand;
use crate::config::ConfigCommand;
use crate::error::CliError;
use crate::events::EventsCommand;
use crate::group::GroupCommand;
use crate::key::KeyCommand;
use crate::login::LoginArgs;
use crate::policy::PolicyCommand;
use crate::profile::Profile;
use crate::session::SessionCommand;
use crate::user::UserCommand;
use crate::webhook::WebhookCommand;
use api::model::Secret;
use api::{Client, ClientConfig, TlsTrust};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Where a node listens that runs on this machine.
const URL_DEFAULT: &str = "https://127.0.0.1:8443";

const AFTER_HELP: &str = "\
Examples:
  bngctl --url https://192.0.2.1:8443 --ca ca.pem login --username ann
  bngctl cluster status
  bngctl session list --user alice@example.net
  bngctl group failover south --to bng2 --wait

Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  no node reachable, no leader, or overloaded: nothing was done
  4  not logged in, not allowed, or locked out
  5  what was named does not exist
  6  refused: the request is wrong, or the state does not allow it
  7  no answer in time: a change may or may not have been done";

/// Shows and changes a Tandem cluster.
#[derive(Parser)]
#[command(name = "bngctl", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Get an access token and keep it for one hour.
    Login(LoginArgs),
    /// End the login: its tokens are worth nothing any more, on all nodes.
    ///
    /// Example: bngctl logout
    Logout,
    /// Users of the API.
    #[command(subcommand)]
    User(UserCommand),
    /// API keys, for programs.
    #[command(subcommand)]
    Key(KeyCommand),
    Audit(AuditArgs),
    /// Members of the cluster.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Redundancy groups: who owns what.
    #[command(subcommand)]
    Group(GroupCommand),
    /// Subscriber sessions.
    #[command(subcommand)]
    Session(SessionCommand),
    /// Static subscribers, bans, and sources that wait to be let in.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// The configuration of the cluster: candidate, commit, archive.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// What happens to subscribers.
    #[command(subcommand)]
    Events(EventsCommand),
    /// URLs that events are posted to.
    #[command(subcommand)]
    Webhook(WebhookCommand),
    /// Print a completion script.
    ///
    /// Example: bngctl completions bash > /etc/bash_completion.d/bngctl
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, as roff, into a folder.
    #[command(hide = true)]
    Man {
        /// Where to; it must exist.
        dir: PathBuf,
    },
    /// Versions of bngctl and of the node.
    Version,
}

#[derive(Args, Clone)]
pub(crate) struct Global {
    /// A node; repeat it, and the next one is asked when one cannot be reached. Without it, the
    /// nodes of the last login, else https://127.0.0.1:8443.
    #[arg(long, global = true, env = "BNGCTL_URL", value_delimiter = ',', value_name = "URL")]
    pub(crate) url: Vec<String>,
    /// Access token or API key, instead of the one kept by `login`.
    #[arg(long, global = true, env = "BNGCTL_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Believe nodes with a certificate of this authority (PEM file).
    #[arg(long, global = true, env = "BNGCTL_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Believe nodes whose authority has this SHA-256; `cluster init` prints it.
    #[arg(
        long,
        global = true,
        env = "BNGCTL_FINGERPRINT",
        value_name = "HEX",
        conflicts_with = "ca"
    )]
    fingerprint: Option<String>,
    /// Believe anybody. For experiments: the password or token may be stolen.
    #[arg(long, global = true, conflicts_with_all = ["ca", "fingerprint"])]
    insecure: bool,
    /// Print the body of the API's answer, unchanged.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Seconds to wait for an answer.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) timeout: u64,
}

impl Global {
    /// What the flags say about trust, if anything.
    pub(crate) fn trust(&self) -> Result<Option<TlsTrust>, CliError> {
        if self.insecure {
            return Ok(Some(TlsTrust::Insecure));
        }
        if let Some(sha256) = &self.fingerprint {
            return Ok(Some(TlsTrust::Fingerprint { sha256: sha256.clone() }));
        }
        let Some(path) = &self.ca else { return Ok(None) };
        let pem = std::fs::read_to_string(path).map_err(|e| CliError::file(path, e))?;
        Ok(Some(TlsTrust::Ca { pem }))
    }

    /// Whether the caller brought a token of its own.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Where to ask: the flags, else what the last login left.
    pub(crate) fn urls(&self, profile: Option<&Profile>) -> Vec<String> {
        match profile {
            _ if !self.url.is_empty() => self.url.clone(),
            Some(profile) if !profile.urls.is_empty() => profile.urls.clone(),
            Some(_) | None => vec![URL_DEFAULT.to_owned()],
        }
    }

    /// A client for everything after the login.
    pub(crate) fn client(&self) -> Result<Client, CliError> {
        let profile = Profile::load()?;
        let stored = profile.as_ref().map(|p| (p.token.clone(), p.trust.clone()));
        let (token, trust) = match (&self.token, stored) {
            (Some(token), Some((_, trust))) => (Some(Secret::new(token.as_str())), Some(trust)),
            (Some(token), None) => (Some(Secret::new(token.as_str())), None),
            (None, Some((token, trust))) => (Some(token), Some(trust)),
            (None, None) => (None, None),
        };
        let trust = self.trust()?.or(trust).unwrap_or(TlsTrust::System);
        self.connect(self.urls(profile.as_ref()), token, trust)
    }

    /// A client for one node that belongs to no cluster yet.
    ///
    /// Such a node has only a certificate that it made itself at its start. On this machine nobody
    /// else can answer in its place; from elsewhere the caller must say what to believe.
    pub(crate) fn bootstrap_client(&self) -> Result<Client, CliError> {
        let urls = self.urls(None);
        let [url] = urls.as_slice() else {
            let text = "init and join are about one node: give one --url";
            return Err(CliError::Usage(text.to_owned()));
        };
        let local = ["127.0.0.1", "localhost", "[::1]"].iter().any(|host| {
            let rest = url.trim_start_matches("https://").strip_prefix(host);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
        });
        let fallback = if local { TlsTrust::Insecure } else { TlsTrust::System };
        let trust = self.trust()?.unwrap_or(fallback);
        self.connect(urls, None, trust)
    }

    pub(crate) fn connect(
        &self,
        urls: Vec<String>,
        token: Option<Secret>,
        trust: TlsTrust,
    ) -> Result<Client, CliError> {
        let timeout = Duration::from_secs(self.timeout);
        Ok(Client::new(ClientConfig { urls, token, trust, timeout })?)
    }
}
