//! `fdtrace audit`: follows every table for a while, then proves that it has got them right.

use std::{
    collections::{HashMap, HashSet},
    io::{self, BufWriter, Write},
    os::unix::fs::MetadataExt,
    time::Instant,
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use tokio::runtime;

use super::{
    Ended,
    follow::{Follow, Listener, Lost, say_what_runs},
    kernel_log_level, own, say,
};
use crate::{
    cli::Audit,
    model::{
        history::History,
        names::Names,
        tables::{
            change::{Change, Sink},
            reconcile::Difference,
        },
    },
    probe::{
        attach::{self, Session},
        census, cgroup, load, requirements,
        scope::{Request, Scope},
    },
    report::{
        audit::{self as report, Compared, Disagreement, Verdict},
        fact::Loss,
        text,
    },
    stream::decode::Task,
    tracker::Handler,
};

/// Changes shown of a slot that differs.
const HISTORY: usize = 8;

/// Follows, compares; status 1 where there are differences.
pub(super) fn run(args: &Audit) -> Result<Ended> {
    let mut request = Request::from(&args.scope);
    request.check()?;
    requirements::check()?;
    let members = cgroup::all_members(&std::mem::take(&mut request.cgroups))?;
    let scope = Scope::new(&request)?;
    own::raise_limit();
    own::keep_up();
    let options = load::Options {
        backend: args.run.backend.forced(),
        btf: args.run.btf.as_deref(),
        log_level: kernel_log_level(&args.run),
        alarms: false,
        tables: Some(load::Tables { details: false }),
        ring_bytes: args.tracking.ring_bytes(),
        without_hook: args.tracking.without_hook.clone(),
    };
    // Whose tables are compared is decided at the end; all of them are followed.
    let (session, ring) = attach::attach(&options, &Scope::default())?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting the runtime")?;
    let verdict = runtime.block_on(async {
        let follow = Follow::new(session, ring)?;
        audit(
            args,
            follow,
            &Wanted {
                args,
                scope: &scope,
                members: members.as_ref(),
            },
        )
        .await
    })?;
    let mut output = BufWriter::new(io::stdout().lock());
    let now = Timestamp::now();
    report::write(&mut output, args.run.json, args.all, now, &verdict)
        .and_then(|()| output.flush())
        .context("writing to stdout")?;
    Ok(if verdict.differences.is_empty() {
        Ended::Done
    } else {
        Ended::NothingFound
    })
}

/// Whose tables are compared: as they are at the end.
struct Wanted<'a> {
    args: &'a Audit,
    scope: &'a Scope,
    members: Option<&'a HashSet<u32>>,
}

impl Wanted<'_> {
    fn tasks(&self, mut tasks: Vec<Task>) -> Result<Vec<Task>> {
        let family = self.scope.family()?;
        let scope = &self.args.scope;
        let name = scope.comm.as_deref().unwrap_or_default().as_bytes();
        tasks.retain(|task| {
            (family.is_empty() || family.contains(&task.tgid))
                && self
                    .members
                    .is_none_or(|members| members.contains(&task.tgid))
                && (name.is_empty() || task.comm.windows(name.len()).any(|part| part == name))
                && scope.uid.is_none_or(|uid| user_of(task.tgid) == Some(uid))
        });
        Ok(tasks)
    }
}

fn user_of(pid: u32) -> Option<u32> {
    let process = std::fs::metadata(format!("/proc/{pid}")).ok()?;
    Some(process.uid())
}

async fn audit(args: &Audit, mut follow: Follow, wanted: &Wanted<'_>) -> Result<Verdict> {
    let mut auditor = Auditor::default();
    follow.learn(&mut auditor).await?;
    if !args.run.quiet {
        banner(&follow.session, &follow);
    }
    let start = Instant::now();
    follow.run(args.duration, &mut auditor).await?;
    let duration_s = start.elapsed().as_secs_f64();
    follow.settle(&mut auditor).await?;
    let outcome = follow.compare(&mut auditor).await?;
    let tasks = census::read(&mut follow.session.ebpf, &follow.session.btf)?;
    let tasks = wanted.tasks(tasks)?;
    let tables = &follow.tracker.tables;
    let owners: HashMap<u64, &Task> = tasks.iter().map(|task| (task.files, task)).collect();
    let mut differences = Vec::new();
    for difference in &outcome.differences {
        differences.extend(describe(
            difference,
            &tasks,
            &owners,
            &auditor.history,
            tables.names(),
        ));
    }
    let compared: Vec<Compared> = tasks
        .iter()
        .map(|task| Compared {
            pid: task.tgid,
            tid: task.tid,
            comm: task.comm.clone(),
            used: task.used,
            open: tables.table(task.files).map_or(0, |table| table.open),
            soft: task.soft,
        })
        .collect();
    Ok(Verdict {
        backend: follow.session.backend,
        duration_s,
        records: follow.tracker.records,
        lost: follow.lost(),
        repaired: follow.tracker.repaired,
        tables: owners.len(),
        compared,
        differences,
    })
}

/// Puts a difference into words; `None` where it is about processes that nobody has asked for.
fn describe(
    difference: &Difference,
    tasks: &[Task],
    owners: &HashMap<u64, &Task>,
    history: &History,
    names: &Names,
) -> Option<Disagreement> {
    let file = |file: u64| format!("file {file:#x}");
    match *difference {
        Difference::Slot {
            files,
            fd,
            model,
            kernel,
        } => {
            let owner = owners.get(&files)?;
            let model = model.map(|slot| {
                let name = String::from_utf8_lossy(names.get(slot.name)).into_owned();
                format!("{} {name} {}", slot.kind, file(slot.file))
            });
            Some(Disagreement {
                pid: owner.tgid,
                tid: owner.tid,
                comm: owner.comm.clone(),
                fd: Some(fd),
                model,
                kernel: kernel.map(file),
                history: history.of(files, fd, HISTORY),
            })
        }
        Difference::Thread { tid, model, kernel } => {
            let is_it = |task: &&Task| {
                task.tid == tid || Some(task.files) == kernel || Some(task.files) == model
            };
            let task = tasks.iter().find(is_it)?;
            let table = |files: u64| format!("table {files:#x}");
            Some(Disagreement {
                pid: task.tgid,
                tid,
                comm: task.comm.clone(),
                fd: None,
                model: model.map(table),
                kernel: kernel.map(table),
                history: Vec::new(),
            })
        }
    }
}

fn banner(session: &Session, follow: &Follow) {
    let tables = &follow.tracker.tables;
    say(&format!(
        "following {} fds in {} tables, {} backend. Hit Ctrl-C to compare.",
        tables.open(),
        tables.all().count(),
        session.backend
    ));
    say_what_runs(session);
}

/// Remembers changes, and says what was lost.
#[derive(Default)]
struct Auditor {
    history: History,
}

impl Sink for Auditor {
    fn change(&mut self, change: Change, names: &Names) {
        self.history.change(change, names);
    }
}

impl Handler for Auditor {
    fn alarm(&mut self, _: &[u8]) {}
}

impl Listener for Auditor {
    fn lost(&mut self, lost: Lost) {
        say(&text::loss(&Loss {
            time: Timestamp::now(),
            place: lost.place,
            count: lost.count,
            repaired: lost.repaired,
        }));
    }

    fn notice(&mut self, text: String) {
        say(&text);
    }
}
