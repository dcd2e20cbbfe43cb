//! `fdtrace audit`: follows every table for a while, then proves that it has got them right.

use std::{
    collections::HashMap,
    io::{BufWriter, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{runtime, sync::Notify};

use super::{
    Ended,
    follow::{Follow, Followed, Listener, Lost},
    kernel_log_level, own,
    replay::{Choice, Replay},
    say, stdout,
    troubles::Troubles,
    wanted::Wanted,
    what_runs::say_what_runs,
};
use crate::{
    cli::{Audit, StacksChoice},
    engine::{
        Engine,
        change::{Change, Sink},
        difference::Difference,
        history::History,
    },
    ground::{host::Host, task::Task},
    probe::{
        attach::{self, Session},
        census, load, requirements,
        scope::{Request, Scope},
    },
    report::{
        audit::{self as report, Compared, Disagreement, Verdict},
        fact::Loss,
        text,
    },
    stream::clock::Clock,
    tracker::{Handler, Known},
};

/// Changes shown of a slot that differs.
const HISTORY: usize = 8;

/// Follows, compares; status 1 where there are differences.
pub(super) fn run(args: &Audit) -> Result<Ended> {
    if let Some(path) = &args.source.replay {
        return show(args, &replay(args, path)?);
    }
    let request = Request::from(&args.scope);
    request.check()?;
    requirements::check()?;
    Scope::new(&request)?;
    own::raise_limit();
    own::keep_up();
    let options = load::Options {
        backend: args.run.backend.forced(),
        btf: args.run.btf.as_deref(),
        log_level: kernel_log_level(&args.run),
        alarms: false,
        tables: Some(load::Tables { details: false }),
        stacks: load::Stacks::Never,
        slots: false,
        ring_bytes: args.tracking.ring_bytes(),
        without_hook: args.tracking.without_hook.clone(),
    };
    // Whose tables are compared is decided at the end; all of them are followed.
    let (session, ring) = attach::attach(&options, &Scope::default())?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting the runtime")?;
    let verdict = runtime.block_on(async {
        let follow = Follow::new(session, ring, &args.run)?;
        audit(args, follow, &Wanted::live(&args.scope)).await
    })?;
    show(args, &verdict)
}

fn show(args: &Audit, verdict: &Verdict) -> Result<Ended> {
    let mut output = BufWriter::new(stdout::waiting());
    report::write(&mut output, args.run.json, args.all, verdict)
        .and_then(|()| output.flush())
        .context("writing to stdout")?;
    Ok(if verdict.differences.is_empty() {
        Ended::Done
    } else {
        Ended::NothingFound
    })
}

async fn audit(args: &Audit, mut follow: Follow, wanted: &Wanted) -> Result<Verdict> {
    let mut auditor = Auditor::default();
    follow.learn(&mut auditor).await?;
    if !args.run.quiet {
        banner(args, &follow.session, &follow);
    }
    let start = Instant::now();
    // Nothing is written before the end.
    follow
        .run(args.duration, &Notify::new(), &mut auditor)
        .await;
    let duration_s = start.elapsed().as_secs_f64();
    follow.settle(&mut auditor).await;
    follow.end_troubles(&mut auditor);
    let differences = follow.compare(&mut auditor).await?;
    let tasks = census::read_again(&mut follow.session)?;
    let tasks = wanted.choose(tasks, follow.tracker.engine(), &mut follow.troubles);
    follow.end_troubles(&mut auditor);
    let duration = Duration::from_secs_f64(duration_s);
    Ok(verdict(
        follow.followed(duration),
        follow.engine(),
        &auditor,
        &tasks,
        &differences,
    ))
}

/// The same from a recording, which has been compared with the kernel at its end.
fn replay(args: &Audit, path: &Path) -> Result<Verdict> {
    Choice::new(&args.scope)?;
    if args.scope.uid.is_some() {
        bail!(
            "a recording does not tell whose processes it has compared: choose with --pid or --comm"
        );
    }
    let mut replay = Replay::open(path, StacksChoice::Never)?;
    if !args.run.quiet {
        replay.banner();
    }
    let mut auditor = Auditor::default();
    replay.run(args.duration, &mut auditor)?;
    let differences = replay.compared().with_context(|| {
        format!(
            "--replay {}: nothing in it was compared with the kernel, which `fdtrace record` does when it \
             ends",
            path.display()
        )
    })?;
    let tasks = std::mem::take(&mut replay.tasks);
    // Of a recording nothing is looked up that could fail.
    let wanted = Wanted::recorded(&args.scope);
    let tasks = wanted.choose(tasks, replay.engine(), &mut Troubles::default());
    Ok(verdict(
        replay.followed(),
        replay.engine(),
        &auditor,
        &tasks,
        &differences,
    ))
}

fn verdict(
    followed: Followed,
    engine: &dyn Engine,
    auditor: &Auditor,
    tasks: &[Task],
    differences: &[Difference],
) -> Verdict {
    let owners: HashMap<u64, &Task> = tasks.iter().map(|task| (task.files, task)).collect();
    let differences = differences
        .iter()
        .filter_map(|difference| describe(difference, tasks, &owners, &auditor.history));
    let compared = tasks.iter().map(|task| Compared {
        files: task.files,
        pid: task.tgid,
        tid: task.tid,
        comm: task.comm.clone(),
        used: task.used,
        open: engine.head(task.files).map_or(0, |table| table.open),
        soft: task.soft,
    });
    Verdict {
        clock: auditor.clock,
        backend: followed.backend,
        duration_s: followed.duration_s,
        records: followed.records,
        lost: followed.lost,
        repaired: followed.repaired,
        programs: followed.programs,
        tables: owners.len(),
        differences: differences.collect(),
        compared: compared.collect(),
    }
}

/// Puts a difference into words; `None` where it is about processes that nobody has asked for.
fn describe(
    difference: &Difference,
    tasks: &[Task],
    owners: &HashMap<u64, &Task>,
    history: &History,
) -> Option<Disagreement> {
    let file = |file: u64| format!("file {file:#x}");
    match *difference {
        Difference::Slot {
            files,
            fd,
            ref followed,
            kernel,
        } => {
            let owner = owners.get(&files)?;
            let model = followed.as_ref().map(|followed| {
                let name = String::from_utf8_lossy(&followed.name);
                format!("{} {name} {}", followed.kind, file(followed.file))
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
        Difference::Thread {
            tid,
            followed,
            kernel,
        } => {
            let is_it = |task: &&Task| {
                task.tid == tid || Some(task.files) == kernel || Some(task.files) == followed
            };
            let task = tasks.iter().find(is_it)?;
            let table = |files: u64| format!("table {files:#x}");
            Some(Disagreement {
                pid: task.tgid,
                tid,
                comm: task.comm.clone(),
                fd: None,
                model: followed.map(table),
                kernel: kernel.map(table),
                history: Vec::new(),
            })
        }
    }
}

fn banner(args: &Audit, session: &Session, follow: &Follow) {
    let (fds, tables) = follow.engine().size();
    say(&format!(
        "following {fds} fds in {tables} tables, {} backend. Hit Ctrl-C to compare.",
        session.backend
    ));
    say_what_runs(session, &args.run);
}

/// Remembers changes, and says what was lost.
struct Auditor {
    history: History,
    clock: Clock,
}

impl Default for Auditor {
    fn default() -> Self {
        Self {
            history: History::default(),
            clock: Clock::System,
        }
    }
}

impl Sink for Auditor {
    fn change(&mut self, change: Change, name: &[u8]) {
        self.history.change(change, name);
    }
}

impl Handler for Auditor {
    fn alarm(&mut self, _: &[u8], _: &mut Known<'_>) {}

    fn clock(&self) -> Clock {
        self.clock
    }
}

impl Listener for Auditor {
    fn at(&mut self, clock: Clock, _: Host) {
        self.clock = clock;
    }

    fn lost(&mut self, lost: Lost) {
        say(&text::loss(&Loss {
            time: self.clock.now(),
            place: lost.place,
            count: lost.count,
            repaired: lost.repaired,
        }));
    }

    fn notice(&mut self, text: String) {
        say(&text);
    }
}
