//! The thread that writes: a slow or full stdout never holds up the reading of records.

use std::{
    io::{self, BufWriter, Write},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    thread::{self, JoinHandle},
};

use super::{exec::Exec, fact::Fact, json, page::Paper, say::say, text, zone};
use crate::{
    enrich::lookup::{Lookup, Recorded, ThisHost},
    probe::cgroup,
};

/// Facts that may wait for stdout; further ones are dropped and counted.
const WAITING: usize = 4096;

/// The form that facts take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Columns for people.
    Text(Paper),
    /// One object a line.
    Json,
}

impl Format {
    /// As `--json` and `--color` have it.
    #[must_use]
    pub fn of(as_json: bool, colour: clap::ColorChoice) -> Self {
        if as_json {
            Self::Json
        } else {
            Self::Text(Paper::stdout(colour))
        }
    }
}

/// The near end of the writing thread.
pub struct Writer {
    facts: SyncSender<Fact>,
    /// Nothing is being read meanwhile that could not wait.
    is_patient: bool,
    /// Nobody is there to write to any more.
    has_ended: bool,
    dropped: u64,
    thread: JoinHandle<io::Result<()>>,
}

impl Writer {
    /// Starts the thread; `exec` is handed what has happened to tables, as it is written; `ended` is called when it ends, which is early where writing fails.
    pub fn start(
        output: impl Write + Send + 'static,
        format: Format,
        exec: Option<Exec>,
        ended: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        Self::new(output, format, true, exec, ended)
    }

    /// The same for facts from a recording: they wait for stdout, none is dropped, and nothing is looked
    /// up on a host that may be another one.
    pub fn patient(
        output: impl Write + Send + 'static,
        format: Format,
        exec: Option<Exec>,
    ) -> io::Result<Self> {
        let mut writer = Self::new(output, format, false, exec, || {})?;
        writer.is_patient = true;
        Ok(writer)
    }

    fn new(
        output: impl Write + Send + 'static,
        format: Format,
        is_live: bool,
        mut exec: Option<Exec>,
        ended: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (facts, waiting) = sync_channel(WAITING);
        let thread = thread::Builder::new()
            .name("fdtrace-output".to_owned())
            .spawn(move || {
                let _at_end = AtEnd::call(ended);
                let outcome = write_all(output, format, is_live, exec.as_mut(), &waiting);
                let finish = if is_live { Exec::end } else { Exec::finish };
                for failure in exec.map(finish).into_iter().flatten() {
                    say(&failure);
                }
                outcome
            })?;
        Ok(Self {
            facts,
            is_patient: false,
            has_ended: false,
            dropped: 0,
            thread,
        })
    }

    /// Hands a fact over; it is dropped and counted where too many are waiting.
    pub fn send(&mut self, fact: Fact) {
        if self.is_patient {
            self.has_ended |= self.facts.send(fact).is_err();
            return;
        }
        match self.facts.try_send(fact) {
            Err(TrySendError::Full(_)) => self.dropped += 1,
            // The thread has ended: `finish` tells why.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
        }
    }

    /// Is nobody there to write to any more?
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended
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

/// Calls a function when a thread ends that owns it, however it ends: nobody goes on for an output that is gone.
pub struct AtEnd<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> AtEnd<F> {
    /// Calls it when the value is dropped.
    pub fn call(function: F) -> Self {
        Self(Some(function))
    }
}

impl<F: FnOnce()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        if let Some(function) = self.0.take() {
            function();
        }
    }
}

fn write_all(
    output: impl Write,
    format: Format,
    is_live: bool,
    mut exec: Option<&mut Exec>,
    facts: &Receiver<Fact>,
) -> io::Result<()> {
    let mut output = BufWriter::new(output);
    let mut lookup: Box<dyn Lookup> = if is_live {
        // Commands are started on other threads.
        cgroup::read_from_root();
        Box::new(ThisHost::default())
    } else {
        Box::new(Recorded::default())
    };
    if matches!(format, Format::Text(_))
        && let Some(problem) = zone::problem()
    {
        say(problem);
    }
    let mut form = match format {
        Format::Text(paper) => Form::Text(text::Printer::new(paper, is_live)),
        Format::Json => Form::Json,
    };
    loop {
        let mut fact = match form.next(facts) {
            Next::Fact(fact) => fact,
            Next::Due => {
                form.write_due(&mut output)?;
                output.flush()?;
                continue;
            }
            Next::End => break,
        };
        if let Fact::Looked(looked) = fact {
            lookup.learn(looked);
            continue;
        }
        fact.complete(&mut *lookup);
        match &fact {
            Fact::Loss(loss) => say(&text::loss(loss)),
            Fact::Notice(text) => say(text),
            _ => {}
        }
        if let Some(exec) = &mut exec
            && matches!(fact, Fact::Exhausted(_) | Fact::NearLimit(_))
        {
            let mut line = Vec::new();
            json::write(&mut line, &fact)?;
            if is_live {
                exec.run(line);
            } else {
                exec.run_each(line);
            }
        }
        form.write(&mut output, &fact)?;
        if is_live {
            output.flush()?;
        }
    }
    form.finish(&mut output)?;
    output.flush()
}

/// What comes next.
enum Next {
    Fact(Fact),
    /// Something that was put off.
    Due,
    End,
}

/// A format, and what it remembers.
enum Form {
    Text(text::Printer),
    Json,
}

impl Form {
    fn next(&self, facts: &Receiver<Fact>) -> Next {
        let wait = match self {
            Self::Text(printer) => printer.wait(),
            Self::Json => None,
        };
        let Some(wait) = wait else {
            return facts.recv().map_or(Next::End, Next::Fact);
        };
        match facts.recv_timeout(wait) {
            Ok(fact) => Next::Fact(fact),
            Err(RecvTimeoutError::Timeout) => Next::Due,
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    }

    fn write(&mut self, output: &mut impl Write, fact: &Fact) -> io::Result<()> {
        match self {
            Self::Text(printer) => printer.print(output, fact),
            Self::Json => json::write(output, fact),
        }
    }

    fn write_due(&mut self, output: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Text(printer) => printer.print_due_now(output),
            Self::Json => Ok(()),
        }
    }

    fn finish(&mut self, output: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Text(printer) => printer.finish(output),
            Self::Json => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
