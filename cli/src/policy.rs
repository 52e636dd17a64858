use crate::args::Global;
use crate::error::CliError;
use crate::format::{maybe, parse_rate, rate, time, yes};
use crate::output;
use api::ReadLevel;
use api::model::{BanScope, Ipv4Net, MacAddr};
use api::types::RateRequest;
use api::types::policy::{BanChanged, BanInfo, StaticSubscriber, WaitingSource};
use clap::Subcommand;
use std::net::Ipv4Addr;

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Static subscribers: who has a fixed address, and whether it is allowed.
    List,
    /// Sources in an IPoE network that belong to no subscriber.
    Waiting,
    /// Let an address in; an unknown one becomes a static subscriber.
    ///
    /// Example: bngctl policy allow 100.65.0.9
    Allow {
        /// Its address.
        address: Ipv4Addr,
    },
    /// Drop everything of a static subscriber, and keep it.
    Disallow {
        /// Its address.
        address: Ipv4Addr,
    },
    /// Forget a static subscriber.
    Remove {
        /// Its address.
        address: Ipv4Addr,
    },
    /// Bind an address to a MAC address: packets from another are dropped.
    Bind {
        /// Its address.
        address: Ipv4Addr,
        /// The only MAC address that may use it.
        mac: MacAddr,
    },
    /// Lift the binding of an address.
    Unbind {
        /// Its address.
        address: Ipv4Addr,
    },
    /// Change the rates of the session that has an address.
    ///
    /// Example: bngctl policy shape 100.65.0.9 --down 100M --up 20M
    Shape {
        /// Its address.
        address: Ipv4Addr,
        /// Towards the subscriber, such as 100M; 0 for unlimited.
        #[arg(long, value_parser = parse_rate)]
        down: u64,
        /// From the subscriber.
        #[arg(long, value_parser = parse_rate)]
        up: u64,
    },
    /// Bans in force.
    Bans,
    /// Drop every packet from and to a network.
    ///
    /// Example: bngctl policy ban 198.51.100.0/24
    Ban {
        /// An address, or a network.
        network: Ipv4Net,
        /// Only its ICMP.
        #[arg(long)]
        icmp: bool,
    },
    /// Lift a ban.
    Unban {
        /// The network, as it was banned.
        network: Ipv4Net,
        /// The ban of its ICMP.
        #[arg(long)]
        icmp: bool,
    },
}

pub(crate) async fn run(global: &Global, command: PolicyCommand) -> Result<(), CliError> {
    let client = global.client()?;
    let level = ReadLevel::Linearizable;
    let scope = |icmp| if icmp { BanScope::Icmp } else { BanScope::All };
    match command {
        PolicyCommand::List => {
            let answer = client.statics(level).await?;
            output::answer(global.json, &answer, |list| static_table(&list.subscribers))
        }
        PolicyCommand::Waiting => {
            let answer = client.waiting().await?;
            output::answer(global.json, &answer, |list| waiting_table(&list.sources))
        }
        PolicyCommand::Allow { address } => {
            let answer = client.allow(address, true).await?;
            output::answer(global.json, &answer, said)
        }
        PolicyCommand::Disallow { address } => {
            let answer = client.allow(address, false).await?;
            output::answer(global.json, &answer, said)
        }
        PolicyCommand::Remove { address } => {
            let answer = client.remove_static(address).await?;
            output::answer(global.json, &answer, |r| format!("{} removed", r.ip_address))
        }
        PolicyCommand::Bind { address, mac } => {
            let answer = client.bind(address, Some(mac)).await?;
            output::answer(global.json, &answer, said)
        }
        PolicyCommand::Unbind { address } => {
            let answer = client.bind(address, None).await?;
            output::answer(global.json, &answer, said)
        }
        PolicyCommand::Shape { address, down, up } => {
            let answer =
                client.shape(address, &RateRequest { rate_down: down, rate_up: up }).await?;
            output::answer(global.json, &answer, |r| {
                format!("{address}: {} down, {} up", rate(r.rate_down), rate(r.rate_up))
            })
        }
        PolicyCommand::Bans => {
            let answer = client.bans(level).await?;
            output::answer(global.json, &answer, |list| ban_table(&list.bans))
        }
        PolicyCommand::Ban { network, icmp } => {
            let answer = client.ban(network, scope(icmp), true).await?;
            output::answer(global.json, &answer, banned)
        }
        PolicyCommand::Unban { network, icmp } => {
            let answer = client.ban(network, scope(icmp), false).await?;
            output::answer(global.json, &answer, banned)
        }
    }
}

fn said(s: &StaticSubscriber) -> String {
    let bound = s.bound_mac.map_or_else(String::new, |mac| format!(", bound to {mac}"));
    format!("{}: {}{bound}", s.ip_address, s.state)
}

fn scope_name(scope: BanScope) -> &'static str {
    match scope {
        BanScope::All => "all",
        BanScope::Icmp => "icmp",
    }
}

fn banned(done: &BanChanged) -> String {
    let what = if done.banned { "banned" } else { "not banned any more" };
    format!("{} ({}) {what}", done.network, scope_name(done.scope))
}

fn static_table(subscribers: &[StaticSubscriber]) -> String {
    let mut table = output::table(&[
        "ADDRESS",
        "ALLOWED",
        "STATE",
        "MAC",
        "BOUND",
        "INTERFACE",
        "GROUP",
        "DOWN",
        "UP",
    ]);
    for s in subscribers {
        table.add_row([
            s.ip_address.to_string(),
            yes(s.allowed).to_owned(),
            s.state.clone(),
            maybe(s.mac_address),
            yes(s.bound_mac.is_some()).to_owned(),
            maybe(s.interface.as_ref()),
            s.group.clone(),
            rate(s.rate_down),
            rate(s.rate_up),
        ]);
    }
    output::rows(&table)
}

fn waiting_table(sources: &[WaitingSource]) -> String {
    let mut table = output::table(&["ADDRESS", "MAC", "INTERFACE", "GROUP", "FIRST", "LAST"]);
    for s in sources {
        table.add_row([
            s.ip_address.to_string(),
            s.mac_address.to_string(),
            s.interface.clone(),
            s.group.clone(),
            time(s.first_seen),
            time(s.last_seen),
        ]);
    }
    output::rows(&table)
}

fn ban_table(bans: &[BanInfo]) -> String {
    let mut table = output::table(&["NETWORK", "SCOPE", "SINCE"]);
    for ban in bans {
        let scope = scope_name(ban.scope).to_owned();
        table.add_row([ban.network.to_string(), scope, time(ban.since)]);
    }
    output::rows(&table)
}
