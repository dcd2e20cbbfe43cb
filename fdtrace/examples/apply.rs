//! Applies made-up records to the model of all tables, as many as are asked for: what `cargo xtask bench`
//! counts the instructions of, and the memory.
//!
//! ```sh
//! cargo run --release --example apply -- TABLES FDS RECORDS ROUNDS
//! ```
//!
//! First TABLES processes get FDS open files each. Then a stream of about RECORDS records is applied
//! ROUNDS times. It ends in the state in which it has begun, so that one round costs what every round
//! costs, and whatever comes before the first one can be subtracted. Prints a line of JSON.

use std::{env, fs, hint::black_box, process::ExitCode};

use fdtrace::{
    model::tables::Tables,
    stream::record::{NoRecord, Record},
    tracker,
};
use fdtrace_common::{
    change::{
        BitsRecord, CHUNK, CloseRecord, CopyRecord, IN_SCOPE, LAST_THREAD, OpenRecord, SlotsRecord,
        ThreadRecord,
    },
    record::{
        RECORD_BOUND, RECORD_CLOSED, RECORD_COPIED, RECORD_COPIED_SLOTS, RECORD_EXECUTED,
        RECORD_EXITED, RECORD_OPENED, RECORD_RENAMED,
    },
};
use zerocopy::{FromZeros as _, Immutable, IntoBytes};

/// The process that forks, apart from the others: a fork costs what its table holds.
const SHELL: Process = Process {
    tid: 1,
    files: 0xffff_8880_0000_1000,
};
/// Its child.
const CHILD: Process = Process {
    tid: 2,
    files: 0xffff_8880_0000_2000,
};
/// What the shell has open.
const SHELL_FDS: u32 = 40;
/// What of it the child has left after exec.
const KEPT_FDS: u32 = 3;
/// What the child opens and closes.
const CHILD_FDS: u32 = 5;
/// Records between two forks: a busy host does much less of forking than of opening.
const BETWEEN_FORKS: usize = 400;
/// Names of files that are open at a time.
const NAMES: u64 = 1_000;

fn main() -> ExitCode {
    let numbers: Vec<u32> = env::args()
        .skip(1)
        .map_while(|argument| argument.parse().ok())
        .collect();
    let [tables, fds, records, rounds] = numbers[..] else {
        eprintln!("usage: apply TABLES FDS RECORDS ROUNDS");
        return ExitCode::from(2);
    };
    if tables == 0 || fds == 0 {
        eprintln!("apply: without a table that has an fd nothing can be opened and closed");
        return ExitCode::from(2);
    }
    match run(tables, fds, records as usize, rounds) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("apply: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(tables: u32, fds: u32, records: usize, rounds: u32) -> Result<String, String> {
    let mut model = Tables::new(tracker::calls());
    let before = resident()?;
    let mut population = Stream::default();
    for process in [SHELL].into_iter().chain((0..tables).map(server)) {
        let held = if process.tid == SHELL.tid {
            SHELL_FDS
        } else {
            fds
        };
        population.bind(process, 0);
        for fd in 0..held {
            population.open(process, fd);
            // Never more than a few records at a time, as in the ring: they are not what is measured.
            population.apply_and_forget(&mut model)?;
        }
    }
    let after = resident()?;
    let open = model.open();
    let mut stream = Stream::default();
    let mut random = 1_u64;
    let mut since_fork = 0;
    while stream.ends.len() < records {
        // A linear congruential generator: the places are to vary, nothing more.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let process = server(below(random >> 40, tables));
        let fd = below(random >> 20, fds);
        stream.close(process, fd);
        stream.open(process, fd);
        since_fork += 2;
        if since_fork >= BETWEEN_FORKS {
            since_fork = 0;
            stream.child();
        }
    }
    for _ in 0..rounds {
        stream.apply(&mut model)?;
    }
    if model.open() != open || model.contradictions() > 0 || model.awaited() > 0 {
        return Err(format!(
            "the stream is not in order: {open} fds open, then {}; {} contradictions, {} awaited",
            model.open(),
            model.contradictions(),
            model.awaited()
        ));
    }
    let applied = stream.ends.len();
    Ok(format!(
        r#"{{"records":{applied},"rounds":{rounds},"open":{open},"resident_before":{before},"resident_after":{after}}}"#
    ))
}

fn below(random: u64, end: u32) -> u32 {
    u32::try_from(random % u64::from(end)).expect("below a u32")
}

/// Bytes of memory that this process has now.
fn resident() -> Result<u64, String> {
    let path = "/proc/self/status";
    let status = fs::read_to_string(path).map_err(|error| format!("reading {path}: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| format!("{path} has no VmRSS"))
}

/// One thread with a table of its own.
#[derive(Clone, Copy)]
struct Process {
    tid: u32,
    files: u64,
}

/// One of those that open and close.
fn server(index: u32) -> Process {
    Process {
        tid: 1_000 + index,
        files: 0xffff_8881_0000_0000 + u64::from(index) * 704,
    }
}

/// The file that an fd leads to: always the same one, as the kernel's allocator hands memory out again.
fn file(process: Process, fd: u32) -> u64 {
    0xffff_8890_0000_0000 + (u64::from(process.tid) << 20 | u64::from(fd)) * 256
}

/// Records as the ring has them: one after the other, each at a multiple of eight bytes.
#[derive(Default)]
struct Stream {
    words: Vec<u64>,
    ends: Vec<usize>,
    time_ns: u64,
}

impl Stream {
    fn push(&mut self, record: &(impl IntoBytes + Immutable)) {
        let words = record.as_bytes().chunks_exact(8);
        self.words
            .extend(words.map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes"))));
        self.ends.push(self.words.len());
    }

    fn now(&mut self) -> u64 {
        self.time_ns += 1_000;
        self.time_ns
    }

    /// What is counted.
    fn apply(&self, model: &mut Tables) -> Result<(), String> {
        let mut start = 0;
        for &end in &self.ends {
            let bytes = black_box(self.words[start..end].as_bytes());
            let error = |error: NoRecord| error.to_string();
            if let Record::Change(change) = Record::read(bytes).map_err(error)? {
                model.apply(change, &mut ());
            }
            start = end;
        }
        Ok(())
    }

    fn apply_and_forget(&mut self, model: &mut Tables) -> Result<(), String> {
        self.apply(model)?;
        self.words.clear();
        self.ends.clear();
        Ok(())
    }

    fn thread(&mut self, kind: u32, process: Process, creator: u32) {
        let mut comm = [0; 16];
        comm[..6].copy_from_slice(b"server");
        let record = ThreadRecord {
            kind,
            flags: IN_SCOPE | LAST_THREAD,
            time_ns: self.now(),
            files: process.files,
            tgid: process.tid,
            tid: process.tid,
            creator,
            comm,
            ..ThreadRecord::new_zeroed()
        };
        self.push(&record);
    }

    fn bind(&mut self, process: Process, creator: u32) {
        self.thread(RECORD_BOUND, process, creator);
    }

    /// Of ten fds four are sockets, four are files of a name of their own, two are a device.
    fn open(&mut self, process: Process, fd: u32) {
        let mut name = [0; 32];
        let (mode, family, text) = match fd % 10 {
            0..4 => (0o140_777, 2, String::new()),
            4..8 => {
                let number = (u64::from(process.tid) * 31 + u64::from(fd)) % NAMES;
                (0o100_644, 0, format!("segment-{number:08}.log"))
            }
            _ => (0o020_666, 0, "null".to_owned()),
        };
        name[..text.len()].copy_from_slice(text.as_bytes());
        let record = OpenRecord {
            kind: RECORD_OPENED,
            fd,
            time_ns: self.now(),
            files: process.files,
            file: file(process, fd),
            inode: u64::from(fd) + 1,
            tgid: process.tid,
            tid: process.tid,
            flags: IN_SCOPE,
            mode,
            family,
            socket_type: u16::from(family != 0),
            name,
            ..OpenRecord::new_zeroed()
        };
        self.push(&record);
    }

    fn close(&mut self, process: Process, fd: u32) {
        self.close_file(process, fd, file(process, fd));
    }

    fn close_file(&mut self, process: Process, fd: u32, file: u64) {
        let record = CloseRecord {
            kind: RECORD_CLOSED,
            fd,
            time_ns: self.now(),
            files: process.files,
            file,
            tgid: process.tid,
            tid: process.tid,
            flags: IN_SCOPE,
            ..CloseRecord::new_zeroed()
        };
        self.push(&record);
    }

    /// A child's life: fork, the closings before exec, exec, some files, its end.
    fn child(&mut self) {
        let record = CopyRecord {
            kind: RECORD_COPIED,
            flags: IN_SCOPE,
            time_ns: self.now(),
            from: SHELL.files,
            files: CHILD.files,
            tgid: SHELL.tid,
            tid: SHELL.tid,
            ..CopyRecord::new_zeroed()
        };
        self.push(&record);
        let mut slots = SlotsRecord {
            kind: RECORD_COPIED_SLOTS,
            first: 0,
            files: CHILD.files,
            slots: [0; CHUNK],
        };
        for (slot, fd) in slots.slots.iter_mut().zip(0..SHELL_FDS) {
            *slot = file(SHELL, fd);
        }
        self.push(&slots);
        self.bind(CHILD, SHELL.tid);
        for fd in SHELL_FDS - KEPT_FDS..SHELL_FDS {
            self.close_file(CHILD, fd, file(SHELL, fd));
        }
        self.thread(RECORD_RENAMED, CHILD, 0);
        let mut bits = BitsRecord {
            kind: RECORD_EXECUTED,
            time_ns: self.now(),
            files: CHILD.files,
            tgid: CHILD.tid,
            tid: CHILD.tid,
            flags: IN_SCOPE,
            words: 4,
            ..BitsRecord::new_zeroed()
        };
        bits.bits[0] = (1 << KEPT_FDS) - 1;
        self.push(&bits);
        let own = KEPT_FDS..KEPT_FDS + CHILD_FDS;
        own.clone().for_each(|fd| self.open(CHILD, fd));
        own.for_each(|fd| self.close(CHILD, fd));
        self.thread(RECORD_EXITED, CHILD, 0);
    }
}
