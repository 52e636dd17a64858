use crate::args::Global;
use crate::error::CliError;
use crate::format::{maybe, yes};
use crate::output;
use api::Client;
use api::model::Fence;
use api::types::{FailoverRequest, FailoverResponse, GroupStatus};
use clap::Subcommand;
use std::time::Duration;

/// How often the group is looked at while waiting for its new owner.
const POLL: Duration = Duration::from_millis(200);

#[derive(Subcommand)]
pub(crate) enum GroupCommand {
    /// All redundancy groups.
    List,
    /// One group, and how ready each node is to own it.
    Show {
        /// Its name.
        group: String,
    },
    /// Give a group to another node, in order.
    ///
    /// Examples:
    ///   bngctl group failover south
    ///   bngctl group failover south --to bng2 --wait
    #[command(verbatim_doc_comment)]
    Failover {
        /// Its name.
        group: String,
        /// The node that shall own it; the best eligible one when absent.
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
        /// Wait until the new owner forwards, for --timeout seconds at most.
        #[arg(long)]
        wait: bool,
    },
}

pub(crate) async fn run(global: &Global, command: GroupCommand) -> Result<(), CliError> {
    let client = global.client()?;
    match command {
        GroupCommand::List => {
            let answer = client.groups().await?;
            output::answer(global.json, &answer, |list| group_table(&list.groups))
        }
        GroupCommand::Show { group } => {
            let answer = client.group(&group).await?;
            output::answer(global.json, &answer, show)
        }
        GroupCommand::Failover { group, to, wait } => {
            let answer = client.failover(&group, &FailoverRequest { to }).await?;
            if wait {
                wait_open(&client, &answer.data, Duration::from_secs(global.timeout)).await?;
            }
            output::answer(global.json, &answer, |done| {
                let FailoverResponse { group, from, to, epoch, took_ms } = done;
                let from = from.as_ref().map_or_else(String::new, |from| format!("from {from} "));
                format!("group {group} went {from}to {to} at epoch {epoch} in {took_ms} ms")
            })
        }
    }
}

/// Returns when the new owner's fence is open.
async fn wait_open(
    client: &Client,
    done: &FailoverResponse,
    limit: Duration,
) -> Result<(), CliError> {
    let look = async {
        loop {
            let now = client.group(&done.group).await?.data;
            if now.epoch > done.epoch {
                let owner = maybe(now.owner);
                let text = format!("group {} went on to {owner} meanwhile", done.group);
                return Err(CliError::NotYet(text));
            }
            let there = now.epoch == done.epoch && now.owner.as_ref() == Some(&done.to);
            if there && now.fence == Some(Fence::Open) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    };
    match tokio::time::timeout(limit, look).await {
        Ok(result) => result,
        Err(_) => {
            let (group, to) = (&done.group, &done.to);
            let s = limit.as_secs();
            Err(CliError::NotYet(format!("{to} owns group {group} but is not open after {s} s")))
        }
    }
}

fn fence(fence: Option<Fence>) -> &'static str {
    match fence {
        Some(Fence::Open) => "open",
        Some(Fence::Shut) => "shut",
        None => "-",
    }
}

/// One line per group; also part of `cluster status`.
pub(crate) fn group_table(groups: &[GroupStatus]) -> String {
    let mut table = output::table(&[
        "GROUP",
        "VRID",
        "VIRTUAL MAC",
        "OWNER",
        "EPOCH",
        "FENCE",
        "PPPOE",
        "DHCP",
        "STANDBY",
    ]);
    for g in groups {
        let standby: Vec<_> = (g.nodes.iter())
            .filter(|n| n.eligible && g.owner.as_ref() != Some(&n.name))
            .map(|n| n.name.as_str())
            .collect();
        let standby = if standby.is_empty() { "none".to_owned() } else { standby.join(",") };
        table.add_row([
            g.name.clone(),
            g.vrid.to_string(),
            g.virtual_mac.to_string(),
            maybe(g.owner.as_ref()),
            g.epoch.to_string(),
            fence(g.fence).to_owned(),
            g.sessions.pppoe.to_string(),
            g.sessions.dhcp.to_string(),
            standby,
        ]);
    }
    output::rows(&table)
}

fn show(g: &GroupStatus) -> String {
    let head = output::pairs(&[
        ("group", g.name.clone()),
        ("vrid", g.vrid.to_string()),
        ("virtual mac", g.virtual_mac.to_string()),
        ("owner", maybe(g.owner.as_ref())),
        ("epoch", g.epoch.to_string()),
        ("fence", fence(g.fence).to_owned()),
        ("revision", g.revision.to_string()),
        ("sessions", format!("{} PPPoE, {} DHCP", g.sessions.pppoe, g.sessions.dhcp)),
    ]);
    let mut table = output::table(&["NODE", "PROGRAMMED", "ELIGIBLE", "FENCE"]);
    for n in &g.nodes {
        table.add_row([
            n.name.clone(),
            maybe(n.programmed_revision),
            yes(n.eligible).to_owned(),
            fence(n.fence).to_owned(),
        ]);
    }
    format!("{head}\n\n{}", output::rows(&table))
}
