//! What has been seen of a table, in the numbers that a verdict is made of.

use crate::{
    diagnose::holders::Holder,
    model::{
        tables::table::Table,
        trend::{Stretch, Trend},
    },
};

/// This full, in percent of the limit, a table cannot grow any more.
const FULL: u64 = 95;

/// Less time tells nothing about growth, seconds.
pub(super) const SECONDS_MIN: f64 = 4.0;
/// Looks are a second apart, some a little earlier and some later: so much less is the same time.
const JITTER: f64 = 0.25;
/// Nor do fewer stretches of time.
const STRETCHES_MIN: usize = 4;
/// A rise by less is noise.
pub(super) const RISE_MIN: u32 = 8;

/// What has been seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Fds open now.
    pub open: u32,
    /// How many of them came with the table.
    pub inherited: u32,
    /// How many of them are older than the first look.
    pub from_before: u32,
    /// For how long the table has been followed, seconds.
    pub seconds: f64,
    /// Opened in that time, not inherited.
    pub opened: u64,
    /// Closed in that time.
    pub closed: u64,
    /// The least number open in it.
    pub lowest: u32,
    /// The greatest.
    pub highest: u32,
    /// A call has failed for want of a number.
    pub is_exhausted: bool,
    /// How the least number open has changed, until the table was full.
    pub rise: Option<Rise>,
    /// The table is much fuller than it used to be.
    pub peak: Option<Peak>,
    /// What most of the fds are, in words.
    pub cohort: Option<String>,
}

/// The least number open, from the first stretch of time to the last.
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// Fds opened in the first half.
    pub early_opened: u64,
    /// Those of them that are still open.
    pub early_kept: u32,
    /// Growth in the first half.
    pub early_grown: u32,
}

/// More than twice as many open as most of the time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peak {
    /// The number that was not passed most of the time.
    pub usual: u32,
    /// How long ago that ended.
    pub seconds: f64,
    /// Opened since.
    pub opened: u64,
    /// Closed since.
    pub closed: u64,
    /// An earlier peak that went down again.
    pub earlier: Option<u32>,
    /// How far it went down.
    pub valley: u32,
}

impl Evidence {
    /// What is known of a table now. `limit`: its process's soft limit; `largest`: its largest group.
    #[must_use]
    pub fn of(
        table: &Table,
        trend: Option<&Trend>,
        limit: Option<u64>,
        largest: Option<&Holder>,
        now_ns: u64,
    ) -> Self {
        let slots = || table.slots().map(|(_, slot)| slot);
        let inherited = count(slots().filter(|slot| slot.is_inherited));
        let from_before = count(slots().filter(|slot| slot.since_ns == 0));
        let stretches = trend.map_or(&[][..], Trend::stretches);
        let first = stretches.first();
        // A table that was made under the eyes of fdtrace has been followed since then.
        let since_ns = match (table.made_ns, first) {
            (0, Some(first)) => first.from_ns,
            (0, None) => now_ns,
            (made_ns, _) => made_ns,
        };
        let gained = table.turnover.gained;
        let gone = gained.saturating_sub(u64::from(table.open));
        // What there was before nobody has seen opened.
        let at_first = match (table.made_ns, first) {
            (0, Some(first)) => (first.opened, first.closed),
            (0, None) => (gained, gone),
            _ => (u64::from(inherited), 0),
        };
        let lows = stretches.iter().map(|part| part.low);
        let highs = stretches.iter().map(|part| part.high);
        let rise = Rise::of(stretches, limit);
        Self {
            open: table.open,
            inherited,
            from_before,
            seconds: seconds_between(since_ns, now_ns),
            opened: gained.saturating_sub(at_first.0),
            closed: gone.saturating_sub(at_first.1),
            lowest: lows.min().unwrap_or(table.open).min(table.open),
            highest: highs.max().unwrap_or(table.open).max(table.open),
            is_exhausted: false,
            rise: rise.map(|(mut rise, first_ns, middle_ns)| {
                let is_early = |since_ns| since_ns > first_ns && since_ns <= middle_ns;
                rise.early_kept =
                    count(slots().filter(|slot| !slot.is_inherited && is_early(slot.since_ns)));
                rise
            }),
            peak: Peak::of(stretches, table, now_ns),
            cohort: largest
                .filter(|holder| holder.count > table.open / 2)
                .map(|holder| cohort(holder, table.open)),
        }
    }
}

impl Evidence {
    /// By how much the least number open grows a minute, where it has grown steadily for long enough.
    #[must_use]
    pub fn growth_per_min(&self) -> Option<f64> {
        let rise = self.rise.as_ref()?;
        let grown = rise.to.saturating_sub(rise.from);
        let is_long_enough = rise.seconds >= SECONDS_MIN - JITTER;
        let is_enough = is_long_enough && rise.stretches >= STRETCHES_MIN;
        let is_growing = is_enough && rise.is_steady && grown >= RISE_MIN;
        // A tenth is as exact as it gets.
        is_growing.then(|| (f64::from(grown) / rise.seconds * 600.0).round() / 10.0)
    }
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
    /// The rise until the table was full, and when its first half began and ended.
    fn of(stretches: &[Stretch], limit: Option<u64>) -> Option<(Self, u64, u64)> {
        let is_full = |part: &Stretch| {
            limit.is_some_and(|limit| u64::from(part.low) * 100 >= limit.saturating_mul(FULL))
        };
        let before = stretches.iter().position(is_full);
        let growing = &stretches[..before.map_or(stretches.len(), |index| index + 1)];
        let (first, last) = (growing.first()?, growing.last()?);
        let (early, late) = growing.split_at(growing.len() / 2);
        let (before_middle, middle) = (early.last()?, late.first()?);
        let half = middle.low.saturating_sub(first.low);
        let whole = last.low.saturating_sub(first.low);
        // Up and down by a twentieth is no way down.
        let slack = last.low / 20;
        let falls = growing
            .windows(2)
            .any(|pair| pair[1].low.saturating_add(slack) < pair[0].low);
        let rise = Self {
            from: first.low,
            to: last.low,
            // Where it rises, the least number is that at the beginning.
            seconds: seconds_between(first.from_ns, last.from_ns),
            stretches: growing.len(),
            is_steady: !falls && half >= whole / 5 && whole - half.min(whole) >= whole / 5,
            early_opened: before_middle.opened.saturating_sub(first.opened),
            early_kept: 0,
            early_grown: half,
        };
        Some((rise, first.from_ns, middle.from_ns))
    }
}

impl Peak {
    /// A peak is one that has come after a long time with less than half of it, and of which fds are
    /// closed again, now or last time.
    fn of(stretches: &[Stretch], table: &Table, now_ns: u64) -> Option<Self> {
        let open = table.open;
        let is_low = |part: &&Stretch| part.high.saturating_mul(2) < open;
        let (index, last_low) = stretches
            .iter()
            .enumerate()
            .rfind(|(_, part)| is_low(part))?;
        let low = stretches.iter().filter(is_low);
        let low_ns: u64 = low
            .map(|part| part.until_ns - part.from_ns.min(part.until_ns))
            .sum();
        let seconds = seconds_between(last_low.until_ns, now_ns);
        let is_usual = low_ns / 2 > now_ns.saturating_sub(last_low.until_ns);
        let gained = table.turnover.gained;
        let opened = gained.saturating_sub(last_low.opened);
        let closed = gained
            .saturating_sub(u64::from(open))
            .saturating_sub(last_low.closed);
        let before = &stretches[..index];
        let earlier = before.iter().map(|part| part.high).max();
        let earlier = earlier.filter(|earlier| earlier.saturating_mul(2) >= open);
        let is_closing = closed >= 8 && closed.saturating_mul(10) >= opened;
        (is_usual && (earlier.is_some() || is_closing)).then_some(Self {
            usual: last_low.high,
            seconds,
            opened,
            closed,
            earlier,
            valley: last_low.low,
        })
    }
}

fn count<T>(things: impl Iterator<Item = T>) -> u32 {
    u32::try_from(things.count()).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "seconds, to be read by people")]
fn seconds_between(from_ns: u64, until_ns: u64) -> f64 {
    until_ns.saturating_sub(from_ns) as f64 / 1e9
}
