use crate::routes;
use crate::types::ErrorBody;
use crate::{IDEMPOTENCY_HEADER, REVISION_HEADER};
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
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
        (name = "auth", description = "Tokens"),
        (name = "subscribers", description = "Sessions"),
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
        let about = "`api.purenas_key` of the node that is asked";
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

fn needs(operation: &Operation, scheme: &str) -> bool {
    let all = operation.security.as_ref().and_then(|all| serde_json::to_value(all).ok());
    all.is_some_and(|all| all.as_array().into_iter().flatten().any(|one| one.get(scheme).is_some()))
}

fn complete(operation: &mut Operation, is_write: bool) {
    let (jwt, bootstrap) = (needs(operation, "jwt"), needs(operation, "bootstrap"));
    let text = |kind| ObjectBuilder::new().schema_type(kind).build();
    if jwt && !is_write {
        let levels = ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(["linearizable", "local"]))
            .default(Some("linearizable".into()));
        let is_listed = |tag: &str| operation.tags.iter().flatten().any(|t| t == tag);
        let about = if is_listed("subscribers") || is_listed("policy") {
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
    if jwt {
        let revision = HeaderBuilder::new()
            .schema(text(Type::Integer))
            .description(Some("Revision that the answer shows or made"))
            .build();
        if let Some(RefOr::T(ok)) = operation.responses.responses.get_mut("200") {
            ok.headers.insert(REVISION_HEADER.to_owned(), revision);
        }
    }
    let mut failures = vec![("default", "Any other failure")];
    if jwt || bootstrap {
        failures.push(("401", "Could not validate credentials"));
    }
    if jwt && is_write {
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
