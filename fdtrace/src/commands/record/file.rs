//! The thread that writes a recording: a slow disk never holds up the reading of records.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};

use super::name;
use crate::{
    commands::stdout,
    report::writer::AtEnd,
    stream::recording::{first_line, number},
};

/// Chunks that may wait for the disk, 16 MiB of them; further ones are dropped and counted.
const WAITING: usize = 256;

/// The near end of the writing thread.
pub(super) struct FileOutput {
    chunks: SyncSender<Vec<u8>>,
    thread: JoinHandle<io::Result<u64>>,
    path: String,
    /// The next chunk's place in the file.
    number: u32,
    dropped: u64,
}

/// Makes a new file that only its owner can read: it tells what every process has open.
pub(super) fn create(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).map_err(|error| {
        let is_there = error.kind() == io::ErrorKind::AlreadyExists;
        let error = anyhow::Error::from(error);
        if is_there {
            error.context(format!(
                "{}: remove it or choose another name",
                path.display()
            ))
        } else {
            error.context(format!("creating {}", path.display()))
        }
    })
}

impl FileOutput {
    /// Starts the thread; `ended` is called when it ends, which is early where writing fails. `-` is
    /// standard output.
    pub(super) fn start(path: &Path, ended: impl FnOnce() + Send + 'static) -> Result<Self> {
        let output: Box<dyn Write + Send> = if path == Path::new("-") {
            Box::new(stdout::waiting())
        } else {
            Box::new(create(path)?)
        };
        let (chunks, waiting) = sync_channel(WAITING);
        let thread = thread::Builder::new()
            .name("fdtrace-output".to_owned())
            .spawn(move || {
                let _at_end = AtEnd::call(ended);
                write_all(output, &waiting)
            })
            .context("starting the output thread")?;
        Ok(Self {
            chunks,
            thread,
            path: name(path),
            number: 0,
            dropped: 0,
        })
    }

    /// Hands a chunk over. False where there is no room for it: it leaves a hole.
    pub(super) fn send(&mut self, mut chunk: Vec<u8>) -> bool {
        number(&mut chunk, self.number);
        self.number += 1;
        match self.chunks.try_send(chunk) {
            Err(TrySendError::Full(_)) => {
                self.dropped += 1;
                false
            }
            // The thread has ended: `finish` tells why.
            Ok(()) | Err(TrySendError::Disconnected(_)) => true,
        }
    }

    /// Waits until all is written; how many bytes that is.
    pub(super) fn finish(self) -> Result<u64> {
        drop(self.chunks);
        let outcome = self
            .thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the output thread failed")));
        outcome.with_context(|| format!("writing {}", self.path))
    }
}

fn write_all(mut output: impl Write, chunks: &Receiver<Vec<u8>>) -> io::Result<u64> {
    let line = first_line();
    output.write_all(&line)?;
    output.flush()?;
    let mut written = line.len() as u64;
    while let Ok(chunk) = chunks.recv() {
        output.write_all(&chunk)?;
        output.flush()?;
        written += chunk.len() as u64;
    }
    Ok(written)
}
