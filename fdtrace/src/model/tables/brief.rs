//! Files that are open only for a moment: most of those that are opened at all are closed before the reader looks
//! again. What opens and closes a slot in between leaves nothing behind but its number.

use fdtrace_common::{
    change::{CloseRecord, MAYBE_TOLD, OpenRecord},
    record::RECORD_OPENED,
};

use super::{SinkExt, Tables, table::Table};
use crate::{engine::change::Sink, stream::record::Changed};

/// Openings that wait for their closing at most: about as many as processors that take turns in the ring.
const WAITING_MAX: usize = 16;

/// Openings that one of the next records may take back.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<OpenRecord>);

impl Waiting {
    /// The opening of the slot that a file leaves, if it was this file's and is the only one that waits.
    fn opening_of(&self, record: &CloseRecord) -> Option<usize> {
        if let [only] = &self.0[..] {
            let is_it = (only.files, only.fd, only.file) == (record.files, record.fd, record.file);
            return is_it.then_some(0);
        }
        let is_slot = |(_, opened): &(usize, &OpenRecord)| {
            (opened.files, opened.fd) == (record.files, record.fd)
        };
        let mut openings = self.0.iter().enumerate().filter(is_slot);
        let (index, opened) = openings.next()?;
        let is_it = opened.file == record.file && openings.next().is_none();
        is_it.then_some(index)
    }

    /// How many slots of this table they fill that were free, one of them for certain.
    fn fill(&self, files: u64, table: &Table) -> u32 {
        if self.0.len() == 1 {
            return 1;
        }
        let of_table = self.0.iter().enumerate();
        let of_table = of_table.filter(|(_, opened)| opened.files == files);
        let filling = of_table.filter(|(index, opened)| {
            let mut earlier = self.0[..*index].iter();
            table.file(opened.fd) == 0
                && !earlier.any(|earlier| (earlier.files, earlier.fd) == (files, opened.fd))
        });
        filling.fold(0, |count, _| count + 1)
    }
}

impl Tables {
    /// Applies one record, at the latest when [`Tables::settle`] is called: until then nobody may ask.
    pub fn apply_soon(&mut self, record: Changed<'_>, sink: &mut impl Sink) {
        if !sink.wants_all() {
            match record {
                Changed::Opened(opened) if opened.kind == RECORD_OPENED && opened.replaced == 0 => {
                    if self.waiting.0.len() == WAITING_MAX {
                        self.settle(sink);
                    }
                    self.waiting.0.push(*opened);
                    return;
                }
                Changed::Closed(closed) if self.close_waiting(closed) => return,
                _ => {}
            }
        }
        self.settle(sink);
        self.apply(record, sink);
    }

    /// Applies what waits.
    pub fn settle(&mut self, sink: &mut impl Sink) {
        if self.waiting.0.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.waiting.0);
        for opened in waiting.drain(..) {
            self.apply(Changed::Opened(&opened), sink);
        }
        self.waiting.0 = waiting;
    }

    /// Takes an opening back that a closing ends, in the ordinary case: the slot was free, and nothing else is
    /// awaited of its table.
    fn close_waiting(&mut self, record: &CloseRecord) -> bool {
        let Some(index) = self.waiting.opening_of(record) else {
            return false;
        };
        let Some(table) = self.by_address.get_mut(&record.files) else {
            return false;
        };
        if record.flags & MAYBE_TOLD != 0 || table.is_unread || table.awaited() > 0 {
            return false;
        }
        let open = table.open + self.waiting.fill(record.files, table);
        let page = table.page_mut(record.fd);
        let Some(page) = page.filter(|page| page.file(record.fd) == 0) else {
            return false;
        };
        page.touch(record.fd, self.pass);
        table.turnover.gained += 1;
        table.turnover.high = table.turnover.high.max(open);
        if self.waiting.0.len() == 1 {
            // Nothing to be moved.
            self.waiting.0.clear();
        } else {
            self.waiting.0.remove(index);
        }
        true
    }
}
