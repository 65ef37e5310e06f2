//! `activekg completions`: tab completion for shells.

use std::io::Write as _;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

/// Print a completion script for a shell
///
/// For bash: activekg completions bash > ~/.local/share/bash-completion/completions/activekg
#[derive(Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "activekg", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}
