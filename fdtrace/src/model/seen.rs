//! What a look at all tables finds of each, for their past.

use super::tables::Tables;
use crate::engine::trend::Counted;

impl Tables {
    /// All tables in numbers. What has been open at least and at most since the look before begins anew.
    pub fn counted(&mut self) -> impl Iterator<Item = Counted> {
        self.all_mut().map(|(files, table)| {
            let turnover = table.turnover;
            (table.turnover.low, table.turnover.high) = (table.open, table.open);
            Counted {
                files,
                generation: table.generation,
                open: table.open,
                low: turnover.low,
                high: turnover.high,
                gained: turnover.gained,
            }
        })
    }
}

#[cfg(test)]
mod tests;
