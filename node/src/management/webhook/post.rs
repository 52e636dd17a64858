//! One delivery: a signed POST.

use super::store::{Hook, short};
use api::types::event::SubscriberEvent;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::time::Duration;

/// How long a receiver may take.
const POST_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Posts events; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Poster(reqwest::Client);

impl Poster {
    /// # Errors
    /// What the TLS set-up says.
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        // An error means that a provider is there already.
        let _already_set = rustls::crypto::CryptoProvider::install_default(
            rustls::crypto::ring::default_provider(),
        );
        let client = reqwest::Client::builder()
            .timeout(POST_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            // The URL was chosen by an operator; where it points to is not the receiver's choice.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tandem/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self(client))
    }

    /// # Errors
    /// Why the receiver did not take it, in words.
    pub(super) async fn post(
        &self,
        id: &str,
        hook: &Hook,
        event: &SubscriberEvent,
    ) -> Result<(), String> {
        let body = serde_json::to_vec(event).map_err(|e| e.to_string())?;
        let signature = format!("sha256={}", hex::encode(sign(hook.secret.expose(), &body)));
        let request = self
            .0
            .post(&hook.url)
            .header("Content-Type", "application/json")
            .header("X-Tandem-Event", event.event.label())
            .header("X-Tandem-Delivery", format!("{id}:{}", event.id))
            .header("X-Tandem-Signature", signature)
            .body(body);
        let response = request.send().await.map_err(|e| short(&causes(&e.without_url())))?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(format!("answered {status}")) }
    }
}

fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// HMAC-SHA256 (RFC 2104) of the body.
fn sign(secret: &str, body: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes());
    // HMAC takes keys of any length.
    mac.map(|mac| mac.chain_update(body).finalize().into_bytes().to_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::sign;

    #[test]
    fn the_signature_is_that_of_rfc_4231_case_2() {
        let want = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(sign("Jefe", b"what do ya want for nothing?")), want);
    }
}
