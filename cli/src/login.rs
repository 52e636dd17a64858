use crate::args::Global;
use crate::error::CliError;
use crate::profile::Profile;
use crate::{format, output};
use api::model::Secret;
use api::types::{LoginRequest, TotpLoginRequest};
use api::{ClientError, TlsTrust};
use clap::Args;
use std::io::{BufRead, IsTerminal};

/// The longest password or code that is read from the input, in octets.
const PASSWORD_OCTETS_MAX: u64 = 1024;

/// The token, the nodes and whom to believe are kept in ~/.config/bngctl/token.json.
///
/// Example: bngctl --url https://192.0.2.1:8443,https://192.0.2.2:8443 --ca ca.pem login
#[derive(Args)]
pub(crate) struct LoginArgs {
    /// Login name.
    #[arg(long, short, env = "BNGCTL_USERNAME", default_value = "admin")]
    username: String,
    /// Password; asked for when absent. The first line of the input when that is no terminal.
    #[arg(long, env = "BNGCTL_PASSWORD", hide_env_values = true, hide = true)]
    password: Option<String>,
    /// Code of the second factor, or a recovery code; asked for when it is needed and absent. The
    /// next line of the input when that is no terminal.
    #[arg(long, env = "BNGCTL_CODE", hide_env_values = true)]
    code: Option<String>,
}

/// Reads a secret without showing it: `what` is `password` or `code`.
fn read_secret(what: &str, prompt: &str) -> Result<String, CliError> {
    let failed = |e: std::io::Error| CliError::Usage(format!("cannot read the {what}: {e}"));
    if std::io::stdin().is_terminal() {
        return rpassword::prompt_password(prompt).map_err(failed);
    }
    let mut line = String::new();
    let mut input = std::io::Read::take(std::io::stdin().lock(), PASSWORD_OCTETS_MAX);
    input.read_line(&mut line).map_err(failed)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks for the new password of a user, twice where somebody types.
pub(crate) fn new_password(username: &str) -> Result<Secret, CliError> {
    let password = read_secret("password", &format!("New password of {username}: "))?;
    if std::io::stdin().is_terminal() && read_secret("password", "Once more: ")? != password {
        return Err(CliError::Usage("the two passwords differ: nothing was done".to_owned()));
    }
    Ok(Secret::new(password))
}

/// Ends the login at the cluster, then forgets it here.
pub(crate) async fn logout(global: &Global) -> Result<(), CliError> {
    let done = global.client()?.logout().await;
    let over = match &done {
        Ok(_) => true,
        // A token that the cluster does not know any more is as good as logged out.
        Err(error) => error.code() == Some("unauthorized"),
    };
    if over && !global.has_token() {
        Profile::forget()?;
    }
    output::answer(global.json, &done?, |_| "logged out")
}

pub(crate) async fn run(global: &Global, args: LoginArgs) -> Result<(), CliError> {
    // A file of an earlier login that cannot be read is no reason not to log in again.
    let old = Profile::load().unwrap_or(None);
    let urls = global.urls(old.as_ref());
    let trust = global.trust()?.or(old.map(|p| p.trust)).unwrap_or(TlsTrust::System);
    let password = match args.password {
        Some(password) => password,
        None => read_secret("password", "Password: ")?,
    };
    let client = global.connect(urls.clone(), None, trust.clone())?;
    let request = LoginRequest { username: args.username, password: Secret::new(password) };
    let answer = match client.login(&request).await {
        Err(ClientError::CodeNeeded { challenge }) => {
            let code = match args.code {
                Some(code) => code,
                None => read_secret("code", "Code: ")?,
            };
            let request = TotpLoginRequest {
                challenge: Some(challenge),
                code: Some(Secret::new(code.trim())),
                ..TotpLoginRequest::default()
            };
            client.totp_login(&request).await?
        }
        other => other?,
    };
    let token = answer.data.access_token.clone();
    let path = Profile { token, urls, trust }.save()?;
    output::answer(global.json, &answer, |token| {
        let until = format::time(token.access_expires_at);
        let role = &token.role;
        let name = &request.username;
        format!("logged in as {name} ({role}) until {until}; kept in {}", path.display())
    })
}
