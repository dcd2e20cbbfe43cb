//! What has been seen of a table, in the numbers that a verdict is made of.

use super::{
    growth::{GROWN_MIN, Growth, JITTER, SECONDS_MIN},
    past::{Ages, Mark, Past},
    peak::Peak,
    served::{Made, is_made},
    turnover::Turnover,
};
use crate::{
    diagnose::{
        connections::Connections,
        holders::{Holder, INODES_MAX},
    },
    engine::table::{Entry, Stretch, Table},
    ground::kind::Kind,
};

/// Fewer stretches of time tell nothing about growth.
const STRETCHES_MIN: usize = 4;

/// A table at a moment, and what is known of its past.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The table.
    pub table: &'a Table,
    /// Its process's soft limit.
    pub limit: Option<u64>,
    /// Its largest group.
    pub largest: Option<&'a Holder>,
    /// When it began, nanoseconds since boot, where fdtrace was there; 0: it is older.
    pub begun_ns: u64,
    /// The moment, nanoseconds since boot.
    pub now_ns: u64,
}

/// What has been seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Fds open now.
    pub open: u32,
    /// How many of them came with the table.
    pub inherited: u32,
    /// How many of them are older than fdtrace's first look at the table.
    pub from_before: u32,
    /// For how long the table has been followed, seconds.
    pub seconds: f64,
    /// Opened in that time, not inherited.
    pub opened: u64,
    /// Closed in that time.
    pub closed: u64,
    /// The minimum open in it.
    pub lowest: u32,
    /// The maximum open in it.
    pub highest: u32,
    /// A call has failed for want of an fd.
    pub is_exhausted: bool,
    /// Connected clients of a server that the process runs.
    pub clients: u32,
    /// Connections that the process has made for them, as a proxy does.
    pub for_clients: u32,
    /// They are most of what has come since the table began to grow.
    pub are_clients_growing: bool,
    /// Connections that the other end has closed.
    pub close_wait: u32,
    /// They have not come in the last second only.
    pub is_close_wait_old: bool,
    /// Fds have piled up.
    pub growth: Option<Growth>,
    /// How the minimum open has changed, whatever became of the fds, until the table was full.
    pub rise: Option<Rise>,
    /// Fds have been closed again.
    pub turnover: Option<Turnover>,
    /// The table is much fuller than it used to be.
    pub peak: Option<Peak>,
    /// What most of the fds are, in words.
    pub cohort: Option<String>,
    /// Most of the fds are files of which no two are the same: what a cache holds as well.
    pub different_files: Option<u32>,
}

/// The minimum open, from the first stretch of time to the last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rise {
    /// In the first stretch.
    pub from: u32,
    /// In the last.
    pub to: u32,
    /// Time between them.
    pub seconds: f64,
    /// How many stretches there are.
    pub stretches: usize,
    /// Both halves of the time have their part in it, and there is no way down.
    pub is_steady: bool,
}

impl Evidence {
    /// What is known of a table now.
    #[must_use]
    pub fn of(subject: Subject<'_>) -> Self {
        let Subject {
            table,
            limit,
            largest,
            begun_ns,
            now_ns,
        } = subject;
        // Where tables are only looked at now and then, the kernel may have used the address for another one meanwhile:
        // what was seen before this one began was not this one.
        let others = table.past.partition_point(|part| part.from_ns < begun_ns);
        let (stretches, open) = (&table.past[others..], table.open());
        let connections = Connections::of(table);
        let inherited = count(table, |entry| entry.open.is_inherited);
        let has_time = |entry: &Entry| !entry.open.is_inherited && entry.open.since_ns > 0;
        let own = |is_wanted: &dyn Fn(&Entry) -> bool| -> Vec<u64> {
            let entries = table.entries.iter();
            let entries = entries.filter(|entry| has_time(entry) && is_wanted(entry));
            entries.map(|entry| entry.open.since_ns).collect()
        };
        let before = count(table, |entry| !has_time(entry));
        let now = Mark {
            at_ns: now_ns,
            low: open,
            opened: table.gained,
            closed: table.closed(),
        };
        let copied = table.copied;
        let begin = (begun_ns > 0).then(|| Mark {
            at_ns: begun_ns,
            low: before,
            opened: copied,
            closed: copied.saturating_sub(u64::from(inherited)),
        });
        // Where it is not known when the table began, nobody has seen how its first fds came.
        let first = begin.or_else(|| {
            let first = stretches.first()?;
            Some(Mark {
                at_ns: first.from_ns,
                low: first.low,
                opened: first.opened,
                closed: first.closed,
            })
        });
        let first = first.unwrap_or(now);
        let past = Past::new(begin, stretches, now, Ages::new(before, own(&|_| true)));
        let made = Made::of(table, has_time);
        let mut growth = Growth::of(&past, limit);
        let mut are_clients_growing = false;
        if let Some(grown) = growth.filter(|_| connections.clients() > 0) {
            // Clients leave; what has piled up beside them is what counts.
            let clients = own(&|entry| connections.is_client(entry));
            let since = clients.iter().chain(&made.for_clients);
            let since = since.filter(|time_ns| **time_ns >= grown.since_ns);
            are_clients_growing = since.count() * 2 > grown.kept as usize;
            let mut others = own(&|entry| !connections.is_client(entry) && !is_made(entry));
            others.extend(&made.others);
            let without = Past {
                marks: past.marks.clone(),
                ages: Ages::new(before, others),
            };
            growth = Growth::of(&without, limit);
        }
        let a_second_ago = now_ns.saturating_sub(1_000_000_000);
        let old = |entry: &Entry| entry.is_close_wait() && entry.open.since_ns <= a_second_ago;
        let lows = stretches.iter().map(|part| part.low);
        let highs = stretches.iter().map(|part| part.high);
        Self {
            open,
            inherited,
            from_before: if begun_ns > 0 {
                0
            } else {
                count(table, |entry| entry.open.since_ns == 0)
            },
            seconds: seconds_between(first.at_ns, now_ns),
            opened: now.opened.saturating_sub(first.opened),
            closed: now.closed.saturating_sub(first.closed),
            lowest: lows.min().unwrap_or(open).min(open),
            highest: highs.max().unwrap_or(open).max(open),
            is_exhausted: false,
            clients: connections.clients(),
            for_clients: u32::try_from(made.for_clients.len()).unwrap_or(u32::MAX),
            are_clients_growing,
            close_wait: connections.close_wait(),
            is_close_wait_old: count(table, old) > open / 4,
            growth,
            rise: Rise::of(stretches, limit),
            turnover: Turnover::of(&past),
            peak: Peak::of(stretches, table, now_ns),
            cohort: largest
                .filter(|holder| holder.count > open / 2)
                .map(|holder| cohort(holder, open)),
            different_files: largest
                .filter(|holder| holder.count > open / 2 && is_of_different_files(holder))
                .map(|holder| holder.count),
        }
    }

    /// By how much the table grows a minute, where it has grown steadily for long enough.
    #[must_use]
    pub fn growth_per_min(&self) -> Option<f64> {
        if let Some(growth) = &self.growth {
            return Some(growth.per_min());
        }
        let rise = self.rise.as_ref()?;
        let grown = rise.to.saturating_sub(rise.from);
        let is_long_enough = rise.seconds >= SECONDS_MIN - JITTER;
        let is_enough = is_long_enough && rise.stretches >= STRETCHES_MIN;
        let is_growing = is_enough && rise.is_steady && grown >= GROWN_MIN;
        is_growing.then(|| (f64::from(grown) / rise.seconds * 600.0).round() / 10.0)
    }
}

/// Is each fd the only one of its file, or nearly each?
fn is_of_different_files(holder: &Holder) -> bool {
    let told_apart = holder
        .count
        .min(u32::try_from(INODES_MAX).unwrap_or(u32::MAX));
    holder.kind == Kind::File && holder.inodes >= told_apart - told_apart / 10
}

fn cohort(holder: &Holder, open: u32) -> String {
    let (count, kind) = (holder.count, holder.kind);
    match &holder.target {
        Some(target) => {
            let target = String::from_utf8_lossy(target);
            format!("{count} of {open} are {kind} {target}")
        }
        None => format!("{count} of {open} are {kind}"),
    }
}

impl Rise {
    fn of(stretches: &[Stretch], limit: Option<u64>) -> Option<Self> {
        let is_full = |part: &Stretch| {
            let full = limit.map(|limit| limit.saturating_mul(super::growth::FULL));
            full.is_some_and(|full| u64::from(part.low) * 100 >= full)
        };
        let before = stretches.iter().position(is_full);
        let growing = &stretches[..before.map_or(stretches.len(), |index| index + 1)];
        let (first, last) = (growing.first()?, growing.last()?);
        let middle = growing.get(growing.len() / 2)?;
        let half = middle.low.saturating_sub(first.low);
        let whole = last.low.saturating_sub(first.low);
        // Up and down by a twentieth is no way down.
        let slack = last.low / 20;
        let falls = growing
            .windows(2)
            .any(|pair| pair[1].low.saturating_add(slack) < pair[0].low);
        Some(Self {
            from: first.low,
            to: last.low,
            // Where it rises, the minimum is that at the beginning.
            seconds: seconds_between(first.from_ns, last.from_ns),
            stretches: growing.len(),
            is_steady: !falls && half >= whole / 5 && whole - half.min(whole) >= whole / 5,
        })
    }
}

fn count(table: &Table, is_wanted: impl Fn(&Entry) -> bool) -> u32 {
    let wanted = table.entries.iter().filter(|entry| is_wanted(entry));
    u32::try_from(wanted.count()).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "seconds, to be read by people")]
pub(super) fn seconds_between(from_ns: u64, until_ns: u64) -> f64 {
    until_ns.saturating_sub(from_ns) as f64 / 1e9
}
