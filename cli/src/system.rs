use crate::args::{Cli, Global};
use crate::error::CliError;
use crate::output;
use clap::CommandFactory;
use clap_complete::Shell;
use std::path::Path;

pub(crate) async fn version(global: &Global) -> Result<(), CliError> {
    let own = concat!("bngctl ", env!("CARGO_PKG_VERSION"));
    if !global.json {
        output::line(own)?;
    }
    let answer = global.client()?.version().await?;
    output::answer(global.json, &answer, |v| {
        format!("{} {} (API {}) on {}, Linux {}", v.product, v.version, v.api, v.node, v.kernel)
    })
}

pub(crate) fn completions(shell: Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bngctl", &mut script);
    output::line(String::from_utf8_lossy(&script))
}

/// One page for bngctl and one for each of its commands.
pub(crate) fn man(dir: &Path) -> Result<(), CliError> {
    clap_mangen::generate_to(Cli::command(), dir).map_err(|e| CliError::file(dir, e))
}
