//! `fdtrace relieve`: raises the limit of a running process, once it is known that this helps and harms nothing.

mod facts;
mod journal;
mod look;
mod set;
mod undo;
mod who;

use std::{io::Write, time::Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;

use self::{facts::Process, look::Look, undo::Records};
use super::{Ended, own, say, stdout};
use crate::{
    cli::Relieve,
    diagnose::relieve::{Around, Check, Limits, Outcome, Subject, worst},
    probe::{cgroup, host},
    report::{
        page::{Page, Paper},
        relieve::{self as report, Relieved, Seen},
    },
    timers::Timer,
};

/// So long a process is looked at before anything is decided.
const BEFORE: Timer = Timer::seconds(3);
/// So long it is watched afterwards.
const AFTER: Timer = Timer::seconds(10);

/// Checks, and with `--yes` raises, watches, and says what has come of it.
pub(super) fn run(args: &Relieve) -> Result<Ended> {
    cgroup::read_from_root();
    let records = Records::new(args.records.as_deref());
    if let Some(what) = &args.undo {
        return undo::run(args, &records, what);
    }
    let chosen = who::chosen(args)?;
    own::raise_limit();
    let mut look = Look::start(&chosen, &args.run);
    if !args.run.quiet {
        say(&look.how(BEFORE.duration()));
    }
    let mut processes = facts::of_all(&chosen);
    let is_alone = processes.len() == 1;
    let found: Vec<_> = processes.iter().collect();
    look.until(Instant::now() + BEFORE.duration(), &found);
    processes.retain(|process| {
        let has_ended = process.has_ended();
        if has_ended && !is_alone {
            say(&format!("process {} has ended meanwhile", process.pid));
        }
        !has_ended
    });
    if processes.is_empty() {
        bail!("no process is left to relieve: it has ended meanwhile");
    }
    let plans = plans(args, &mut look, &processes);
    if !plans.iter().any(|plan| plan.target.is_some()) || is_refused(args, &plans) {
        show(args, &plans, report::End::Refused)?;
        return Ok(Ended::NothingFound);
    }
    if !args.yes {
        show(args, &plans, report::End::Safe)?;
        return Ok(Ended::Done);
    }
    raise(args, &records, &mut look, &plans)
}

/// What is to be done to a process, and what speaks for it and against it.
struct Plan<'a> {
    process: &'a Process,
    subject: Subject,
    target: Option<Limits>,
    checks: Vec<Check>,
}

fn plans<'a>(args: &Relieve, look: &mut Look, processes: &'a [Process]) -> Vec<Plan<'a>> {
    let subjects: Vec<_> = processes
        .iter()
        .map(|process| process.subject(look))
        .collect();
    let mut around = Around {
        host: host::all(),
        may_raise_hard: facts::may_raise_hard(),
        sees_failures: look.sees_failures(),
        is_one_near: subjects.iter().any(Subject::is_near),
        ..Around::default()
    };
    let chosen: Vec<_> = processes.iter().map(|process| process.pid).collect();
    // What is raised together gets the same limit.
    let near = subjects.iter().filter(|subject| subject.is_near());
    let common = near.filter_map(|subject| subject.target(None, &around));
    let common = common.map(|target| target.soft).max();
    let asked = args.to.or(common.filter(|_| chosen.len() > 1));
    let plan = |(process, subject): (&'a Process, Subject)| {
        around.memory = process.memory();
        around.others_near = process.others_near(&chosen);
        let target = subject.target(asked, &around);
        let is_member = chosen.len() > 1 && target.is_none();
        let checks = if is_member {
            Vec::new()
        } else {
            subject.checks(target, &around)
        };
        Plan {
            process,
            subject,
            target,
            checks,
        }
    };
    processes.iter().zip(subjects).map(plan).collect()
}

/// One that is not to be raised keeps all from being raised: half of a service at another limit helps nobody.
fn is_refused(args: &Relieve, plans: &[Plan<'_>]) -> bool {
    plans.iter().any(|plan| match worst(&plan.checks) {
        Outcome::Ok | Outcome::Warning => false,
        Outcome::Refused => !args.force,
        Outcome::Impossible => true,
    })
}

fn raise(args: &Relieve, records: &Records, look: &mut Look, plans: &[Plan<'_>]) -> Result<Ended> {
    let mut raised = Vec::new();
    for plan in plans {
        let Some(target) = plan.target else { continue };
        match set::raise(plan.process, target, records) {
            Ok(record) => raised.push((plan, record)),
            Err(error) => {
                // What was raised before has its records.
                say(&format!("process {}: {error:#}", plan.process.pid));
            }
        }
    }
    if raised.is_empty() {
        bail!("nothing was raised");
    }
    look.forget_failures();
    let start = Instant::now();
    let after = AFTER.duration();
    let watched: Vec<&Process> = raised.iter().map(|(plan, _)| plan.process).collect();
    look.until(start + after, &watched);
    let mut output = stdout::waiting();
    let mut has_died = false;
    for (plan, record) in &raised {
        let seen = seen(look, plan.process, start);
        let has_ended = seen.ended_s.is_some();
        has_died |= has_ended;
        if has_ended {
            records.remove(record);
        }
        let relieved = Relieved {
            end: report::End::Done,
            undo: records.path(record).filter(|_| !has_ended),
            seen: Some(seen),
            ..relieved(plan)
        };
        report::write(&mut output, &relieved, page(args)).context("writing to stdout")?;
    }
    output.flush().context("writing to stdout")?;
    if raised.len() < plans.iter().filter(|plan| plan.target.is_some()).count() {
        bail!("not all were raised");
    }
    if has_died {
        bail!("a process has ended since: see above");
    }
    match args.lease {
        Some(time) => {
            let raised = raised.iter().map(|(plan, record)| (plan.process, record));
            undo::after(args, time, records, &raised.collect::<Vec<_>>())
        }
        None => Ok(Ended::Done),
    }
}

/// What has been seen since a process was raised.
fn seen(look: &Look, process: &Process, start: Instant) -> Seen {
    let end = process.ended();
    Seen {
        seconds: start.elapsed().as_secs_f64(),
        ended_s: end
            .as_ref()
            .map(|end| end.at.saturating_duration_since(start).as_secs_f64()),
        signal: end.and_then(|end| end.signal),
        fails: look.sees_failures().then(|| look.fails(process.pid)),
        open: process.open(),
    }
}

fn relieved<'a>(plan: &'a Plan<'_>) -> Relieved<'a> {
    Relieved {
        time: Timestamp::now(),
        subject: &plan.subject,
        cgroup: plan.process.cgroup.as_deref(),
        target: plan.target,
        checks: &plan.checks,
        end: report::End::Safe,
        undo: None,
        seen: None,
    }
}

/// The page that is written on; `None`: JSON is.
fn page(args: &Relieve) -> Option<Page> {
    (!args.run.json).then(|| Paper::stdout(args.run.color).page())
}

fn show(args: &Relieve, plans: &[Plan<'_>], end: report::End) -> Result<()> {
    let mut output = stdout::waiting();
    for plan in plans {
        let relieved = Relieved {
            end,
            ..relieved(plan)
        };
        report::write(&mut output, &relieved, page(args)).context("writing to stdout")?;
    }
    output.flush().context("writing to stdout")?;
    if args.run.quiet {
        return Ok(());
    }
    match end {
        report::End::Safe => say("nothing was changed: --yes does it"),
        _ if plans
            .iter()
            .any(|plan| worst(&plan.checks) == Outcome::Impossible) =>
        {
            say("refused: see what is impossible above");
        }
        _ => say("refused: see above; --force does it all the same"),
    }
    Ok(())
}
