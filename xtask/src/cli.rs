//! What can be typed after `cargo xtask`.

use std::{io, io::IsTerminal as _, path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::{
    bench, build, demo,
    dist::{self, Packages},
    ebpf,
    kernel::Kernel,
    run,
    setup::{self, Consent, Scope},
    test,
    vm::{self, Accelerator},
};

/// Builds, tests and shows fdtrace
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Installs whatever the other tasks need and the machine lacks
    ///
    /// Says what it installs and how much that is, and asks. Kernels stay as they were fetched; to get the newest ones again, remove
    /// `kernels` in fdtrace's cache folder.
    Setup(Setup),
    /// Builds the kernel programs and says how large they are
    Ebpf(Setup),
    /// Builds fdtrace and runs it
    Run(Run),
    /// Runs the tests: format, lints, unit tests, tests on this machine, tests in guests
    ///
    /// In guests each of four kernels is tested with one of the two backends that the machine may refuse, and each
    /// of these on two kernels.
    Test(Test),
    /// Measures what fdtrace costs, side by side with what one would use instead
    ///
    /// Counts instructions in guests, which takes some twenty minutes; --quick only shows that it works.
    Bench(Bench),
    /// Builds what is handed out: a static executable with man pages and completions, as .tar.gz, .deb and .rpm
    ///
    /// The same sources give the same bytes, wherever they are built.
    Dist(Dist),
    /// Shows fdtrace at work on a stock kernel in QEMU
    Demo(Setup),
    /// Boots a stock kernel in QEMU and runs a command there, with fdtrace on its PATH
    Vm(Vm),
}

#[derive(Clone, Copy, Debug, Args)]
struct Setup {
    /// Installs nothing: says what is missing, and fails
    #[arg(long)]
    offline: bool,
    /// Installs what is missing without asking
    #[arg(long, conflicts_with = "offline")]
    yes: bool,
}

impl Setup {
    const fn consent(self) -> Consent {
        match (self.offline, self.yes) {
            (true, _) => Consent::Withheld,
            (_, true) => Consent::Given,
            _ => Consent::Asked,
        }
    }
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    setup: Setup,
    /// What fdtrace is given
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Debug, Args)]
struct Test {
    #[command(flatten)]
    setup: Setup,
    /// Runs only the tests whose name contains this, and neither format nor lints
    filter: Option<String>,
    /// Only on this kernel, with both backends; can be given more than once
    #[arg(long = "kernel", value_name = "KERNEL")]
    kernels: Vec<Kernel>,
    /// One kernel, one backend, no benchmark
    #[arg(long, conflicts_with = "kernels")]
    quick: bool,
    /// Every kernel with every backend
    #[arg(long, conflicts_with_all = ["quick", "kernels"])]
    full: bool,
}

impl Test {
    const fn extent(&self) -> test::Extent {
        match (self.quick, self.full) {
            (true, _) => test::Extent::Quick,
            (_, true) => test::Extent::Full,
            _ => test::Extent::Usual,
        }
    }
}

#[derive(Debug, Args)]
struct Bench {
    #[command(flatten)]
    setup: Setup,
    /// Only the rows whose name contains this: `emfile`, `ls_count`
    filter: Option<String>,
    /// Only on this kernel; can be given more than once [default: 6.1, 6.12 and new]
    #[arg(long = "kernel", value_name = "KERNEL")]
    kernels: Vec<Kernel>,
    /// Few repetitions, one kernel, no peer that takes long: a test of the benchmark itself
    #[arg(long)]
    quick: bool,
    /// Measures the hooks of slots and alarms alone, without peers
    #[arg(long)]
    slots: bool,
    /// Keeps the table in docs/benchmarks.md
    #[arg(long)]
    save: bool,
}

#[derive(Debug, Args)]
struct Dist {
    #[command(flatten)]
    setup: Setup,
    /// Where the files go [default: target/dist]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Only the archive: packages take two more tools, which are compiled first
    #[arg(long)]
    no_packages: bool,
    /// Checks the .deb with lintian, installs and purges it in Debian 11, 12 and 13, and builds the executable again in
    /// another folder
    #[arg(long, conflicts_with = "no_packages")]
    check: bool,
}

#[derive(Debug, Args)]
struct Vm {
    #[command(flatten)]
    setup: Setup,
    /// The kernel to boot
    #[arg(long)]
    kernel: Kernel,
    /// Copies a file into the guest, executable
    #[arg(long = "file", value_name = "HOST:GUEST", value_parser = file)]
    files: Vec<(PathBuf, PathBuf)>,
    /// The guest's memory, as QEMU spells it
    #[arg(long, default_value = "1G")]
    memory: String,
    /// Who executes the guest's code
    #[arg(long, default_value = "tcg")]
    accel: Accelerator,
    /// Seconds after which the guest has failed
    #[arg(long, default_value = "600", value_name = "SECONDS")]
    limit: u64,
    /// The command and its arguments, as they are; for a pipeline: sh -c 'ONE | OTHER'
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Cli {
    pub(crate) fn run(self) -> Result<u8> {
        match self.task {
            Task::Setup(setup) => setup::run(setup.consent()).map(|()| 0),
            Task::Ebpf(setup) => {
                setup::ensure(Scope::Build, setup.consent())?;
                ebpf::report().map(|()| 0)
            }
            Task::Run(Run { setup, arguments }) => {
                setup::ensure(Scope::Build, setup.consent())?;
                run::run(&arguments)
            }
            Task::Test(test) => {
                setup::ensure(Scope::Everything, test.setup.consent())?;
                let filter = test.filter.as_deref();
                Ok(test::run(filter, test.extent(), &test.kernels))
            }
            Task::Dist(Dist {
                setup,
                output,
                no_packages,
                check,
            }) => {
                let (scope, packages) = match (no_packages, check) {
                    (true, _) => (Scope::Build, Packages::None),
                    (_, true) => (Scope::Packaged, Packages::Checked),
                    _ => (Scope::Build, Packages::Made),
                };
                setup::ensure(scope, setup.consent())?;
                dist::run(output, packages).map(|()| 0)
            }
            Task::Demo(setup) => {
                setup::ensure(Scope::Machines(&[Kernel::New]), setup.consent())?;
                demo::run()
            }
            Task::Bench(bench) => bench.run(),
            Task::Vm(vm) => vm.run(),
        }
    }
}

impl Bench {
    fn run(self) -> Result<u8> {
        let kernels = if self.kernels.is_empty() {
            bench::KERNELS.to_vec()
        } else {
            self.kernels
        };
        // In short it makes do with the peers that the tests need.
        let scope = if self.quick {
            Scope::Machines(&kernels[..1])
        } else {
            Scope::Measured(&kernels)
        };
        setup::ensure(scope, self.setup.consent())?;
        bench::run(&bench::Options {
            quick: self.quick,
            slots: self.slots,
            save: self.save,
            filter: self.filter,
            kernels,
        })
    }
}

impl Vm {
    fn run(self) -> Result<u8> {
        setup::ensure(Scope::Machines(&[self.kernel]), self.setup.consent())?;
        let mut request = vm::Request::new(self.kernel, self.command);
        request.files = self.files;
        request
            .files
            .push((build::fdtrace()?, "/bin/fdtrace".into()));
        request.memory = self.memory;
        request.accelerator = self.accel;
        request.limit = Duration::from_secs(self.limit);
        request.terminal = io::stdout().is_terminal();
        vm::run(&request, &mut io::stdout())?.status()
    }
}

fn file(argument: &str) -> Result<(PathBuf, PathBuf), String> {
    let (host, guest) = argument
        .split_once(':')
        .ok_or("not of the form HOST:GUEST")?;
    if !guest.starts_with('/') {
        return Err(format!("{guest} is not an absolute path"));
    }
    Ok((host.into(), guest.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_name_tasks_that_there_are() {
        let pages = [
            include_str!("../../README.md"),
            include_str!("../../docs/hacking.md"),
        ];
        let lines = pages.iter().flat_map(|page| page.lines().map(str::trim));
        let commands: Vec<_> = lines
            .filter(|line| line.starts_with("cargo xtask "))
            .filter_map(|line| line.split('#').next())
            .collect();
        for command in &commands {
            // cargo is the name, xtask goes with it.
            let words = command.split_whitespace().skip(1);
            Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{command}: {error}"));
        }
        assert!(commands.len() >= 6, "{commands:?}");
    }
}
