//! The hub command.

mod args;
mod client;
mod commands;
mod environment;
mod failure;
mod os;
mod output;
mod progress;
mod session;

use std::process::ExitCode;

use clap::Parser;

use crate::{args::Args, environment::Environment, session::Session};

fn main() -> ExitCode {
    let args = Args::parse();
    let is_verbose = args.global.is_verbose();
    let session = Session::new(&args.global, Environment::read());
    match args.command.run(&session) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(session.output.is_json, is_verbose),
    }
}
