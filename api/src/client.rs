mod auth;
mod calls;
mod config;
mod events;
mod policy;
mod tls;

pub use events::EventFollower;

use crate::service::ReadLevel;
use crate::types::{Envelope, ErrorBody};
use crate::{API_KEY_MARK, IDEMPOTENCY_HEADER, REVISION_HEADER};
use model::{Revision, Secret};
use reqwest::{Method, Response, StatusCode, Url, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long to wait for a connection before the next node is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest answer that is read, in octets.
const ANSWER_OCTETS_MAX: usize = 64 * 1024 * 1024;
/// The port of the API when a URL names none.
const PORT: u16 = 8443;

/// Whom to believe to be a node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsTrust {
    /// Certificates of the operating system's authorities.
    System,
    /// Certificates of this authority, for the host name or address in the URL.
    Ca {
        /// One certificate or more.
        pem: String,
    },
    /// A certificate with this SHA-256, or signed by one with it, under any host name. The name
    /// does not matter: the authority of a cluster signs for its members only.
    Fingerprint {
        /// 64 hexadecimal digits, colons allowed.
        sha256: String,
    },
    /// Anybody. For experiments.
    Insecure,
}

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Nodes, such as `https://192.0.2.1:8443`, in the order in which they are tried.
    pub urls: Vec<String>,
    /// An access token, or an API key.
    pub token: Option<Secret>,
    /// Whom to believe.
    pub trust: TlsTrust,
    /// How long one request may take.
    pub timeout: Duration,
}

/// Why a request has no answer, or a bad one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No node to ask.
    #[error("no URL of a node is given")]
    NoUrl,
    /// A URL that cannot be used.
    #[error("{url:?} is not the URL of a node: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The trust anchor or the TLS set-up is unusable.
    #[error("TLS set-up: {0}")]
    Tls(String),
    /// No connection to any node; nothing was sent.
    #[error("no node reachable: {}", tried.iter().map(|(url, cause)| format!("{url}: {cause}")).collect::<Vec<_>>().join("; "))]
    Unreachable {
        /// Each node with what went wrong there.
        tried: Vec<(String, String)>,
    },
    /// No answer in time. A write may or may not have been done.
    #[error("{url} did not answer in time; the outcome is unknown")]
    Timeout {
        /// The node that was asked.
        url: String,
    },
    /// The connection broke. A write may or may not have been done.
    #[error("connection to {url} broke; the outcome is unknown: {cause}")]
    Broken {
        /// The node that was asked.
        url: String,
        /// What happened to the connection.
        cause: String,
    },
    /// The node refused or failed.
    #[error("{}", api_text(.body))]
    Api {
        /// The node that answered.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it says.
        body: Box<ErrorBody>,
        /// The body as received.
        raw: String,
        /// Seconds after which another try makes sense.
        retry_after_s: Option<u64>,
    },
    /// The password was right, and the user has a second factor: [`Client::totp_login`] goes on.
    #[error("a code of the second factor is needed")]
    CodeNeeded {
        /// For the second step.
        challenge: Secret,
    },
    /// An answer that is not of this API: another server, or another version.
    #[error("{url} answered {status} with something that is not this API: {cause}")]
    Foreign {
        /// The node that answered.
        url: String,
        /// HTTP status.
        status: u16,
        /// What could not be read.
        cause: String,
    },
}

fn api_text(body: &ErrorBody) -> String {
    let mut text = body.message.clone();
    if body.errors.len() > 1 {
        for e in &body.errors {
            text.push_str(&format!("\n  {}: {}", e.path, e.message));
        }
    }
    text
}

impl ClientError {
    /// The stable code of the node's error, if it was the node that refused.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Api { body, .. } => Some(&body.code),
            Self::NoUrl
            | Self::Url { .. }
            | Self::Tls(_)
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. }
            | Self::CodeNeeded { .. }
            | Self::Foreign { .. } => None,
        }
    }
}

/// A good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// What stands in the envelope.
    pub data: T,
    /// The revision it shows or made, when the node told.
    pub revision: Option<Revision>,
    /// The body as received.
    pub body: String,
}

/// Asks a cluster, one method per endpoint.
///
/// A node that cannot be connected to, or that knows no leader, has done nothing: then the next one
/// is asked. Every other failure is final, because a write may have been done. Init and join go to
/// the first node only: they are about that node.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    urls: Arc<[Url]>,
    /// Index of the node that answered last; a hint only.
    preferred: Arc<AtomicUsize>,
    token: Option<Secret>,
    idempotency_key: Option<String>,
}

enum Credential<'a> {
    None,
    Token,
    Bootstrap(&'a Secret),
}

struct Call<'a> {
    method: Method,
    path: &'a [&'a str],
    query: Option<String>,
    body: Option<Vec<u8>>,
    credential: Credential<'a>,
    first_only: bool,
}

impl<'a> Call<'a> {
    fn new(method: Method, path: &'a [&'a str]) -> Self {
        Self {
            method,
            path,
            query: None,
            body: None,
            credential: Credential::Token,
            first_only: false,
        }
    }

    fn level(mut self, level: ReadLevel) -> Self {
        self.query = match level {
            ReadLevel::Linearizable => None,
            ReadLevel::Local => Some("consistency=local".to_owned()),
        };
        self
    }

    fn json(mut self, body: &impl Serialize) -> Self {
        let json =
            serde_json::to_vec(body).expect("API types have string keys and no failing part");
        self.body = Some(json);
        self
    }

    fn credential(mut self, credential: Credential<'a>) -> Self {
        self.credential = credential;
        self
    }

    fn first_only(mut self) -> Self {
        self.first_only = true;
        self
    }
}

/// What came back, undecoded.
struct Raw {
    url: String,
    status: StatusCode,
    revision: Option<Revision>,
    body: String,
}

impl Raw {
    fn foreign(&self, cause: &serde_json::Error) -> ClientError {
        let (url, status) = (self.url.clone(), self.status.as_u16());
        ClientError::Foreign { url, status, cause: cause.to_string() }
    }
}

impl Client {
    /// Prepares a client; connects to nothing yet.
    ///
    /// # Errors
    /// [`ClientError::NoUrl`], [`ClientError::Url`] and [`ClientError::Tls`].
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        let urls: Arc<[Url]> =
            config.urls.iter().map(|u| parse_url(u)).collect::<Result<_, _>>()?;
        if urls.is_empty() {
            return Err(ClientError::NoUrl);
        }
        let builder = reqwest::Client::builder()
            .timeout(config.timeout)
            .connect_timeout(CONNECT_TIMEOUT.min(config.timeout))
            // The credential is meant for the node that was named, and nobody in between.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        let http = tls::apply(builder, &config.trust)?.build();
        Ok(Self {
            http: http.map_err(|e| ClientError::Tls(chain(&e)))?,
            urls,
            preferred: Arc::new(AtomicUsize::new(0)),
            token: config.token,
            idempotency_key: None,
        })
    }

    /// The same client with another access token.
    #[must_use]
    pub fn with_token(&self, token: Secret) -> Self {
        Self { token: Some(token), ..self.clone() }
    }

    /// The same client, whose writes carry `key`: repeated, they are done once.
    #[must_use]
    pub fn with_idempotency_key(&self, key: impl Into<String>) -> Self {
        Self { idempotency_key: Some(key.into()), ..self.clone() }
    }

    async fn enveloped<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
    ) -> Result<Answer<T>, ClientError> {
        let raw = self.send(call).await?;
        match serde_json::from_str::<Envelope<T>>(&raw.body) {
            Ok(Envelope { data, .. }) => {
                Ok(Answer { data, revision: raw.revision, body: raw.body })
            }
            Err(e) => Err(raw.foreign(&e)),
        }
    }

    async fn send(&self, call: Call<'_>) -> Result<Raw, ClientError> {
        let count = if call.first_only { 1 } else { self.urls.len() };
        let start = if call.first_only { 0 } else { self.preferred.load(Ordering::Relaxed) };
        let mut tried = Vec::new();
        let mut leaderless = None;
        for turn in 0..count {
            let at = (start + turn) % self.urls.len();
            match self.send_to(&self.urls[at], &call).await {
                Ok(raw) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(raw);
                }
                Err(ClientError::Unreachable { tried: one }) => tried.extend(one),
                Err(e) if e.code() == Some("no_leader") => leaderless = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(leaderless.unwrap_or(ClientError::Unreachable { tried }))
    }

    async fn send_to(&self, base: &Url, call: &Call<'_>) -> Result<Raw, ClientError> {
        let name = name_of(base);
        let response = self.request(base, call).send().await.map_err(|e| transport(&name, &e))?;
        receive(name, response).await
    }

    fn request(&self, base: &Url, call: &Call<'_>) -> reqwest::RequestBuilder {
        let mut url = base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(call.path);
        }
        url.set_query(call.query.as_deref());
        let mut request = self.http.request(call.method.clone(), url);
        let credential = match call.credential {
            Credential::Bootstrap(token) => Some(token),
            Credential::Token => self.token.as_ref(),
            Credential::None => None,
        };
        if let Some(credential) = credential {
            let text = credential.expose();
            request = if text.starts_with(API_KEY_MARK) {
                request.header(header::AUTHORIZATION, format!("ApiKey {text}"))
            } else {
                request.bearer_auth(text)
            };
        }
        if call.method != Method::GET
            && let Some(key) = &self.idempotency_key
        {
            request = request.header(IDEMPOTENCY_HEADER, key);
        }
        if let Some(body) = &call.body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        request
    }
}

/// The query of those that have a value; `None` when none has.
fn query_of(pairs: &[(&str, Option<String>)]) -> Option<String> {
    let mut url = Url::parse("http://x/").expect("a constant URL");
    for (key, value) in pairs {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(key, value);
        }
    }
    url.query().map(str::to_owned)
}

/// A node as messages name it.
fn name_of(base: &Url) -> String {
    base.as_str().trim_end_matches('/').to_owned()
}

async fn receive(url: String, mut response: Response) -> Result<Raw, ClientError> {
    let status = response.status();
    let number = |name: &str| {
        response.headers().get(name).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok())
    };
    let revision = number(REVISION_HEADER).map(Revision);
    let retry_after_s = number(header::RETRY_AFTER.as_str());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| transport(&url, &e))? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_OCTETS_MAX {
            let cause = format!("more than {ANSWER_OCTETS_MAX} octets");
            return Err(ClientError::Foreign { url, status: status.as_u16(), cause });
        }
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    let raw = Raw { url, status, revision, body };
    if status.is_success() {
        return Ok(raw);
    }
    match serde_json::from_str::<ErrorBody>(&raw.body) {
        Ok(body) => Err(ClientError::Api {
            url: raw.url,
            status: status.as_u16(),
            body: Box::new(body),
            raw: raw.body,
            retry_after_s,
        }),
        Err(e) => Err(raw.foreign(&e)),
    }
}

fn transport(url: &str, e: &reqwest::Error) -> ClientError {
    let url = url.to_owned();
    if e.is_connect() {
        ClientError::Unreachable { tried: vec![(url, chain(e))] }
    } else if e.is_timeout() {
        ClientError::Timeout { url }
    } else {
        ClientError::Broken { url, cause: chain(e) }
    }
}

/// The innermost causes of an error; the outer ones of an HTTP library only say "request failed".
fn chain(e: &dyn Error) -> String {
    let mut causes = Vec::new();
    let mut next = e.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    match causes.as_slice() {
        [] => e.to_string(),
        [.., before, last] if !before.contains(last.as_str()) => format!("{before}: {last}"),
        [.., last] => last.clone(),
    }
}

fn parse_url(text: &str) -> Result<Url, ClientError> {
    let bad = |reason: &str| ClientError::Url { url: text.to_owned(), reason: reason.to_owned() };
    let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let mut url: Url = full.parse().map_err(|_| bad("it cannot be parsed"))?;
    let host = url.host_str().ok_or_else(|| bad("it has no host"))?;
    let bare = host.trim_matches(['[', ']']);
    let loopback =
        bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => return Err(bad("without TLS anybody could read the token; use https")),
        _ => return Err(bad("the scheme must be https")),
    }
    if url.scheme() == "https" && url.port().is_none() && !full.ends_with(":443") {
        url.set_port(Some(PORT)).map_err(|()| bad("it cannot have a port"))?;
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err(bad("only scheme, host, port and path are used"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_completed_or_refused() {
        let rows: &[(&str, Option<&str>)] = &[
            ("https://192.0.2.1:8443", Some("https://192.0.2.1:8443/")),
            ("192.0.2.1", Some("https://192.0.2.1:8443/")),
            ("bng1.example.net", Some("https://bng1.example.net:8443/")),
            ("[2001:db8::1]:9000", Some("https://[2001:db8::1]:9000/")),
            ("https://host:443", Some("https://host/")),
            ("http://127.0.0.1:80", Some("http://127.0.0.1/")),
            ("http://[::1]:8080/", Some("http://[::1]:8080/")),
            ("http://192.0.2.1:8443", None),
            ("ftp://192.0.2.1", None),
            ("https://", None),
            ("https://u:p@192.0.2.1", None),
            ("https://192.0.2.1/?x=1", None),
        ];
        for (text, want) in rows {
            let got = parse_url(text).ok();
            assert_eq!(got.as_ref().map(Url::as_str), *want, "{text}");
        }
    }
}
