//! Slots, sixty-four to a page, so that a table costs what it holds and not what it could hold. A table that
//! is a copy shares its pages with the one that it was copied from, until one of them changes.

use std::rc::Rc;

use fdtrace_common::{
    change::{CHUNK, INHERITED, NAME_SIZE, OpenRecord},
    kind::ANON_INODE_FS,
};

use crate::{
    engine::table::OpenFd,
    ground::kind::{Inode, Kind, Prefix},
    model::names::{NameId, Names},
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
    /// Does a record show another file than this one, although both lie at the same address? The kernel gives the memory
    /// of a closed file to the next one. Of a file that nobody has looked at, only the address is known.
    #[must_use]
    pub fn is_outlived_by(&self, record: &OpenRecord) -> bool {
        // The kind tells apart what shares an inode, and nothing else.
        let kind = if record.magic == ANON_INODE_FS {
            kind(record)
        } else {
            self.kind
        };
        self.is_known_as_other((record.inode, record.device, kind))
    }

    /// The same of what such a record was made into.
    #[must_use]
    pub fn is_outlived_by_slot(&self, slot: &Self) -> bool {
        self.is_known_as_other((slot.inode, slot.device, slot.kind))
    }

    fn is_known_as_other(&self, other: (u64, u32, Kind)) -> bool {
        self.inode != 0 && other.0 != 0 && (self.inode, self.device, self.kind) != other
    }

    /// The same as readers see it, under its number.
    #[must_use]
    pub fn open(&self, fd: u32) -> OpenFd {
        OpenFd {
            fd,
            file: self.file,
            inode: self.inode,
            since_ns: self.since_ns,
            kind: self.kind,
            is_inherited: self.is_inherited,
        }
    }

    /// The slot as a record has it.
    #[must_use]
    pub fn new(record: &OpenRecord, names: &mut Names) -> Self {
        let name = record.name.split(|byte| *byte == 0).next();
        let name = name.unwrap_or_default();
        Self {
            file: record.file,
            inode: record.inode,
            since_ns: record.time_ns,
            name: names.take(name),
            device: record.device,
            tgid: record.tgid,
            tid: record.tid,
            kind: kind(record),
            is_inherited: record.flags & INHERITED != 0,
        }
    }
}

/// What a record's file is.
fn kind(record: &OpenRecord) -> Kind {
    if let Some(known) = record.known_kind.checked_sub(1) {
        return Kind::from_repr(known).unwrap_or_default();
    }
    let name = record.name.split(|byte| *byte == 0).next();
    let inode = Inode {
        magic: record.magic,
        mode: u32::from(record.mode),
        family: u32::from(record.family),
        socket_type: u32::from(record.socket_type),
    };
    inode.kind(Prefix::of(name.unwrap_or_default()))
}

/// What the last record has told of its file: the next one is often alike, a server accepts the same kind of
/// connection again and again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recent {
    told: Option<Told>,
    name: NameId,
    generation: u32,
    kind: Kind,
}

/// What name and kind are made of.
type Told = (u32, [u16; 4], [u8; NAME_SIZE]);

impl Recent {
    /// The slot as a record has it; as [`Slot::new`].
    #[must_use]
    pub fn slot(&mut self, record: &OpenRecord, names: &mut Names) -> Slot {
        let told = (
            record.magic,
            [
                record.mode,
                record.family,
                record.socket_type,
                record.known_kind,
            ],
            record.name,
        );
        if self.told != Some(told) || !names.take_again(self.name, self.generation) {
            let slot = Slot::new(record, names);
            *self = Self {
                told: Some(told),
                name: slot.name,
                generation: names.generation(slot.name),
                kind: slot.kind,
            };
            return slot;
        }
        Slot {
            file: record.file,
            inode: record.inode,
            since_ns: record.time_ns,
            name: self.name,
            device: record.device,
            tgid: record.tgid,
            tid: record.tid,
            kind: self.kind,
            is_inherited: record.flags & INHERITED != 0,
        }
    }
}

/// Sixty-four slots of a table, and what a pass of the reconciliation has found of them.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Bits of the slots that are open.
    pub live: u64,
    /// Bits of the slots that came with the table, which is `inherited_ns` old.
    inherited: u64,
    inherited_ns: u64,
    /// Bits of the slots that have changed in `touched_in`.
    touched: u64,
    /// Bits of the slots that the kernel has shown in `seen_in`, and that agreed.
    seen: u64,
    touched_in: u32,
    seen_in: u32,
    files: Rc<Files>,
}

/// What is in the slots of a page, and of its copies.
#[derive(Clone, Debug)]
struct Files {
    /// Bits of the slots whose names are used here. All that are open in any table that shares this are
    /// among them; what has been closed while it was shared stays until it is not.
    held: u64,
    slots: [Slot; PAGE as usize],
}

impl Default for Files {
    fn default() -> Self {
        Self {
            held: 0,
            slots: [Slot::default(); PAGE as usize],
        }
    }
}

impl Files {
    /// Gives back the names of slots that have been closed while this was shared.
    fn forget_but(&mut self, live: u64, names: &mut Names) {
        for fd in bits(self.held & !live) {
            names.give_back(self.slots[index(fd)].name);
        }
        self.held &= live;
    }
}

impl Page {
    /// The copy of a page, if it holds these files and no others: those that the kernel has copied, 0 for a
    /// free slot.
    #[must_use]
    pub fn copy(&self, files: &[u64; CHUNK], made_ns: u64, pass: u32) -> Option<Self> {
        let mut live = self.live;
        let pairs = || files.iter().zip(&self.files.slots);
        let difference = pairs().fold(0, |sum, (file, slot)| sum | (file ^ slot.file));
        // A page that is full is a large table's ordinary one, and compared without a branch.
        if live != u64::MAX || difference != 0 {
            live = 0;
            for (fd, (file, slot)) in (0..).zip(pairs()) {
                if *file != 0 {
                    if *file != slot.file {
                        return None;
                    }
                    live |= bit(fd);
                }
            }
        }
        (live & !self.live == 0).then(|| Self {
            live,
            inherited: live,
            inherited_ns: made_ns,
            touched: live,
            touched_in: pass,
            seen: 0,
            seen_in: 0,
            files: Rc::clone(&self.files),
        })
    }

    /// The file in a slot, if it is open.
    #[must_use]
    pub fn get(&self, fd: u32) -> Option<Slot> {
        if self.live & bit(fd) == 0 {
            return None;
        }
        let mut slot = self.files.slots[index(fd)];
        if self.inherited & bit(fd) != 0 {
            (slot.is_inherited, slot.since_ns) = (true, self.inherited_ns);
        }
        Some(slot)
    }

    /// The address of the file in a slot, 0 where it is free.
    #[must_use]
    pub fn file(&self, fd: u32) -> u64 {
        if self.live & bit(fd) == 0 {
            return 0;
        }
        self.files.slots[index(fd)].file
    }

    /// Puts a file into a slot; what was there before.
    pub fn put(&mut self, fd: u32, slot: Slot, names: &mut Names) -> Option<Slot> {
        let before = self.get(fd);
        let files = self.own(names);
        files.slots[index(fd)] = slot;
        files.held |= bit(fd);
        self.live |= bit(fd);
        self.inherited &= !bit(fd);
        before
    }

    /// Empties a slot. What it held uses its name from here on.
    pub fn take(&mut self, fd: u32, names: &mut Names) -> Option<Slot> {
        let slot = self.get(fd)?;
        if let Some(files) = Rc::get_mut(&mut self.files) {
            files.forget_but(self.live, names);
            self.live &= !bit(fd);
            files.held = self.live;
            return Some(slot);
        }
        let _ = names.share(slot.name);
        self.live &= !bit(fd);
        if self.live == 0 {
            // Nothing would tell when the others have ended.
            self.files = Rc::default();
        }
        Some(slot)
    }

    /// Empties a slot that holds this file, if nothing stands in the way; the name that it used.
    pub fn close(&mut self, fd: u32, file: u64, pass: u32) -> Option<NameId> {
        let files = Rc::get_mut(&mut self.files)?;
        let slot = &files.slots[index(fd)];
        if self.live & bit(fd) == 0 || slot.file != file || files.held != self.live {
            return None;
        }
        let name = slot.name;
        files.held &= !bit(fd);
        self.live &= !bit(fd);
        self.touch(fd, pass);
        Some(name)
    }

    /// Ends it: the names that nobody else holds are given back.
    pub fn release(self, names: &mut Names) {
        if let Some(files) = Rc::into_inner(self.files) {
            for fd in bits(files.held) {
                names.give_back(files.slots[index(fd)].name);
            }
        }
    }

    /// What is in the slots, to be changed in this page alone.
    fn own(&mut self, names: &mut Names) -> &mut Files {
        if Rc::strong_count(&self.files) > 1 {
            let mut copy = Files::clone(&self.files);
            copy.held = self.live;
            for fd in bits(copy.held) {
                let _ = names.share(copy.slots[index(fd)].name);
            }
            self.files = Rc::new(copy);
        }
        let files = Rc::make_mut(&mut self.files);
        files.forget_but(self.live, names);
        files
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
