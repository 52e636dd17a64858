mod account;
mod keys;
mod login;
mod oauth;
mod roles;
mod users;

use crate::routes::Routes;
use crate::service::Service;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;

pub(crate) fn routes<S: Service>() -> Routes<S> {
    login::routes()
        .merge(account::routes())
        .merge(users::routes())
        .merge(roles::routes())
        .merge(keys::routes())
        .merge(oauth::routes())
}

pub(crate) fn documented() -> Vec<OpenApi> {
    vec![
        login::Documented::openapi(),
        account::Documented::openapi(),
        users::Documented::openapi(),
        roles::Documented::openapi(),
        keys::Documented::openapi(),
        oauth::Documented::openapi(),
    ]
}
