//! `fdtrace record`: keeps a stream for `--replay`, all of it or its last minutes.

mod file;
mod flight;
mod lookups;
mod openers;
mod recorder;

use std::{path::Path, sync::Arc, time::Instant};

use anyhow::{Context, Result};
use tokio::{runtime, sync::Notify};

use self::{
    file::FileOutput, flight::Flight, lookups::Lookups, openers::Openers, recorder::Recorder,
};
use super::{
    Ended, called::Called, follow::Follow, kernel_log_level, own, say, what_runs::say_what_runs,
};
use crate::{
    cli::Record,
    probe::{
        attach, census, load, requirements,
        scope::{Request, Scope},
    },
    report::words::counted,
    stream::recording::{Event, Note},
};

/// Checks, attaches, keeps everything until it is time to end.
pub(super) fn run(args: &Record) -> Result<Ended> {
    let request = Request::from(&args.scope);
    request.check()?;
    requirements::check()?;
    let scope = Scope::new(&request)?;
    own::raise_limit();
    own::keep_up();
    let ended = Arc::new(Notify::new());
    let output = recorder::Output::new(args, &ended)?;
    let options = load::Options {
        backend: args.run.backend.forced(),
        btf: args.run.btf.as_deref(),
        log_level: kernel_log_level(&args.run),
        alarms: true,
        tables: Some(load::Tables { details: true }),
        stacks: args.stacks.stacks.into(),
        slots: false,
        ring_bytes: args.tracking.ring_bytes(),
        without_hook: args.tracking.without_hook.clone(),
    };
    let (mut session, ring) = attach::attach(&options, &scope)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting the runtime")?;
    runtime.block_on(async {
        let recorder = Recorder::new(session.backend, Called::live(&mut session.ebpf)?, output)?;
        let mut follow = Follow::new(session, ring, &args.run)?;
        follow.find_socket_ends()?;
        record(args, follow, recorder, &ended).await
    })
}

async fn record(
    args: &Record,
    mut follow: Follow,
    mut recorder: Recorder,
    ended: &Notify,
) -> Result<Ended> {
    follow.learn(&mut recorder).await?;
    recorder.arm(follow.engine());
    if !args.run.quiet {
        let what = match args.flight {
            Some(minutes) => format!("keeping the last {}", counted(u64::from(minutes), "minute")),
            None => "recording".to_owned(),
        };
        let (fds, tables) = follow.engine().size();
        say(&format!(
            "{what}, {fds} fds open in {tables} tables now, {} backend. Hit Ctrl-C to end.",
            follow.session.backend
        ));
        say_what_runs(&follow.session, &args.run);
    }
    let start = Instant::now();
    // Where the file cannot be written any more, why is said below.
    follow.run(args.duration, ended, &mut recorder).await;
    let duration = start.elapsed();
    if args.flight.is_none() {
        // What the recording has followed is proven in it, for `audit --replay`.
        follow.settle(&mut recorder).await;
        let proof = match follow.compare(&mut recorder).await {
            Ok(_) => census::read_again(&mut follow.session),
            Err(error) => Err(error),
        };
        let what = "the recording ends without a comparison with the kernel's tables";
        for task in follow.troubles.note(what, proof).into_iter().flatten() {
            recorder.add(Event::Note(&Note::Task(task)));
        }
    }
    // What is being resolved belongs into it.
    follow.tracker.stacks.finish();
    let known = &mut follow.tracker.known();
    recorder.end(&follow.session, known, &mut follow.troubles, duration)?;
    let records = follow.tracker.records;
    drop(follow);
    let kept = recorder.finish()?;
    if !args.run.quiet {
        say(&match args.flight {
            Some(_) => format!("{} written", counted(kept.files, "file")),
            None => format!(
                "{} in {:.1} s, {} bytes in {}",
                counted(records, "record"),
                duration.as_secs_f64(),
                kept.bytes,
                name(&args.output)
            ),
        });
    }
    Ok(if args.flight.is_some() && kept.files == 0 {
        Ended::NothingFound
    } else {
        Ended::Done
    })
}

/// A file as a message names it.
fn name(path: &Path) -> String {
    if path == Path::new("-") {
        "standard output".to_owned()
    } else {
        path.display().to_string()
    }
}
