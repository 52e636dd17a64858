use crate::args::Global;
use crate::error::CliError;
use crate::format::{maybe, time, yes};
use crate::{group, output};
use api::Client;
use api::model::{NodeId, NodeRole, Secret};
use api::types::{ClusterStatus, InitRequest, JoinRequest, JoinTokenRequest, Member};
use clap::{Args, Subcommand};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest configuration or token file that is read, in octets.
const FILE_OCTETS_MAX: u64 = 32 * 1024 * 1024;

#[derive(Args)]
pub(crate) struct Bootstrap {
    /// The one-time token of the node, instead of the file in its data directory.
    #[arg(long, env = "BNGCTL_BOOTSTRAP_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    bootstrap_token: Option<String>,
    /// Data directory of the node on this machine.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/bngd")]
    data_dir: PathBuf,
}

/// What a joining node will be.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Role {
    /// Has access and core interfaces.
    Data,
    /// Votes only.
    Witness,
}

impl From<Role> for NodeRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Data => Self::Data,
            Role::Witness => Self::Witness,
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Make a new cluster, with the asked node as its first member.
    ///
    /// Run it on that node, as a user who may read its data directory. The node's certificate is
    /// not checked when it is reached at a loopback address: it has none that could be.
    ///
    /// Example: bngctl cluster init --config cluster.toml
    Init {
        /// Groups, pools, subscribers and the first API user (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        #[command(flatten)]
        bootstrap: Bootstrap,
    },
    /// Make the asked node a member of an existing cluster.
    ///
    /// Run it on the new node, with a token that `bngctl cluster token` printed elsewhere.
    ///
    /// Example: bngctl cluster join tandem1.eyJzZWNyZXQi...
    Join {
        /// The join token; `-` reads it from the input, where other users cannot see it.
        token: String,
        #[command(flatten)]
        bootstrap: Bootstrap,
    },
    /// Make a token with which one node can join.
    ///
    /// Example: bngctl cluster token --name wit --role witness --ttl 600
    Token {
        /// The only name that may use it.
        #[arg(long)]
        name: Option<String>,
        /// Seconds for which it may be used, 60 to 86400.
        #[arg(long, value_name = "SECONDS")]
        ttl: Option<u32>,
        /// What the node will be.
        #[arg(long, value_enum, default_value_t = Role::Data)]
        role: Role,
    },
    /// Members and groups as the asked node sees them.
    Status,
    /// All members with their addresses.
    Members,
    /// Take a member out.
    Remove {
        /// Its name or id.
        node: String,
    },
}

pub(crate) async fn run(global: &Global, command: ClusterCommand) -> Result<(), CliError> {
    match command {
        ClusterCommand::Init { config, bootstrap } => init(global, &config, &bootstrap).await,
        ClusterCommand::Join { token, bootstrap } => join(global, token, &bootstrap).await,
        ClusterCommand::Token { name, ttl, role } => {
            let request = JoinTokenRequest { ttl_s: ttl, name, role: Some(role.into()) };
            let answer = global.client()?.join_token(&request).await?;
            if !global.json {
                let until = time(answer.data.expires_at);
                output::remark(format!("good for one node until {until}; on that node run:"));
            }
            output::answer(global.json, &answer, |t| {
                format!("bngctl cluster join {}", t.token.expose())
            })
        }
        ClusterCommand::Status => {
            let answer = global.client()?.cluster().await?;
            output::answer(global.json, &answer, status)
        }
        ClusterCommand::Members => {
            let answer = global.client()?.members().await?;
            output::answer(global.json, &answer, |list| members(&list.members))
        }
        ClusterCommand::Remove { node } => {
            let client = global.client()?;
            let id = resolve(&client, &node).await?;
            let answer = client.remove_member(id).await?;
            output::answer(global.json, &answer, |r| format!("node {} ({}) removed", r.name, r.id))
        }
    }
}

fn read_file(path: &Path) -> Result<String, CliError> {
    let file = std::fs::File::open(path).map_err(|e| CliError::file(path, e))?;
    let mut text = String::new();
    file.take(FILE_OCTETS_MAX).read_to_string(&mut text).map_err(|e| CliError::file(path, e))?;
    Ok(text)
}

impl Bootstrap {
    fn token(&self) -> Result<Secret, CliError> {
        let text = match &self.bootstrap_token {
            Some(token) => token.clone(),
            None => read_file(&self.data_dir.join("bootstrap-token"))?,
        };
        Ok(Secret::new(text.trim()))
    }
}

async fn init(global: &Global, config: &Path, bootstrap: &Bootstrap) -> Result<(), CliError> {
    let text = read_file(config)?;
    let request: InitRequest =
        toml::from_str(&text).map_err(|e| CliError::file(config, e.to_string().trim_end()))?;
    let client = global.bootstrap_client()?;
    let answer = client.cluster_init(&request, &bootstrap.token()?).await?;
    output::answer(global.json, &answer, |made| {
        let user = &request.admin.username;
        let sha256 = &made.ca_fingerprint;
        format!(
            "cluster {} made, this is node {}\nfingerprint {sha256}\n\
             next: bngctl --fingerprint {sha256} login --username {user}",
            made.cluster_id, made.node_id,
        )
    })
}

async fn join(global: &Global, token: String, bootstrap: &Bootstrap) -> Result<(), CliError> {
    let token = if token == "-" { read_file(Path::new("/dev/stdin"))? } else { token };
    let request = JoinRequest { token: Secret::new(token.trim()) };
    let client = global.bootstrap_client()?;
    let answer = client.cluster_join(&request, &bootstrap.token()?).await?;
    output::answer(global.json, &answer, |done| {
        format!("joined cluster {} as node {}", done.cluster_id, done.node_id)
    })
}

/// The id behind a name or number.
async fn resolve(client: &Client, node: &str) -> Result<NodeId, CliError> {
    let members = client.members().await?.data.members;
    let named = members.iter().find(|m| m.name == node).map(|m| m.id);
    named.or_else(|| node.parse().ok().map(NodeId)).ok_or_else(|| {
        let names: Vec<_> = members.iter().map(|m| m.name.as_str()).collect();
        CliError::NotFound(format!("there is no node {node:?}; members are {}", names.join(", ")))
    })
}

fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Data => "data",
        NodeRole::Witness => "witness",
    }
}

fn status(s: &ClusterStatus) -> String {
    let head = output::pairs(&[
        ("cluster", s.cluster_id.to_string()),
        ("leader", s.leader.clone().unwrap_or_else(|| "none".to_owned())),
        ("term", s.term.to_string()),
        ("revision", s.revision.to_string()),
    ]);
    let mut table = output::table(&[
        "ID",
        "NODE",
        "ROLE",
        "RAFT",
        "VOTER",
        "REACHABLE",
        "APPLIED",
        "LAG",
        "API",
    ]);
    for n in &s.nodes {
        table.add_row([
            n.id.to_string(),
            n.name.clone(),
            role(n.role).to_owned(),
            n.raft_state.to_string(),
            yes(n.voter).to_owned(),
            yes(n.reachable).to_owned(),
            maybe(n.applied),
            maybe(n.lag),
            n.api_addr.to_string(),
        ]);
    }
    format!("{head}\n\n{}\n\n{}", output::rows(&table), group::group_table(&s.groups))
}

fn members(members: &[Member]) -> String {
    let mut table = output::table(&["ID", "NODE", "ROLE", "VOTER", "API", "RAFT", "LEASE"]);
    for m in members {
        table.add_row([
            m.id.to_string(),
            m.name.clone(),
            role(m.role).to_owned(),
            yes(m.voter).to_owned(),
            m.api_addr.to_string(),
            m.raft_addr.to_string(),
            m.lease_addr.to_string(),
        ]);
    }
    output::rows(&table)
}
