//! Every bound on what traced processes can have fdtrace read, keep and wait for, in one place.
//!
//! | of | what | bound |
//! |---|---|---|
//! | a process | bytes of /proc/PID/maps | [`MAPS`] |
//! | | mappings of code | [`MAPPINGS`] |
//! | | bytes of its arguments | [`ARGUMENTS`] |
//! | | bytes of a map of the code that it has made, and functions in it | [`PERF_MAP`], [`PERF_FUNCTIONS`] |
//! | an ELF file | bytes of a table of headers | [`HEADERS`] |
//! | | bytes of a section with unwind information | [`UNWIND_SECTION`] |
//! | | bytes of Go's table of functions | [`GO_TABLE`] |
//! | | bytes of a table of symbols, or of their names | [`SYMBOLS`] |
//! | | bytes of a table that says whether it uses select, and such files of a process | [`IMPORTS`], [`IMPORTERS`] |
//! | | bytes of debug information, packed and unpacked | [`DEBUG`], [`DEBUG_UNPACKED`] |
//! | fdtrace | fds that are left free | [`FDS_LEFT`] |
//! | all files | files held, by the reader process too | [`MODULES`], [`READ`] |
//! | | bytes of unwind information | [`UNWIND_ALL`] |
//! | | bytes of tables of symbols whose names are held | [`SYMBOLS_ALL`] |
//! | the reader process | bytes of memory of its own | [`MEMORY`] |
//! | | time for one answer, of the processor and of the clock | [`PATIENCE`], [`PATIENCE_WALL`] |
//! | | answers that it may owe before it rests for a while | [`STRIKES`], [`REST`] |
//! | a question about stacks | time after which frames go without names | [`NAMING`], [`NAMING_ALL`] |
//! | the start | time that it waits for interpreters to be found | [`SEEKING`] |
//! | a report, a block of `leaks` | time that it waits for stacks | [`WAIT`], [`WAIT_ALL`] |
//!
//! Sizes are compared before anything is read. What exceeds a bound costs names of functions or a part of a
//! stack, never a report.

use std::time::Duration;

/// Bytes of /proc/PID/maps: some hundred for each of 65 530 mappings (`vm.max_map_count`).
pub(super) const MAPS: u64 = 16 << 20;
/// Mappings of code that are looked at, of those that a process has.
pub(super) const MAPPINGS: usize = 4_096;
/// Bytes of /proc/PID/cmdline: class paths are long, and the command line is the process's own.
pub(super) const ARGUMENTS: u64 = 1 << 20;

/// Bytes of a `perf-PID.map`: Node's grow by 1 MB an hour.
pub(super) const PERF_MAP: u64 = 64 << 20;
/// Functions of such a map.
pub(super) const PERF_FUNCTIONS: usize = 500_000;

/// Bytes of program headers, or of section headers: 4 096 sections.
pub(super) const HEADERS: u64 = 256 << 10;
/// Bytes of one section of unwind information, unpacked. Those of browsers have some 15 MB.
pub(super) const UNWIND_SECTION: u64 = 32 << 20;
/// Bytes of one Go program's table of functions. Kubernetes' programs have some 30 MB.
pub(super) const GO_TABLE: u64 = 48 << 20;
/// Bytes of one table of symbols or of their names: five million symbols.
pub(super) const SYMBOLS: u64 = 128 << 20;
/// Bytes of the tables of symbols of all files whose names are held.
pub(super) const SYMBOLS_ALL: u64 = 256 << 20;
/// Bytes of one table that is read to see whether a file uses select.
pub(super) const IMPORTS: u64 = 32 << 20;
/// Files of a process that are asked whether they do.
pub(super) const IMPORTERS: usize = 256;
/// Processes of which the answer is remembered.
pub(super) const IMPORTERS_KEPT: usize = 1_024;
/// Bytes of debug information in one file. It is mapped, and read where it is asked about.
pub(super) const DEBUG: u64 = 4 << 30;
/// Bytes of that which are packed, unpacked: those are held in memory.
pub(super) const DEBUG_UNPACKED: u64 = 64 << 20;

/// Files that are held at most, an fd each.
pub(super) const MODULES: usize = 1_024;
/// Fds below the own limit that are left free for everything else.
pub(super) const FDS_LEFT: u64 = 32;
/// Files that the reader process holds, up to two fds each, before it is started anew: ordinary limits have room for them.
pub(super) const READ: usize = 400;
/// Bytes of unwind information that are held, all files together.
pub(super) const UNWIND_ALL: u64 = 64 << 20;

/// Bytes of memory that the reader process may have of its own (`RLIMIT_DATA`): mapped files do not count.
pub(super) const MEMORY: u64 = 256 << 20;
/// Processes' mappings that the reader process holds before it is started anew.
pub(super) const IMAGES: usize = 1_024;
/// The reader process answers in this time of the processor, or it is ended. Not of the clock: on a busy host
/// that says nothing of the question.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// It may wait for a file server, too, and for its turn; not for longer.
pub(super) const PATIENCE_WALL: Duration = Duration::from_secs(30);
/// When it has failed to answer so often within [`REST`], it is not asked for as long.
pub(super) const STRIKES: usize = 4;
/// See [`STRIKES`].
pub(super) const REST: Duration = Duration::from_mins(1);

/// What somebody asks of stacks is answered without names that have not been read by then.
pub(super) const NAMING: Duration = Duration::from_secs(5);
/// The start waits so long until each interpreter that runs has been looked for.
pub(super) const SEEKING: Duration = Duration::from_secs(1);
/// So long after it has been asked for, nobody waits for an answer any more. Longer than [`NAMING`] and
/// [`PATIENCE`] together: where a file takes too long, an answer without names comes before that.
pub(super) const WAIT: Duration = Duration::from_secs(15);
/// The same two for whole tables of stacks, which no alarm is in: what `leaks` shows.
pub(super) const NAMING_ALL: Duration = Duration::from_secs(30);
/// See [`NAMING_ALL`].
pub(super) const WAIT_ALL: Duration = Duration::from_mins(1);
