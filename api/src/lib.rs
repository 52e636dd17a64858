//! The HTTP contract: types, routes, OpenAPI document, typed client.
