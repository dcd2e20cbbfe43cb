//! `fdtrace leaks`: fds that have been open for too long, block by block, or of a command when it ends.

mod collector;
mod schedule;
mod started;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{runtime, sync::Notify};

use self::{collector::Collector, started::Started};
use super::{
    Ended, finish,
    follow::{End, Follow, Followed, Listener},
    kernel_log_level, own,
    replay::{Choice, Chosen, Replay},
    say, stdout,
    wanted::Wanted,
    what_runs::say_what_runs,
};
use crate::{
    cli::{Leaks, ScopeArgs, StacksChoice},
    probe::{
        attach,
        backend::Backend,
        load, requirements,
        scope::{Request, Scope},
    },
    report::writer::{Format, Writer},
};

/// What people wait for, where nothing else is said.
const OLDER: Duration = Duration::from_secs(30);
/// A command's fds are judged when it ends, whatever their age.
const OLDER_OF_COMMAND: Duration = Duration::ZERO;

/// Checks, attaches, shows blocks until it is time to end.
pub(super) fn run(args: &Leaks) -> Result<Ended> {
    check(args)?;
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
        alarms: false,
        tables: Some(load::Tables { details: false }),
        stacks: stacks(args),
        slots: false,
        ring_bytes: args.tracking.ring_bytes(),
        without_hook: args.tracking.without_hook.clone(),
    };
    // Whose fds are shown is decided block by block; the tables of all are followed.
    let (session, ring) = attach::attach(&options, &scope)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting the runtime")?;
    runtime.block_on(async {
        let mut follow = Follow::new(session, ring, &args.run)?;
        follow.find_socket_ends()?;
        leaks(args, follow).await
    })
}

/// Refuses what makes no sense together.
fn check(args: &Leaks) -> Result<()> {
    let Some(program) = args.command.first() else {
        // An unset variable in a script; nobody means the whole host with it.
        if std::env::args_os()
            .next_back()
            .is_some_and(|last| last == "--")
        {
            bail!(
                "no command follows `--`: give one, or leave `--` out to look at what runs already"
            );
        }
        return Ok(());
    };
    if program.is_empty() {
        bail!("the command is an empty text");
    }
    if args.source.replay.is_some() {
        bail!("a recording is read, and no command is started: give one of --replay and a command");
    }
    if args.scope != ScopeArgs::default() {
        bail!("a command is what is looked at: --pid, --cgroup, --comm and --uid choose from all");
    }
    Ok(())
}

/// Who looks at a few processes wants to know of all that they open.
fn stacks(args: &Leaks) -> load::Stacks {
    let is_chosen = !args.command.is_empty() || args.scope != ScopeArgs::default();
    match args.stacks.stacks {
        StacksChoice::Auto if is_chosen => load::Stacks::Always,
        choice => choice.into(),
    }
}

fn older(args: &Leaks) -> Duration {
    args.older.unwrap_or(if args.command.is_empty() {
        OLDER
    } else {
        OLDER_OF_COMMAND
    })
}

async fn leaks(args: &Leaks, mut follow: Follow) -> Result<Ended> {
    let ended = Arc::new(Notify::new());
    let writer_ended = Arc::clone(&ended);
    let writer = Writer::start(
        stdout::waiting(),
        Format::of(args.run.json, args.run.color),
        None,
        move || {
            writer_ended.notify_one();
        },
    )
    .context("starting the output thread")?;
    let mut collector = Collector::new(args, older(args), writer, Wanted::live(&args.scope));
    follow.learn(&mut collector).await?;
    if !args.run.quiet {
        banner(args, &follow);
    }
    collector.begin(follow.engine());
    collector.armed();
    let start = Instant::now();
    let command = Started::start(&args.command)?;
    if let Some(command) = &command {
        follow.tracker.stacks.seek(command.pid());
        collector.looked(command.looked());
        collector.judge_at_end_of(command.pid(), command.name(), follow.engine());
    }
    let reason = tokio::select! {
        end = follow.run(args.duration, &ended, &mut collector) => end,
        () = Started::ended(command.as_ref()) => End::Command,
    };
    if reason == End::Command {
        follow.settle(&mut collector).await;
    }
    follow.drain(&mut collector);
    let has_failed = command.as_ref().is_some_and(Started::has_failed);
    let has_ended = command.as_ref().is_some_and(Started::has_ended);
    if command.is_some() && !has_ended {
        say("the command has not ended yet: what it has open now is shown, then it is ended");
    }
    let known = &mut follow.tracker.known();
    let last = if reason == End::Gone {
        collector.last_of_ended(known);
        Ok(())
    } else {
        collector.last(known, has_ended, &mut follow.troubles)
    };
    follow.end_troubles(&mut collector);
    last?;
    // Ends it where it has not ended by itself.
    drop(command);
    end(
        args,
        collector,
        follow.followed(start.elapsed()),
        Some(follow),
        has_failed,
    )
    .await
}

fn banner(args: &Leaks, follow: &Follow) {
    let what = if args.command.is_empty() {
        format!(
            "fds open for {} s or longer, every {} s",
            older(args).as_secs(),
            args.interval.as_secs()
        )
    } else {
        "fds that the command leaves open".to_owned()
    };
    say(&format!(
        "showing {what}, {} backend. Hit Ctrl-C to end.",
        follow.session.backend
    ));
    say_what_runs(&follow.session, &args.run);
    if follow.session.backend == Backend::Census {
        say(
            "ages here are exact to a second, and what opens and closes between two looks is not seen",
        );
    }
}

async fn end(
    args: &Leaks,
    collector: Collector,
    followed: Followed,
    follow: Option<Follow>,
    has_failed: bool,
) -> Result<Ended> {
    let found = collector.found();
    let (writer, summary) = collector.into_summary(followed);
    // Detached before the rest is written.
    drop(follow);
    finish::writer(writer, summary).await?;
    Ok(outcome(args, found, has_failed))
}

fn outcome(args: &Leaks, found: u64, has_failed: bool) -> Ended {
    if args.fail && (found > 0 || has_failed) {
        Ended::NothingFound
    } else {
        Ended::Done
    }
}

/// The same from a recording.
fn replay(args: &Leaks, path: &Path) -> Result<Ended> {
    let choice = Choice::new(&args.scope)?;
    let mut replay = Replay::open(path, args.stacks.stacks)?;
    if !args.run.quiet {
        replay.banner();
    }
    let writer = Writer::patient(
        stdout::waiting(),
        Format::of(args.run.json, args.run.color),
        None,
    )
    .context("starting the output thread")?;
    let mut collector = Collector::new(args, older(args), writer, Wanted::recorded(&args.scope));
    if replay.start.answers {
        collector.wait_for_answers();
    }
    let mut chosen = Chosen {
        inner: &mut collector,
        choice,
    };
    let read = replay.run(args.duration, &mut chosen);
    let known = &mut replay.tracker.known();
    collector.last(known, false, &mut replay.troubles)?;
    let found = collector.found();
    let (writer, summary) = collector.into_summary(replay.followed());
    finish::replayed(writer, summary)?;
    read?;
    Ok(outcome(args, found, false))
}
