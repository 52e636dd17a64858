use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::{ClusterId, Secret};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

const PREFIX: &str = "tandem1.";
/// The longest join token that is looked at, in octets.
const OCTETS_MAX: usize = 4096;

/// What a join token says: everything that a node needs to reach a cluster it knows nothing of.
///
/// The pinned fingerprint makes the first contact safe: without it, whoever answers at the address
/// would get the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTicket {
    /// Goes into [`crate::types::AdmitRequest::token`].
    pub secret: Secret,
    /// The cluster that made it.
    pub cluster_id: ClusterId,
    /// SHA-256 of the certificate of the cluster's authority, in hexadecimal.
    pub ca_fingerprint: String,
    /// API addresses of members.
    pub api_addrs: Vec<SocketAddr>,
}

/// The text is not a join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Too long to be one.
    #[error("join token has {0} octets, at most 4096 are accepted")]
    TooLong(usize),
    /// Made by another product or version.
    #[error("join token does not start with \"tandem1.\"")]
    Prefix,
    /// Damaged, most likely while copying it.
    #[error("join token is damaged")]
    Damaged,
    /// Names no member.
    #[error("join token names no member address")]
    NoAddress,
}

impl JoinTicket {
    /// The token as text, safe in a shell.
    #[must_use]
    pub fn encode(&self) -> Secret {
        let json = serde_json::to_vec(self).expect("strings and addresses always serialise");
        Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json)))
    }

    /// Reads a token.
    ///
    /// # Errors
    /// [`TicketError`] when the text is not one that [`JoinTicket::encode`] made.
    pub fn decode(token: &str) -> Result<Self, TicketError> {
        let token = token.trim();
        if token.len() > OCTETS_MAX {
            return Err(TicketError::TooLong(token.len()));
        }
        let body = token.strip_prefix(PREFIX).ok_or(TicketError::Prefix)?;
        let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| TicketError::Damaged)?;
        let ticket: Self = serde_json::from_slice(&json).map_err(|_| TicketError::Damaged)?;
        if ticket.api_addrs.is_empty() { Err(TicketError::NoAddress) } else { Ok(ticket) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> JoinTicket {
        JoinTicket {
            secret: Secret::new("s3cret"),
            cluster_id: ClusterId("c1".into()),
            ca_fingerprint: "ab".repeat(32),
            api_addrs: vec!["192.0.2.1:8443".parse().unwrap()],
        }
    }

    #[test]
    fn a_join_token_survives_text() {
        let text = ticket().encode();
        assert_eq!(JoinTicket::decode(text.expose()), Ok(ticket()));
        assert_eq!(JoinTicket::decode(&format!("  {}\n", text.expose())), Ok(ticket()));
    }

    #[test]
    fn a_token_that_is_not_ours_is_named_as_such() {
        let good = ticket().encode();
        let cut = &good.expose()[..good.expose().len() - 3];
        let nobody = JoinTicket { api_addrs: vec![], ..ticket() }.encode();
        let rows: &[(&str, TicketError)] = &[
            ("", TicketError::Prefix),
            ("tandem2.abc", TicketError::Prefix),
            ("tandem1.%%%", TicketError::Damaged),
            (cut, TicketError::Damaged),
            (nobody.expose(), TicketError::NoAddress),
        ];
        for (text, want) in rows {
            assert_eq!(JoinTicket::decode(text), Err(*want), "{text:?}");
        }
        assert_eq!(JoinTicket::decode(&"x".repeat(5000)), Err(TicketError::TooLong(5000)));
    }
}
