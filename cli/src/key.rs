use crate::args::Global;
use crate::error::CliError;
use crate::format::{maybe, time};
use crate::output;
use api::types::{ApiKeyInfo, ApiKeyRequest};
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// The API keys of all users, without their text.
    ///
    /// Example: bngctl key list
    List,
    /// Make an API key of your own. Its text is printed now and never again.
    ///
    /// Programs send it as `Authorization: ApiKey`; bngctl takes it in BNGCTL_TOKEN.
    ///
    /// Examples:
    ///   bngctl key create backup
    ///   bngctl key create portal --allow subscribers:read --allow subscribers:write
    ///   bngctl key create visitor --expires-at $(date -d '+90 days' +%s)
    #[command(verbatim_doc_comment)]
    Create {
        /// What it is for.
        name: String,
        /// A permission; repeat it. Everything that you may do when absent.
        #[arg(long, value_name = "PERMISSION")]
        allow: Vec<String>,
        /// When it expires, in seconds since 1970; never when absent.
        #[arg(long, value_name = "SECONDS")]
        expires_at: Option<u64>,
    },
    /// Make an API key worthless.
    ///
    /// Example: bngctl key revoke 0123456789abcdef
    Revoke {
        /// Its id.
        id: String,
    },
}

pub(crate) async fn run(global: &Global, command: KeyCommand) -> Result<(), CliError> {
    let client = global.client()?;
    let json = global.json;
    match command {
        KeyCommand::List => {
            output::answer(json, &client.api_keys().await?, |list| table(&list.api_keys))
        }
        KeyCommand::Create { name, allow, expires_at } => {
            let permissions = (!allow.is_empty()).then_some(allow);
            let request = ApiKeyRequest { name, permissions, expires_at };
            let answer = client.create_api_key(&request).await?;
            output::answer(json, &answer, |made| made.key.expose().to_owned())?;
            if !json {
                output::remark(format!("key {}: this text is not shown again", answer.data.id));
            }
            Ok(())
        }
        KeyCommand::Revoke { id } => {
            output::answer(json, &client.delete_api_key(&id).await?, |done| {
                format!("key {} revoked", done.id)
            })
        }
    }
}

fn table(keys: &[ApiKeyInfo]) -> String {
    let mut table = output::table(&["ID", "NAME", "OWNER", "ALLOWS", "EXPIRES", "LAST SEEN"]);
    for key in keys {
        let allows = key.permissions.map(|set| set.names().join(","));
        table.add_row([
            key.id.clone(),
            key.name.clone(),
            key.owner.clone(),
            allows.unwrap_or_else(|| "all of its owner".to_owned()),
            maybe(key.expires_at.map(time)),
            maybe(key.last_used_at.map(time)),
        ]);
    }
    output::rows(&table)
}
