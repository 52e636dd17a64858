//! What a caller may do: permissions, sets of them, built-in roles.

use model::ApiRole;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Declares the permissions once: variant, text, what it allows.
macro_rules! permissions {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// One thing that a caller may do. The order is that of the bits in tokens: append only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Permission {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Permission {
            /// All of them, in the order of their bits.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its name, such as `subscribers:read`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

permissions! {
    /// Status, versions, metrics.
    DashboardView = "dashboard:view",
    /// Firewall rules and schedules.
    RulesRead = "rules:read",
    /// Change firewall rules and schedules.
    RulesWrite = "rules:write",
    /// Address translation.
    NatRead = "nat:read",
    /// Change address translation.
    NatWrite = "nat:write",
    /// Tunnels.
    VpnRead = "vpn:read",
    /// Change tunnels.
    VpnWrite = "vpn:write",
    /// Country lists.
    GeoipRead = "geoip:read",
    /// Change country lists.
    GeoipWrite = "geoip:write",
    /// Intrusion detection.
    IdsRead = "ids:read",
    /// Change intrusion detection.
    IdsWrite = "ids:write",
    /// Name resolution.
    DnsRead = "dns:read",
    /// Change name resolution.
    DnsWrite = "dns:write",
    /// DHCP leases and pools.
    DhcpRead = "dhcp:read",
    /// Change DHCP leases and pools.
    DhcpWrite = "dhcp:write",
    /// Named sets of addresses and ports.
    AliasesRead = "aliases:read",
    /// Change named sets of addresses and ports.
    AliasesWrite = "aliases:write",
    /// Interfaces and routes.
    InterfacesRead = "interfaces:read",
    /// Change interfaces and routes.
    InterfacesWrite = "interfaces:write",
    /// Connections that pass through.
    ConnectionsView = "connections:view",
    /// Logs.
    LogsView = "logs:view",
    /// Users, roles, keys and the audit trail.
    UsersRead = "users:read",
    /// Change users, roles and keys.
    UsersWrite = "users:write",
    /// Settings of logins and of nodes.
    SettingsRead = "settings:read",
    /// Change settings of logins and of nodes.
    SettingsWrite = "settings:write",
    /// Plugins.
    PluginsRead = "plugins:read",
    /// Change plugins.
    PluginsWrite = "plugins:write",
    /// Available updates.
    UpdatesRead = "updates:read",
    /// Install updates.
    UpdatesInstall = "updates:install",
    /// The configuration, its archive, backups.
    BackupRead = "backup:read",
    /// Change and commit the configuration, make and restore backups.
    BackupWrite = "backup:write",
    /// Restart a node.
    SystemReboot = "system:reboot",
    /// Reverse proxy.
    ProxyRead = "proxy:read",
    /// Change the reverse proxy.
    ProxyWrite = "proxy:write",
    /// Several uplinks.
    MultiwanRead = "multiwan:read",
    /// Change the use of uplinks.
    MultiwanWrite = "multiwan:write",
    /// Members of the cluster: join tokens, removal.
    HaManage = "ha:manage",
    /// Sessions and their events.
    SubscribersRead = "subscribers:read",
    /// Disconnect sessions, change their rates.
    SubscribersWrite = "subscribers:write",
    /// Shaping profiles.
    QosRead = "qos:read",
    /// Change shaping profiles.
    QosWrite = "qos:write",
    /// RADIUS users and records.
    RadiusRead = "radius:read",
    /// Change RADIUS users and records.
    RadiusWrite = "radius:write",
    /// Webhooks.
    WebhooksRead = "webhooks:read",
    /// Change webhooks.
    WebhooksWrite = "webhooks:write",
    /// Members and redundancy groups.
    ClusterRead = "cluster:read",
    /// Move redundancy groups.
    ClusterWrite = "cluster:write",
    /// Access policies: bans, walled garden, isolation.
    PolicyRead = "policy:read",
    /// Change access policies.
    PolicyWrite = "policy:write",
}

// A set is a word of 64 bits, in memory and in tokens.
const _: () = assert!(Permission::ALL.len() <= 64);

impl Permission {
    const fn bit(self) -> u64 {
        1 << (self as u64)
    }

    /// What stands before the colon.
    #[must_use]
    pub fn category(self) -> &'static str {
        self.as_str().split_once(':').map_or("", |(category, _)| category)
    }

    /// What stands behind the colon.
    #[must_use]
    pub fn action(self) -> &'static str {
        self.as_str().split_once(':').map_or("", |(_, action)| action)
    }

    /// Whether it allows looking only.
    #[must_use]
    pub fn is_read(self) -> bool {
        matches!(self.action(), "read" | "view")
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no permission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no permission; see GET /api/v1/auth/permissions")]
pub struct UnknownPermission(String);

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(text: &str) -> Result<Self, UnknownPermission> {
        let found = Self::ALL.iter().copied().find(|p| p.as_str() == text);
        found.ok_or_else(|| UnknownPermission(text.chars().take(64).collect()))
    }
}

/// Some permissions; a list of their names in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PermissionSet(u64);

impl PermissionSet {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Permission::ALL.iter().copied().collect()
    }

    /// As a word, for the claim `perm` of tokens.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether it holds this one.
    #[must_use]
    pub fn contains(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }

    /// Whether `other` holds all of it.
    #[must_use]
    pub fn is_subset(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// What both hold.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Its members, in the order of their bits.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |p| self.contains(*p))
    }

    /// Reads names; repetitions do no harm.
    ///
    /// # Errors
    /// The first name that is none, with its place in the list.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Self, (usize, UnknownPermission)> {
        let parsed = names.iter().enumerate().map(|(i, n)| n.as_ref().parse().map_err(|e| (i, e)));
        parsed.collect()
    }

    /// Its names.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        self.iter().map(|p| p.as_str().to_owned()).collect()
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(all: I) -> Self {
        Self(all.into_iter().fold(0, |bits, p| bits | p.bit()))
    }
}

impl Serialize for PermissionSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Permission::as_str))
    }
}

impl<'de> Deserialize<'de> for PermissionSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Self::parse(&names).map_err(|(_, e)| serde::de::Error::custom(e))
    }
}

/// A role that is there without being made, and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltinRole {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// What it may do.
    pub permissions: PermissionSet,
}

/// The built-in roles. `operator` reads only, as the product whose dialect defines it says.
#[must_use]
pub fn builtin_roles() -> [BuiltinRole; 4] {
    use Permission as P;
    let set = |keep: &dyn Fn(P) -> bool| P::ALL.iter().copied().filter(|p| keep(*p)).collect();
    let private = |p: P| matches!(p.category(), "users" | "settings" | "backup");
    let administrative = |p: P| {
        matches!(
            p,
            P::UsersWrite | P::SettingsWrite | P::UpdatesInstall | P::SystemReboot | P::HaManage
        )
    };
    [
        BuiltinRole {
            name: ApiRole::ADMIN,
            description: "Everything",
            permissions: PermissionSet::all(),
        },
        BuiltinRole {
            name: ApiRole::OPERATOR,
            description: "Reads everything, changes nothing",
            permissions: set(&P::is_read),
        },
        BuiltinRole {
            name: ApiRole::VIEWER,
            description: "Reads what is not about users, settings and the configuration",
            permissions: set(&|p| p.is_read() && !private(p)),
        },
        BuiltinRole {
            name: ApiRole::ENGINEER,
            description: "Reads and changes everything but users, settings of logins, updates and members",
            permissions: set(&|p| !administrative(p)),
        },
    ]
}

/// The built-in role of that name.
#[must_use]
pub fn builtin_role(name: &str) -> Option<BuiltinRole> {
    builtin_roles().into_iter().find(|role| role.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits_are_frozen() {
        let names = "dashboard:view rules:read rules:write nat:read nat:write vpn:read vpn:write \
            geoip:read geoip:write ids:read ids:write dns:read dns:write dhcp:read dhcp:write \
            aliases:read aliases:write interfaces:read interfaces:write connections:view logs:view \
            users:read users:write settings:read settings:write plugins:read plugins:write \
            updates:read updates:install backup:read backup:write system:reboot proxy:read \
            proxy:write multiwan:read multiwan:write ha:manage subscribers:read subscribers:write \
            qos:read qos:write radius:read radius:write webhooks:read webhooks:write cluster:read \
            cluster:write policy:read policy:write";
        let names: Vec<_> = names.split_whitespace().collect();
        assert_eq!(names.len(), 37 + 12);
        for (bit, name) in names.iter().enumerate() {
            let permission: Permission = name.parse().unwrap();
            assert_eq!(permission.bit(), 1 << bit, "{name}");
            assert_eq!(permission.to_string(), *name);
        }
        assert_eq!(Permission::ALL.len(), names.len());
        assert!("users:sell".parse::<Permission>().is_err());
    }

    #[test]
    fn a_set_is_a_list_of_names_in_json() {
        let set = PermissionSet::parse(&["qos:write", "dns:read", "dns:read"]).unwrap();
        let json = serde_json::to_string(&set).unwrap();
        assert_eq!(json, r#"["dns:read","qos:write"]"#);
        assert_eq!(serde_json::from_str::<PermissionSet>(&json).unwrap(), set);
        assert!(serde_json::from_str::<PermissionSet>(r#"["x"]"#).is_err());
        assert_eq!(PermissionSet::parse(&["dns:read", "x"]).unwrap_err().0, 1);
        assert!(set.is_subset(PermissionSet::all()) && !PermissionSet::all().is_subset(set));
    }

    #[test]
    fn built_in_roles_allow_what_their_words_say() {
        use Permission as P;
        let rows: &[(&str, &[P], &[P])] = &[
            // role, allowed, denied
            ("admin", P::ALL, &[]),
            ("operator", &[P::UsersRead, P::SettingsRead, P::LogsView], &[P::SubscribersWrite]),
            ("viewer", &[P::SubscribersRead, P::ClusterRead], &[P::UsersRead, P::BackupRead]),
            ("engineer", &[P::SubscribersWrite, P::UsersRead], &[P::UsersWrite, P::HaManage]),
        ];
        for (name, allowed, denied) in rows {
            let role = builtin_role(name).unwrap().permissions;
            for p in *allowed {
                assert!(role.contains(*p), "{name} {p}");
            }
            for p in *denied {
                assert!(!role.contains(*p), "{name} {p}");
            }
        }
        assert!(builtin_role("operator").unwrap().permissions.iter().all(P::is_read));
        assert_eq!(builtin_role("root"), None);
    }
}
