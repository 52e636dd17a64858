use crate::args::Global;
use crate::error::CliError;
use crate::output;
use crate::session::{Service, parse_id};
use api::model::{GroupService, SessionId};
use api::types::event::{EventId, EventQuery, StreamItem, SubscriberEvent};
use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(crate) enum EventsCommand {
    /// Print events as they happen, until interrupted.
    ///
    /// When the node dies that it listens to, another one is asked to go on from the last event: none is missed, none
    /// comes twice.
    ///
    /// Examples:
    ///   bngctl events follow
    ///   bngctl events follow --event session.down --group south
    ///   bngctl events follow --user alice@example.net --json | jq .data.ip_address
    #[command(verbatim_doc_comment)]
    Follow(FollowArgs),
}

#[derive(Args)]
pub(crate) struct FollowArgs {
    /// Only these: session.up, session.changed, session.down. Repeat it, or put commas between.
    #[arg(long = "event", value_name = "EVENT", value_delimiter = ',')]
    events: Vec<api::types::event::EventKind>,
    /// Only sessions of this kind.
    #[arg(long = "type", value_name = "TYPE")]
    service: Option<Service>,
    /// Only sessions of this user.
    #[arg(long)]
    user: Option<String>,
    /// Only sessions of this redundancy group.
    #[arg(long)]
    group: Option<String>,
    /// Only this session.
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    session: Option<SessionId>,
    /// Begin after this event instead of now.
    #[arg(long, value_name = "ID")]
    after: Option<EventId>,
    /// Stop after so many events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

pub(crate) async fn run(global: &Global, command: EventsCommand) -> Result<(), CliError> {
    let EventsCommand::Follow(args) = command;
    let kinds: Vec<_> = args.events.iter().map(|kind| kind.label()).collect();
    let query = EventQuery {
        events: (!kinds.is_empty()).then(|| kinds.join(",")),
        service: args.service.map(GroupService::from),
        username: args.user,
        group: args.group,
        session: args.session,
        last_event_id: args.after,
    };
    let mut follower = global.client()?.follow_events(query);
    let mut left = args.count;
    while left != Some(0) {
        match follower.next().await? {
            StreamItem::Event(event) => {
                if global.json {
                    output::line(serde_json::json!(event))?;
                } else {
                    output::line(text(&event))?;
                }
                left = left.map(|n| n - 1);
            }
            StreamItem::Position(_) => {}
            StreamItem::Resync(resync) => output::remark(format!("bngctl: {}", resync.message)),
        }
    }
    Ok(())
}

fn text(event: &SubscriberEvent) -> String {
    let data = &event.data;
    let reason = data.reason.as_deref().map_or_else(String::new, |why| format!("  {why}"));
    format!(
        "{}  {:<15}  {}  {}  {}  {}  {}  {}{reason}",
        event.timestamp,
        event.event.label(),
        data.id,
        data.session_type,
        data.username,
        data.ip_address,
        data.interface,
        data.group,
    )
}
