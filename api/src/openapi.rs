use crate::routes;
use crate::types::ErrorBody;
use crate::{IDEMPOTENCY_HEADER, REVISION_HEADER};
use std::collections::BTreeMap;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Required, ResponseBuilder, Type,
};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tandem API",
        description = "Any node answers any request; writes reach the leader by themselves.",
    ),
    components(schemas(ErrorBody)),
    tags(
        (name = "auth", description = "Logins, users, roles, keys, audit"),
        (name = "subscribers", description = "Sessions"),
        (name = "events", description = "What happens to subscribers: a stream, and webhooks"),
        (name = "interfaces", description = "Interfaces and VLAN tags"),
        (name = "qos", description = "Rates"),
        (name = "routing", description = "Kernel routes and FRR"),
        (name = "cgnat", description = "Port-block NAT"),
        (name = "policy", description = "Static subscribers, bans, sources that wait"),
        (name = "cluster", description = "Members, init, join"),
        (name = "groups", description = "Redundancy groups: who owns what"),
        (name = "system", description = "This node"),
        (name = "configuration", description = "Candidate, running and archived configuration"),
        (name = "purenas", description = "The PureNAS dialect: GET changes things; a refusal is a 200 with `error`, or with `success` false"),
    ),
)]
struct Document;

/// The OpenAPI document of everything that [`crate::router`] serves.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    for part in routes::documented() {
        document.merge(part);
    }
    Common.modify(&mut document);
    document
}

/// What is the same for all operations: credentials, headers, `consistency`, error answers.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = |format: &str, text: &str| {
            let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format(format);
            SecurityScheme::Http(scheme.description(Some(text)).build())
        };
        components.add_security_scheme("jwt", bearer("JWT", "From `POST /api/v1/auth/login`"));
        components.add_security_scheme(
            "bootstrap",
            bearer("opaque", "The file `bootstrap-token` in the data directory of the node"),
        );
        let text = "`ApiKey` and a key from `POST /api/v1/auth/api-keys`";
        components.add_security_scheme(
            "api_key",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
                "Authorization",
                text,
            ))),
        );
        components.add_security_scheme(
            "ticket",
            SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::with_description(
                "ticket",
                "From `POST /api/v1/auth/ws-ticket`, once; for streams only",
            ))),
        );
        let about = "`api.purenas.key` of the configuration";
        let key = ApiKeyValue::with_description("key", about);
        components.add_security_scheme("purenas_key", SecurityScheme::ApiKey(ApiKey::Query(key)));
        for item in document.paths.paths.values_mut() {
            for (operation, is_write) in operations(item) {
                complete(operation, is_write);
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&mut Operation, bool)> {
    let reads = item.get.iter_mut().map(|o| (o, false));
    let writes = [&mut item.post, &mut item.put, &mut item.delete, &mut item.patch];
    reads.chain(writes.into_iter().flatten().map(|o| (o, true)))
}

/// Each scheme that the operation accepts, with what it asks of it.
pub(crate) fn security_of(operation: &Operation) -> BTreeMap<String, Vec<String>> {
    let all = operation.security.as_ref().and_then(|all| serde_json::to_value(all).ok());
    let all = all.and_then(|all| serde_json::from_value::<Vec<BTreeMap<_, _>>>(all).ok());
    all.unwrap_or_default().into_iter().flatten().collect()
}

fn complete(operation: &mut Operation, is_write: bool) {
    let security = security_of(operation);
    let scopes = security.get("jwt");
    let (jwt, bootstrap) = (scopes.is_some(), security.contains_key("bootstrap"));
    let text = |kind| ObjectBuilder::new().schema_type(kind).build();
    if let Some(scopes) = scopes {
        let all = operation.security.get_or_insert_default();
        all.push(SecurityRequirement::new("api_key", scopes));
        let words = match scopes.as_slice() {
            [] => "Any valid credential.".to_owned(),
            needed => format!("Needs `{}`.", needed.join("`, `")),
        };
        let about = operation.description.take().filter(|d| !d.is_empty());
        operation.description = Some(about.map_or(words.clone(), |d| format!("{d}\n\n{words}")));
    }
    if jwt && !is_write {
        let levels = ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(["linearizable", "local"]))
            .default(Some("linearizable".into()));
        // What tells of this node alone has no level.
        let replicated =
            ["auth", "subscribers", "policy", "configuration", "events", "qos", "cgnat"];
        let about = if operation.tags.iter().flatten().any(|t| replicated.contains(&t.as_str())) {
            "`local` answers from this node without asking the leader"
        } else {
            "Without effect: this is always the view of the node that answers"
        };
        push_parameter(operation, "consistency", ParameterIn::Query, about, levels.build());
    }
    if is_write && (jwt || bootstrap) {
        let about = "The same key from the same caller is done once";
        let at = ParameterIn::Header;
        push_parameter(operation, IDEMPOTENCY_HEADER, at, about, text(Type::String));
    }
    if is_write && operation.responses.responses.contains_key("412") {
        let about = "Only when this is the present version";
        push_parameter(operation, "If-Match", ParameterIn::Header, about, text(Type::String));
    }
    if jwt {
        let revision = HeaderBuilder::new()
            .schema(text(Type::Integer))
            .description(Some("Revision that the answer shows or made"))
            .build();
        for good in ["200", "201"] {
            if let Some(RefOr::T(ok)) = operation.responses.responses.get_mut(good) {
                ok.headers.insert(REVISION_HEADER.to_owned(), revision.clone());
            }
        }
    }
    let mut failures = vec![("default", "Any other failure")];
    if jwt || bootstrap {
        failures.push(("401", "Could not validate credentials"));
    }
    if scopes.is_some_and(|scopes| !scopes.is_empty()) {
        failures.push(("403", "Admin role required"));
    }
    if jwt {
        failures.push(("503", "No leader, or overloaded; see Retry-After"));
    }
    for (status, about) in failures {
        let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
        let response = ResponseBuilder::new().description(about).content("application/json", body);
        let all = &mut operation.responses.responses;
        all.entry(status.to_owned()).or_insert_with(|| RefOr::T(response.build()));
    }
}

fn push_parameter(
    operation: &mut Operation,
    name: &str,
    at: ParameterIn,
    about: &str,
    schema: utoipa::openapi::Object,
) {
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(at)
        .required(Required::False)
        .description(Some(about))
        .schema(Some(schema));
    operation.parameters.get_or_insert_default().push(parameter.build());
}
