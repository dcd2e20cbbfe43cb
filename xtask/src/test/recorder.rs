//! A stage's output: shown at once, kept in a log, and counted.

use std::{
    fs::{self, File},
    io::{self, Write},
    mem,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::tally::Tally;
use crate::workspace;

/// What a guest prints in front of the tests of one kind.
pub(super) const SECTION: &str = "--- ";

/// A test that takes this long is worth a look.
const LONG: Duration = Duration::from_secs(2);

/// Takes the output line by line.
#[derive(Debug)]
pub(super) struct Recorder {
    name: String,
    prefix: String,
    section: String,
    log: File,
    line: Vec<u8>,
    /// When the line before ended, or the test before.
    since: Instant,
    pub(super) tally: Tally,
}

impl Recorder {
    /// For a stage of this name. The prefix tells its lines from those of one that runs beside it.
    pub(super) fn create(name: &str, prefix: &str) -> Result<Self> {
        let folder = workspace::target().join("test-logs");
        let path = folder.join(format!("{}.log", name.replace(' ', "-")));
        let log = fs::create_dir_all(&folder).and_then(|()| File::create(&path));
        let log = log.with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self {
            name: name.to_owned(),
            prefix: prefix.to_owned(),
            section: String::new(),
            log,
            line: Vec::new(),
            since: Instant::now(),
            tally: Tally::default(),
        })
    }

    /// What was counted, the last line included if it has no end.
    pub(super) fn finish(mut self) -> Tally {
        if !self.line.is_empty() {
            self.take_line();
        }
        self.tally
    }

    fn take_line(&mut self) {
        let line = mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        if let Some(section) = line.strip_prefix(SECTION) {
            self.section = format!(" {section}");
        }
        let place = format!("{}{}", self.name, self.section);
        self.tally.line(&place, line);
        let time = self.time(line);
        println!("{}{line}{time}", self.prefix);
    }
}

impl Recorder {
    /// How long the test took whose outcome the line is, if it took long. One that ran beside others is counted from
    /// the end of whichever ended before.
    fn time(&mut self, line: &str) -> String {
        let took = self.since.elapsed();
        let is_outcome = line.ends_with("ok") || line.ends_with("FAILED");
        if !is_outcome && !line.starts_with("running ") {
            return String::new();
        }
        self.since = Instant::now();
        if is_outcome && took >= LONG {
            format!(" ({:.1} s)", took.as_secs_f32())
        } else {
            String::new()
        }
    }
}

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.log.write_all(bytes)?;
        for byte in bytes {
            match byte {
                b'\n' => self.take_line(),
                byte => self.line.push(*byte),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.log.flush()
    }
}
