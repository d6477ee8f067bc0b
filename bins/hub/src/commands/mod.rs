//! The commands: a file each, with its arguments and what it runs.

mod bench;
mod completions;
mod config;
mod doctor;
mod embed;
mod import;
mod keys;
mod list;
mod load;
mod ps;
mod pull;
mod quantize;
mod rm;
mod run;
mod serve;
mod show;
mod unload;

use clap::Subcommand;

use crate::{failure::Failure, session::Session};

/// What the hub is told to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(serve::Args),
    Run(run::Args),
    Pull(pull::Args),
    List(list::Args),
    Show(show::Args),
    Ps(ps::Args),
    Load(load::Args),
    Unload(unload::Args),
    Embed(embed::Args),
    Import(import::Args),
    Quantize(quantize::Args),
    Rm(rm::Args),
    Keys(keys::Args),
    Bench(bench::Args),
    Config(config::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
}

impl Command {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Serve(args) => args.run(session),
            Self::Run(args) => args.run(session),
            Self::Pull(args) => args.run(session),
            Self::List(args) => args.run(session),
            Self::Show(args) => args.run(session),
            Self::Ps(args) => args.run(session),
            Self::Load(args) => args.run(session),
            Self::Unload(args) => args.run(session),
            Self::Embed(args) => args.run(session),
            Self::Import(args) => args.run(session),
            Self::Quantize(args) => args.run(session),
            Self::Rm(args) => args.run(session),
            Self::Keys(args) => args.run(session),
            Self::Bench(args) => args.run(session),
            Self::Config(args) => args.run(session),
            Self::Doctor(args) => args.run(session),
            Self::Completions(args) => args.run(),
        }
    }
}
