//! The end of a stream: everything is detached, and what waits for stdout is written.

use std::{process::exit, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
    time::sleep,
};

use crate::report::{
    fact::{Fact, Summary},
    writer::Writer,
};

/// What was found just before the end is worth so long, to somebody who wants to go.
const LAST: Duration = Duration::from_secs(1);

/// Waits until all is written, the summary last.
///
/// A signal hurries it, and a second one ends it. The first must not: a stream may have ended by itself, as where the
/// process that it follows has ended, and Ctrl-C come a moment later, while its report is still being made.
pub(super) async fn writer(writer: Writer, summary: Summary) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut signalled = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let mut finish = spawn_blocking(move || writer.finish(Fact::Summary(summary)));
    let outcome = tokio::select! {
        outcome = &mut finish => outcome,
        () = signalled() => tokio::select! {
            outcome = finish => outcome,
            // Whoever reads has stopped reading.
            () = signalled() => exit(0),
            () = sleep(LAST) => exit(0),
        },
    };
    outcome
        .context("ending the output thread")?
        .context("writing to stdout")
}

/// The same at the end of a recording, which nobody has to wait for.
pub(super) fn replayed(writer: Writer, summary: Summary) -> Result<()> {
    writer
        .finish(Fact::Summary(summary))
        .context("writing to stdout")
}
