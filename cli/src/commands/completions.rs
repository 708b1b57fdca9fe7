//! `peerpath completions`.

use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;
use peerpath_bench::failure::Failure;

use crate::terminal::print;

/// Print a script that completes commands and options in a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerpath completions bash > /etc/bash_completion.d/peerpath
  peerpath completions zsh > \"${fpath[1]}/_peerpath\"
  peerpath completions fish > ~/.config/fish/completions/peerpath.fish")]
pub(super) struct Completions {
    /// bash, elvish, fish, powershell or zsh
    #[arg(value_name = "SHELL", hide_possible_values = true)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self, mut program: Command) -> Result<ExitCode, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, "peerpath", &mut script);
        print(&String::from_utf8_lossy(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}
