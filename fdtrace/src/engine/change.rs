//! Single changes of slots, in order, for those who show each of them. A stream, and no part of [`super::Engine`]: an
//! engine need not keep what it has told.

use serde::Serialize;

use super::table::OpenFd;

/// How a slot changes.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Op {
    /// A call has opened something.
    Open,
    /// A file that was open got another number.
    Dup,
    /// Another file took the place of one (dup2).
    Replace,
    /// Another process has handed a file over (`SCM_RIGHTS`, `pidfd_getfd`).
    Receive,
    /// It came with the table: fork, unshare.
    Inherit,
    /// Closed.
    Close,
    /// Closed by exec.
    CloseExec,
    /// Closed because its table's last user has ended.
    CloseExit,
    /// A call has failed for want of an fd.
    Failed,
    /// It was there all along, and nobody knew it.
    Found,
    /// It was gone, and nobody knew it.
    Lost,
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub op: Op,
    /// Nanoseconds since boot.
    pub time_ns: u64,
    /// The table.
    pub files: u64,
    /// What is open there now; where it closes, what was.
    pub open: OpenFd,
    /// The process that did it.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// Its user; 0 where single changes are not shown.
    pub uid: u32,
    /// The call it is in; 0 where single changes are not shown.
    pub call: u32,
    /// It is in the scope that was asked for.
    pub in_scope: bool,
    /// The thread's name. Hostile text.
    pub comm: [u8; 16],
    /// Its process's name, which is that of its leader. Hostile text.
    pub process: [u8; 16],
}

/// Who is told.
pub trait Sink {
    /// Whether each change is wanted: what would only be told is not even looked up otherwise.
    const WANTS_ALL: bool = true;

    /// One change, and the name of its file: untrusted text.
    fn change(&mut self, change: Change, name: &[u8]);
}

/// Nobody is told.
impl Sink for () {
    const WANTS_ALL: bool = false;

    fn change(&mut self, _: Change, _: &[u8]) {}
}

impl<T: Sink> Sink for &mut T {
    const WANTS_ALL: bool = T::WANTS_ALL;

    fn change(&mut self, change: Change, name: &[u8]) {
        (**self).change(change, name);
    }
}

impl Sink for Vec<Change> {
    fn change(&mut self, change: Change, _: &[u8]) {
        self.push(change);
    }
}
