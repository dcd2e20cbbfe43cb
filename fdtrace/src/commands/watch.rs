//! `fdtrace watch`: every exhaustion as it happens.

mod banner;
mod diagnoses;
mod kernel_log;
mod other_ends;
mod shared_holders;
mod stream;

use std::{path::Path, sync::Arc, time::Instant};

use anyhow::{Context, Result};
use tokio::{runtime, sync::Notify};

use self::stream::Stream;
use super::{
    Ended,
    called::Called,
    finish,
    follow::{End, Follow},
    kernel_log_level, own,
    replay::{Choice, Chosen, Replay},
    say, stdout,
    wanted::Wanted,
};
use crate::{
    cli::Watch,
    probe::{
        attach, load, requirements,
        scope::{Request, Scope},
    },
    report::{
        exec::Exec,
        fact::Summary,
        text,
        writer::{Format, Writer},
    },
};

/// Checks, attaches, streams.
pub(super) fn run(args: &Watch) -> Result<Ended> {
    if let Some(path) = &args.source.replay {
        return replay(args, path);
    }
    let request = Request::from(&args.scope);
    request.check()?;
    requirements::check()?;
    let scope = Scope::new(&request)?;
    own::raise_limit();
    own::keep_up();
    let options = load::Options {
        backend: args.run.backend.forced(),
        btf: args.run.btf.as_deref(),
        log_level: kernel_log_level(&args.run),
        alarms: true,
        tables: Some(load::Tables { details: false }),
        stacks: args.stacks.stacks.into(),
        slots: false,
        ring_bytes: args.tracking.ring_bytes(),
        without_hook: args.tracking.without_hook.clone(),
    };
    let (session, ring) = attach::attach(&options, &scope)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting the runtime")?;
    runtime.block_on(async {
        let mut follow = Follow::new(session, ring, &args.run)?;
        follow.find_socket_ends()?;
        watch(args, follow).await
    })
}

/// Reads, reports, until it is time to end.
async fn watch(args: &Watch, mut follow: Follow) -> Result<Ended> {
    if kernel_log_level(&args.run) > 0 {
        kernel_log::start(&mut follow.session.ebpf)?;
    }
    let ended = Arc::new(Notify::new());
    let writer_ended = Arc::clone(&ended);
    let format = Format::of(args.run.json, args.run.color);
    let writer = Writer::start(stdout::waiting(), format, exec(args)?, move || {
        writer_ended.notify_one();
    })
    .context("starting the output thread")?;
    let called = Called::live(&mut follow.session.ebpf)?;
    let mut stream = Stream::new(writer, args, Wanted::live(&args.scope), called);
    let started = Instant::now();
    follow.begin(&mut stream)?;
    // Last of all: whoever waits for it may do as it likes from here on, to fdtrace too.
    if !args.run.quiet {
        banner::show(args, &mut follow.session);
    }
    stream.start();
    if follow.run(args.duration, &ended, &mut stream).await != End::Enough {
        follow.drain(&mut stream);
        let known = &mut follow.tracker.known();
        stream.end(&follow.session, known, &mut follow.troubles);
        follow.end_troubles(&mut stream);
    }
    let (writer, summary) = stream.into_summary(follow.followed(started.elapsed()));
    // Takes the programs out of the kernel; what is left to do is to write.
    drop(follow);
    finish::writer(writer, summary.clone()).await?;
    Ok(outcome(args, &summary))
}

/// The same from a recording.
fn replay(args: &Watch, path: &Path) -> Result<Ended> {
    let choice = Choice::new(&args.scope)?;
    let mut replay = Replay::open(path, args.stacks.stacks)?;
    if !args.run.quiet {
        replay.banner();
    }
    let writer = Writer::patient(
        stdout::waiting(),
        Format::of(args.run.json, args.run.color),
        exec(args)?,
    )
    .context("starting the output thread")?;
    let mut stream = Stream::new(
        writer,
        args,
        Wanted::recorded(&args.scope),
        Called::default(),
    );
    stream.start();
    if replay.start.answers {
        stream.wait_for_answers();
    }
    let mut chosen = Chosen {
        inner: &mut stream,
        choice,
    };
    let read = replay.run(args.duration, &mut chosen);
    let known = &mut replay.tracker.known();
    stream.end(&replay.counts, known, &mut replay.troubles);
    let (writer, summary) = stream.into_summary(replay.followed());
    finish::replayed(writer, summary.clone())?;
    read?;
    Ok(outcome(args, &summary))
}

/// The command that is run for each fact, if there is one.
fn exec(args: &Watch) -> Result<Option<Exec>> {
    let start = |command: &String| Exec::start(command, None);
    let exec = args.exec.as_ref().map(start).transpose();
    exec.context("starting the threads for --exec")
}

fn outcome(args: &Watch, summary: &Summary) -> Ended {
    if !args.run.quiet {
        say(&text::summary(summary));
    }
    if args.once && summary.exhausted == 0 {
        Ended::NothingFound
    } else {
        Ended::Done
    }
}
