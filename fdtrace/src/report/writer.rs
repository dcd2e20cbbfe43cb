//! The thread that writes: a slow or full stdout never holds up the reading of records.

use std::{
    io::{self, BufWriter, Write},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::{self, JoinHandle},
};

use super::{fact::Fact, json, text};

/// Facts that may wait for stdout; further ones are dropped and counted.
const WAITING: usize = 4096;

/// The form that facts take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Columns for people.
    Text,
    /// One object a line.
    Json,
}

/// The near end of the writing thread.
pub struct Writer {
    facts: SyncSender<Fact>,
    dropped: u64,
    thread: JoinHandle<io::Result<()>>,
}

impl Writer {
    /// Starts the thread; `ended` is called when it ends, which is early where writing fails.
    pub fn start(
        output: impl Write + Send + 'static,
        format: Format,
        ended: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (facts, waiting) = sync_channel(WAITING);
        let thread = thread::Builder::new()
            .name("fdtrace-output".to_owned())
            .spawn(move || {
                let outcome = write_all(output, format, &waiting);
                ended();
                outcome
            })?;
        Ok(Self {
            facts,
            dropped: 0,
            thread,
        })
    }

    /// Hands a fact over; it is dropped and counted where too many are waiting.
    pub fn send(&mut self, fact: Fact) {
        match self.facts.try_send(fact) {
            Err(TrySendError::Full(_)) => self.dropped += 1,
            // The thread has ended: `finish` tells why.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
        }
    }

    /// Facts dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Waits until all is written. A closed pipe is an ordinary end.
    pub fn finish(self, last: Fact) -> io::Result<()> {
        // This one may wait: nothing is being read any more.
        let _ = self.facts.send(last);
        drop(self.facts);
        let outcome = self
            .thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the output thread failed")));
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

fn write_all(output: impl Write, format: Format, facts: &Receiver<Fact>) -> io::Result<()> {
    let mut output = BufWriter::new(output);
    while let Ok(mut fact) = facts.recv() {
        if let Fact::Event(event) = &mut fact {
            event.enrich();
        }
        match &fact {
            Fact::Loss(loss) => say(&text::loss(loss)),
            Fact::Notice(text) => say(text),
            _ => {}
        }
        match format {
            Format::Text => text::write(&mut output, &fact)?,
            Format::Json => json::write(&mut output, &fact)?,
        }
        output.flush()?;
    }
    Ok(())
}

fn say(line: &str) {
    let _ = writeln!(io::stderr(), "fdtrace: {line}");
}

#[cfg(test)]
mod tests;
