//! What was changed, kept in files, and how it is taken back.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{facts::Process, set};
use crate::{
    cli::Relieve,
    commands::{Ended, say, stdout},
    diagnose::relieve::{Limits, shown},
    report::relieve::{self as report, Lowered},
};

/// Where records are, of root.
const FOLDER: &str = "/run/fdtrace/relieve";
/// Bytes of a record.
const SIZE: u64 = 16 << 10;
/// How often a process is looked at while its time runs.
const PAUSE: Duration = Duration::from_secs(1);

/// The folder of records.
pub(super) struct Records {
    folder: Result<PathBuf, &'static str>,
}

/// What was changed of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    v: u32,
    pid: u32,
    /// Hundredths of a second since boot.
    started: u64,
    /// Which boot.
    boot: String,
    comm: String,
    /// `u64::MAX`: none.
    old_soft: u64,
    old_hard: u64,
    new_soft: u64,
    new_hard: u64,
    time: Timestamp,
    /// By whom.
    uid: u32,
}

impl Record {
    pub(super) fn new(process: &Process, old: Limits, new: Limits) -> Self {
        Self {
            v: 1,
            pid: process.pid,
            started: process.started,
            boot: boot(),
            comm: String::from_utf8_lossy(&process.comm).into_owned(),
            old_soft: old.soft,
            old_hard: old.hard,
            new_soft: new.soft,
            new_hard: new.hard,
            time: Timestamp::now(),
            uid: rustix::process::getuid().as_raw(),
        }
    }

    /// The limits before.
    pub(super) fn old(&self) -> Limits {
        Limits {
            soft: self.old_soft,
            hard: self.old_hard,
        }
    }

    pub(super) fn set_old(&mut self, old: Limits) {
        (self.old_soft, self.old_hard) = (old.soft, old.hard);
    }

    fn new_limits(&self) -> Limits {
        Limits {
            soft: self.new_soft,
            hard: self.new_hard,
        }
    }

    /// Why this is no record of a process that is there; `None`: it is.
    fn fault(&self, boot: &str, started: Option<u64>) -> Option<String> {
        let pid = self.pid;
        if self.boot != boot {
            return Some(format!("process {pid} was raised before the last boot"));
        }
        match started {
            None => Some(format!("process {pid} has ended")),
            Some(started) if started != self.started => Some(format!(
                "process {pid} is another one now: it was started at another time than the one that was raised"
            )),
            Some(_) => None,
        }
    }

    /// Why the limits are not to be set back; `None`: they may be.
    fn obstacle(&self, now: Limits, open: Option<u64>) -> Option<String> {
        let (soft, pid) = (self.old_soft, self.pid);
        if now != self.new_limits() {
            return Some(format!(
                "the limits of process {pid} were changed since: soft {}, hard {}",
                shown(now.soft),
                shown(now.hard)
            ));
        }
        match open {
            Some(open) if open < soft => None,
            Some(open) => Some(format!(
                "process {pid} has {open} fds open: at a soft limit of {} it could open no more",
                shown(soft)
            )),
            None => Some(format!(
                "how many fds process {pid} has open cannot be read"
            )),
        }
    }
}

/// The id of this boot.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().to_owned()
}

impl Records {
    /// The folder given, or that of root or of this user.
    pub(super) fn new(given: Option<&Path>) -> Self {
        let folder = if let Some(given) = given {
            Ok(given.to_owned())
        } else if rustix::process::geteuid().is_root() {
            Ok(PathBuf::from(FOLDER))
        } else {
            let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|own| !own.is_empty());
            own.map(|own| Path::new(&own).join("fdtrace/relieve"))
                .ok_or(
                    "XDG_RUNTIME_DIR is not set: there is no place for what is needed to undo it",
                )
        };
        Self { folder }
    }

    fn folder(&self) -> Result<&Path> {
        match &self.folder {
            Ok(folder) => Ok(folder),
            Err(reason) => bail!(*reason),
        }
    }

    fn at(&self, pid: u32, started: u64) -> Result<PathBuf> {
        Ok(self.folder()?.join(format!("{pid}-{started}.json")))
    }

    /// Where a record is.
    pub(super) fn path(&self, record: &Record) -> Option<PathBuf> {
        self.at(record.pid, record.started).ok()
    }

    /// The record of a process of this boot, if there is one.
    pub(super) fn of(&self, pid: u32, started: u64) -> Option<Record> {
        let record = read(&self.at(pid, started).ok()?).ok()?;
        (record.boot == boot()).then_some(record)
    }

    /// Writes a record, whole or not at all.
    pub(super) fn write(&self, record: &Record) -> Result<()> {
        let folder = self.folder()?;
        let what = || format!("keeping what is needed to undo it in {}", folder.display());
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(what)?;
        let path = self.at(record.pid, record.started)?;
        let new = path.with_extension("new");
        let _ = fs::remove_file(&new);
        let write = || -> std::io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&new)?;
            serde_json::to_writer_pretty(&mut file, record)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().with_context(what)
    }

    /// It is not needed any more.
    pub(super) fn remove(&self, record: &Record) {
        if let Some(path) = self.path(record) {
            // One that stays says at the next undo that the limits were changed since.
            let _ = fs::remove_file(path);
        }
    }

    /// The record that is meant: a file, or a process.
    fn find(&self, what: &str) -> Result<Record> {
        let Ok(pid) = what.parse::<u32>() else {
            return read(Path::new(what));
        };
        let folder = self.folder()?;
        if let Some(process) = Process::find(pid)
            && let Some(record) = self.of(pid, process.started)
        {
            return Ok(record);
        }
        // That of another process of this number says what has become of it.
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let is_of = |path: &PathBuf| {
            let stem = path
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned());
            let is_record = path
                .extension()
                .is_some_and(|extension| extension == "json");
            is_record && stem.is_some_and(|stem| stem.starts_with(&format!("{pid}-")))
        };
        let mut paths = entries.map(|entry| entry.path()).filter(is_of);
        match paths.next() {
            Some(path) => read(&path),
            None => bail!(
                "process {pid} was not raised: there is no record of it in {}",
                folder.display()
            ),
        }
    }
}

fn read(path: &Path) -> Result<Record> {
    let what = || format!("reading {}", path.display());
    let mut text = String::new();
    let file = File::open(path).with_context(what)?;
    file.take(SIZE)
        .read_to_string(&mut text)
        .with_context(what)?;
    serde_json::from_str(&text).with_context(what)
}

/// `--undo`: the limits as they were, if it is still the same process and it can live with them.
pub(super) fn run(args: &Relieve, records: &Records, what: &str) -> Result<Ended> {
    let record = records.find(what)?;
    let process = Process::find(record.pid);
    let started = process.as_ref().map(|process| process.started);
    let refused = |reason: String| {
        say(&format!("refused: {reason}"));
        Ok(Ended::NothingFound)
    };
    let process = match (record.fault(&boot(), started), process) {
        (None, Some(process)) => process,
        (fault, _) => return refused(fault.unwrap_or_default()),
    };
    let now = process.limits().context("its limits cannot be read")?;
    if let Some(obstacle) = record.obstacle(now, process.open()).filter(|_| !args.force) {
        return refused(format!("{obstacle}; --force does it all the same"));
    }
    if args.yes {
        set::set(&process, record.old())?;
        records.remove(&record);
    }
    let end = if args.yes {
        report::End::Undone
    } else {
        report::End::Safe
    };
    tell(args, &process, &record, end)?;
    if !args.yes && !args.run.quiet {
        say("nothing was changed: --yes does it");
    }
    Ok(Ended::Done)
}

fn tell(args: &Relieve, process: &Process, record: &Record, end: report::End) -> Result<()> {
    let lowered = Lowered {
        time: Timestamp::now(),
        pid: process.pid,
        comm: &process.comm,
        from: record.new_limits(),
        to: record.old(),
        open: process.open(),
        end,
    };
    let mut output = stdout::waiting();
    report::write_lowered(&mut output, &lowered, super::page(args)).context("writing to stdout")?;
    output.flush().context("writing to stdout")
}

/// `--for`: waits so long, then takes back what can be taken back. Status 1 if something had to stay.
pub(super) fn after(
    args: &Relieve,
    time: Duration,
    records: &Records,
    raised: &[(&Process, &Record)],
) -> Result<Ended> {
    say("waiting to take it back; Ctrl-C leaves it as it is now (--undo)");
    let end = Instant::now() + time;
    while Instant::now() < end && raised.iter().any(|(process, _)| !process.has_ended()) {
        thread::sleep(PAUSE.min(end.saturating_duration_since(Instant::now())));
    }
    let mut is_kept = false;
    for (process, record) in raised {
        if process.has_ended() {
            records.remove(record);
            continue;
        }
        let now = process.limits().context("its limits cannot be read")?;
        let obstacle = record.obstacle(now, process.open());
        let end = if let Some(obstacle) = obstacle {
            is_kept = true;
            say(&format!("kept: {obstacle}"));
            report::End::Kept
        } else {
            set::set(process, record.old())?;
            records.remove(record);
            report::End::Undone
        };
        tell(args, process, record, end)?;
    }
    Ok(if is_kept {
        Ended::NothingFound
    } else {
        Ended::Done
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn record() -> Record {
        Record {
            v: 1,
            pid: 2231,
            started: 4_200,
            boot: "this".to_owned(),
            comm: "web".to_owned(),
            old_soft: 1_024,
            old_hard: 524_288,
            new_soft: 4_096,
            new_hard: 524_288,
            time: "2026-11-22T08:15:30Z".parse().unwrap(),
            uid: 0,
        }
    }

    #[test]
    fn only_the_process_that_was_raised_is_taken_back() {
        let fault = |boot, started| record().fault(boot, started);
        assert_eq!(fault("this", Some(4_200)), None);
        for (boot, started) in [
            ("other", Some(4_200)),
            ("this", None),
            ("this", Some(4_201)),
        ] {
            assert!(fault(boot, started).is_some(), "{boot} {started:?}");
        }
    }

    #[test]
    fn a_limit_is_not_put_below_what_is_open_nor_over_somebody_elses() {
        let raised = record().new_limits();
        assert_eq!(record().obstacle(raised, Some(1_023)), None);
        for open in [Some(1_024), Some(3_000), None] {
            assert!(record().obstacle(raised, open).is_some(), "{open:?}");
        }
        let since = Limits {
            soft: 8_192,
            ..raised
        };
        assert!(record().obstacle(since, Some(3)).is_some());
    }

    #[test]
    fn a_record_is_found_again_by_its_process_and_by_its_file() {
        let folder = std::env::temp_dir().join(format!("fdtrace-records-{}", std::process::id()));
        let records = Records::new(Some(&folder));
        let own = Process::find(std::process::id()).unwrap();
        let limits = own.limits().unwrap();
        let record = Record::new(&own, limits, limits);
        assert_eq!(records.of(own.pid, own.started), None);
        records.write(&record).unwrap();
        assert_eq!(records.of(own.pid, own.started).as_ref(), Some(&record));
        let path = records.path(&record).unwrap();
        for what in [path.to_str().unwrap(), &own.pid.to_string()] {
            assert_eq!(records.find(what).unwrap(), record);
        }
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        // A record of another boot is none of this process's.
        let other = Record {
            boot: "other".to_owned(),
            ..record.clone()
        };
        records.write(&other).unwrap();
        assert_eq!(records.of(own.pid, own.started), None);
        records.remove(&other);
        assert!(records.find("1").is_err());
        for damaged in ["", "{}", "[1]"] {
            fs::write(&path, damaged).unwrap();
            assert!(records.find(path.to_str().unwrap()).is_err(), "{damaged}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
