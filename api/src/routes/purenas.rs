//! The PureNAS dialect: everything by GET, the key in the query, status 200 whatever happens.

use crate::error::ApiError;
use crate::extract::peer;
use crate::permission::PermissionSet;
use crate::router::{QueryKey, RequestId, Shared};
use crate::routes::Routes;
use crate::service::{Caller, KeyRefusal, ReadLevel, Reply, Service};
use crate::types::purenas::{
    HostInfo, PureNasError, PureNasOutput, PureNasSubscribers, PureNasWaitingList,
};
use crate::types::{CredentialKind, RATE_BPS_MAX, RateRequest};
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use model::{ApiRole, BanScope, Ipv4Net, MacAddr, Secret};
use std::net::Ipv4Addr;
use std::sync::Arc;
use utoipa::OpenApi;

const UNAUTHORIZED: &str = "Unauthorized access";
const WRONG_KEY: &str = "Invalid API key";
const NO_ADDRESS: &str = "IP address is required";
const BAD_ADDRESS: &str = "Invalid IP address format";
const BAD_MAC: &str = "Invalid MAC address format";
const BAD_DOWN: &str = "Download speed in kbit/s is required and must be greater than 0";
const BAD_UP: &str = "Upload speed in kbit/s must be greater than 0";
const NO_ACTION: &str = "Not specified action";
/// A HEAD request must not change anything (RFC 9110 §9.3.2), and here a GET does.
const ONLY_GET: &str = "Only GET is answered";

/// The actions that are followed by an address, under the nouns that have them.
const WITH_ADDRESS: [(&str, &[&str]); 3] = [
    ("subscriber", &["allow", "disallow", "shape", "unshape", "mac", "unmac"]),
    ("ban", &["ip", "icmp"]),
    ("unban", &["ip", "icmp"]),
];

/// Why nothing was done, in the two forms of the dialect.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The request was not looked at: `{"error": …}`.
    Request(&'static str),
    /// What the cluster answered. When it could not look at the request, as above; else
    /// `{"success": false, "output": "Error: …"}`.
    Action(ApiError),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Action(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let error = match self {
            Self::Request(text) => text.to_owned(),
            Self::Action(error) => match error {
                ApiError::Internal { ref cause } => {
                    tracing::error!(%cause, "request failed");
                    error.to_string()
                }
                ApiError::Unauthorized
                | ApiError::BadCredentials
                | ApiError::BadCode
                | ApiError::NotProvided { .. }
                | ApiError::Denied { .. }
                | ApiError::PreconditionFailed { .. }
                | ApiError::Forbidden
                | ApiError::LockedOut { .. }
                | ApiError::NoSuchPath
                | ApiError::MethodNotAllowed
                | ApiError::BadRequest { .. }
                | ApiError::UnsupportedMediaType
                | ApiError::TooLarge
                | ApiError::NotInitialised
                | ApiError::NoLeader { .. }
                | ApiError::Overloaded { .. }
                | ApiError::Timeout => error.to_string(),
                ApiError::NotFound { .. }
                | ApiError::Invalid { .. }
                | ApiError::Conflict { .. }
                | ApiError::AlreadyInitialised
                | ApiError::NotEligible { .. } => {
                    let output = format!("Error: {error}");
                    return Json(PureNasOutput { success: false, output }).into_response();
                }
            },
        };
        Json(PureNasError { error }).into_response()
    }
}

/// A request by GET with the right key.
pub(crate) struct Keyed(Caller);

impl<S: Service> FromRequestParts<Arc<Shared<S>>> for Keyed {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<Shared<S>>,
    ) -> Result<Self, Refusal> {
        if parts.method != Method::GET {
            return Err(Refusal::Request(ONLY_GET));
        }
        let nothing = || Secret::new("");
        let key = parts.extensions.get::<QueryKey>().map_or_else(nothing, |key| key.0.clone());
        let username =
            shared.service.purenas_caller(&key, peer(parts)).map_err(|refusal| match refusal {
                KeyRefusal::Unset => Refusal::Request(UNAUTHORIZED),
                KeyRefusal::Wrong => Refusal::Request(WRONG_KEY),
            })?;
        let id = parts.extensions.get::<RequestId>();
        Ok(Self(Caller {
            username,
            role: ApiRole::admin(),
            permissions: PermissionSet::all(),
            credential: CredentialKind::DialectKey,
            address: peer(parts),
            request_id: id.map(|id| id.0.clone()).unwrap_or_default(),
            idempotency_key: None,
        }))
    }
}

type Done<T> = Result<Json<T>, Refusal>;

fn address(text: &str) -> Result<Ipv4Addr, Refusal> {
    text.parse().map_err(|_| Refusal::Request(BAD_ADDRESS))
}

fn kbits(text: &str, wrong: &'static str) -> Result<u64, Refusal> {
    let bps = text.parse::<u64>().ok().and_then(|kbits| kbits.checked_mul(1000));
    bps.filter(|bps| (1..=RATE_BPS_MAX).contains(bps)).ok_or(Refusal::Request(wrong))
}

/// Says what an action did, once it did it.
fn output<T>(done: Reply<T>, text: &str) -> Done<PureNasOutput> {
    done?;
    Ok(Json(PureNasOutput { success: true, output: format!("== {text} ==") }))
}

/// List subscribers
///
/// The static ones, by address; `[]` when there is none.
#[utoipa::path(
    get, path = "/api/subscriber/getall", tag = "purenas",
    responses((status = 200, description = "All subscribers", body = PureNasSubscribers)),
    security(("purenas_key" = [])),
)]
pub(crate) async fn purenas_getall<S: Service>(
    _: Keyed,
    State(shared): State<Arc<Shared<S>>>,
) -> Done<PureNasSubscribers> {
    let (subscribers, _) = shared.service.statics(ReadLevel::Linearizable).await?;
    let rows = subscribers.iter().map(|s| (s.ip_address.to_string(), s.into()));
    Ok(Json(PureNasSubscribers(rows.collect())))
}

/// List sources that wait
#[utoipa::path(
    get, path = "/api/subscriber/getwaitauth", tag = "purenas",
    responses((status = 200, description = "All sources that wait", body = PureNasWaitingList)),
    security(("purenas_key" = [])),
)]
pub(crate) async fn purenas_getwaitauth<S: Service>(
    _: Keyed,
    State(shared): State<Arc<Shared<S>>>,
) -> Done<PureNasWaitingList> {
    let (sources, _) = shared.service.waiting().await?;
    let waitauth = sources.iter().map(Into::into).collect();
    Ok(Json(PureNasWaitingList { success: true, waitauth }))
}

/// Allow a subscriber
///
/// An unknown address of an IPoE network becomes a static subscriber.
#[utoipa::path(
    get, path = "/api/subscriber/allow/{ip}", tag = "purenas",
    params(("ip" = String, Path, description = "IPv4 address")),
    responses((status = 200, description = "What became of it", body = PureNasOutput)),
    security(("purenas_key" = [])),
)]
pub(crate) async fn purenas_allow<S: Service>(
    Keyed(caller): Keyed,
    State(shared): State<Arc<Shared<S>>>,
    Path(ip): Path<String>,
) -> Done<PureNasOutput> {
    let ip = address(&ip)?;
    let done = shared.service.allow(ip, true, caller).await;
    output(done, &format!("Added {ip} to allowed_clients set"))
}

/// Disallow a subscriber
#[utoipa::path(
    get, path = "/api/subscriber/disallow/{ip}", tag = "purenas",
    params(("ip" = String, Path, description = "IPv4 address")),
    responses((status = 200, description = "What became of it", body = PureNasOutput)),
    security(("purenas_key" = [])),
)]
pub(crate) async fn purenas_disallow<S: Service>(
    Keyed(caller): Keyed,
    State(shared): State<Arc<Shared<S>>>,
    Path(ip): Path<String>,
) -> Done<PureNasOutput> {
    let ip = address(&ip)?;
    let done = shared.service.allow(ip, false, caller).await;
    output(done, &format!("Removed {ip} from allowed_clients set"))
}

async fn shape<S: Service>(
    shared: &Shared<S>,
    caller: Caller,
    ip: &str,
    down: &str,
    up: Option<&str>,
) -> Done<PureNasOutput> {
    let ip = address(ip)?;
    let rate_down = kbits(down, BAD_DOWN)?;
    let rate_up = up.map_or(Ok(rate_down), |up| kbits(up, BAD_UP))?;
    let done = shared.service.shape(ip, RateRequest { rate_down, rate_up }, caller).await;
    let (down, up) = (rate_down / 1000, rate_up / 1000);
    output(done, &format!("SHAPED: {ip} down {down} Kbit up {up} Kbit"))
}

/// Shape a subscriber, the same rate both ways
///
/// Also one with PPPoE or DHCP.
#[utoipa::path(
    get, path = "/api/subscriber/shape/{ip}/{down}", tag = "purenas",
    params(
        ("ip" = String, Path, description = "IPv4 address"),
        ("down" = u64, Path, description = "kbit/s, more than 0"),
    ),
    responses((status = 200, description = "What became of it", body = PureNasOutput)),
    security(("purenas_key" = [])),
)]
pub(crate) async fn purenas_shape<S: Service>(
    Keyed(caller): Keyed,
    State(shared): State<Arc<Shared<S>>>,
    Path((ip, down)): Path<(String, String)>,
) -> Done<PureNasOutput> {
    shape(&shared, caller, &ip, &down, None).await
}

/// Shape a subscriber, each way its rate
///
/// Also one with PPPoE or DHCP.
#[utoipa::path(
    get, path = "/api/subscriber/shape/{ip}/{down}/{up}", tag = "purenas",
    params(
        ("ip" = String, Path, description = "IPv4 address"),
        ("down" = u64, Path, description = "kbit/s, more than 0"),
        ("up" = u64, Path, description = "kbit/s, more than 0"),
    ),
    responses((status = 200, description = "What became of it", body = PureNasOutput)),
    security(("purenas_key" = [])),
)]
pub(crate) async fn purenas_shape_both<S: Service>(
    Keyed(caller): Keyed,
    State(shared): State<Arc<Shared<S>>>,
    Path((ip, down, up)): Path<(String, String, String)>,
) -> Done<PureNasOutput> {
    shape(&shared, caller, &ip, &down, Some(&up)).await
}

/// Take the rates of a subscriber off
#[utoipa::path(
    get, path = "/api/subscriber/unshape/{ip}", tag = "purenas",
    params(("ip" = String, Path, description = "IPv4 address")),
    responses((status = 200, description = "What became of it", body = PureNasOutput)),
    security(("purenas_key" = [])),
)]
pub(crate) async fn purenas_unshape<S: Service>(
    Keyed(caller): Keyed,
    State(shared): State<Arc<Shared<S>>>,
    Path(ip): Path<String>,
) -> Done<PureNasOutput> {
    let ip = address(&ip)?;
    let request = RateRequest { rate_down: 0, rate_up: 0 };
    let done = shared.service.shape(ip, request, caller).await;
    output(done, &format!("UNSHAPED: {ip}"))
}

/// Bind an address to a MAC address
#[utoipa::path(
    get, path = "/api/subscriber/mac/{ip}/{mac}", tag = "purenas",
    params(
        ("ip" = String, Path, description = "IPv4 address"),
        ("mac" = String, Path, description = "Six octets with colons"),
    ),
    responses((status = 200, description = "What became of it", body = PureNasOutput)),
    security(("purenas_key" = [])),
)]
pub(crate) async fn purenas_mac<S: Service>(
    Keyed(caller): Keyed,
    State(shared): State<Arc<Shared<S>>>,
    Path((ip, mac)): Path<(String, String)>,
) -> Done<PureNasOutput> {
    let ip = address(&ip)?;
    let mac: MacAddr = mac.parse().map_err(|_| Refusal::Request(BAD_MAC))?;
    let done = shared.service.bind(ip, Some(mac), caller).await;
    output(done, &format!("Bound {ip} to {mac}"))
}

/// Lift the binding of an address
#[utoipa::path(
    get, path = "/api/subscriber/unmac/{ip}", tag = "purenas",
    params(("ip" = String, Path, description = "IPv4 address")),
    responses((status = 200, description = "What became of it", body = PureNasOutput)),
    security(("purenas_key" = [])),
)]
pub(crate) async fn purenas_unmac<S: Service>(
    Keyed(caller): Keyed,
    State(shared): State<Arc<Shared<S>>>,
    Path(ip): Path<String>,
) -> Done<PureNasOutput> {
    let ip = address(&ip)?;
    let done = shared.service.bind(ip, None, caller).await;
    output(done, &format!("Unbound {ip}"))
}

async fn ban<S: Service>(
    shared: &Shared<S>,
    caller: Caller,
    network: &str,
    scope: BanScope,
    banned: bool,
) -> Done<PureNasOutput> {
    let parsed: Ipv4Net = network.parse().map_err(|_| Refusal::Request(BAD_ADDRESS))?;
    let done = shared.service.ban(parsed, scope, banned, caller).await;
    let verb = if banned { "Banned" } else { "Unbanned" };
    let icmp = match scope {
        BanScope::All => "",
        BanScope::Icmp => "ICMP of ",
    };
    output(done, &format!("{verb} {icmp}{network}"))
}

/// Ban an address or a network
#[utoipa::path(
    get, path = "/api/ban/ip/{network}", tag = "purenas",
    params(("network" = String, Path, description = "IPv4 address or network")),
    responses((status = 200, description = "What became of it", body = PureNasOutput)),
    security(("purenas_key" = [])),
)]
pub(crate) async fn purenas_ban_ip<S: Service>(
    Keyed(caller): Keyed,
    State(shared): State<Arc<Shared<S>>>,
    Path(network): Path<String>,
) -> Done<PureNasOutput> {
    ban(&shared, caller, &network, BanScope::All, true).await
}

/// Lift the ban of an address or a network
#[utoipa::path(
    get, path = "/api/unban/ip/{network}", tag = "purenas",
    params(("network" = String, Path, description = "IPv4 address or network, as it was banned")),
    responses((status = 200, description = "What became of it", body = PureNasOutput)),
    security(("purenas_key" = [])),
)]
pub(crate) async fn purenas_unban_ip<S: Service>(
    Keyed(caller): Keyed,
    State(shared): State<Arc<Shared<S>>>,
    Path(network): Path<String>,
) -> Done<PureNasOutput> {
    ban(&shared, caller, &network, BanScope::All, false).await
}

/// Ban the ICMP of an address or a network
#[utoipa::path(
    get, path = "/api/ban/icmp/{network}", tag = "purenas",
    params(("network" = String, Path, description = "IPv4 address or network")),
    responses((status = 200, description = "What became of it", body = PureNasOutput)),
    security(("purenas_key" = [])),
)]
pub(crate) async fn purenas_ban_icmp<S: Service>(
    Keyed(caller): Keyed,
    State(shared): State<Arc<Shared<S>>>,
    Path(network): Path<String>,
) -> Done<PureNasOutput> {
    ban(&shared, caller, &network, BanScope::Icmp, true).await
}

/// Lift the ban of the ICMP of an address or a network
#[utoipa::path(
    get, path = "/api/unban/icmp/{network}", tag = "purenas",
    params(("network" = String, Path, description = "IPv4 address or network, as it was banned")),
    responses((status = 200, description = "What became of it", body = PureNasOutput)),
    security(("purenas_key" = [])),
)]
pub(crate) async fn purenas_unban_icmp<S: Service>(
    Keyed(caller): Keyed,
    State(shared): State<Arc<Shared<S>>>,
    Path(network): Path<String>,
) -> Done<PureNasOutput> {
    ban(&shared, caller, &network, BanScope::Icmp, false).await
}

/// Show the machine of the node that answers
#[utoipa::path(
    get, path = "/api/system/info", tag = "purenas",
    responses((status = 200, description = "The machine", body = HostInfo)),
    security(("purenas_key" = [])),
)]
pub(crate) async fn purenas_system_info<S: Service>(
    _: Keyed,
    State(shared): State<Arc<Shared<S>>>,
) -> Json<HostInfo> {
    Json(shared.service.host().await)
}

/// What is incomplete, or no action of the dialect.
fn unspecified(noun: &str, rest: &str) -> Refusal {
    let mut parts = rest.split('/').filter(|part| !part.is_empty());
    let action = parts.next().unwrap_or_default();
    let takes_address =
        WITH_ADDRESS.iter().any(|(of, actions)| *of == noun && actions.contains(&action));
    Refusal::Request(match (takes_address, parts.next(), action) {
        (true, None, _) => NO_ADDRESS,
        (true, Some(ip), _) if ip.parse::<Ipv4Addr>().is_err() => BAD_ADDRESS,
        (true, Some(_), "shape") => BAD_DOWN,
        (true, Some(_), "mac") => BAD_MAC,
        (true | false, _, _) => NO_ACTION,
    })
}

pub(crate) fn routes<S: Service>() -> Routes<S> {
    let mut routes = Routes::new()
        .route("/api/subscriber/getall", get(purenas_getall::<S>))
        .route("/api/subscriber/getwaitauth", get(purenas_getwaitauth::<S>))
        .route("/api/subscriber/allow/{ip}", get(purenas_allow::<S>))
        .route("/api/subscriber/disallow/{ip}", get(purenas_disallow::<S>))
        .route("/api/subscriber/shape/{ip}/{down}", get(purenas_shape::<S>))
        .route("/api/subscriber/shape/{ip}/{down}/{up}", get(purenas_shape_both::<S>))
        .route("/api/subscriber/unshape/{ip}", get(purenas_unshape::<S>))
        .route("/api/subscriber/mac/{ip}/{mac}", get(purenas_mac::<S>))
        .route("/api/subscriber/unmac/{ip}", get(purenas_unmac::<S>))
        .route("/api/ban/ip/{*network}", get(purenas_ban_ip::<S>))
        .route("/api/unban/ip/{*network}", get(purenas_unban_ip::<S>))
        .route("/api/ban/icmp/{*network}", get(purenas_ban_icmp::<S>))
        .route("/api/unban/icmp/{*network}", get(purenas_unban_icmp::<S>))
        .route("/api/system/info", get(purenas_system_info::<S>));
    for noun in ["subscriber", "ban", "unban", "system"] {
        let other = get(async move |_: Keyed, rest: Option<Path<String>>| {
            unspecified(noun, rest.as_ref().map_or("", |Path(rest)| rest))
        });
        routes = routes
            .route(&format!("/api/{noun}"), other.clone())
            .route(&format!("/api/{noun}/"), other.clone())
            .route(&format!("/api/{noun}/{{*rest}}"), other);
    }
    routes
}

#[derive(OpenApi)]
#[openapi(
    paths(
        purenas_getall,
        purenas_getwaitauth,
        purenas_allow,
        purenas_disallow,
        purenas_shape,
        purenas_shape_both,
        purenas_unshape,
        purenas_mac,
        purenas_unmac,
        purenas_ban_ip,
        purenas_unban_ip,
        purenas_ban_icmp,
        purenas_unban_icmp,
        purenas_system_info
    ),
    components(schemas(PureNasError))
)]
pub(crate) struct Documented;
