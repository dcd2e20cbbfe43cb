//! Every flag and its help.

pub mod candidates;

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{
    Args, ColorChoice, Parser, Subcommand, ValueEnum,
    builder::{NonEmptyStringValueParser, PossibleValue, PossibleValuesParser, TypedValueParser},
};
use clap_complete::ArgValueCompleter;
use strum::VariantNames;

use crate::{
    engine::change::Op,
    ground::{kind::Kind, tcp_state::TcpState},
    probe::{backend::Backend, load, scope::Request},
};

/// What people type, and what for.
pub(crate) const EXAMPLES: &str = "\
\x20 sudo fdtrace                   everything on the host, until Ctrl-C
  sudo fdtrace -p 2231 -f        only process 2231 and its children
  sudo fdtrace -n nginx -d 60    only nginx, for a minute
  sudo fdtrace --cgroup system.slice/web.service --json
                                 only one systemd service, for a script
  sudo fdtrace --once -d 5m      wait for the first, at most five minutes
  sudo fdtrace ls --count        how full every process's table is now
  sudo fdtrace ls -p 2231        what process 2231 has open
  sudo fdtrace ls /var/log       who has a file open there
  sudo fdtrace trace -p 2231     every fd that process 2231 opens and closes
  sudo fdtrace leaks -p 2231     what process 2231 opens and does not close
  sudo fdtrace leaks --fail -- ./server --selftest
                                 what a command leaves open; status 1 if it does
  sudo fdtrace audit -d 10       follow every fd for ten seconds, prove that none was missed
  sudo fdtrace record -o night.fdtrace --flight 5
                                 keep the last five minutes, write them at each exhaustion
  fdtrace --replay night.fdtrace what happened in them
  sudo fdtrace relieve 2231      may the limit of process 2231 be raised? with --yes: raises it
  sudo fdtrace doctor            if it does not work: what this kernel offers, what is missing";

/// Where the output goes, and what the exit status says.
pub(crate) const OUTCOME: &str = "\
Reports go to stdout, everything else to stderr.
Exit status: 0 done; 1 nothing seen (--once with -d), nothing to show (ls), differences (audit),
refused (relieve) or no way to watch (doctor); 2 error.";

/// Shows every "too many open files" on this host the moment it happens
///
/// For each call that fails because no file descriptor was to be had (EMFILE, ENFILE, and the cases
/// in which the program is not even told): which process, in which call, against which limit, and
/// how many it had open. Calls that say "too many open files" for another reason (inotify, message
/// queues) are shown with that reason. Needs root, or CAP_BPF and CAP_PERFMON; changes nothing in
/// the programs it watches.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 100)]
#[command(after_help = format!("Examples:\n{EXAMPLES}\n\n{OUTCOME}"))]
pub struct Cli {
    /// What to do; `watch` where it is left out.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags of `watch`.
    #[command(flatten)]
    pub watch: Watch,
    /// Print the man page, or that of a command
    #[arg(long, hide = true, value_name = "COMMAND", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub man_page: Option<String>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show every fd exhaustion as it happens (what fdtrace does without a command)
    Watch(Watch),
    /// Show every fd that is opened, replaced, closed, passed or inherited, a line each
    Trace(Trace),
    /// Show fds that have been open for too long, by the code that has opened them and what they lead to
    Leaks(Leaks),
    /// Show every open fd now: what it leads to, who has it, how full the tables are
    Ls(Ls),
    /// Follow every fd for a while, then compare what was followed with the kernel's own tables
    Audit(Audit),
    /// Keep a stream in a file, or its last minutes, for --replay
    Record(Record),
    /// Raise the limit of a running process, after checking that this helps and harms nothing
    Relieve(Relieve),
    /// Say how fdtrace can watch on this kernel, what is missing, and the limits in force
    Doctor(Doctor),
    /// Print what a shell needs to complete commands, options, process numbers and units
    Completions(Completions),
}

/// `fdtrace watch`.
#[derive(Args, Clone, Debug, Default)]
pub struct Watch {
    /// Whom to watch.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// End after the first report; exit status 1 if --duration ends before there was one
    #[arg(long)]
    pub once: bool,
    /// Warn when a table passes so many percent of its soft limit; 100: do not warn
    #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub warn_at: u8,
    /// Run this command (of sh) for each report and each warning, which it gets as JSON on its standard
    /// input: four at a time, ten seconds each at most
    #[arg(long, value_name = "COMMAND", value_parser = NonEmptyStringValueParser::new())]
    pub exec: Option<String>,
    /// End after this time: seconds, or with units (10, 10s, 5m, 1h30m) [default: at Ctrl-C]
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// What to read.
    #[command(flatten)]
    pub source: SourceArgs,
    /// How to follow.
    #[command(flatten)]
    pub tracking: TrackingArgs,
    /// Who has opened what.
    #[command(flatten)]
    pub stacks: StacksArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `fdtrace relieve`.
#[derive(Args, Clone, Debug)]
#[group(id = "whom", required = true, multiple = false, args = ["pid", "unit", "cgroup", "undo"])]
pub struct Relieve {
    /// The process
    #[arg(value_name = "PID", value_parser = pid, add = ArgValueCompleter::new(candidates::pids))]
    pub pid: Option<u32>,
    /// All processes of this systemd unit of the host
    #[arg(long, value_name = "UNIT", value_parser = NonEmptyStringValueParser::new(), add = ArgValueCompleter::new(candidates::units))]
    pub unit: Option<String>,
    /// All processes in this cgroup (v2) and below it
    #[arg(long, value_name = "PATH", add = ArgValueCompleter::new(candidates::cgroups))]
    pub cgroup: Option<PathBuf>,
    /// With PID: its children too, and its parents as long as they run the same program in the same cgroup, with their
    /// children: a master and its workers
    #[arg(long, requires = "pid")]
    pub tree: bool,
    /// Raise the soft limit to this [default: four times what is used, at least 4096, at most 65536]
    #[arg(long = "to", value_name = "LIMIT", value_parser = clap::value_parser!(u64).range(1..=0x7fff_ffc0), conflicts_with = "undo")]
    pub to: Option<u64>,
    /// Stay, and take it back after this time, unless so many fds are open by then: seconds, or with units (2h)
    #[arg(long = "for", value_name = "TIME", value_parser = duration, requires = "yes", conflicts_with = "undo")]
    pub lease: Option<Duration>,
    /// Do it; without this, the checks are made and nothing is changed
    #[arg(short, long)]
    pub yes: bool,
    /// Do it although a check refuses
    #[arg(long)]
    pub force: bool,
    /// Set the limits back: of this process, or by the file that was kept of it
    #[arg(long, value_name = "PID|FILE")]
    pub undo: Option<String>,
    /// Where what is needed to undo it is kept [default: /run/fdtrace/relieve; without root, below the
    /// user's runtime directory]
    #[arg(long, value_name = "FOLDER")]
    pub records: Option<PathBuf>,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `fdtrace ls`.
#[derive(Args, Clone, Debug)]
pub struct Ls {
    /// Only this file, or what is below this directory
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// Whom to look at.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Only fds of this kind, or of these with commas between them
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',', value_parser = named::<Kind>())]
    pub kinds: Vec<Kind>,
    /// Only sockets in this state, or in these with commas between them
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = tcp_state())]
    pub states: Vec<TcpState>,
    /// One line a process: numbers taken, files open, limit, kinds
    #[arg(short, long)]
    pub count: bool,
    /// With --count: below each process what fills its table, by kind and target, most first. Reads what
    /// every fd leads to, which takes longer than counting
    #[arg(long, requires = "count")]
    pub holders: bool,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `fdtrace trace`.
#[derive(Args, Clone, Debug)]
pub struct Trace {
    /// Whom to watch.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Only fds of this kind, or of these with commas between them
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',', value_parser = named::<Kind>())]
    pub kinds: Vec<Kind>,
    /// Only changes of this kind, or of these with commas between them
    #[arg(long = "op", value_name = "OP", value_delimiter = ',', value_parser = named::<Op>())]
    pub ops: Vec<Op>,
    /// Only calls that got no fd: the same as --op failed
    #[arg(short = 'x', long, conflicts_with = "ops")]
    pub failed: bool,
    /// End after this time: seconds, or with units (10, 10s, 5m) [default: at Ctrl-C]
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// What to read.
    #[command(flatten)]
    pub source: SourceArgs,
    /// How to follow.
    #[command(flatten)]
    pub tracking: TrackingArgs,
    /// Show the functions, files and lines that have led to each open, below it; of a recording, those
    /// that it has
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "never",
        hide_possible_values = false
    )]
    pub stacks: StacksChoice,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

impl Trace {
    /// The changes asked for; empty: all.
    #[must_use]
    pub fn wanted_ops(&self) -> Vec<Op> {
        if self.failed {
            return vec![Op::Failed];
        }
        self.ops.clone()
    }
}

/// `fdtrace leaks`.
#[derive(Args, Clone, Debug)]
pub struct Leaks {
    /// Whose fds to look at.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Only fds that have been open for so long, since fdtrace was started: seconds, or with units
    /// [default: 30s; 0 for a command]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub older: Option<Duration>,
    /// Time between two blocks
    #[arg(short, long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub interval: Duration,
    /// Rows in a block, the largest first; a row is what one code path has opened of one target
    #[arg(long, value_name = "ROWS", default_value_t = 10, value_parser = row_count)]
    pub top: usize,
    /// One block at the end, as folded stacks for a flame graph
    #[arg(long, conflicts_with = "json")]
    pub folded: bool,
    /// Exit status 1 if anything is outstanding at the end, or the command has failed
    #[arg(long)]
    pub fail: bool,
    /// End after this time: seconds, or with units (10, 10s, 5m) [default: at Ctrl-C]
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// What to read.
    #[command(flatten)]
    pub source: SourceArgs,
    /// How to follow.
    #[command(flatten)]
    pub tracking: TrackingArgs,
    /// Who has opened what; of chosen processes and of a command, `auto` takes all stacks.
    #[command(flatten)]
    pub stacks: StacksArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Start this command, follow it from its first fd, and show what it has left open when it ends
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// `fdtrace audit`.
#[derive(Args, Clone, Debug)]
pub struct Audit {
    /// Whose tables are compared; those of all processes are followed.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Compare after this time: seconds, or with units (10, 10s, 5m) [default: at Ctrl-C]
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Show every table that was compared, not only what differs
    #[arg(short, long)]
    pub all: bool,
    /// What to read.
    #[command(flatten)]
    pub source: SourceArgs,
    /// How to follow.
    #[command(flatten)]
    pub tracking: TrackingArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Flags of the commands that follow every table.
#[derive(Args, Clone, Debug, Default)]
pub struct TrackingArgs {
    /// Kernel memory for records that wait to be read: a power of two from 4K to 1G [default: 8M]
    #[arg(long, value_name = "SIZE", value_parser = ring_size)]
    pub ring_size: Option<u32>,
    /// Leave this kernel function's hook out, to see that the self-test notices
    #[arg(long, value_name = "FUNCTION", hide = true)]
    pub without_hook: Option<String>,
}

impl TrackingArgs {
    /// Bytes of the ring buffer.
    #[must_use]
    pub fn ring_bytes(&self) -> u32 {
        self.ring_size.unwrap_or(load::RING_BYTES)
    }
}

/// Flags of the commands that say who has opened an fd.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct StacksArgs {
    /// Of which opens to take the stack: the functions, files and lines that have led to them
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = false
    )]
    pub stacks: StacksChoice,
}

/// `--stacks`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StacksChoice {
    /// Of those in tables that are a quarter full, or grow
    #[default]
    Auto,
    /// Of all in scope: each costs a copy of up to 12 KiB
    Always,
    /// Of none
    Never,
}

impl From<StacksChoice> for load::Stacks {
    fn from(choice: StacksChoice) -> Self {
        match choice {
            StacksChoice::Auto => Self::Named,
            StacksChoice::Always => Self::Always,
            StacksChoice::Never => Self::Never,
        }
    }
}

/// `fdtrace record`.
#[derive(Args, Clone, Debug)]
pub struct Record {
    /// The file, which must not be there yet; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Keep only the last minutes, in memory, and write them at each exhaustion: to FILE, then FILE.2
    /// and so on, one file in that time at most
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=1440))]
    pub flight: Option<u32>,
    /// Whose failures and changes are shown in replays; the tables of all processes are kept.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// End after this time: seconds, or with units (10, 10s, 5m) [default: at Ctrl-C]
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// How to follow.
    #[command(flatten)]
    pub tracking: TrackingArgs,
    /// Who has opened what.
    #[command(flatten)]
    pub stacks: StacksArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Where a stream comes from.
#[derive(Args, Clone, Debug, Default)]
pub struct SourceArgs {
    /// Read this recording (of `fdtrace record`) in place of the kernel; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["backend", "btf", "ring_size", "without_hook"])]
    pub replay: Option<PathBuf>,
}

/// `fdtrace doctor`.
#[derive(Args, Clone, Debug)]
pub struct Doctor {
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `fdtrace completions`.
#[derive(Args, Clone, Copy, Debug)]
pub struct Completions {
    /// The shell; `source <(fdtrace completions bash)` is enough to try it
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// The shells that completions can be printed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash 4.4 or newer
    Bash,
    /// fish 3 or newer
    Fish,
    /// The Z shell
    Zsh,
}

impl Shell {
    /// As it is typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Fish => "fish",
            Self::Zsh => "zsh",
        }
    }
}

/// Filters, applied in the kernel; different ones must all match.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeArgs {
    /// Only these processes (-p 2231,2240 or -p 2231 -p 2240)
    #[arg(short, long = "pid", value_name = "PID", value_delimiter = ',', value_parser = pid, add = ArgValueCompleter::new(candidates::pids))]
    pub pids: Vec<u32>,
    /// With --pid: their children too, those there are and those to come
    #[arg(short, long)]
    pub follow: bool,
    /// Only processes in this cgroup (v2) or below it; the path may start at /sys/fs/cgroup or
    /// below. Can be given more than once
    #[arg(long = "cgroup", value_name = "PATH", add = ArgValueCompleter::new(candidates::cgroups))]
    pub cgroups: Vec<PathBuf>,
    /// Only processes whose name, or that of a thread of theirs, contains this (names have at most 15
    /// bytes, see ps -L)
    #[arg(short = 'n', long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), add = ArgValueCompleter::new(candidates::comms))]
    pub comm: Option<String>,
    /// Only threads of this user, a number
    #[arg(short, long, value_name = "UID", value_parser = uid)]
    pub uid: Option<u32>,
}

impl From<&ScopeArgs> for Request {
    fn from(args: &ScopeArgs) -> Self {
        Self {
            pids: args.pids.clone(),
            follow: args.follow,
            cgroups: args.cgroups.clone(),
            comm: args.comm.clone(),
            uid: args.uid,
        }
    }
}

/// Flags that every command has.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
    /// Colours in reports.
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        help = "Show colours in reports; auto: on a terminal, unless NO_COLOR is set"
    )]
    pub color: ColorChoice,
    /// How to watch; auto takes the first of the others that works
    #[arg(
        long,
        value_name = "BACKEND",
        default_value = "auto",
        hide_possible_values = false
    )]
    pub backend: BackendChoice,
    /// Read the kernel's types from this file (raw BTF or a vmlinux), where
    /// /sys/kernel/btf/vmlinux is missing
    #[arg(long, value_name = "PATH")]
    pub btf: Option<PathBuf>,
    /// Print reports only: no banner, no summary
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more on stderr; -vv: log lines of the kernel programs too
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Divide the long timers by this, so that a test need not wait for them
    #[arg(long, value_name = "FACTOR", default_value_t = 1, hide = true)]
    pub time_scale: u32,
}

/// `--backend`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BackendChoice {
    /// The first of these that works
    #[default]
    Auto,
    /// Trampolines on the kernel functions that hand out fds: sees the most, costs the least
    Fentry,
    /// The same with kretprobes: sees as much, costs more
    Kprobe,
    /// The result of every system call: works everywhere, sees only what a program is told
    Census,
}

impl BackendChoice {
    /// The one backend asked for.
    #[must_use]
    pub fn forced(self) -> Option<Backend> {
        match self {
            Self::Auto => None,
            Self::Fentry => Some(Backend::Fentry),
            Self::Kprobe => Some(Backend::Kprobe),
            Self::Census => Some(Backend::Census),
        }
    }
}

/// One of the names that a type has for its values: help lists them, and so does the error for another one.
fn named<T>() -> impl TypedValueParser<Value = T>
where
    T: VariantNames + FromStr<Err = strum::ParseError> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(T::VARIANTS).try_map(|name| name.parse())
}

/// A state as `ls` shows it, or as the kernel spells it.
fn tcp_state() -> impl TypedValueParser<Value = TcpState> {
    let values = TcpState::NAMES.map(|name| {
        let state = TcpState::named(name);
        PossibleValue::new(name).aliases(state.map(TcpState::in_capitals))
    });
    PossibleValuesParser::new(values).try_map(|name| {
        let name = name.to_lowercase().replace('_', "-");
        TcpState::named(&name).ok_or("no state")
    })
}

/// Seconds, or a time with units.
fn duration(text: &str) -> Result<Duration, String> {
    let duration = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => text
            .parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok())
            .ok_or("not a time: give seconds, or units as in 10s, 5m, 1h30m")?,
    };
    if duration.is_zero() {
        return Err("must be longer than 0".to_owned());
    }
    Ok(duration)
}

/// Bytes, or with K, M or G.
fn ring_size(text: &str) -> Result<u32, String> {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'k', 'm', 'g']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        _ => 64,
    };
    let size = digits
        .parse::<u32>()
        .ok()
        .filter(|number| number.is_power_of_two())
        .and_then(|number| u64::from(number).checked_shl(shift))
        .filter(|size| (4096..=1 << 30).contains(size));
    let size = size.and_then(|size| u32::try_from(size).ok());
    size.ok_or_else(|| "not a power of two from 4K to 1G".to_owned())
}

/// Rows that fit on a screen, or a few more.
fn row_count(text: &str) -> Result<usize, String> {
    let rows = text.parse().ok().filter(|rows| (1..=1_000).contains(rows));
    rows.ok_or_else(|| "not a number from 1 to 1000".to_owned())
}

/// The number of a process.
fn pid(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(pid) if pid > 0 && i32::try_from(pid).is_ok() => Ok(pid),
        _ => Err("not a process number".to_owned()),
    }
}

/// The number of a user; the last one stands for none.
fn uid(text: &str) -> Result<u32, String> {
    let uid = text.parse().ok().filter(|uid| *uid != u32::MAX);
    uid.ok_or_else(|| "not a user number: id -u NAME tells it".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_units_or_are_seconds() {
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        for wrong in ["0", "0s", "-1", "-5s", "abc", "", "10x"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ring_sizes_are_powers_of_two() {
        assert_eq!(ring_size("4K"), Ok(4096));
        assert_eq!(ring_size("65536"), Ok(65_536));
        assert_eq!(ring_size("32M"), Ok(32 << 20));
        assert_eq!(ring_size("1g"), Ok(1 << 30));
        for wrong in [
            "",
            "K",
            "0",
            "2K",
            "3M",
            "2G",
            "4KK",
            "4T",
            "-4K",
            "99999999999",
        ] {
            assert!(ring_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pids_are_listed_or_repeated() {
        let cli = Cli::try_parse_from(["fdtrace", "-p", "1,2", "--pid", "3"]).unwrap();
        assert_eq!(cli.watch.scope.pids, [1, 2, 3]);
        assert!(Cli::try_parse_from(["fdtrace", "-p", "0"]).is_err());
        assert!(Cli::try_parse_from(["fdtrace", "-p", "4294967295"]).is_err());
    }

    #[test]
    fn watch_is_the_default_command() {
        let cli = Cli::try_parse_from(["fdtrace", "--once"]).unwrap();
        assert!(cli.command.is_none() && cli.watch.once);
    }
}
