//! Lines for people: a header once, one line an exhaustion, one more with what it means.

use std::io::{self, Write};

use jiff::civil::Date;

use super::{
    diagnosis::{self, age_words},
    event,
    fact::{Exhausted, Fact, Loss, NearLimit, Place, Summary},
    outstanding, place, remedy,
    sanitize::printable,
    zone::local,
};
use crate::diagnose::cause::{Cause, Silent};

/// Writes a fact; losses and the summary are for stderr.
pub fn write(output: &mut impl Write, fact: &Fact) -> io::Result<()> {
    match fact {
        Fact::Start => write_header(output),
        Fact::StartTrace => event::write_header(output),
        Fact::Event(event) => event::write_text(output, event),
        Fact::Exhausted(exhausted) => write_exhausted(output, exhausted),
        Fact::Outstanding(block) => outstanding::write_text(output, block),
        Fact::NearLimit(near) => write_near_limit(output, near),
        Fact::Loss(_) | Fact::Notice(_) | Fact::Looked(_) | Fact::Summary(_) => Ok(()),
    }
}

/// The names of the columns, which together stay below 80.
fn write_header(output: &mut impl Write) -> io::Result<()> {
    writeln!(
        output,
        "{:<8} {:>7} {:<15} {:<14} {:<6} {:>7} {:>7} {:>8}",
        "TIME", "PID", "COMM", "CALL", "ERRNO", "USED", "LIMIT", "REPEATS"
    )
}

fn write_exhausted(output: &mut impl Write, exhausted: &Exhausted) -> io::Result<()> {
    let time = local(exhausted.time);
    writeln!(
        output,
        "{:<8} {:>7} {:<15} {:<14} {:<6} {:>7} {:>7} {:>8}",
        time.strftime("%H:%M:%S").to_string(),
        exhausted.pid,
        printable(&exhausted.comm),
        exhausted.call,
        exhausted.errno,
        count(exhausted.used.map(u64::from)),
        limit(exhausted.soft),
        exhausted.repeats,
    )?;
    let mut details = vec![cause(exhausted)];
    details.extend(exhausted.silent.map(silent).map(str::to_owned));
    if let (Some(open), Some(used)) = (exhausted.open, exhausted.used)
        && open != used
    {
        details.push(format!("{open} open"));
    }
    if exhausted.tid != exhausted.pid {
        details.push(format!("thread {}", exhausted.tid));
    }
    details.push(format!("uid {}", exhausted.uid));
    details.extend(exhausted.exe.as_deref().map(printable));
    details.extend(place::words(&exhausted.cgroup, &exhausted.named));
    details.extend(
        exhausted
            .has_ended
            .then(|| "the process has ended".to_owned()),
    );
    writeln!(output, "         {}", details.join(", "))?;
    if let Some(diagnosis) = exhausted.diagnosis.as_ref().filter(|_| exhausted.is_news) {
        let unlisted = exhausted.unlisted().unwrap_or_default();
        diagnosis::write_text(output, diagnosis, unlisted, &exhausted.openers)?;
    }
    // What to type is told with what it is for.
    if exhausted.is_news {
        remedy::write_text(output, &exhausted.remedies())?;
    }
    Ok(())
}

/// In the columns of the others: nothing has failed yet.
fn write_near_limit(output: &mut impl Write, near: &NearLimit) -> io::Result<()> {
    let time = local(near.time);
    writeln!(
        output,
        "{:<8} {:>7} {:<15} {:<14} {:<6} {:>7} {:>7} {:>8}",
        time.strftime("%H:%M:%S").to_string(),
        near.pid,
        printable(&near.comm),
        "(near limit)",
        "-",
        count(near.used.map(u64::from)),
        limit(near.soft),
        "-",
    )?;
    let mut details = vec![
        format!("{} % of the soft limit", count(near.percent)),
        format!("hard limit {}", limit(near.hard)),
    ];
    if let Some(seconds) = near.seconds_left() {
        details.push(format!("full in {} at this rate", age_words(seconds)));
    }
    if near.tid != near.pid {
        details.push(format!("table of thread {}", near.tid));
    }
    details.extend(near.uid.map(|uid| format!("uid {uid}")));
    let cgroup = near.cgroup.as_deref();
    details.extend(cgroup.and_then(|cgroup| place::words(cgroup, &near.named)));
    writeln!(output, "         {}", details.join(", "))?;
    if let Some(diagnosis) = &near.diagnosis {
        diagnosis::write_text(output, diagnosis, 0, &near.openers)?;
    }
    remedy::write_text(output, &near.remedies())
}

/// The days that lines are of: a watch may run for weeks, and a time alone is of any day.
#[derive(Debug, Default)]
pub struct Days(Option<Date>);

impl Days {
    /// Writes the date on a line of its own where it is another than that of the fact before.
    pub fn write(&mut self, output: &mut impl Write, fact: &Fact) -> io::Result<()> {
        let time = match fact {
            Fact::Event(event) => event.time,
            Fact::Exhausted(exhausted) => exhausted.time,
            Fact::NearLimit(near) => near.time,
            Fact::Outstanding(block) if !block.is_folded => block.time,
            _ => return Ok(()),
        };
        let day = local(time).date();
        match self.0.replace(day) {
            Some(before) if before != day => writeln!(output, "{day}"),
            _ => Ok(()),
        }
    }
}

/// The cause in words that name what to look at.
fn cause(exhausted: &Exhausted) -> String {
    let text = match exhausted.cause {
        Cause::RlimitNofile => {
            return format!(
                "soft limit RLIMIT_NOFILE reached, hard limit {}",
                limit(exhausted.hard)
            );
        }
        Cause::NrOpen => "fs.nr_open reached",
        Cause::TableSize => "the number is larger than any fd table",
        Cause::FileMax => "fs.file-max reached, the host's limit",
        Cause::UnixSockets => "no fd limit: the host has twice fs.file-max unix sockets",
        Cause::DupfdMinimum => "F_DUPFD wants a number above those that are free",
        Cause::InotifyInstances => "no fd limit: fs.inotify.max_user_instances reached",
        Cause::FanotifyGroups => "no fd limit: fs.fanotify.max_user_groups reached",
        Cause::MqueueBytes => "no fd limit: RLIMIT_MSGQUEUE reached",
        Cause::PipePages => "no fd limit: fs.pipe-user-pages-hard reached",
        Cause::IoUringFiles => "no fd limit: the ring takes no more registered files",
        Cause::FileServer => "no fd limit of this process: the file system's server ran out",
        Cause::Other => "no fd limit: fds are to spare",
    };
    text.to_owned()
}

fn silent(silent: Silent) -> &'static str {
    match silent {
        Silent::MsgCtrunc => "the process was not told: recvmsg set MSG_CTRUNC and dropped files",
        Silent::IoUringCqe => "only io_uring's completion says so",
        Silent::Dup2Ebadf => "the process was told EBADF",
        Silent::Binder => "the process was not told: the sender's transaction failed",
        Silent::SeccompAddfd => "the process was not told: its seccomp supervisor's ioctl failed",
    }
}

/// One thing, or several.
#[must_use]
pub fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// A number, or what stands for one that is not known.
#[must_use]
pub fn count(count: Option<u64>) -> String {
    count.map_or_else(|| "?".to_owned(), |count| count.to_string())
}

/// A limit; `RLIM_INFINITY` has a name.
#[must_use]
pub fn limit(limit: u64) -> String {
    if limit == u64::MAX {
        "unlimited".to_owned()
    } else {
        limit.to_string()
    }
}

/// A loss in one line, for stderr.
#[must_use]
pub fn loss(loss: &Loss) -> String {
    let what = match loss.place {
        Place::Ring => "records: the ring buffer was full",
        Place::Storms => "failures: too many processes fail at once to count them all",
        Place::Follow => "child processes: there are too many to follow them all",
        Place::Skipped => {
            "calls: a hook was running on that CPU already, or too many calls were under way in it"
        }
        Place::Model => "records: they do not fit the ones before, of which some must be missing",
        Place::Shed => "changes: there are more than can be read, and some tables are not followed",
        Place::Stacks => "stacks: more fds are opened than stacks are taken",
        Place::Output => "lines: stdout is not being read fast enough",
    };
    format!("lost {} {what}", loss.count)
}

/// The last line, for stderr.
#[must_use]
pub fn summary(summary: &Summary) -> String {
    let lost = if summary.lost == 0 {
        String::new()
    } else {
        format!(", {} lost", summary.lost)
    };
    format!(
        "{} in {} in {:.1} s{lost}",
        counted(summary.failures, "failure"),
        counted(summary.exhausted, "report"),
        summary.duration_s
    )
}

#[cfg(test)]
mod tests;
