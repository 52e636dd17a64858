use crate::args::Global;
use crate::error::CliError;
use crate::format::{maybe, time};
use crate::output;
use api::types::{AuditEntry, AuditQuery};
use clap::Args;

/// Who changed what, the newest first.
///
/// Before and after of each change are in the body: `--json`.
///
/// Examples:
///   bngctl audit --limit 20
///   bngctl audit --json | jq '.data.audit[] | select(.object == "user/oli")'
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct AuditArgs {
    /// At most so many, 1 to 1000.
    #[arg(long, default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(AuditQuery::LIMIT_MAX)))]
    limit: u32,
    /// Only what is older than this record.
    #[arg(long, value_name = "ID")]
    before: Option<String>,
}

pub(crate) async fn run(global: &Global, args: AuditArgs) -> Result<(), CliError> {
    let query = AuditQuery { limit: Some(args.limit), before: args.before };
    let answer = global.client()?.audit(&query).await?;
    output::answer(global.json, &answer, |list| table(&list.audit))?;
    if let Some(next) = answer.data.next.filter(|_| !global.json) {
        output::remark(format!("there is more: --before {next}"));
    }
    Ok(())
}

fn table(records: &[AuditEntry]) -> String {
    let mut table = output::table(&["WHEN", "WHO", "FROM", "ACTION", "OBJECT", "OUTCOME"]);
    for record in records {
        table.add_row([
            time(record.created_at),
            record.actor_id.clone(),
            maybe(record.ip_addr.as_ref()),
            record.action.clone(),
            record.object.clone(),
            record.outcome.clone(),
        ]);
    }
    output::rows(&table)
}
