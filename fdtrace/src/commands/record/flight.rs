//! The flight recorder: the last minutes in memory, in parts that each begin with all tables as they were.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use super::file;
use crate::stream::recording::{first_line, number};

/// Parts that the minutes are kept in. One more is kept: the oldest is never as old as was asked for.
const PARTS: u32 = 4;
/// Memory that they may take together.
const BYTES_MAX: usize = 256 << 20;
/// Files that one run writes.
const FILES_MAX: u64 = 100;

/// A part: what has happened since all tables were written down.
#[derive(Debug, Default)]
struct Part {
    began_ns: u64,
    chunks: Vec<Vec<u8>>,
}

/// The minutes kept.
#[derive(Debug)]
pub(super) struct Flight {
    path: PathBuf,
    window_ns: u64,
    parts: VecDeque<Part>,
    bytes: usize,
    /// Files written, and when the last one was.
    pub(super) files: u64,
    written_ns: u64,
}

impl Flight {
    pub(super) fn new(path: &Path, window: Duration) -> Self {
        Self {
            path: path.to_owned(),
            window_ns: u64::try_from(window.as_nanos()).unwrap_or(u64::MAX),
            parts: VecDeque::from([Part::default()]),
            bytes: 0,
            files: 0,
            written_ns: 0,
        }
    }

    /// Is it time for the next part?
    pub(super) fn is_part_over(&self, now_ns: u64) -> bool {
        let began_ns = self.parts.back().map_or(0, |part| part.began_ns);
        let is_large = self.parts.back().is_some_and(|part| {
            let bytes: usize = part.chunks.iter().map(Vec::len).sum();
            bytes > BYTES_MAX / PARTS as usize
        });
        is_large || now_ns.saturating_sub(began_ns) >= self.window_ns / u64::from(PARTS)
    }

    /// Begins a part, and lets go of what is too old, or too much.
    pub(super) fn begin_part(&mut self, now_ns: u64) {
        self.parts.push_back(Part {
            began_ns: now_ns,
            chunks: Vec::new(),
        });
        let first_ns = now_ns.saturating_sub(self.window_ns);
        while self.parts.len() > 2 && (self.parts[1].began_ns <= first_ns || self.bytes > BYTES_MAX)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(part) = self.parts.pop_front() {
            self.bytes -= part.chunks.iter().map(Vec::len).sum::<usize>();
        }
    }

    pub(super) fn keep(&mut self, chunk: Vec<u8>) {
        self.bytes += chunk.len();
        if let Some(part) = self.parts.back_mut() {
            part.chunks.push(chunk);
        }
    }

    /// May an exhaustion be written now? One file covers the whole window.
    pub(super) fn may_write(&self, now_ns: u64) -> bool {
        self.files < FILES_MAX
            && (self.files == 0 || now_ns.saturating_sub(self.written_ns) >= self.window_ns)
    }

    /// Writes what is kept between two chunks of the caller's to a new file, whose name is returned.
    pub(super) fn write(
        &mut self,
        now_ns: u64,
        first: impl FnOnce(u64) -> Vec<u8>,
        last: Vec<u8>,
    ) -> Result<PathBuf> {
        let path = self.next_path();
        let mut output = file::create(&path)?;
        let written = self.write_to(&mut output, now_ns, first, last);
        if let Err(error) = written {
            // Half a file is in the way of the next attempt; why it could not be written says more.
            let _ = fs::remove_file(&path);
            return Err(error).with_context(|| format!("writing {}", path.display()));
        }
        (self.files, self.written_ns) = (self.files + 1, now_ns);
        Ok(path)
    }

    fn write_to(
        &self,
        output: &mut impl Write,
        now_ns: u64,
        first: impl FnOnce(u64) -> Vec<u8>,
        last: Vec<u8>,
    ) -> io::Result<()> {
        let began_ns = self.parts.front().map_or(now_ns, |part| part.began_ns);
        let kept = self
            .parts
            .iter()
            .flat_map(|part| part.chunks.iter().cloned());
        let chunks = std::iter::once(first(began_ns)).chain(kept).chain([last]);
        output.write_all(&first_line())?;
        for (mut chunk, place) in chunks.zip(0..) {
            number(&mut chunk, place);
            output.write_all(&chunk)?;
        }
        Ok(())
    }

    /// FILE, then FILE.2 and so on.
    fn next_path(&self) -> PathBuf {
        if self.files == 0 {
            return self.path.clone();
        }
        let mut name = OsString::from(&self.path);
        name.push(format!(".{}", self.files + 1));
        PathBuf::from(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000_000;

    fn flight() -> Flight {
        Flight::new(Path::new("/nowhere/x"), Duration::from_mins(4))
    }

    #[test]
    fn no_less_than_the_window_is_kept_and_little_more() {
        let mut flight = flight();
        for minute in 1..=60 {
            let now_ns = minute * MINUTE;
            if flight.is_part_over(now_ns) {
                flight.begin_part(now_ns);
            }
            flight.keep(vec![0; 10]);
            let oldest = flight.parts.front().unwrap().began_ns;
            assert!(oldest <= now_ns.saturating_sub(4 * MINUTE));
            assert!(oldest >= now_ns.saturating_sub(6 * MINUTE));
        }
        assert_eq!(flight.bytes, 50);
    }

    #[test]
    fn memory_is_bounded_whatever_happens() {
        let mut flight = flight();
        for second in 1..=60 {
            let now_ns = second * MINUTE / 60;
            if flight.is_part_over(now_ns) {
                flight.begin_part(now_ns);
            }
            flight.keep(vec![0; 30 << 20]);
            assert!(
                flight.bytes <= BYTES_MAX + BYTES_MAX / 2,
                "{}",
                flight.bytes
            );
        }
    }

    #[test]
    fn a_file_that_could_not_be_written_can_be_written_later() {
        let folder = std::env::temp_dir().join(format!("fdtrace-flight-{}", std::process::id()));
        let mut flight = Flight::new(&folder.join("x"), Duration::from_mins(4));
        let write = |flight: &mut Flight| flight.write(MINUTE, |_| vec![0; 8], vec![0; 8]);
        assert!(write(&mut flight).is_err() && flight.may_write(MINUTE));
        fs::create_dir(&folder).unwrap();
        let written = write(&mut flight);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(written.unwrap(), folder.join("x"));
        assert_eq!(flight.files, 1);
    }

    #[test]
    fn one_file_a_window() {
        let mut flight = flight();
        assert!(flight.may_write(MINUTE));
        (flight.files, flight.written_ns) = (1, MINUTE);
        assert!(!flight.may_write(4 * MINUTE) && flight.may_write(5 * MINUTE));
        assert_eq!(flight.next_path(), Path::new("/nowhere/x.2"));
        flight.files = FILES_MAX;
        assert!(!flight.may_write(5 * MINUTE));
    }
}
