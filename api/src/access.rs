//! Who may use which operation. The OpenAPI document is the only place that says so: what an
//! operation needs stands in its `security`, and what is not documented is not served.
//!
//! A requirement `"jwt" = ["subscribers:write"]` names the permission that the caller must have; an
//! empty list asks for any valid credential. An API key stands for a token everywhere, a ticket
//! only where `"ticket"` is listed too: at streams.

use crate::error::ApiError;
use crate::extract::{authorization, idempotency_key, peer, request_id};
use crate::jwt::{self, Claims};
use crate::openapi::security_of;
use crate::permission::Permission;
use crate::router::Shared;
use crate::service::{Caller, Identity, Presented, Service};
use crate::types::CredentialKind;
use axum::extract::{MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::openapi::OpenApi;

/// Credentials that are no user's.
const OWN_SCHEMES: [&str; 2] = ["bootstrap", "purenas_key"];

/// What an operation asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Nothing.
    Open,
    /// A credential of its own, the bootstrap token or the key of a dialect, which the handler checks: it changes
    /// nothing without.
    Own,
    /// A valid credential of somebody who has the permission.
    Caller { needs: Option<Permission>, ticket: bool },
    /// What the document asks for cannot be understood: nobody may use it.
    Nobody,
}

/// What each documented operation asks of its caller.
pub(crate) struct Rules(BTreeMap<String, BTreeMap<String, Rule>>);

impl Rules {
    /// Reads the document.
    pub(crate) fn of(document: &OpenApi) -> Self {
        let mut rules: BTreeMap<String, BTreeMap<String, Rule>> = BTreeMap::new();
        for (path, item) in &document.paths.paths {
            let operations = [
                ("GET", &item.get),
                ("POST", &item.post),
                ("PUT", &item.put),
                ("DELETE", &item.delete),
                ("PATCH", &item.patch),
            ];
            for (method, operation) in operations {
                if let Some(operation) = operation {
                    let rule = rule(&security_of(operation));
                    rules.entry(path.clone()).or_default().insert(method.to_owned(), rule);
                }
            }
        }
        Self(rules)
    }

    fn find(&self, path: &str, method: &Method) -> Result<Rule, Box<Response>> {
        let Some(methods) = self.0.get(path) else {
            return Err(Box::new(ApiError::NoSuchPath.into_response()));
        };
        // RFC 9110 §9.3.2: HEAD is GET without the body, and axum serves it so.
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        methods.get(method.as_str()).copied().ok_or_else(|| {
            let mut response = ApiError::MethodNotAllowed.into_response();
            let allowed: Vec<_> = methods.keys().map(String::as_str).collect();
            if let Ok(value) = HeaderValue::from_str(&allowed.join(",")) {
                response.headers_mut().insert(header::ALLOW, value);
            }
            Box::new(response)
        })
    }
}

fn rule(security: &BTreeMap<String, Vec<String>>) -> Rule {
    if security.is_empty() {
        return Rule::Open;
    }
    let Some(scopes) = security.get("jwt") else {
        let own = OWN_SCHEMES.iter().any(|scheme| security.contains_key(*scheme));
        return if own { Rule::Own } else { Rule::Nobody };
    };
    let ticket = security.contains_key("ticket");
    match scopes.as_slice() {
        [] => Rule::Caller { needs: None, ticket },
        [one] => match one.parse() {
            Ok(needs) => Rule::Caller { needs: Some(needs), ticket },
            Err(_) => Rule::Nobody,
        },
        [_, _, ..] => Rule::Nobody,
    }
}

/// Lets a request through to its handler, with its [`Caller`], or refuses it.
pub(crate) async fn check<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(|p| p.as_str().to_owned());
    let rule = match shared.rules.find(path.as_deref().unwrap_or_default(), request.method()) {
        Ok(rule) => rule,
        Err(response) => return *response,
    };
    let (mut parts, body) = request.into_parts();
    match admit(rule, &shared, &mut parts).await {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(error) => {
            if error == ApiError::Unauthorized {
                shared.counters.unauthorized.add();
            } else if error == ApiError::Forbidden {
                shared.counters.forbidden.add();
            }
            error.into_response()
        }
    }
}

async fn admit<S: Service>(
    rule: Rule,
    shared: &Shared<S>,
    parts: &mut Parts,
) -> Result<(), ApiError> {
    let (needs, ticket) = match rule {
        Rule::Open | Rule::Own => return Ok(()),
        Rule::Nobody => return Err(ApiError::Forbidden),
        Rule::Caller { needs, ticket } => (needs, ticket),
    };
    let (identity, credential) = authenticate(&*shared.service, parts, ticket).await?;
    if let Some(needs) = needs
        && !identity.permissions.contains(needs)
    {
        tracing::info!(
            event = "TANDEM-API-DENIED",
            user = identity.username,
            role = %identity.role,
            needs = %needs,
            path = parts.uri.path(),
            "a caller without the permission was turned away"
        );
        return Err(ApiError::Forbidden);
    }
    let caller = Caller {
        username: identity.username,
        role: identity.role,
        permissions: identity.permissions,
        credential,
        address: peer(parts),
        request_id: request_id(parts),
        idempotency_key: idempotency_key(&parts.headers)?,
    };
    parts.extensions.insert(caller);
    Ok(())
}

/// Exactly one kind of credential is looked at; a header goes before a ticket.
async fn authenticate<S: Service>(
    service: &S,
    parts: &mut Parts,
    ticket: bool,
) -> Result<(Identity, CredentialKind), ApiError> {
    let (Some(key), Some(iss)) = (service.jwt_secret(), service.cluster_id()) else {
        return Err(ApiError::NotInitialised);
    };
    if parts.headers.contains_key(header::AUTHORIZATION) {
        let Some((scheme, text)) = authorization(&parts.headers) else {
            return Err(ApiError::Unauthorized);
        };
        return match scheme.as_str() {
            "bearer" => {
                let claims: Claims = jwt::verify(text, &iss, service.now(), &key)?;
                let identity = service.identify(Presented::Token(&claims))?;
                parts.extensions.insert(claims);
                Ok((identity, CredentialKind::Token))
            }
            "apikey" => {
                let identity = service.identify(Presented::ApiKey(text))?;
                Ok((identity, CredentialKind::ApiKey))
            }
            _ => Err(ApiError::Unauthorized),
        };
    }
    let Some((text, uri)) = take_ticket(&parts.uri).filter(|_| ticket) else {
        return Err(ApiError::Unauthorized);
    };
    let identity = service.spend_ticket(&text).await?;
    // The handler refuses queries that it does not know, and logs must not hold the ticket.
    parts.uri = uri;
    Ok((identity, CredentialKind::Ticket))
}

/// The value of `?ticket=`, and the address without it.
fn take_ticket(uri: &Uri) -> Option<(String, Uri)> {
    let (tickets, rest): (Vec<&str>, Vec<&str>) =
        uri.query()?.split('&').partition(|pair| pair.starts_with("ticket="));
    let [ticket] = tickets.as_slice() else { return None };
    let ticket = ticket.strip_prefix("ticket=")?.to_owned();
    let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    let uri = format!("{}{query}", uri.path()).parse().ok()?;
    Some((ticket, uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_document_says_becomes_a_rule() {
        type Schemes<'a> = &'a [(&'a str, &'a [&'a str])];
        let security = |pairs: Schemes<'_>| {
            let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
            pairs.iter().map(|(k, v)| ((*k).to_owned(), owned(v))).collect()
        };
        let read = Some(Permission::DnsRead);
        let rows: &[(Schemes<'_>, Rule)] = &[
            (&[], Rule::Open),
            (&[("bootstrap", &[])], Rule::Own),
            (&[("jwt", &[])], Rule::Caller { needs: None, ticket: false }),
            (&[("jwt", &["dns:read"])], Rule::Caller { needs: read, ticket: false }),
            (
                &[("jwt", &["dns:read"]), ("ticket", &["dns:read"])],
                Rule::Caller { needs: read, ticket: true },
            ),
            (&[("jwt", &["dns:reed"])], Rule::Nobody),
            (&[("jwt", &["dns:read", "dns:write"])], Rule::Nobody),
            (&[("other", &[])], Rule::Nobody),
        ];
        for (pairs, want) in rows {
            assert_eq!(rule(&security(pairs)), *want, "{pairs:?}");
        }
        let all = Rules::of(&crate::openapi()).0;
        let nobody = all.values().flat_map(BTreeMap::values).any(|rule| *rule == Rule::Nobody);
        assert!(!nobody, "an operation names a permission that does not exist");
    }

    #[test]
    fn a_ticket_is_taken_out_of_the_address() {
        for (address, want) in [
            ("/s?ticket=ab", Some(("ab", "/s"))),
            ("/s?type=x&ticket=ab&y=1", Some(("ab", "/s?type=x&y=1"))),
            ("/s?ticket=", Some(("", "/s"))),
            ("/s?ticket=ab&ticket=cd", None),
            ("/s?tickets=ab", None),
            ("/s", None),
        ] {
            let got = take_ticket(&address.parse().unwrap());
            let got = got.as_ref().map(|(ticket, uri)| (ticket.as_str(), uri.to_string()));
            assert_eq!(got, want.map(|(t, u)| (t, u.to_owned())), "{address}");
        }
    }
}
