//! Whether a tree is a configuration: its shape by JSON Schema, then what its values mean together.

use super::{Configuration, GroupConfig, PoolConfig, ServiceName};
use crate::types::init::{
    ERRORS_MAX, GroupInit, GroupPlan, NatInit, PoolInit, RateInit, plan_network,
};
use crate::types::{FieldError, RATE_BPS_MAX};
use jsonschema::Validator;
use jsonschema::paths::LocationSegment;
use model::Pool;
use serde_json::{Value, json};
use std::sync::LazyLock;
use utoipa::{PartialSchema, ToSchema as _};

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut schemas =
        vec![("Configuration".to_owned(), <Configuration as PartialSchema>::schema())];
    Configuration::schemas(&mut schemas);
    let mut schemas: serde_json::Map<_, _> = schemas
        .into_iter()
        .filter_map(|(name, schema)| Some((name, serde_json::to_value(schema).ok()?)))
        .collect();
    schemas.values_mut().for_each(unwrap_only_choices);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": "#/components/schemas/Configuration",
        "components": { "schemas": schemas },
    })
});

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    jsonschema::draft202012::new(&SCHEMA).expect("the schema of our own types is one")
});

/// Puts a choice of one in the place of the choice, for else an error inside it is only told as
/// "none of the choices".
fn unwrap_only_choices(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(unwrap_only_choices);
            if object.get("oneOf").and_then(Value::as_array).is_some_and(|all| all.len() == 1)
                && let Some(Value::Array(mut all)) = object.remove("oneOf")
                && let Some(Value::Object(only)) = all.pop()
            {
                object.extend(only);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(unwrap_only_choices),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

pub(super) fn schema() -> &'static Value {
    &SCHEMA
}

pub(super) fn check(tree: &Value) -> Result<Configuration, Vec<FieldError>> {
    let errors: Vec<_> =
        VALIDATOR.iter_errors(tree).take(ERRORS_MAX).map(|error| field_error(&error)).collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    // The schema says the same as the types, except where it cannot (a rate, an address).
    let config: Configuration = serde_path_to_error::deserialize(tree).map_err(|error| {
        vec![FieldError::new(error.path().to_string(), error.inner().to_string())]
    })?;
    let mut errors = config.rates_and_networks();
    if let Err(more) = config.plan() {
        errors.extend(more);
    }
    errors.truncate(ERRORS_MAX);
    if errors.is_empty() { Ok(config) } else { Err(errors) }
}

fn field_error(error: &jsonschema::ValidationError<'_>) -> FieldError {
    let mut path = String::new();
    for segment in error.instance_path() {
        match segment {
            LocationSegment::Property(key) if path.is_empty() => path.push_str(&key),
            LocationSegment::Property(key) => {
                path.push('.');
                path.push_str(&key);
            }
            LocationSegment::Index(i) => path.push_str(&format!("[{i}]")),
        }
    }
    FieldError::new(path, masked(error).to_string())
}

/// What is wrong, without the value: it may be a secret.
fn masked<'a>(error: &'a jsonschema::ValidationError<'a>) -> impl std::fmt::Display + 'a {
    error.masked_with("the value")
}

/// Bits per second of `100mbit`, `512kbit`, `1gbit` or a plain number.
fn parse_rate(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor = match text.get(digits..)? {
        "" | "bit" => 1,
        "kbit" => 1_000,
        "mbit" => 1_000_000,
        "gbit" => 1_000_000_000,
        _ => return None,
    };
    let bps = text.get(..digits)?.parse::<u64>().ok()?.checked_mul(factor)?;
    (bps <= RATE_BPS_MAX).then_some(bps)
}

/// The rate as an operator would write it.
#[must_use]
pub fn rate_text(bps: u64) -> String {
    for (factor, unit) in [(1_000_000_000, "gbit"), (1_000_000, "mbit"), (1_000, "kbit")] {
        if bps >= factor && bps.is_multiple_of(factor) {
            return format!("{}{unit}", bps / factor);
        }
    }
    bps.to_string()
}

impl Configuration {
    /// Groups and pools in the types of the domain, in the order of their names. Groups are
    /// numbered by that order: the caller knows their lasting numbers.
    ///
    /// # Errors
    /// Everything that is wrong with them, each with its path.
    pub fn plan(&self) -> Result<(Vec<GroupPlan>, Vec<Pool>), Vec<FieldError>> {
        if self.groups.is_empty() && self.pools.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let groups: Vec<_> = self.groups.iter().map(|(name, g)| group_init(name, g)).collect();
        let pools: Vec<_> = self.pools.iter().map(|(name, p)| pool_init(name, p)).collect();
        plan_network(&groups, &pools).map_err(|errors| {
            errors.into_iter().map(|e| FieldError::new(self.named(&e.path), e.message)).collect()
        })
    }

    /// `pools.home.range` for `pools[0].range`.
    fn named(&self, path: &str) -> String {
        let by_name = |list: &str, names: Vec<&String>| {
            let rest = path.strip_prefix(list)?.strip_prefix('[')?;
            let (index, rest) = rest.split_once(']')?;
            let name = names.get(index.parse::<usize>().ok()?)?;
            Some(format!("{list}.{name}{rest}"))
        };
        by_name("groups", self.groups.keys().collect())
            .or_else(|| by_name("pools", self.pools.keys().collect()))
            .unwrap_or_else(|| path.to_owned())
    }

    fn rates_and_networks(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (name, pool) in &self.pools {
            for (field, rate) in [("rate_down", &pool.rate_down), ("rate_up", &pool.rate_up)] {
                if rate.as_deref().is_some_and(|text| parse_rate(text).is_none()) {
                    let message = "is no rate: a number with kbit, mbit or gbit, at most 1000gbit";
                    errors.push(FieldError::new(format!("pools.{name}.{field}"), message));
                }
            }
        }
        for (i, network) in self.api.purenas.allowed.iter().enumerate() {
            if network.parse::<ipnet::IpNet>().is_err()
                && network.parse::<std::net::IpAddr>().is_err()
            {
                let path = format!("api.purenas.allowed[{i}]");
                errors.push(FieldError::new(path, "is no address and no network"));
            }
        }
        errors
    }
}

fn service_text(service: ServiceName) -> String {
    match service {
        ServiceName::Pppoe => "pppoe".to_owned(),
        ServiceName::Dhcp => "dhcp".to_owned(),
    }
}

fn group_init(name: &str, group: &GroupConfig) -> GroupInit {
    GroupInit {
        name: name.to_owned(),
        vrid: group.vrid.into(),
        core_address: group.core_address.clone(),
        ac_name: group.ac_name.clone(),
        services: group.services.iter().map(|s| service_text(*s)).collect(),
        preferred: group.preferred.clone(),
    }
}

fn pool_init(name: &str, pool: &PoolConfig) -> PoolInit {
    // An unreadable rate has been reported with its own path.
    let bps = |text: &Option<String>| text.as_deref().and_then(parse_rate).unwrap_or(0);
    PoolInit {
        name: name.to_owned(),
        group: pool.group.clone(),
        service: service_text(pool.service),
        range: pool.range.clone(),
        prefix_len: pool.prefix_len.into(),
        gateway: pool.gateway.clone(),
        dns: pool.dns.clone(),
        lease_s: pool.lease_s,
        nat: pool.nat.as_ref().map(|nat| NatInit {
            public: nat.public.clone(),
            ports_per_block: nat.ports_per_block.into(),
        }),
        rate: Some(RateInit { down_bps: bps(&pool.rate_down), up_bps: bps(&pool.rate_up) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Value {
        json!({
            "groups": {"south": {
                "vrid": 51, "core_address": "10.0.0.1/24", "ac_name": "ac",
                "services": ["pppoe"], "preferred": ["bng1"]
            }},
            "pools": {"home": {
                "group": "south", "service": "pppoe", "range": "100.64.0.2-100.64.0.250",
                "prefix_len": 24, "gateway": "100.64.0.1", "rate_down": "100mbit"
            }},
        })
    }

    fn paths(tree: &Value) -> Vec<String> {
        Configuration::check(tree)
            .expect_err("must be refused")
            .into_iter()
            .map(|e| e.path)
            .collect()
    }

    #[test]
    fn a_whole_configuration_is_read_and_an_empty_one_too() {
        let config = Configuration::check(&good()).expect("is right");
        let (groups, pools) = config.plan().expect("is right");
        assert_eq!((groups[0].vrid, pools[0].rate.down_bps), (51, 100_000_000));
        assert_eq!(Configuration::check(&json!({})), Ok(Configuration::default()));
    }

    #[test]
    fn every_error_of_shape_is_told_at_once_with_its_path() {
        let mut tree = good();
        tree["pppoe"] = json!({"lcp_echo_interval": "often", "lcp_echo_failure": 0});
        tree["groups"]["south"]["vrid"] = json!(256);
        tree["pools"]["home"]["prefix_len"] = json!(33);
        tree["poools"] = json!({});
        let mut paths = paths(&tree);
        paths.sort();
        assert_eq!(
            paths,
            [
                "",
                "groups.south.vrid",
                "pools.home.prefix_len",
                "pppoe.lcp_echo_failure",
                "pppoe.lcp_echo_interval"
            ]
        );
    }

    #[test]
    fn every_error_of_meaning_is_told_by_the_name_of_its_object() {
        let mut tree = good();
        tree["pools"]["home"]["group"] = json!("north");
        tree["pools"]["home"]["rate_up"] = json!("fast");
        tree["groups"]["south"]["core_address"] = json!("10.0.0.300/24");
        tree["api"] = json!({"purenas": {"allowed": ["10.0.0.0/8", "here"]}});
        let mut paths = paths(&tree);
        paths.sort();
        assert_eq!(
            paths,
            [
                "api.purenas.allowed[1]",
                "groups.south.core_address",
                "pools.home.group",
                "pools.home.rate_up"
            ]
        );
    }

    #[test]
    fn a_refused_secret_is_not_repeated() {
        let tree = json!({"api": {"freeradius": {"token": "hunter2"}}});
        let errors = Configuration::check(&tree).expect_err("too short");
        assert!(!format!("{errors:?}").contains("hunter2"), "{errors:?}");
    }

    #[test]
    fn a_rate_reads_as_it_is_written() {
        for (text, bps) in [
            ("0", Some(0)),
            ("100mbit", Some(100_000_000)),
            ("512kbit", Some(512_000)),
            ("1gbit", Some(1_000_000_000)),
            ("1001gbit", None),
            ("-1mbit", None),
            ("mbit", None),
            ("10Mbit", None),
            ("99999999999999999999gbit", None),
        ] {
            assert_eq!(parse_rate(text), bps, "{text}");
            if let Some(bps) = bps {
                assert_eq!(parse_rate(&rate_text(bps)), Some(bps), "{text}");
            }
        }
    }
}
