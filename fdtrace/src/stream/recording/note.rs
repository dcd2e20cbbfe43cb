//! What a stream is made of beside records.

use fdtrace_common::alarm::StormKey;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, IntoBytes};

use crate::{
    enrich::{
        lookup::{Looked, Text},
        stacks::Stack,
    },
    ground::{host::Host, task::Task},
    model::tables::reconcile::Purpose,
    probe::backend::Backend,
    report::fact::Place,
};

/// One note. Times are nanoseconds since the boot of the machine that recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// The first item of a recording.
    Start(Start),
    /// A pass of the reconciliation begins.
    PassBegun,
    /// It ends, with all records applied that the ring had before the iterators' end.
    PassEnded {
        /// What it was for.
        purpose: Purpose,
        /// When.
        now_ns: u64,
    },
    /// Nothing came of it.
    PassAbandoned,
    /// The tables from before are known: what comes from here on is news.
    Armed {
        /// When.
        now_ns: u64,
    },
    /// A second has gone by.
    Second {
        /// When.
        now_ns: u64,
        /// When the machine was started, by its clock as it was set then.
        boot: Timestamp,
        /// The host's files and their limit.
        host: Host,
    },
    /// What each CPU has counted of a kind of failure.
    Counted {
        /// The kind, see [`key_to_words`].
        key: [u32; 10],
        /// CPU and count.
        counted: Vec<(u32, u64)>,
    },
    /// A process of which failures were told has ended.
    Ended {
        /// The process.
        tgid: u32,
    },
    /// Something was not seen.
    Lost {
        /// Where it was lost.
        place: Place,
        /// How many.
        count: u64,
        /// When it was noticed.
        now_ns: u64,
    },
    /// A line for stderr.
    Notice {
        /// The line.
        text: String,
    },
    /// One table as the kernel counts it, at the end.
    Task(Task),
    /// All tables that are half full or fuller, as the kernel counts them now.
    Tasks(Vec<Task>),
    /// Whoever puts this file into this slot has left a stack: the change comes next, the stack when it
    /// has been resolved.
    Taken {
        /// Table, number, file.
        slot: (u64, u32, u64),
        /// Which stack.
        number: u64,
    },
    /// Who has opened what, resolved: slots that are there, or have been a moment ago.
    Stack {
        /// The functions.
        stack: Stack,
        /// What they have opened: table, number, file.
        opened: Vec<(u64, u32, u64)>,
        /// The numbers of their stacks, where they have been told before.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        numbers: Vec<u64>,
    },
    /// What was looked up of processes.
    Looked(Looked),
    /// Where sockets lead to, by inode.
    Ends(Vec<(u64, Text)>),
    /// States of TCP sockets, by inode, as `include/net/tcp_states.h` numbers them.
    States(Vec<(u64, u8)>),
    /// Whatever was asked for up to here has been told: stacks, and what was looked up.
    Answered {
        /// When.
        until_ns: u64,
    },
    /// The last item of a recording that was not cut off.
    End {
        /// When.
        now_ns: u64,
        /// Seconds since everything was armed, where all of them are in the recording.
        duration_s: Option<f64>,
    },
}

/// What a recording says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The fdtrace that recorded.
    pub fdtrace: String,
    /// The kernel's release.
    pub kernel: String,
    /// The machine, as uname(2) has it: numbers of system calls are its own.
    pub machine: String,
    /// The process that recorded: changes of its own are none that anybody asks for.
    pub pid: u32,
    /// What ran.
    pub backend: Backend,
    /// When the machine was started, by its clock.
    pub boot: Timestamp,
    /// When the recording begins.
    pub now_ns: u64,
    /// The host's files and their limit.
    pub host: Host,
    /// [`Note::Answered`] is told now and then.
    #[serde(default)]
    pub answers: bool,
}

/// A kind of failure as the words it is made of.
#[must_use]
pub fn key_to_words(key: &StormKey) -> [u32; 10] {
    <[u32; 10]>::read_from_bytes(key.as_bytes()).unwrap_or_default()
}

/// The other way round.
#[must_use]
pub fn key_from_words(words: &[u32; 10]) -> StormKey {
    let mut key = StormKey {
        files: 0,
        started_ns: 0,
        tgid: 0,
        call: 0,
        hook: 0,
        errno: 0,
        limit: 0,
        cpu: 0,
    };
    if let Ok(read) = StormKey::read_from_bytes(words.as_bytes()) {
        key = read;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_words() {
        let words = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        let key = key_from_words(&words);
        assert_eq!((key.tgid, key.limit, key.cpu), (5, 9, 10));
        assert_eq!(key_to_words(&key), words);
    }
}
