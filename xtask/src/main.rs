//! fdtrace's own build, test and demonstration commands.

mod bench;
mod build;
mod cli;
mod command;
mod demo;
mod dist;
mod ebpf;
mod emulator;
mod kernel;
mod pythons;
mod run;
mod setup;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}
