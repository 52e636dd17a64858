//! The daemon's own settings: one TOML file, overridden by flags and environment.
//!
//! What the cluster shares (groups, pools, users) is replicated and not in this file.

use model::{NodeRole, Secret};
use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// Why a configuration was refused. Each message names the key, and the line where one is known.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}; give another file with --config")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not TOML, or a key is unknown or of the wrong type.
    #[error("{path}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words, which name line, column and key.
        message: String,
    },
    /// A value cannot work.
    #[error("{path}:{line}: {key}: {problem}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Dotted key.
        key: &'static str,
        /// What is wrong and what to write instead.
        problem: String,
    },
}

/// Settings of this node.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name shown in tables, unique in the cluster.
    pub name: String,
    /// Data node or witness.
    pub role: NodeRole,
    /// Raft log, snapshots, keys.
    pub data_dir: PathBuf,
    /// The key that encrypts log and snapshots.
    pub storage_key: PathBuf,
    /// Raft transport, as peers reach it.
    pub raft_addr: SocketAddr,
    /// Quorum lease datagrams, as peers reach them.
    pub lease_addr: SocketAddr,
    /// Timers.
    pub profile: Profile,
    /// Writes of the log that stay longer than this make the node give its groups up.
    pub disk_slow: Duration,
    /// REST API listener.
    pub api_listen: SocketAddr,
    /// REST API, as peers and joining nodes reach it.
    pub api_addr: SocketAddr,
    /// Certificate and key of the API; generated when absent.
    pub api_tls: Option<(PathBuf, PathBuf)>,
    /// Opens the PureNAS dialect of the API; without one it is shut.
    pub purenas_key: Option<Secret>,
    /// The packet side; `None` on a witness.
    pub dataplane: Option<DataplaneConfig>,
}

/// Interfaces of a data node.
#[derive(Clone, Debug)]
pub struct DataplaneConfig {
    /// In memory instead of the kernel.
    pub simulated: bool,
    /// Access ports, in the order of their port numbers from 1.
    pub access: Vec<AccessConfig>,
    /// Interface towards the core.
    pub core: Option<String>,
    /// XDP attach mode.
    pub xdp: dataplane::XdpMode,
    /// Shaping backend.
    pub shaper: dataplane::Shaper,
}

/// One access interface.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessConfig {
    /// Linux interface.
    pub interface: String,
    /// Name of the redundancy group that the port belongs to.
    pub group: String,
    /// Logical port number, the same on every data node.
    #[serde(default = "one")]
    pub port: u16,
}

fn one() -> u16 {
    1
}

/// Timer profile, architecture section 4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// 10 / 80 ms; asks for fast disks and real-time scheduling.
    Fast,
    /// 25 / 200 ms.
    #[default]
    Default,
    /// 200 / 1500 ms.
    Wan,
}

impl Profile {
    /// What a write of the log may take when the configuration does not say: well above what a sound
    /// disk needs under load, and at least as long as a takeover lasts.
    #[must_use]
    pub fn disk_slow(self) -> Duration {
        Duration::from_millis(match self {
            Self::Fast => 100,
            Self::Default => 500,
            Self::Wan => 2_000,
        })
    }
}

/// Bounds of `node.disk_slow_ms`.
const DISK_SLOW_MS: std::ops::RangeInclusive<u64> = 10..=60_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    node: RawNode,
    cluster: RawCluster,
    #[serde(default)]
    api: RawApi,
    #[serde(default)]
    storage: RawStorage,
    dataplane: Option<Spanned<RawDataplane>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    name: Spanned<String>,
    #[serde(default = "data_role")]
    role: NodeRole,
    #[serde(default = "default_data_dir")]
    data_dir: PathBuf,
    disk_slow_ms: Option<Spanned<u64>>,
}

fn data_role() -> NodeRole {
    NodeRole::Data
}

fn default_data_dir() -> PathBuf {
    PathBuf::from("/var/lib/bngd")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCluster {
    address: Spanned<IpAddr>,
    #[serde(default = "default_raft_port")]
    raft_port: u16,
    #[serde(default = "default_lease_port")]
    lease_port: u16,
    #[serde(default)]
    profile: Profile,
}

fn default_raft_port() -> u16 {
    7400
}

fn default_lease_port() -> u16 {
    7401
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApi {
    listen: Option<SocketAddr>,
    tls_cert: Option<Spanned<PathBuf>>,
    tls_key: Option<PathBuf>,
    purenas_key: Option<Spanned<Secret>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStorage {
    key_file: Option<Spanned<PathBuf>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDataplane {
    #[serde(default)]
    kind: DataplaneKind,
    #[serde(default)]
    access: Vec<AccessConfig>,
    core: Option<String>,
    #[serde(default)]
    xdp: RawXdp,
    #[serde(default)]
    shaper: RawShaper,
}

#[derive(Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DataplaneKind {
    #[default]
    Linux,
    Simulated,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawXdp {
    #[default]
    Auto,
    Native,
    Generic,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawShaper {
    #[default]
    Policer,
    Htb,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`], which names the key and the line.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Checks the text of a file; `path` only stands in messages.
    ///
    /// # Errors
    /// [`ConfigError`], which names the key and the line.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let raw: RawConfig = toml::from_str(text).map_err(|e| ConfigError::Syntax {
            path: path.to_owned(),
            message: e.to_string().trim_end().to_owned(),
        })?;
        let at = |offset: usize, key, problem: String| ConfigError::Value {
            path: path.to_owned(),
            line: text[..offset.min(text.len())].matches('\n').count() + 1,
            key,
            problem,
        };
        check_name(&raw.node.name).map_err(|p| at(raw.node.name.span().start, "node.name", p))?;
        let address = *raw.cluster.address.get_ref();
        if address.is_unspecified() {
            let problem =
                format!("{address} is no address that peers can reach; give this node's own");
            return Err(at(raw.cluster.address.span().start, "cluster.address", problem));
        }
        let disk_slow = disk_slow(raw.node.disk_slow_ms.as_ref(), raw.cluster.profile)
            .map_err(|(offset, p)| at(offset, "node.disk_slow_ms", p))?;
        let api_listen = raw.api.listen.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 8443)));
        let api_tls = match (raw.api.tls_cert, raw.api.tls_key) {
            (Some(cert), Some(key)) => Some((cert.into_inner(), key)),
            (None, None) => None,
            (Some(cert), None) => {
                return Err(at(
                    cert.span().start,
                    "api.tls_cert",
                    "needs api.tls_key beside it".into(),
                ));
            }
            (None, Some(_)) => {
                return Err(at(0, "api.tls_key", "needs api.tls_cert beside it".into()));
            }
        };
        let purenas_key = purenas_key(raw.api.purenas_key)
            .map_err(|(offset, p)| at(offset, "api.purenas_key", p))?;
        let dataplane = match (raw.node.role, raw.dataplane) {
            (NodeRole::Witness, Some(d)) => {
                let problem =
                    "a witness forwards nothing; remove this section or set node.role = \"data\"";
                return Err(at(d.span().start, "dataplane", problem.into()));
            }
            (NodeRole::Witness, None) => None,
            (NodeRole::Data, None) => {
                let problem = "a data node needs this section with its access and core interfaces";
                return Err(at(text.len(), "dataplane", problem.into()));
            }
            (NodeRole::Data, Some(d)) => {
                let offset = d.span().start;
                Some(check_dataplane(d.into_inner()).map_err(|(key, p)| at(offset, key, p))?)
            }
        };
        let storage_key = storage_key(raw.storage, &raw.node.data_dir)
            .map_err(|(offset, p)| at(offset, "storage.key_file", p))?;
        Ok(Self {
            name: raw.node.name.into_inner(),
            role: raw.node.role,
            data_dir: raw.node.data_dir,
            storage_key,
            raft_addr: SocketAddr::new(address, raw.cluster.raft_port),
            lease_addr: SocketAddr::new(address, raw.cluster.lease_port),
            profile: raw.cluster.profile,
            disk_slow,
            api_listen,
            api_addr: SocketAddr::new(address, api_listen.port()),
            api_tls,
            purenas_key,
            dataplane,
        })
    }
}

fn disk_slow(set: Option<&Spanned<u64>>, profile: Profile) -> Result<Duration, (usize, String)> {
    let Some(ms) = set else { return Ok(profile.disk_slow()) };
    if DISK_SLOW_MS.contains(ms.get_ref()) {
        return Ok(Duration::from_millis(*ms.get_ref()));
    }
    let (min, max) = (DISK_SLOW_MS.start(), DISK_SLOW_MS.end());
    Err((ms.span().start, format!("{} is not within {min} to {max}", ms.get_ref())))
}

/// Shorter keys can be guessed, since whoever asks is not locked out.
const PURENAS_KEY_CHARS_MIN: usize = 16;

fn purenas_key(raw: Option<Spanned<Secret>>) -> Result<Option<Secret>, (usize, String)> {
    match raw {
        Some(key) if key.get_ref().expose().chars().count() < PURENAS_KEY_CHARS_MIN => {
            Err((key.span().start, format!("has less than {PURENAS_KEY_CHARS_MIN} characters")))
        }
        other => Ok(other.map(Spanned::into_inner)),
    }
}

/// Where the key is. A relative path would be another file after a start from elsewhere.
fn storage_key(raw: RawStorage, data_dir: &Path) -> Result<PathBuf, (usize, String)> {
    match raw.key_file {
        None => Ok(data_dir.join("storage.key")),
        Some(file) if file.get_ref().is_absolute() => Ok(file.into_inner()),
        Some(file) => {
            Err((file.span().start, format!("{} is no absolute path", file.get_ref().display())))
        }
    }
}

fn check_name(name: &Spanned<String>) -> Result<(), String> {
    let n = name.get_ref();
    let fits = (1..=32).contains(&n.len())
        && n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits { Ok(()) } else { Err(format!("{n:?} is not 1 to 32 of a-z, 0-9 and '-'")) }
}

fn check_dataplane(raw: RawDataplane) -> Result<DataplaneConfig, (&'static str, String)> {
    let simulated = raw.kind == DataplaneKind::Simulated;
    if raw.access.is_empty() && !simulated {
        let problem = "needs at least one [[dataplane.access]] with interface and group";
        return Err(("dataplane.access", problem.into()));
    }
    for (i, a) in raw.access.iter().enumerate() {
        if a.port == 0 {
            return Err(("dataplane.access.port", "ports count from 1".into()));
        }
        if raw.access[..i].iter().any(|b| b.port == a.port || b.interface == a.interface) {
            let problem =
                format!("interface {} or port {} stands there twice", a.interface, a.port);
            return Err(("dataplane.access", problem));
        }
    }
    Ok(DataplaneConfig {
        simulated,
        access: raw.access,
        core: raw.core,
        xdp: match raw.xdp {
            RawXdp::Auto => dataplane::XdpMode::Auto,
            RawXdp::Native => dataplane::XdpMode::Native,
            RawXdp::Generic => dataplane::XdpMode::Generic,
        },
        shaper: match raw.shaper {
            RawShaper::Policer => dataplane::Shaper::Policer,
            RawShaper::Htb => dataplane::Shaper::Htb,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[node]
name = "bng1"
data_dir = "/tmp/x"
[cluster]
address = "10.255.0.1"
[dataplane]
core = "core"
[[dataplane.access]]
interface = "acc"
group = "g1"
"#;

    fn refusal(text: &str) -> String {
        Config::parse(text, Path::new("bngd.toml")).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_minimal_file_gets_the_documented_defaults() {
        let cfg = Config::parse(GOOD, Path::new("bngd.toml")).unwrap();
        assert_eq!(cfg.role, NodeRole::Data);
        assert_eq!(cfg.raft_addr, "10.255.0.1:7400".parse().unwrap());
        assert_eq!(cfg.api_listen, "0.0.0.0:8443".parse().unwrap());
        assert_eq!(cfg.api_addr, "10.255.0.1:8443".parse().unwrap());
        assert_eq!(cfg.profile, Profile::Default);
        assert_eq!(cfg.storage_key, Path::new("/tmp/x/storage.key"));
        let elsewhere = format!("{GOOD}\n[storage]\nkey_file = \"/media/key\"");
        let cfg = Config::parse(&elsewhere, Path::new("bngd.toml")).unwrap();
        assert_eq!(cfg.storage_key, Path::new("/media/key"));
        assert_eq!(cfg.disk_slow, Duration::from_millis(500));
        let set = GOOD.replace("[cluster]", "disk_slow_ms = 80\n[cluster]\nprofile = \"wan\"");
        let cfg = Config::parse(&set, Path::new("bngd.toml")).unwrap();
        assert_eq!((cfg.profile, cfg.disk_slow), (Profile::Wan, Duration::from_millis(80)));
    }

    #[test]
    fn the_key_of_the_dialect_is_read_and_not_shown() {
        let text = format!("{GOOD}[api]\npurenas_key = \"1234567890123456\"");
        let cfg = Config::parse(&text, Path::new("bngd.toml")).unwrap();
        assert_eq!(cfg.purenas_key, Some(Secret::new("1234567890123456")));
        assert!(!format!("{cfg:?}").contains("1234567890123456"));
        let none = Config::parse(GOOD, Path::new("bngd.toml")).unwrap();
        assert_eq!(none.purenas_key, None);
    }

    #[test]
    fn an_error_names_the_key_and_the_line() {
        let rows = [
            (GOOD.replace("bng1", "BNG 1"), "bngd.toml:3: node.name:"),
            (GOOD.replace("10.255.0.1", "0.0.0.0"), "bngd.toml:6: cluster.address:"),
            (GOOD.replace("name = \"bng1\"", "nam = \"bng1\""), "line 3"),
            (
                GOOD.replace("name = \"bng1\"", "name = \"bng1\"\nrole = \"witness\""),
                "dataplane: a witness",
            ),
            (GOOD.to_owned() + "[storage]\nkey_file = \"key\"", "bngd.toml:13: storage.key_file:"),
            (
                GOOD.replace("[cluster]", "disk_slow_ms = 0\n[cluster]"),
                "bngd.toml:5: node.disk_slow_ms:",
            ),
            (GOOD.replace("core = \"core\"", "kor = 1"), "unknown field `kor`"),
            (
                GOOD.to_owned() + "[api]\npurenas_key = \"123456789012345\"",
                "bngd.toml:13: api.purenas_key: has less than 16",
            ),
            (GOOD.replace("group = \"g1\"", "group = \"g1\"\nport = 0"), "dataplane.access.port:"),
        ];
        for (text, want) in rows {
            let got = refusal(&text);
            assert!(got.contains(want), "{want:?} not in {got:?}");
        }
    }
}
