use crate::args::Global;
use crate::error::CliError;
use crate::format::{maybe, time, yes};
use crate::login::new_password;
use crate::output;
use api::model::Secret;
use api::types::{UserCreate, UserInfo, UserUpdate};
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum UserCommand {
    /// All users, by name.
    ///
    /// Example: bngctl user list
    List,
    /// Add a user. Its password is asked for; the first line of the input when that is no terminal.
    ///
    /// Examples:
    ///   bngctl user add oli --role operator
    ///   bngctl user add eve --password-hash '$2b$12$...'
    #[command(verbatim_doc_comment)]
    Add {
        /// Login name.
        name: String,
        /// What it may do: admin, engineer, operator, viewer, or a role of your own.
        #[arg(long, default_value = "viewer")]
        role: String,
        /// A bcrypt or argon2id hash brought along, instead of a password.
        #[arg(long, value_name = "HASH")]
        password_hash: Option<String>,
    },
    /// Give a user a new password; all its logins end.
    ///
    /// Example: bngctl user passwd oli < password.txt
    Passwd {
        /// Login name.
        name: String,
    },
    /// Give a user another role; it holds for its next request.
    ///
    /// Example: bngctl user role oli engineer
    Role {
        /// Login name.
        name: String,
        /// The new role.
        role: String,
    },
    /// Remove a user with its keys and tokens.
    ///
    /// Example: bngctl user remove oli
    Remove {
        /// Login name.
        name: String,
    },
}

pub(crate) async fn run(global: &Global, command: UserCommand) -> Result<(), CliError> {
    let client = global.client()?;
    let json = global.json;
    match command {
        UserCommand::List => {
            output::answer(json, &client.users().await?, |list| table(&list.users))
        }
        UserCommand::Add { name, role, password_hash } => {
            let (password, password_hash) = match password_hash {
                Some(hash) => (None, Some(Secret::new(hash))),
                None => (Some(new_password(&name)?), None),
            };
            let role = Some(role);
            let request = UserCreate { username: name, password, password_hash, role };
            output::answer(json, &client.create_user(&request).await?, |user| {
                format!("user {} added with role {}", user.username, user.role)
            })
        }
        UserCommand::Passwd { name } => {
            let password = Some(new_password(&name)?);
            let request = UserUpdate { password, ..UserUpdate::default() };
            output::answer(json, &client.update_user(&name, &request).await?, |user| {
                format!("user {} has a new password; its logins have ended", user.username)
            })
        }
        UserCommand::Role { name, role } => {
            let request = UserUpdate { role: Some(role), ..UserUpdate::default() };
            output::answer(json, &client.update_user(&name, &request).await?, |user| {
                format!("user {} has role {}", user.username, user.role)
            })
        }
        UserCommand::Remove { name } => {
            output::answer(json, &client.delete_user(&name).await?, |done| {
                format!("user {} removed", done.id)
            })
        }
    }
}

fn table(users: &[UserInfo]) -> String {
    let mut table = output::table(&["USER", "ROLE", "ENABLED", "SECOND FACTOR", "ADDED"]);
    for user in users {
        table.add_row([
            user.username.clone(),
            user.role.to_string(),
            yes(user.enabled).to_owned(),
            yes(user.totp_enabled).to_owned(),
            maybe(user.created_at.map(time)),
        ]);
    }
    output::rows(&table)
}
