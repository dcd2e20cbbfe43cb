//! How full tables have been over time: the least and the greatest number open in each stretch of it.
//!
//! A table costs the same however long it is looked at: when there are too many stretches, two neighbours become
//! one, those of which the least is lost. What has changed lately, and how a table came to be full, is kept in
//! more detail than hours in which nothing happened.

use rustc_hash::FxHashMap;

use super::table::Stretch;

/// Stretches kept of a table.
pub(crate) const STRETCHES_MAX: usize = 64;
/// The latest ones are kept as they are.
const LATEST: usize = 8;
/// Tables looked at, at most.
const TABLES_MAX: usize = 8_192;
/// A table with fewer fds open is not looked at.
pub(crate) const WORTHWHILE: u32 = 16;

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
    pub fn take(&mut self, now_ns: u64, tables: impl Iterator<Item = Counted>) {
        let before = std::mem::replace(&mut self.looked_ns, now_ns);
        let mut known = std::mem::take(&mut self.by_table);
        for table in tables {
            let trend = known.remove(&table.files);
            let trend = trend.filter(|trend| trend.generation == table.generation);
            let has_room = self.by_table.len() + known.len() < TABLES_MAX;
            if trend.is_none() && (table.open < WORTHWHILE || !has_room) {
                continue;
            }
            let mut trend = trend.unwrap_or_else(|| Trend {
                generation: table.generation,
                stretches: Vec::new(),
            });
            // The first look finds a table as it is: how it came to be so, nobody has seen.
            let is_first = trend.stretches.is_empty();
            trend.add(Stretch {
                from_ns: if is_first { now_ns } else { before },
                until_ns: now_ns,
                low: if is_first { table.open } else { table.low },
                high: if is_first { table.open } else { table.high },
                open: table.open,
                opened: table.gained,
                closed: table.gained.saturating_sub(u64::from(table.open)),
            });
            self.by_table.insert(table.files, trend);
        }
    }
}

/// A table in numbers, as a look finds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// The address of its `files_struct`.
    pub files: u64,
    /// Which of the tables at that address it is.
    pub generation: u64,
    /// Fds that are open.
    pub open: u32,
    /// The least number of fds open since the look before.
    pub low: u32,
    /// The greatest.
    pub high: u32,
    /// Files that have come into it as long as it was followed.
    pub gained: u64,
}
