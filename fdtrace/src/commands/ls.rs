//! `fdtrace ls`: every open fd at this moment, or the tables in numbers.

mod at;

use std::{
    collections::{HashMap, HashSet},
    io::{BufWriter, Write},
};

use anyhow::{Context, Result};
use aya::Ebpf;
use jiff::Timestamp;

use self::at::At;
use super::{Ended, kernel_log_level, own, say, stdout, wanted::has_name};
use crate::{
    cli::Ls,
    diagnose::holders::files::{ByTable, by_table},
    enrich::process::{is_kernel_thread, user_of},
    ground::{
        file::OpenFile,
        kind::Kind,
        listing::{self, Kinds, Peers, Usage},
    },
    probe::{
        census, cgroup, files, load, requirements,
        scope::{Request, Scope},
        tables,
        targets::Targets,
    },
    report::listing::{json, text},
};

/// Bytes written at a time.
const OUTPUT: usize = 64 * 1024;

/// Looks, selects, prints; status 1 where there is nothing to show.
pub(super) fn run(args: &Ls) -> Result<Ended> {
    cgroup::read_from_root();
    let mut request = Request::from(&args.scope);
    request.check()?;
    let mut at = args.path.as_deref().map(At::new).transpose()?;
    requirements::check()?;
    // Asked for by number, because an iterator runs in its reader's cgroup.
    let members = cgroup::all_members(&std::mem::take(&mut request.cgroups))?;
    let mut scope = Scope::new(&request)?;
    match &members {
        Some(members) if members.is_empty() => return Ok(Ended::NothingFound),
        // They are told to the kernel for speed; what counts is looked at below.
        Some(members) if scope.pids.is_empty() => scope.pids.extend(members),
        _ => {}
    }
    own::raise_limit();
    let options = load::Options {
        backend: None,
        btf: args.run.btf.as_deref(),
        log_level: kernel_log_level(&args.run),
        alarms: false,
        tables: None,
        stacks: load::Stacks::Never,
        slots: false,
        ring_bytes: load::SMALL_RING,
        without_hook: None,
    };
    let (mut ebpf, targets) = load::load(&options, &scope)?.for_snapshot(&scope)?;
    let named = named(args, &mut ebpf, &targets)?;
    let is_member = |tgid| {
        let mut sets = [&members, &named].into_iter().flatten();
        sets.all(|set| set.contains(&tgid))
    };
    let mut output = BufWriter::with_capacity(OUTPUT, stdout::waiting());
    let shown = if args.count {
        let mut holders = None;
        // Counting in the kernel tells no targets, and is what makes this fast.
        let reads_files = args.path.is_some() || args.holders || !args.states.is_empty();
        let mut tables = if reads_files {
            let mut found = files::read(&mut ebpf, &targets)?;
            let mut tables = listing::kinds(&found);
            found.retain(|file| is_member(file.tgid) && is_wanted(args, at.as_mut(), file));
            holders = args.holders.then(|| by_table(&found));
            listing::keep_chosen(&mut tables, &found);
            tables
        } else {
            files::count(&mut ebpf, &targets)?
        };
        tables.retain_mut(|table| is_member(table.tgid) && keep_wanted(args, table));
        let mut tasks = census::read(&mut ebpf, &targets)?;
        let with_files: HashSet<u32> = tables.iter().map(|table| table.tid).collect();
        tasks.retain(|task| {
            // A table may be empty; then its process must have been asked for as such.
            let is_asked_for = || {
                !filters_files(args)
                    && is_in_scope(&scope, task.tgid)
                    // Nobody asks for hundreds of tables that are always empty.
                    && !(scope.pids.is_empty() && task.used == Some(0) && is_kernel_thread(task.tgid))
            };
            is_member(task.tgid) && (with_files.contains(&task.tid) || is_asked_for())
        });
        let mut usages = listing::usage(&tasks, &tables);
        for usage in &mut usages {
            usage.uid = usage.uid.or_else(|| user_of(usage.pid));
        }
        write_usages(&mut output, &usages, holders.as_ref(), args.run.json)?;
        usages.len()
    } else {
        let mut found = files::read(&mut ebpf, &targets)?;
        // Without a choice of processes all are there already.
        let is_whole = scope.pids.is_empty() || !found.iter().any(has_ends);
        let all_of_host = if is_whole {
            None
        } else {
            other_ends(&mut ebpf, &targets)
        };
        found.retain(|file| is_member(file.tgid));
        let peers = listing::peers(&found, all_of_host.as_deref().unwrap_or(&found));
        let rows = found.iter().zip(peers);
        let rows = rows.filter(|(file, _)| is_wanted(args, at.as_mut(), file));
        let rows: Vec<_> = rows.collect();
        let shown = rows.len();
        write_files(&mut output, rows, args.run.json)?;
        shown
    };
    output.flush().context("writing to stdout")?;
    Ok(if shown > 0 {
        Ended::Done
    } else {
        Ended::NothingFound
    })
}

type Row<'a> = (&'a OpenFile, Peers);

fn write_files(output: &mut impl Write, rows: Vec<Row<'_>>, as_json: bool) -> Result<()> {
    if as_json {
        let now = Timestamp::now();
        let mut cgroups = Cgroups::default();
        for (file, peers) in rows {
            let cgroup = cgroups.of(file.tgid);
            json::file(output, now, file, peers, cgroup).context("writing to stdout")?;
        }
        return Ok(());
    }
    text::files(output, &rows).context("writing to stdout")
}

fn write_usages(
    output: &mut impl Write,
    usages: &[Usage],
    holders: Option<&ByTable>,
    as_json: bool,
) -> Result<()> {
    if as_json {
        let now = Timestamp::now();
        let mut cgroups = Cgroups::default();
        for usage in usages {
            let cgroup = cgroups.of(usage.pid);
            // Where they were asked for, an empty table has none.
            let holders =
                holders.map(|holders| holders.get(&usage.tid).map_or(&[][..], Vec::as_slice));
            json::usage(output, now, usage, holders, cgroup).context("writing to stdout")?;
        }
        return Ok(());
    }
    text::usages(output, usages, holders).context("writing to stdout")
}

/// The cgroups of processes, each read once.
#[derive(Default)]
struct Cgroups(HashMap<u32, Option<Vec<u8>>>);

impl Cgroups {
    fn of(&mut self, pid: u32) -> Option<&[u8]> {
        let known = self.0.entry(pid);
        known.or_insert_with(|| cgroup::of_process(pid)).as_deref()
    }
}

fn is_in_scope(scope: &Scope, tgid: u32) -> bool {
    scope.pids.is_empty() || scope.pids.contains(&tgid)
}

/// Do filters look at files, and not only at processes?
fn filters_files(args: &Ls) -> bool {
    args.path.is_some()
        || !args.kinds.is_empty()
        || !args.states.is_empty()
        || args.scope.comm.is_some()
        || args.scope.uid.is_some()
}

/// Leaves the kinds that were asked for; false if nothing was asked for of this table.
fn keep_wanted(args: &Ls, table: &mut Kinds) -> bool {
    if !args.kinds.is_empty() {
        table.kinds.retain(|kind, _| args.kinds.contains(kind));
    }
    is_of_user(args, table.uid) && !table.kinds.is_empty()
}

fn is_of_user(args: &Ls, uid: u32) -> bool {
    args.scope.uid.is_none_or(|wanted| wanted == uid)
}

/// The processes with a thread of the name that was asked for; `None`: any name will do.
fn named(args: &Ls, ebpf: &mut Ebpf, targets: &Targets) -> Result<Option<HashSet<u32>>> {
    let Some(name) = &args.scope.comm else {
        return Ok(None);
    };
    let mut threads = tables::threads(ebpf, targets)?;
    threads.retain(|thread| has_name(&thread.comm, name.as_bytes()));
    Ok(Some(threads.iter().map(|thread| thread.tgid).collect()))
}

fn is_wanted(args: &Ls, at: Option<&mut At>, file: &OpenFile) -> bool {
    is_of_user(args, file.uid)
        && (args.kinds.is_empty() || args.kinds.contains(&file.kind))
        && (args.states.is_empty() || file.state.is_some_and(|state| args.states.contains(&state)))
        && at.is_none_or(|at| at.has(file))
}

/// What may be the other end of something, wherever it is open; `None` where the kernel does not show it, which is told.
fn other_ends(ebpf: &mut Ebpf, targets: &Targets) -> Option<Vec<OpenFile>> {
    let found = files::with_ends(ebpf, targets);
    found
        .inspect_err(|error| {
            say(&format!(
                "other ends are shown of these processes alone: {error:#}"
            ));
        })
        .ok()
}

/// Can it have another end, which is open as a file of its own?
fn has_ends(file: &OpenFile) -> bool {
    matches!(file.kind, Kind::Pipe | Kind::Fifo | Kind::Unix)
}
