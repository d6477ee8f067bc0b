use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::{failure::Failure, output::piece};

/// Prints what a shell needs to complete this command
///
/// bash: `hub completions bash > ~/.local/share/bash-completion/completions/hub`. zsh: into a file `_hub` of a
/// directory in `fpath`. fish: into `~/.config/fish/completions/hub.fish`. PowerShell: into the profile.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

impl Args {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut text = Vec::new();
        generate(self.shell, &mut crate::args::Args::command(), "hub", &mut text);
        piece(&String::from_utf8_lossy(&text))
    }
}
