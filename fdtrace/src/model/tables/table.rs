//! One fd table: a `files_struct`, whoever uses it.

use fdtrace_common::change::CHUNK;

use super::slot::{FD_END, PAGE, Page, Slot};
use crate::model::names::{NameId, Names};

/// A table from the moment it was made, or first seen, until nobody uses it any more.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Which of the tables at this address it is: the allocator hands memory out again at once.
    pub generation: u64,
    /// The process that uses it, or of those that share it the one that joined last.
    pub tgid: u32,
    /// That process's name when a pass counted its threads last, where nobody tells of its end. Untrusted text.
    pub comm: [u8; 16],
    /// Threads that use it.
    pub threads: u32,
    /// Slots that are open.
    pub open: u32,
    /// What has become of them.
    pub turnover: Turnover,
    /// The table it is a copy of, while its slots arrive.
    pub copied_from: u64,
    /// When it was made, nanoseconds since boot; 0: before anybody looked.
    pub made_ns: u64,
    /// The thread that made it.
    pub made_by: u32,
    /// That thread is in the scope that was asked for.
    pub is_in_scope: bool,
    /// The kernel has not told what is in it: it was too large for a record.
    pub is_unread: bool,
    /// Changed as a whole in this pass: made, or emptied by exec.
    pub touched_in: u32,
    /// A pass that has found it in the kernel.
    pub seen_in: u32,
    pub(super) owed: Vec<Owed>,
    /// Closings whose opening has not been told yet: number, file, pass.
    pub(super) early: Vec<(u32, u64, u32)>,
    pub(super) pages: Vec<Option<Page>>,
}

impl Table {
    /// The file that an fd leads to.
    #[must_use]
    pub fn get(&self, fd: u32) -> Option<Slot> {
        self.page(fd)?.get(fd)
    }

    /// The address of the file that an fd leads to; 0 where it is not open.
    #[must_use]
    pub fn file(&self, fd: u32) -> u64 {
        self.page(fd).map_or(0, |page| page.file(fd))
    }

    /// All open fds, in order.
    pub fn slots(&self) -> impl Iterator<Item = (u32, Slot)> {
        self.slots_from(0)
    }

    /// All open fds from a number on, in order.
    pub fn slots_from(&self, from: u32) -> impl Iterator<Item = (u32, Slot)> {
        let skipped = (from / PAGE) as usize;
        let pages = (0..).step_by(PAGE as usize).zip(&self.pages).skip(skipped);
        let pages = pages.filter_map(|(first, page)| Some((first, page.as_ref()?)));
        let slots = pages.flat_map(|(first, page)| {
            super::slot::bits(page.live).filter_map(move |fd| Some((first + fd, page.get(fd)?)))
        });
        slots.skip_while(move |(fd, _)| *fd < from)
    }

    /// The pages there are, with the number of their first slot.
    pub fn pages(&self) -> impl Iterator<Item = (u32, &Page)> {
        let pages = (0..).step_by(PAGE as usize).zip(&self.pages);
        pages.filter_map(|(first, page)| Some((first, page.as_ref()?)))
    }

    /// The page of an fd, if it has ever been used.
    #[must_use]
    pub fn page(&self, fd: u32) -> Option<&Page> {
        self.pages.get((fd / PAGE) as usize)?.as_ref()
    }

    pub(super) fn page_mut(&mut self, fd: u32) -> Option<&mut Page> {
        self.pages.get_mut((fd / PAGE) as usize)?.as_mut()
    }

    /// The page of an fd, made if need be; `None` for a number that no table can have.
    fn page_for(&mut self, fd: u32) -> Option<&mut Page> {
        if fd >= FD_END {
            return None;
        }
        let index = (fd / PAGE) as usize;
        if index >= self.pages.len() {
            self.pages.resize_with(index + 1, || None);
        }
        Some(self.pages[index].get_or_insert_default())
    }

    /// Puts a file into a slot; what was there before, if anything. `Err` gives it back where no table
    /// has such a number.
    pub fn put(
        &mut self,
        fd: u32,
        slot: Slot,
        pass: u32,
        names: &mut Names,
    ) -> Result<Option<Slot>, Slot> {
        let Some(page) = self.page_for(fd) else {
            return Err(slot);
        };
        page.touch(fd, pass);
        let before = page.put(fd, slot, names);
        self.open += u32::from(before.is_none());
        self.turnover.gained += 1;
        self.turnover.high = self.turnover.high.max(self.open);
        Ok(before)
    }

    /// Says anew what a slot holds, without a change of it.
    pub fn describe(&mut self, fd: u32, slot: Slot, names: &mut Names) -> Option<Slot> {
        self.page_mut(fd)?.put(fd, slot, names)
    }

    /// Takes over a page of the table that this one is a copy of, if that holds the files that the kernel has
    /// copied, and no others: a fork costs next to nothing until somebody changes something.
    pub fn copy_page(
        &mut self,
        from: &Self,
        first: u32,
        files: &[u64; CHUNK],
        pass: u32,
    ) -> Option<&Page> {
        if !first.is_multiple_of(PAGE) {
            return None;
        }
        let made_ns = self.made_ns;
        let copy = from.page(first)?.copy(files, made_ns, pass)?;
        let index = (first / PAGE) as usize;
        if index >= self.pages.len() {
            self.pages.resize_with(index + 1, || None);
        }
        let place = &mut self.pages[index];
        if place.is_some() {
            return None;
        }
        let copied = copy.live.count_ones();
        self.open += copied;
        self.turnover.gained += u64::from(copied);
        self.turnover.high = self.turnover.high.max(self.open);
        Some(place.insert(copy))
    }

    /// Empties a slot. What it held uses its name from here on.
    pub fn take(&mut self, fd: u32, pass: u32, names: &mut Names) -> Option<Slot> {
        let page = self.page_mut(fd)?;
        page.touch(fd, pass);
        let slot = page.take(fd, names)?;
        self.open -= 1;
        self.turnover.low = self.turnover.low.min(self.open);
        Some(slot)
    }

    /// The kernel has the same file in this slot.
    pub fn see(&mut self, fd: u32, pass: u32) {
        self.seen_in = pass;
        if let Some(page) = self.page_mut(fd) {
            page.see(fd, pass);
        }
    }

    /// Has a slot changed since this pass began?
    #[must_use]
    pub fn is_touched(&self, fd: u32, pass: u32) -> bool {
        let page = self.page(fd);
        self.touched_in == pass
            || page.is_some_and(|page| page.touched(pass) & super::slot::bit(fd) != 0)
    }

    /// A slot that nothing is known of changes.
    pub fn touch(&mut self, fd: u32, pass: u32) {
        if let Some(page) = self.page_for(fd) {
            page.touch(fd, pass);
        }
    }

    /// A file's closing is owed: another one has come into its slot.
    pub fn owe(&mut self, fd: u32, slot: Slot, pass: u32) {
        match self
            .owed
            .iter_mut()
            .find(|owed| owed.fd == fd && owed.slot.is_none())
        {
            Some(doubt) => doubt.slot = Some(slot),
            None => self.owed.push(Owed {
                fd,
                slot: Some(slot),
                since: pass,
            }),
        }
    }

    /// A file is closed: the one whose closing is owed, else the one that is there.
    pub fn close(&mut self, fd: u32, file: u64, pass: u32, names: &mut Names) -> Option<Slot> {
        let current = file != 0 && self.file(fd) == file;
        let is_it = |owed: &Owed| owed.fd == fd && owed.slot.is_some_and(|slot| slot.file == file);
        if let Some(index) = self.owed.iter().position(is_it) {
            return if current {
                // Which of the two it was, nobody can tell.
                self.owed[index].slot.take()
            } else {
                self.owed.swap_remove(index).slot
            };
        }
        if !current {
            return None;
        }
        self.owed
            .retain(|owed| owed.fd != fd || owed.slot.is_some());
        self.take(fd, pass, names)
    }

    /// As [`Table::close`], in the ordinary case: nothing is awaited, and the file is there. The name that it
    /// used.
    pub fn close_plain(&mut self, fd: u32, file: u64, pass: u32) -> Option<NameId> {
        if !self.owed.is_empty() {
            return None;
        }
        let name = self.page_mut(fd)?.close(fd, file, pass)?;
        self.open -= 1;
        self.turnover.low = self.turnover.low.min(self.open);
        Some(name)
    }

    /// Takes out whatever is in a slot: the file that is known to be out of it already, if there is one.
    pub fn close_any(&mut self, fd: u32, pass: u32, names: &mut Names) -> Option<Slot> {
        let is_it = |owed: &Owed| owed.fd == fd && owed.slot.is_some();
        match self.owed.iter().position(is_it) {
            Some(index) => self.owed.swap_remove(index).slot,
            None => self.take(fd, pass, names),
        }
    }

    /// A closing is told of a file that is not known to be there.
    pub fn close_early(&mut self, fd: u32, file: u64, pass: u32) {
        self.early.push((fd, file, pass));
    }

    /// Has the closing of this file been told already?
    pub fn take_early(&mut self, fd: u32, file: u64) -> bool {
        let is_it = |early: &(u32, u64, u32)| (early.0, early.1) == (fd, file);
        let index = self.early.iter().position(is_it);
        index.map(|index| self.early.swap_remove(index)).is_some()
    }

    /// Ends it: its names are given back.
    pub fn release(mut self, names: &mut Names) {
        for slot in self.forgive() {
            names.give_back(slot.name);
        }
        for page in self.pages.into_iter().flatten() {
            page.release(names);
        }
    }

    /// How many records are waited for: of closings, and of openings whose closing was told.
    #[must_use]
    pub fn awaited(&self) -> usize {
        self.owed.len() + self.early.len()
    }

    /// All files whose closing is owed: they are forgotten.
    pub fn forgive(&mut self) -> Vec<Slot> {
        self.early.clear();
        let owed = std::mem::take(&mut self.owed);
        owed.into_iter().filter_map(|owed| owed.slot).collect()
    }

    /// Early closings from before this pass: their opening was lost. How many.
    pub fn forget_early_before(&mut self, pass: u32) -> usize {
        let before = self.early.len();
        self.early.retain(|(_, _, since)| *since >= pass);
        before - self.early.len()
    }

    /// Those that were owed before this pass began: their closing was lost, since no thread takes that
    /// long from a function's last line to its end.
    pub fn forgive_before(&mut self, pass: u32, names: &mut Names) -> Vec<Slot> {
        let old: Vec<Owed> = self.owed.extract_if(.., |owed| owed.since < pass).collect();
        let lost = old
            .into_iter()
            .filter_map(|owed| owed.slot.or_else(|| self.take(owed.fd, pass, names)));
        lost.collect()
    }
}

/// What comes and goes in a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turnover {
    /// Files that have come into slots, inherited ones included.
    pub gained: u64,
    /// Those of them that came with the table when it was made.
    pub copied: u64,
    /// The least number of open slots since the last look ([`crate::engine::trend`]).
    pub low: u32,
    /// The greatest.
    pub high: u32,
}

/// A closing that has not been told yet, although the next file in the slot has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owed {
    fd: u32,
    /// The file; `None` where a closing came that could be this one or that of the same file's next stay
    /// in the slot.
    slot: Option<Slot>,
    /// The pass in which it began.
    since: u32,
}
