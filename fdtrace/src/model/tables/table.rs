//! One fd table: a `files_struct`, whoever uses it.

use super::slot::{FD_END, PAGE, Page, Slot};

/// A table from the moment it was made, or first seen, until nobody uses it any more.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Which of the tables at this address it is: the allocator hands memory out again at once.
    pub generation: u64,
    /// The process that uses it, or of those that share it the one that joined last.
    pub tgid: u32,
    /// Threads that use it.
    pub threads: u32,
    /// Slots that are open.
    pub open: u32,
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
    /// Files whose closing has not been told yet, although the next one in their slot has.
    pub(super) rivals: Vec<(u32, Slot)>,
    pub(super) pages: Vec<Option<Box<Page>>>,
}

impl Table {
    /// The file that an fd leads to.
    #[must_use]
    pub fn get(&self, fd: u32) -> Option<&Slot> {
        self.page(fd)?.get(fd)
    }

    /// As [`Table::get`].
    pub fn get_mut(&mut self, fd: u32) -> Option<&mut Slot> {
        self.page_mut(fd)?.get_mut(fd)
    }

    /// All open fds, in order.
    pub fn slots(&self) -> impl Iterator<Item = (u32, &Slot)> {
        self.pages().flat_map(|(first, page)| {
            super::slot::bits(page.live).filter_map(move |fd| Some((first + fd, page.get(fd)?)))
        })
    }

    /// The pages there are, with the number of their first slot.
    pub fn pages(&self) -> impl Iterator<Item = (u32, &Page)> {
        let pages = (0..).step_by(PAGE as usize).zip(&self.pages);
        pages.filter_map(|(first, page)| Some((first, page.as_deref()?)))
    }

    /// The page of an fd, if it has ever been used.
    #[must_use]
    pub fn page(&self, fd: u32) -> Option<&Page> {
        self.pages.get((fd / PAGE) as usize)?.as_deref()
    }

    fn page_mut(&mut self, fd: u32) -> Option<&mut Page> {
        self.pages.get_mut((fd / PAGE) as usize)?.as_deref_mut()
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
    pub fn put(&mut self, fd: u32, slot: Slot, pass: u32) -> Result<Option<Slot>, Slot> {
        let Some(page) = self.page_for(fd) else {
            return Err(slot);
        };
        page.touch(fd, pass);
        let before = page.put(fd, slot);
        self.open += u32::from(before.is_none());
        Ok(before)
    }

    /// Empties a slot.
    pub fn take(&mut self, fd: u32, pass: u32) -> Option<Slot> {
        let page = self.page_mut(fd)?;
        page.touch(fd, pass);
        let slot = page.take(fd)?;
        self.open -= 1;
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

    /// A file's closing is owed.
    pub fn add_rival(&mut self, fd: u32, slot: Slot) {
        self.rivals.push((fd, slot));
    }

    /// The closing of a file that is not in its slot any more.
    pub fn take_rival(&mut self, fd: u32, file: u64) -> Option<Slot> {
        let is_it = |rival: &(u32, Slot)| rival.0 == fd && rival.1.file == file;
        let index = self.rivals.iter().position(is_it)?;
        Some(self.rivals.swap_remove(index).1)
    }

    /// Any file of this slot whose closing is owed.
    pub fn take_any_rival(&mut self, fd: u32) -> Option<Slot> {
        let index = self.rivals.iter().position(|rival| rival.0 == fd)?;
        Some(self.rivals.swap_remove(index).1)
    }

    /// Are closings owed?
    #[must_use]
    pub fn has_rivals(&self) -> bool {
        !self.rivals.is_empty()
    }

    /// All files whose closing is owed: they are forgotten.
    pub fn take_rivals(&mut self) -> Vec<(u32, Slot)> {
        std::mem::take(&mut self.rivals)
    }
}
