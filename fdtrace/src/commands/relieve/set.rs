//! Setting the limits of a running process, so that it can be undone.

use anyhow::{Context, Result, bail};
use log::warn;
use rustix::{
    io::Errno,
    process::{Pid, Resource, Rlimit, prlimit},
};

use super::{
    facts::{self, Process},
    journal,
    undo::{Record, Records},
};
use crate::diagnose::relieve::{Limits, shown};

/// Raises, and says how it was: the record is there before anything is changed.
pub(super) fn raise(process: &Process, target: Limits, records: &Records) -> Result<Record> {
    let before = process.limits().context("its limits cannot be read")?;
    // One that was raised before goes back to what it was at first.
    let earlier = records.of(process.pid, process.started);
    let mut record = Record::new(
        process,
        earlier.as_ref().map_or(before, Record::old),
        target,
    );
    records.write(&record)?;
    let old = match set(process, target) {
        Ok(old) => old,
        Err(error) => {
            match &earlier {
                Some(earlier) => records.write(earlier)?,
                None => records.remove(&record),
            }
            return Err(error);
        }
    };
    if earlier.is_none() && old != before {
        record.set_old(old);
        records.write(&record)?;
    }
    Ok(record)
}

/// Sets them, and reads them back; what they were is the kernel's answer, at the same moment.
pub(super) fn set(process: &Process, target: Limits) -> Result<Limits> {
    let old = set_by_number(process.pid, target)?;
    // While its pidfd does not say that it has ended, the number was nobody else's.
    if process.has_ended() {
        give_back(process, old);
        bail!("it has ended meanwhile");
    }
    let now = process.limits().context("its limits cannot be read back")?;
    if now != target {
        bail!("its soft limit reads back as {}", shown(now.soft));
    }
    journal::note(&format!(
        "soft limit of open files of process {} ({}) set from {} to {}, hard from {} to {}, by uid {}",
        process.pid,
        String::from_utf8_lossy(&process.comm),
        shown(old.soft),
        shown(now.soft),
        shown(old.hard),
        shown(now.hard),
        rustix::process::getuid().as_raw()
    ));
    Ok(old)
}

fn set_by_number(pid: u32, target: Limits) -> Result<Limits> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let finite = |limit: u64| (limit != u64::MAX).then_some(limit);
    let limits = Rlimit {
        current: finite(target.soft),
        maximum: finite(target.hard),
    };
    match prlimit(number, Resource::Nofile, limits) {
        Ok(old) => Ok(Limits {
            soft: old.current.unwrap_or(u64::MAX),
            hard: old.maximum.unwrap_or(u64::MAX),
        }),
        Err(Errno::SRCH) => bail!("it has ended meanwhile"),
        Err(error) => Err(error).context("prlimit(2)"),
    }
}

/// A process that has got the number of one that has just ended keeps the limits that it had.
fn give_back(process: &Process, old: Limits) {
    let is_other = facts::started(process.pid).is_some_and(|started| started != process.started);
    if is_other && let Err(error) = set_by_number(process.pid, old) {
        warn!(
            "process {} has just begun, and may have got another limit: {error:#}",
            process.pid
        );
    }
}
