use crate::args::Global;
use crate::error::CliError;
use crate::format::{maybe, parse_rate, rate, time};
use crate::output;
use api::ReadLevel;
use api::model::{GroupService, MacAddr, SessionId};
use api::types::{RateRequest, SubscriberDetail, SubscriberQuery, SubscriberSummary};
use clap::{Args, Subcommand, ValueEnum};
use std::net::Ipv4Addr;

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Service {
    Pppoe,
    Dhcp,
}

impl From<Service> for GroupService {
    fn from(service: Service) -> Self {
        match service {
            Service::Pppoe => Self::Pppoe,
            Service::Dhcp => Self::Dhcp,
        }
    }
}

#[derive(Args)]
pub(crate) struct ListArgs {
    /// Only sessions of this kind.
    #[arg(long = "type", value_name = "TYPE")]
    service: Option<Service>,
    /// Only sessions of this user.
    #[arg(long)]
    user: Option<String>,
    /// Only the session with this address.
    #[arg(long)]
    ip: Option<Ipv4Addr>,
    /// Only sessions of this Ethernet address.
    #[arg(long)]
    mac: Option<MacAddr>,
    /// At most so many, 1 to 1000.
    #[arg(long, default_value_t = SubscriberQuery::LIMIT_DEFAULT,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(SubscriberQuery::LIMIT_MAX)))]
    limit: u32,
    /// Only sessions with a larger id.
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    after: Option<SessionId>,
    /// Page after page until the last; --limit is the size of a page. With --json, one body per
    /// page.
    #[arg(long)]
    all: bool,
    /// Answer from the asked node, without the leader: also without a quorum.
    #[arg(long)]
    local: bool,
}

#[derive(Subcommand)]
pub(crate) enum SessionCommand {
    /// Sessions, in order of their ids.
    ///
    /// Examples:
    ///   bngctl session list --type pppoe --limit 20
    ///   bngctl session list --user alice@example.net
    ///   bngctl session list --all --json
    #[command(verbatim_doc_comment)]
    List(ListArgs),
    /// Everything about one session.
    Show {
        /// Its id.
        #[arg(value_parser = parse_id)]
        id: SessionId,
        /// Answer from the asked node, without the leader: also without a quorum.
        #[arg(long)]
        local: bool,
    },
    /// End a session.
    Disconnect {
        /// Its id.
        #[arg(value_parser = parse_id)]
        id: SessionId,
    },
    /// Change the rates of a session.
    ///
    /// Example: bngctl session rate 42 --down 100M --up 20M
    Rate {
        /// Its id.
        #[arg(value_parser = parse_id)]
        id: SessionId,
        /// Towards the subscriber: bits per second, with k, M or G, or `unlimited`.
        #[arg(long, value_parser = parse_rate)]
        down: u64,
        /// From the subscriber.
        #[arg(long, value_parser = parse_rate)]
        up: u64,
    },
}

pub(crate) fn parse_id(text: &str) -> Result<SessionId, String> {
    text.parse().map(SessionId).map_err(|_| format!("{text:?} is not a session id"))
}

fn level(local: bool) -> ReadLevel {
    if local { ReadLevel::Local } else { ReadLevel::Linearizable }
}

pub(crate) async fn run(global: &Global, command: SessionCommand) -> Result<(), CliError> {
    let client = global.client()?;
    match command {
        SessionCommand::List(args) => list(global, args).await,
        SessionCommand::Show { id, local } => {
            let answer = client.subscriber(id, level(local)).await?;
            output::answer(global.json, &answer, show)
        }
        SessionCommand::Disconnect { id } => {
            let answer = client.disconnect(id).await?;
            output::answer(global.json, &answer, |d| format!("session {} ended", d.id))
        }
        SessionCommand::Rate { id, down, up } => {
            let request = RateRequest { rate_down: down, rate_up: up };
            let answer = client.set_rate(id, &request).await?;
            output::answer(global.json, &answer, |r| {
                let (down, up) = (rate(r.rate_down), rate(r.rate_up));
                format!("session {}: {down} down, {up} up", r.id)
            })
        }
    }
}

async fn list(global: &Global, args: ListArgs) -> Result<(), CliError> {
    let client = global.client()?;
    let mut query = SubscriberQuery {
        service: args.service.map(GroupService::from),
        limit: Some(args.limit),
        after: args.after,
        username: args.user,
        ip: args.ip,
        mac: args.mac,
    };
    loop {
        let answer = client.subscribers(&query, level(args.local)).await?;
        let more = answer.data.next;
        // A last page that is empty needs no heading of its own.
        if global.json || query.after == args.after || answer.data.count > 0 {
            output::answer(global.json, &answer, |list| table(&list.sessions))?;
        }
        match more {
            // A node that does not move the cursor on would keep us here for ever.
            Some(next) if args.all && query.after.is_none_or(|after| next > after) => {
                query.after = Some(next);
            }
            Some(next) => {
                if !args.all {
                    output::remark(format!("there may be more: --after {next}, or --all"));
                }
                return Ok(());
            }
            None => return Ok(()),
        }
    }
}

fn table(sessions: &[SubscriberSummary]) -> String {
    let mut table = output::table(&[
        "ID",
        "TYPE",
        "USER",
        "ADDRESS",
        "MAC",
        "INTERFACE",
        "GROUP",
        "DOWN",
        "UP",
        "STATE",
        "SINCE",
    ]);
    for s in sessions {
        table.add_row([
            s.id.to_string(),
            s.session_type.to_string(),
            s.username.clone(),
            s.ip_address.to_string(),
            s.mac_address.to_string(),
            s.interface.clone(),
            s.group.clone(),
            rate(s.rate_down),
            rate(s.rate_up),
            s.state.clone(),
            time(s.started_at),
        ]);
    }
    output::rows(&table)
}

fn show(s: &SubscriberDetail) -> String {
    let nat = s.nat.map(|n| format!("{} ports {}-{}", n.public, n.first_port, n.last_port));
    let vlans = match (s.vlan_outer, s.vlan_inner) {
        (0, _) => "untagged".to_owned(),
        (outer, 0) => outer.to_string(),
        (outer, inner) => format!("{outer}.{inner}"),
    };
    let mut all = vec![
        ("id", s.id.to_string()),
        ("type", s.session_type.to_string()),
        ("state", s.state.clone()),
        ("user", s.username.clone()),
        ("address", s.ip_address.to_string()),
        ("gateway", maybe(s.gateway)),
        ("pool", s.pool.clone()),
        ("nat", maybe(nat)),
        ("mac", s.mac_address.to_string()),
        ("interface", s.access_interface.clone()),
        ("vlans", vlans),
        ("group", s.group.clone()),
        ("node", maybe(s.node.as_ref())),
        ("rate", format!("{} down, {} up", rate(s.rate_down_bps), rate(s.rate_up_bps))),
        ("from subscriber", format!("{} octets, {} packets", s.bytes_in, s.packets_in)),
        ("to subscriber", format!("{} octets, {} packets", s.bytes_out, s.packets_out)),
        ("since", time(s.started_at)),
        ("accounting id", s.acct_session_id.clone()),
    ];
    if let Some(sid) = s.pppoe_session_id {
        all.push(("pppoe session", sid.to_string()));
    }
    if let Some(at) = s.lease_expires_at {
        all.push(("lease until", time(at)));
    }
    if let Some(name) = &s.hostname {
        all.push(("host name", name.clone()));
    }
    all.push(("revision", format!("{} (made at {})", s.modified_revision, s.created_revision)));
    output::pairs(&all)
}
