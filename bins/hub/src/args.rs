use std::path::PathBuf;

use clap::Parser;

use crate::commands::Command;

/// Runs language and embedding models on this machine.
#[derive(Debug, Parser)]
#[command(name = "hub", bin_name = "hub", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "A fresh hub answers at once: `hub run hub-guide \"How do I import a model?\"`")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, clap::Args)]
#[command(next_display_order = 100)]
pub(crate) struct Global {
    /// Prints JSON for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Shows the causes of an error, and what happens meanwhile; twice shows more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Directory of everything the hub owns [default: HUB_HOME, or this system's place for such]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Configuration file [default: hub.toml in the home directory]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

impl Global {
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose > 0
    }
}
