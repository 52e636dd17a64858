//! Runs tools of the system with a script on standard input.

use crate::error::DataplaneError;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A batch must finish within this; 10,000 HTB classes on veth take 5 s, and that is the slow end.
const TOOL_TIMEOUT_S: u64 = 60;
/// Octets of a tool's complaint that go into an error.
const DETAIL_OCTETS_MAX: usize = 600;

/// A program and the Debian package that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

pub(crate) const TC: Tool = Tool { program: "tc", package: "iproute2" };
pub(crate) const IP: Tool = Tool { program: "ip", package: "iproute2" };
pub(crate) const VTYSH: Tool = Tool { program: "vtysh", package: "frr" };
pub(crate) const NFT: Tool = Tool { program: "nft", package: "nftables" };

impl Tool {
    /// Runs the tool, feeds it `script` and returns what it printed.
    pub(crate) async fn run(self, args: &[&str], script: &str) -> Result<String, DataplaneError> {
        let missing = |source| DataplaneError::ToolMissing {
            program: self.program,
            package: self.package,
            source,
        };
        let mut child = Command::new(self.program)
            .args(args)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(missing)?;
        let mut stdin = child.stdin.take();
        let feed = async {
            if let Some(pipe) = stdin.as_mut() {
                // A tool that stopped reading says why on its standard error.
                let _ = pipe.write_all(script.as_bytes()).await;
            }
            drop(stdin);
        };
        let both = async { tokio::join!(feed, child.wait_with_output()).1 };
        let output = tokio::time::timeout(Duration::from_secs(TOOL_TIMEOUT_S), both)
            .await
            .map_err(|_| DataplaneError::ToolSlow {
                program: self.program,
                bound_s: TOOL_TIMEOUT_S,
            })?
            .map_err(missing)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let mut detail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let mut cut = detail.len().min(DETAIL_OCTETS_MAX);
        while !detail.is_char_boundary(cut) {
            cut -= 1;
        }
        detail.truncate(cut);
        Err(DataplaneError::Tool { program: self.program, detail })
    }
}
