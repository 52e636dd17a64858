//! Logins by other providers are declined. The paths are here so that a client learns it.

use crate::error::ApiError;
use crate::routes::Routes;
use crate::service::Service;
use crate::types::ErrorBody;
use axum::routing::{get, put};
use utoipa::OpenApi;

async fn declined() -> ApiError {
    ApiError::NotProvided { what: "OAuth".to_owned() }
}

/// One declined operation.
macro_rules! declined {
    ($($(#[doc = $doc:literal])+ $name:ident: $method:ident $path:literal
        ($($param:literal),*) $security:tt;)+) => {
        $(
            $(#[doc = $doc])+
            ///
            /// Not provided: answers 501.
            #[utoipa::path(
                $method, path = $path, tag = "auth",
                params($(($param = String, Path, description = "Name of the provider")),*),
                responses((status = 501, description = "Not provided", body = ErrorBody)),
                security $security,
            )]
            pub(crate) async fn $name() -> ApiError { declined().await }
        )+

        #[derive(OpenApi)]
        #[openapi(paths($($name),+))]
        pub(crate) struct Documented;
    };
}

declined! {
    /// List OAuth providers
    list_providers: get "/api/v1/auth/oauth/providers" () (("jwt" = ["settings:read"]));
    /// Add an OAuth provider
    create_provider: post "/api/v1/auth/oauth/providers" () (("jwt" = ["settings:write"]));
    /// Change an OAuth provider
    update_provider: put "/api/v1/auth/oauth/providers/{id}" ("id")
        (("jwt" = ["settings:write"]));
    /// Remove an OAuth provider
    delete_provider: delete "/api/v1/auth/oauth/providers/{id}" ("id")
        (("jwt" = ["settings:write"]));
    /// Begin a login by a provider
    authorize: get "/api/v1/auth/oauth/{provider}/authorize" ("provider") ();
    /// Come back from a provider
    callback: get "/api/v1/auth/oauth/{provider}/callback" ("provider") ();
}

pub(crate) fn routes<S: Service>() -> Routes<S> {
    Routes::new()
        .route("/api/v1/auth/oauth/providers", get(list_providers).post(create_provider))
        .route("/api/v1/auth/oauth/providers/{id}", put(update_provider).delete(delete_provider))
        .route("/api/v1/auth/oauth/{provider}/authorize", get(authorize))
        .route("/api/v1/auth/oauth/{provider}/callback", get(callback))
}
