//! Slots, sixty-four to a page, so that a table costs what it holds and not what it could hold.

use fdtrace_common::change::{INHERITED, OpenRecord};

use crate::model::{
    kind::{Inode, Kind, Prefix},
    names::{NameId, Names},
};

/// Slots in a page: as many as bits in a word of the kernel's bitmap.
pub const PAGE: u32 = 64;
/// Numbers beyond this are in no table: the kernel's own bound is `sysctl_nr_open_max` in fs/file.c, a
/// table of this many slots takes 512 MiB there.
pub const FD_END: u32 = 1 << 26;

/// One open fd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Address of the `struct file`.
    pub file: u64,
    /// Inode number.
    pub inode: u64,
    /// When it came here, nanoseconds since boot; 0: before anybody looked.
    pub since_ns: u64,
    /// Its name, see [`Names`].
    pub name: NameId,
    /// Device of the file system, as `MAJOR << 20 | MINOR`.
    pub device: u32,
    /// The process that put it here; of those from before the start, the one that had it then.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// What it is; [`Kind::Unknown`] until somebody has looked.
    pub kind: Kind,
    /// It came with the table: from fork, unshare or exec.
    pub is_inherited: bool,
}

const _: () = assert!(size_of::<Slot>() <= 48);

impl Slot {
    /// The slot as a record has it.
    #[must_use]
    pub fn new(record: &OpenRecord, names: &mut Names) -> Self {
        let name = record.name.split(|byte| *byte == 0).next();
        let name = name.unwrap_or_default();
        let inode = Inode {
            magic: record.magic,
            mode: u32::from(record.mode),
            family: u32::from(record.family),
            socket_type: u32::from(record.socket_type),
        };
        Self {
            file: record.file,
            inode: record.inode,
            since_ns: record.time_ns,
            name: names.take(name),
            device: record.device,
            tgid: record.tgid,
            tid: record.tid,
            kind: record.known_kind.checked_sub(1).map_or_else(
                || inode.kind(Prefix::of(name)),
                |known| Kind::from_repr(known).unwrap_or_default(),
            ),
            is_inherited: record.flags & INHERITED != 0,
        }
    }
}

/// Sixty-four slots, and what a pass of the reconciliation has found of them.
#[derive(Clone, Debug)]
pub struct Page {
    /// Bits of the slots that are open.
    pub live: u64,
    /// Bits of the slots that have changed in `touched_in`.
    touched: u64,
    /// Bits of the slots that the kernel has shown in `seen_in`, and that agreed.
    seen: u64,
    touched_in: u32,
    seen_in: u32,
    slots: [Slot; PAGE as usize],
}

impl Default for Page {
    fn default() -> Self {
        Self {
            live: 0,
            touched: 0,
            seen: 0,
            touched_in: 0,
            seen_in: 0,
            slots: [Slot::default(); PAGE as usize],
        }
    }
}

impl Page {
    /// The file in a slot, if it is open.
    #[must_use]
    pub fn get(&self, fd: u32) -> Option<&Slot> {
        (self.live & bit(fd) != 0).then(|| &self.slots[index(fd)])
    }

    /// As [`Page::get`].
    pub fn get_mut(&mut self, fd: u32) -> Option<&mut Slot> {
        (self.live & bit(fd) != 0).then(|| &mut self.slots[index(fd)])
    }

    /// Puts a file into a slot; what was there before.
    pub fn put(&mut self, fd: u32, slot: Slot) -> Option<Slot> {
        let before = self.get(fd).copied();
        self.live |= bit(fd);
        self.slots[index(fd)] = slot;
        before
    }

    /// Empties a slot.
    pub fn take(&mut self, fd: u32) -> Option<Slot> {
        let slot = self.get(fd).copied();
        self.live &= !bit(fd);
        slot
    }

    /// A slot changes while this pass is under way, or after it.
    pub fn touch(&mut self, fd: u32, pass: u32) {
        if self.touched_in != pass {
            (self.touched_in, self.touched) = (pass, 0);
        }
        self.touched |= bit(fd);
    }

    /// Bits of the slots that have changed since this pass began.
    #[must_use]
    pub fn touched(&self, pass: u32) -> u64 {
        if self.touched_in == pass {
            self.touched
        } else {
            0
        }
    }

    /// The kernel has the same file in this slot.
    pub fn see(&mut self, fd: u32, pass: u32) {
        if self.seen_in != pass {
            (self.seen_in, self.seen) = (pass, 0);
        }
        self.seen |= bit(fd);
    }

    /// Bits of the slots that this pass has found to agree.
    #[must_use]
    pub fn seen(&self, pass: u32) -> u64 {
        if self.seen_in == pass { self.seen } else { 0 }
    }
}

/// The numbers of the bits that are set.
pub fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let lowest = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(lowest)
    })
}

/// The bit of a slot in its page's words.
#[must_use]
pub fn bit(fd: u32) -> u64 {
    1 << (fd % PAGE)
}

fn index(fd: u32) -> usize {
    (fd % PAGE) as usize
}
