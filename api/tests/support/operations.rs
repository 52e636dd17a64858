//! The operations of the OpenAPI document.
#![allow(dead_code, reason = "not every test uses everything")]

use super::fake::auth::CODE;
use api::Permission;
use serde_json::json;

/// One operation, and what it asks of its caller.
pub(crate) struct Operation {
    pub(crate) method: String,
    pub(crate) template: String,
    pub(crate) schemes: Vec<String>,
    pub(crate) needs: Option<Permission>,
}

impl Operation {
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.template)
    }

    /// The path with ids of things that are there.
    pub(crate) fn path(&self) -> String {
        let id = match self.template.as_str() {
            t if t.contains("/users/") => "oli",
            t if t.contains("/roles/") => "noc",
            t if t.contains("/api-keys/") => "k1",
            t if t.contains("/webhooks/") => "a1b2c3d4",
            _ => "1",
        };
        let filled = self.template.replace("{id}", id).replace("{name}", "south");
        let known = [
            ("{provider}", "x"),
            ("{version}", "7"),
            ("{address}", "172.16.0.4"),
            ("{ip}", "172.16.0.4"),
            ("{mac}", "02:00:00:00:00:01"),
            ("{down}", "1000"),
            ("{up}", "500"),
            ("{scope}", "all"),
            ("{network}", "198.51.100.7"),
        ];
        known.iter().fold(filled, |path, (name, value)| path.replace(name, value))
    }

    /// A body that the operation accepts.
    pub(crate) fn body(&self) -> String {
        let body = match self.name().as_str() {
            "PUT /api/v1/subscribers/{id}/rate" => json!({ "rate_down": 5, "rate_up": 6 }),
            "POST /api/v1/auth/users" => json!({ "username": "eve", "password": "12345678" }),
            "PUT /api/v1/auth/users/{id}" => json!({ "enabled": true }),
            "POST /api/v1/auth/roles" => json!({ "name": "r2", "permissions": ["dns:read"] }),
            "PUT /api/v1/auth/roles/{id}" => json!({ "description": "x" }),
            "POST /api/v1/auth/api-keys" => json!({ "name": "k2" }),
            "POST /api/v1/system/config/set" => json!({ "path": "system.name", "value": "x" }),
            "POST /api/v1/system/config/delete" => json!({ "path": "system.name" }),
            "POST /api/v1/system/config/load" => json!({ "system": { "name": "x" } }),
            "PUT /api/v1/auth/settings" => json!({ "max_login_attempts": 9 }),
            "POST /api/v1/auth/totp/verify" | "POST /api/v1/auth/totp/disable" => {
                json!({ "code": CODE })
            }
            "PUT /api/v1/policy/subscribers/{address}/allowed" => json!({ "allowed": true }),
            "PUT /api/v1/policy/subscribers/{address}/mac" => {
                json!({ "mac": "02:00:00:00:00:01" })
            }
            "PUT /api/v1/policy/subscribers/{address}/rate" => {
                json!({ "rate_down": 5, "rate_up": 6 })
            }
            "POST /api/v1/subscribers/disconnect-by-interface" => json!({ "interface": "port1" }),
            "POST /api/v1/webhooks" => {
                json!({ "url": "https://crm.example.net/x", "events": ["session.up"] })
            }
            _ => return String::new(),
        };
        body.to_string()
    }
}

/// All of them.
pub(crate) fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(api::openapi()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let security = operation["security"].as_array().cloned().unwrap_or_default();
            let schemes = security.iter().flat_map(|s| s.as_object().unwrap().keys().cloned());
            let scopes = security.iter().find_map(|s| s.get("jwt")).cloned();
            let scopes: Vec<String> =
                scopes.map(|s| serde_json::from_value(s).unwrap()).unwrap_or_default();
            assert!(scopes.len() <= 1, "{method} {path}");
            all.push(Operation {
                method: method.to_uppercase(),
                template: path.clone(),
                schemes: schemes.collect(),
                needs: scopes.first().map(|s| s.parse().unwrap()),
            });
        }
    }
    assert!(all.len() > 75, "{}", all.len());
    all
}
