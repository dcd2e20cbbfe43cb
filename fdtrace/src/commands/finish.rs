//! The end of a stream: everything is detached, and what waits for stdout is written.

use anyhow::{Context, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
};

use crate::report::{
    fact::{Fact, Summary},
    writer::Writer,
};

/// Waits until all is written, the summary last.
pub(super) async fn writer(writer: Writer, summary: Summary) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let finish = spawn_blocking(move || writer.finish(Fact::Summary(summary)));
    tokio::select! {
        outcome = finish => {
            outcome.context("ending the output thread")?.context("writing to stdout")
        }
        // Whoever reads has stopped reading; a second Ctrl-C does not wait for it.
        _ = interrupt.recv() => std::process::exit(0),
        _ = terminate.recv() => std::process::exit(0),
    }
}

/// The same at the end of a recording, which nobody has to wait for.
pub(super) fn replayed(writer: Writer, summary: Summary) -> Result<()> {
    writer
        .finish(Fact::Summary(summary))
        .context("writing to stdout")
}
