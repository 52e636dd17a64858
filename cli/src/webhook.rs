use crate::args::Global;
use crate::error::CliError;
use crate::format::time;
use crate::output;
use api::types::event::EventKind;
use api::types::webhook::{DeadLetterList, DeadLetterQuery, WebhookList, WebhookRequest};
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum WebhookCommand {
    /// All webhooks, how far each is, and whether it takes events.
    List,
    /// Post events to a URL from now on. The secret is printed this once.
    ///
    /// Examples:
    ///   bngctl webhook add https://crm.example.net/tandem --event session.up,session.down
    #[command(verbatim_doc_comment)]
    Add {
        /// Where to.
        #[arg(value_name = "URL")]
        target: String,
        /// Which events: session.up, session.changed, session.down.
        #[arg(long = "event", value_name = "EVENT", value_delimiter = ',', required = true)]
        events: Vec<EventKind>,
    },
    /// End a webhook.
    Remove {
        /// Its id.
        id: String,
    },
    /// Deliveries that were given up, newest first.
    DeadLetters {
        /// At most so many, 1 to 100.
        #[arg(long, default_value_t = DeadLetterQuery::LIMIT_DEFAULT,
            value_parser = clap::value_parser!(u32).range(1..=i64::from(DeadLetterQuery::LIMIT_MAX)))]
        limit: u32,
        /// Only older ones than this.
        #[arg(long, value_name = "ID")]
        before: Option<String>,
    },
    /// Take a dead letter off the list.
    Dismiss {
        /// Its id.
        id: String,
    },
}

pub(crate) async fn run(global: &Global, command: WebhookCommand) -> Result<(), CliError> {
    let client = global.client()?;
    match command {
        WebhookCommand::List => output::answer(global.json, &client.webhooks().await?, table),
        WebhookCommand::Add { target, events } => {
            let request = WebhookRequest { url: target, events, secret: None };
            let answer = client.webhook_add(&request).await?;
            output::answer(global.json, &answer, |made| {
                format!("webhook {}, secret {}", made.id, made.secret.expose())
            })
        }
        WebhookCommand::Remove { id } => {
            let answer = client.webhook_delete(&id).await?;
            output::answer(global.json, &answer, |done| format!("webhook {} is removed", done.id))
        }
        WebhookCommand::DeadLetters { limit, before } => {
            let query = DeadLetterQuery { limit: Some(limit), before };
            output::answer(global.json, &client.dead_letters(&query).await?, letters)
        }
        WebhookCommand::Dismiss { id } => {
            let answer = client.dead_letter_delete(&id).await?;
            output::answer(global.json, &answer, |done| format!("dead letter {} is gone", done.id))
        }
    }
}

fn table(list: &WebhookList) -> String {
    let mut table =
        output::table(&["ID", "URL", "EVENTS", "CURSOR", "DEAD LETTERS", "FAILING SINCE", "ERROR"]);
    for hook in &list.webhooks {
        let events: Vec<_> = hook.events.iter().map(|e| e.label()).collect();
        let (since, error) = match &hook.failing {
            Some(failing) => (time(failing.since), failing.error.clone()),
            None => ("-".into(), "-".into()),
        };
        let (cursor, dead) = (hook.cursor.to_string(), hook.dead_letters.to_string());
        table.add_row([
            hook.id.clone(),
            hook.url.clone(),
            events.join(","),
            cursor,
            dead,
            since,
            error,
        ]);
    }
    output::rows(&table)
}

fn letters(list: &DeadLetterList) -> String {
    let mut table =
        output::table(&["ID", "WEBHOOK", "GIVEN UP", "TRIES", "EVENT", "SESSION", "ERROR"]);
    for letter in &list.dead_letters {
        let (event, session) = match &letter.event {
            Some(event) => (event.event.label().to_owned(), event.data.id.to_string()),
            None => ("-".into(), "-".into()),
        };
        let (id, webhook) = (letter.id.clone(), letter.webhook.clone());
        let tries = letter.attempts.to_string();
        table.add_row([id, webhook, time(letter.at), tries, event, session, letter.error.clone()]);
    }
    let mut text = output::rows(&table);
    if let Some(next) = &list.next {
        text.push_str(&format!("\nmore: --before {next}"));
    }
    text
}
