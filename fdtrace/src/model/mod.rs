//! What fdtrace knows, built from records alone. Pure: no aya, no files, no clock of its own.

pub mod file;
pub mod fullest;
pub mod history;
pub mod kind;
pub mod limits;
pub mod listing;
pub mod names;
pub mod storms;
pub mod tables;
pub mod trend;

use self::{limits::Limits, tables::Tables, trend::Trends};

/// Everything that is known.
#[derive(Debug, Default)]
pub struct Model {
    /// Every table on the host.
    pub tables: Tables,
    /// How full they have been.
    pub trends: Trends,
    /// How full they may be.
    pub limits: Limits,
}

impl Model {
    /// A second has gone by.
    pub fn second(&mut self, now_ns: u64) {
        self.trends.look(&mut self.tables, now_ns);
    }
}
