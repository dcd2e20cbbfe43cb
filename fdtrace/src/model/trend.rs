//! How full tables have been over time: the least and the greatest number open in each stretch of it.
//!
//! A table costs the same however long it is looked at: when there are too many stretches, two neighbours become
//! one, those of which the least is lost. What has changed lately, and how a table came to be full, is kept in
//! more detail than hours in which nothing happened.

use rustc_hash::FxHashMap;

use super::tables::Tables;
use crate::engine::table::Stretch;

/// Stretches kept of a table.
const STRETCHES_MAX: usize = 64;
/// The latest ones are kept as they are.
const LATEST: usize = 8;
/// Tables looked at, at most.
const TABLES_MAX: usize = 8_192;
/// A table with fewer fds open is not looked at.
const WORTHWHILE: u32 = 16;

impl Stretch {
    fn join(&mut self, later: &Self) {
        *self = Self {
            from_ns: self.from_ns,
            low: self.low.min(later.low),
            high: self.high.max(later.high),
            ..*later
        };
    }

    /// What is lost where two neighbours become one: more the more they differ, and the later it was.
    #[expect(clippy::cast_precision_loss, reason = "roughly will do")]
    fn loss(&self, later: &Self, now_ns: u64) -> f64 {
        let differing = self
            .low
            .abs_diff(later.low)
            .max(self.high.abs_diff(later.high));
        let length_ns = later.until_ns.saturating_sub(self.from_ns);
        let age_ns = now_ns.saturating_sub(self.from_ns).max(1);
        f64::from(differing.saturating_add(1)).powi(2) * length_ns as f64 / age_ns as f64
    }
}

/// One table's past.
#[derive(Clone, Debug, Default)]
pub struct Trend {
    generation: u64,
    stretches: Vec<Stretch>,
}

impl Trend {
    /// Its stretches, oldest first.
    #[must_use]
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    fn add(&mut self, stretch: Stretch) {
        if self.stretches.len() == STRETCHES_MAX {
            self.join_two(stretch.until_ns);
        }
        self.stretches.push(stretch);
    }

    fn join_two(&mut self, now_ns: u64) {
        let early = &self.stretches[..STRETCHES_MAX - LATEST];
        let losses = early.windows(2).map(|pair| pair[0].loss(&pair[1], now_ns));
        let least = losses
            .enumerate()
            .min_by(|(_, one), (_, other)| one.total_cmp(other));
        if let Some((index, _)) = least {
            let later = self.stretches.remove(index + 1);
            self.stretches[index].join(&later);
        }
    }
}

/// The past of all tables that are worth it.
#[derive(Debug, Default)]
pub struct Trends {
    by_table: FxHashMap<u64, Trend>,
    looked_ns: u64,
}

impl Trends {
    /// A table's past; `None` where it was never worth a look, or is another one by now.
    #[must_use]
    pub fn of(&self, files: u64, generation: u64) -> Option<&Trend> {
        let trend = self.by_table.get(&files)?;
        (trend.generation == generation).then_some(trend)
    }

    /// How many tables have one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_table.len()
    }

    /// Has none a past?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_table.is_empty()
    }

    /// A look at all tables.
    pub fn look(&mut self, tables: &mut Tables, now_ns: u64) {
        let before = std::mem::replace(&mut self.looked_ns, now_ns);
        self.by_table.retain(|files, trend| {
            tables
                .table(*files)
                .is_some_and(|table| table.generation == trend.generation)
        });
        for (files, table) in tables.all_mut() {
            let turnover = table.turnover;
            (table.turnover.low, table.turnover.high) = (table.open, table.open);
            let has_room = self.by_table.len() < TABLES_MAX;
            let is_known = self.by_table.contains_key(&files);
            if !is_known && (table.open < WORTHWHILE || !has_room) {
                continue;
            }
            let trend = self.by_table.entry(files).or_insert_with(|| Trend {
                generation: table.generation,
                stretches: Vec::new(),
            });
            // The first look finds a table as it is: how it came to be so, nobody has seen.
            let is_first = trend.stretches.is_empty();
            trend.add(Stretch {
                from_ns: if is_first { now_ns } else { before },
                until_ns: now_ns,
                low: if is_first { table.open } else { turnover.low },
                high: if is_first { table.open } else { turnover.high },
                open: table.open,
                opened: turnover.gained,
                closed: turnover.gained.saturating_sub(u64::from(table.open)),
            });
        }
    }
}

#[cfg(test)]
mod tests;
