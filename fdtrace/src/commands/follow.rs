//! Following every table: what `watch`, `audit` and `trace` have in common.

mod arming;
mod end;
mod losses;
mod named;
mod shedding;
mod socket_ends;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use fdtrace_common::{alarm::StormKey, control::WATCHED_MAX};
use rustix::process::{Pid, test_kill_process};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    time::{MissedTickBehavior, interval, sleep},
};

use self::{
    arming::Arming,
    losses::Losses,
    named::Named,
    shedding::{Order, Second, Shedding},
    socket_ends::SocketEnds,
};
pub(super) use self::{end::End, losses::Lost};
use super::troubles::Troubles;
use crate::{
    cli::RunArgs,
    engine::{
        Engine,
        difference::Difference,
        opener::{Sequence, Slot},
        table::OpenFd,
    },
    enrich::{lookup::Looked, stacks::Stack},
    ground::{host::Host, task::Task},
    model::tables::reconcile::{Outcome, Purpose},
    probe::{
        attach::{self, Session},
        backend::Backend,
        census,
        load::Stacks,
        maps,
        runs::{ProgramRuns, Runs},
        scope,
        shared::Changes,
    },
    report::fact::Place,
    stream::{
        clock::{self, Clock},
        ring::Ring,
    },
    timers::Timer,
    tracker::{CONFIRM, Handler, Known, LOOK, Tracker},
};

/// Losses are looked for this often; it is the kernel's clock for storms as well.
const SECOND: Duration = Duration::from_secs(1);
/// The model is compared with the kernel this often although nothing was lost.
const ROUTINE: Timer = Timer::seconds(300);
/// Tables that are not followed for now are looked at this often.
const CENSUS: Timer = Timer::seconds(10);
/// Looking at all tables takes at most this part of the time where there is nothing but looking.
const LOOKING: u32 = 10;
/// Looking at limits takes at most this part of the time.
const LIMITS: u32 = 100;
/// Tables this full, in percent of their limits, are followed whatever else there is.
const FULL: u64 = 25;
/// So are those that have grown by so many fds within [`CENSUS`].
const GROWN: usize = 64;

/// Everything that following takes.
pub(super) struct Follow {
    pub(super) session: Session,
    pub(super) tracker: Tracker,
    ring: Ring,
    interrupt: Signal,
    terminate: Signal,
    tick: u64,
    /// The ring can be waited for. Where it cannot, looking into it now and then has to do.
    is_woken: bool,
    losses: Losses,
    pub(super) troubles: Troubles,
    shedding: Shedding,
    arming: Arming,
    /// Records read up to the last second.
    read: u64,
    /// Records waited for a second ago.
    awaited: usize,
    /// Looks made at what was under way when the hooks were armed; `None` when that is over.
    settling: Option<u32>,
    next_pass: Option<Instant>,
    last_pass: Instant,
    /// How long it took.
    pass_time: Duration,
    /// The iterators could not be read last time.
    is_blind: bool,
    /// The limits are not looked at before this time.
    limits_due: Instant,
    /// Where somebody wants to know them.
    socket_ends: Option<SocketEnds>,
    runs: Runs,
    named: Named,
}

/// What following has come to, for a summary.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    pub(super) backend: Backend,
    pub(super) duration_s: f64,
    pub(super) records: u64,
    pub(super) lost: u64,
    pub(super) repaired: u64,
    /// What the programs have done, where that was counted.
    pub(super) programs: Option<Vec<ProgramRuns>>,
}

/// A handler that hears of losses as well.
pub(super) trait Listener: Handler {
    /// Something was lost.
    fn lost(&mut self, lost: Lost);

    /// Something that whoever reads stderr should know.
    fn notice(&mut self, text: String);

    /// A recording has been read up to here; the host was like this. Live, nobody is told.
    fn at(&mut self, _: Clock, _: Host) {}

    /// The tables from before are known: what comes from here on is news.
    fn armed(&mut self) {}

    /// Once a second. What goes wrong in it ends nothing: it is noted.
    fn second(&mut self, _: &mut dyn Counts, _: &mut Known<'_>, _: &mut Troubles) {}

    /// Has it had enough?
    fn is_done(&self) -> bool {
        false
    }

    /// Of a recording: whoever puts the file that comes next into this slot has left the stack of this number.
    fn taken(&mut self, _: Slot, _: Sequence) {}

    /// Of a recording: the stacks of these numbers are this one.
    fn resolved(&mut self, _: &[Sequence], _: &Arc<Stack>) {}

    /// Of a recording: this was looked up of processes.
    fn looked(&mut self, _: Looked) {}

    /// Of a recording: whatever was asked for up to that moment has been told.
    fn answered(&mut self, _: u64, _: &mut Known<'_>) {}
}

/// What the kernel counts of failures by itself, now or when it was recorded.
pub(super) trait Counts {
    /// What each CPU has counted of a kind.
    fn counted(&self, key: &StormKey) -> Result<Vec<(u32, u64)>>;

    /// Is no process left of that number?
    fn has_ended(&self, tgid: u32) -> bool;

    /// Makes room for others.
    fn forget(&mut self, key: &StormKey) -> Result<()>;
}

impl Counts for Session {
    fn counted(&self, key: &StormKey) -> Result<Vec<(u32, u64)>> {
        let cpus = self.shared.cpu_count();
        let counted = || maps::storm(&self.ebpf, key, cpus);
        self.shared.with_repeats(key, counted)
    }

    fn has_ended(&self, tgid: u32) -> bool {
        let pid = i32::try_from(tgid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
    }

    fn forget(&mut self, key: &StormKey) -> Result<()> {
        maps::forget_storm(&self.ebpf, key, self.shared.cpu_count())
    }
}

/// Tables in which at least `count` fds are open that were not there before `since_ns`.
fn growing(engine: &dyn Engine, since_ns: u64, count: usize) -> impl Iterator<Item = u64> {
    let is_new = move |open: &OpenFd| open.since_ns >= since_ns && !open.is_inherited;
    let tables = engine
        .tables()
        .into_iter()
        .map(|table| (table.files, table.open));
    let tables = tables.filter(move |(files, open)| {
        let new = || engine.fds(*files, 0).filter(is_new);
        *open as usize >= count && new().take(count).count() == count
    });
    tables.map(|(files, _)| files)
}

impl Follow {
    /// What is known of all tables now.
    pub(super) fn engine(&self) -> &dyn Engine {
        self.tracker.engine()
    }

    /// Where sockets lead to is to be known as well.
    pub(super) fn find_socket_ends(&mut self) -> Result<()> {
        self.socket_ends = Some(SocketEnds::start()?);
        Ok(())
    }

    /// Within a runtime. The tables are not known yet. With -v, runs of the programs are counted.
    pub(super) fn new(
        mut session: Session,
        ring: RingBuf<MapData>,
        args: &RunArgs,
    ) -> Result<Self> {
        let is_verbose = args.verbose > 0;
        let mut tracker = Tracker::of_host();
        let teller = maps::interpreters(&mut session.ebpf)?;
        tracker.stacks.tell_by(Arc::new(teller));
        Ok(Self {
            losses: Losses::of(&session),
            named: Named::of(&session)?,
            tracker,
            ring: Ring::new(ring)?,
            interrupt: signal(SignalKind::interrupt()).context("waiting for signals")?,
            terminate: signal(SignalKind::terminate()).context("waiting for signals")?,
            tick: attach::FIRST_TICK,
            is_woken: true,
            troubles: Troubles::default(),
            shedding: Shedding::default(),
            arming: Arming::new(session.stacks),
            session,
            read: 0,
            awaited: 0,
            settling: None,
            next_pass: None,
            last_pass: Instant::now(),
            pass_time: Duration::ZERO,
            is_blind: false,
            socket_ends: None,
            runs: Runs::start(is_verbose),
            limits_due: Instant::now(),
        })
    }

    /// The sum of it, after so much time.
    pub(super) fn followed(&self, duration: Duration) -> Followed {
        Followed {
            backend: self.session.backend,
            duration_s: duration.as_secs_f64(),
            records: self.tracker.records,
            lost: self.lost(),
            repaired: self.tracker.repaired,
            programs: self.runs.of(&self.session.ebpf),
        }
    }

    /// Records that nobody has seen, all places together.
    pub(super) fn lost(&self) -> u64 {
        self.losses.total
    }

    /// Takes in the tables that there are. What was under way when the hooks were armed shows in further
    /// passes, which [`Follow::run`] makes.
    pub(super) fn begin(&mut self, handler: &mut impl Listener) -> Result<()> {
        self.pass(Purpose::Baseline, handler)?;
        if self.session.backend != Backend::Census {
            self.settling = Some(0);
            self.next_pass = Some(Instant::now() + CONFIRM);
        }
        self.count_losses(handler);
        self.seek_interpreters();
        Ok(())
    }

    /// Where the stacks of everybody are taken, the lines of who runs already are to be known from the first one on.
    fn seek_interpreters(&mut self) {
        if self.session.stacks != Stacks::Always {
            return;
        }
        let named: BTreeSet<u32> = self.session.named.iter().map(|named| named.pid).collect();
        let tables = self.tracker.engine().tables();
        let all: BTreeSet<u32> = tables.iter().map(|table| table.tgid).collect();
        for pid in if named.is_empty() { all } else { named } {
            self.tracker.stacks.seek(pid);
        }
        self.tracker.stacks.wait_for_sought();
    }

    /// The same, and makes the further passes.
    pub(super) async fn learn(&mut self, handler: &mut impl Listener) -> Result<()> {
        self.begin(handler)?;
        while self.settling.is_some() {
            self.wait(CONFIRM, handler).await;
            self.settle_once(handler);
        }
        self.say_troubles(handler);
        Ok(())
    }

    /// One of those passes: whoever had passed a hook before it was armed shows as a difference.
    fn settle_once(&mut self, handler: &mut impl Listener) {
        const AT_LEAST: u32 = 2;
        const AT_MOST: u32 = 8;
        let looks = self.settling.map_or(1, |looks| looks + 1);
        // At its own limit there may be no fd for it now; the next look comes.
        let outcome = self.try_pass(Purpose::Settle, handler);
        let is_clean = outcome.is_some_and(|outcome| outcome.suspects == 0);
        if looks >= AT_MOST || is_clean && looks >= AT_LEAST {
            (self.settling, self.next_pass) = (None, None);
            let contradictions = self.tracker.model.tables.contradictions();
            self.losses.forgive_tables(&self.session, contradictions);
            return;
        }
        self.settling = Some(looks);
        self.next_pass = Some(Instant::now() + CONFIRM);
    }

    fn pass(&mut self, purpose: Purpose, handler: &mut impl Listener) -> Result<Option<Outcome>> {
        let start = Instant::now();
        let outcome = self
            .tracker
            .pass(&mut self.session, &mut self.ring, purpose, handler);
        self.last_pass = Instant::now();
        self.pass_time = start.elapsed();
        outcome
    }

    /// The same while following: a process at its own limit may get no fd for the iterators now, and goes
    /// on with what the hooks tell.
    fn try_pass(&mut self, purpose: Purpose, handler: &mut impl Listener) -> Option<Outcome> {
        let outcome = self.pass(purpose, handler);
        self.is_blind = outcome.is_err();
        let noted = self
            .troubles
            .note("cannot compare with the kernel's tables now", outcome);
        noted.flatten()
    }

    /// Follows until there is a reason to end, see [`End`]. `output` is told when the output has ended.
    pub(super) async fn run(
        &mut self,
        duration: Option<Duration>,
        output: &Notify,
        handler: &mut impl Listener,
    ) -> End {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut seconds = interval(SECOND);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let deadline = sleep(duration.unwrap_or(Duration::MAX));
        tokio::pin!(deadline);
        while !handler.is_done() {
            let tracker = &mut self.tracker;
            tokio::select! {
                outcome = self.ring.wait(), if self.is_woken => {
                    let doing = "cannot wait for records, and looks for them every 50 ms";
                    self.is_woken = self.troubles.note(doing, outcome).is_some();
                    tracker.drain(&mut self.ring, handler);
                }
                _ = looks.tick() => {
                    tracker.drain(&mut self.ring, handler);
                    self.look_at_sockets(handler);
                }
                _ = seconds.tick() => {
                    self.on_second(handler);
                    self.say_troubles(handler);
                }
                () = &mut deadline => return End::Duration,
                _ = self.interrupt.recv() => return End::Signal,
                _ = self.terminate.recv() => return End::Signal,
                () = output.notified() => return End::Output,
                pid = self.named.ended() => self.on_end(pid, handler),
            }
            if self
                .named
                .are_gone(&mut self.session.ebpf, &mut self.troubles)
            {
                handler.notice("nothing is left to follow of what --pid has asked for".to_owned());
                return End::Gone;
            }
            if self.next_pass.is_some_and(|time| time <= Instant::now()) {
                self.on_pass(handler);
            }
        }
        End::Enough
    }

    /// Reports what has gone wrong, and goes on going wrong now and then.
    fn say_troubles(&mut self, handler: &mut impl Listener) {
        for trouble in self.troubles.due(clock::since_boot_ns()) {
            handler.notice(trouble);
        }
    }

    /// A process given with `--pid` has ended.
    fn on_end(&mut self, pid: u32, handler: &mut impl Listener) {
        // Whoever gets its number is another process. Its own end has done that, unless it was before anybody looked.
        let forgotten = scope::forget(&mut self.session.ebpf, pid);
        self.troubles
            .note("a process with its number would be watched", forgotten);
        handler.notice(format!("process {pid} has ended"));
    }

    /// What has come or gone of whom the filters ask for, where no event tells.
    fn look_at_scope(&mut self, handler: &mut impl Listener) {
        for pid in self.named.look(&mut self.session.ebpf) {
            self.on_end(pid, handler);
        }
        let session = &mut self.session;
        let looked = session.cgroups.look(&mut session.ebpf);
        self.troubles.note("cgroups are left out", looked);
    }

    fn on_second(&mut self, handler: &mut impl Listener) {
        self.tick += 1;
        self.look_at_scope(handler);
        self.arm();
        self.look_at_limits(handler);
        // What has come up to that look belongs to it.
        let tracker = &mut self.tracker;
        self.ring.drain(|record| tracker.take(record, handler));
        let is_census = self.session.backend == Backend::Census;
        // There is nothing but what the iterators show; how full a table is and what it holds are told together.
        if is_census && self.last_pass.elapsed() >= self.pass_time * LOOKING {
            self.try_pass(Purpose::Look, handler);
        }
        self.choose_openers();
        self.tracker.second(clock::since_boot_ns());
        self.look_at_sockets(handler);
        let known = &mut self.tracker.known();
        handler.second(&mut self.session, known, &mut self.troubles);
        if is_census {
            self.count_losses(handler);
            return;
        }
        let tables = &self.tracker.model.tables;
        let awaited = tables.awaited();
        let is_due = self.last_pass.elapsed() > ROUTINE.duration()
            || tables.has_unread()
            || (awaited > 0 && self.awaited > 0);
        self.awaited = awaited;
        let news = self.count_losses(handler);
        if (news.is_suspect || is_due) && self.next_pass.is_none() {
            self.next_pass = Some(Instant::now());
        }
        let read = std::mem::replace(&mut self.read, self.tracker.records);
        let order = self.shedding.decide(Second {
            lost: news.ring,
            read: self.read - read,
            shed: news.shed,
        });
        match order {
            Some(Order::Shed) => self.shed(handler),
            Some(Order::Resume) => self.resume(handler),
            None => {}
        }
    }

    /// Takes what has been found out of sockets, and asks about others.
    fn look_at_sockets(&mut self, handler: &mut impl Listener) {
        if let Some(ends) = &mut self.socket_ends {
            let found = ends.look(self.tracker.engine(), clock::since_boot_ns());
            self.tracker.take_states(&found.states, handler);
            self.tracker.take_ends(found.ends, handler);
        }
    }

    /// How full the tables are, as the kernel counts them: at most a hundredth of the time goes into it.
    fn look_at_limits(&mut self, handler: &mut impl Listener) {
        if self.limits_due > Instant::now() {
            return;
        }
        // On a busy host most of the time that it takes is others'.
        let start = clock::thread_cpu_time();
        if let Some(tasks) = self.read_limits() {
            self.tracker.look_at_limits(tasks, handler);
        }
        let took = clock::thread_cpu_time().saturating_sub(start);
        self.limits_due = Instant::now() + took * LIMITS;
    }

    /// A process at its own limit may get no fd for the iterator; the next look comes.
    fn read_limits(&mut self) -> Option<Vec<Task>> {
        let tasks = census::read_again(&mut self.session);
        self.troubles
            .note("cannot see how full the tables are now", tasks)
    }

    /// Has stacks taken where somebody may soon want to know who opens so much. Whose they are is looked up
    /// now: a process may be gone when its table has run out.
    fn choose_openers(&mut self) {
        let now_ns = clock::since_boot_ns();
        let chosen = self.arming.choose(self.tracker.engine(), now_ns);
        let Some(new) = chosen else {
            return;
        };
        for files in new {
            let table = self.tracker.engine().head(files);
            if let Some(table) = table {
                self.tracker.stacks.know(table.tgid);
            }
        }
        let set = maps::take_stacks(&mut self.session.ebpf, self.arming.tables());
        self.troubles
            .note("no stacks are taken in some tables", set);
        self.arm();
    }

    /// Tells the kernel what is wanted, and that the reader is there.
    fn arm(&mut self) {
        let changes = if self.shedding.is_on() {
            Changes::Watched
        } else {
            Changes::All
        };
        self.session
            .shared
            .arm(self.tick, changes, self.arming.openers());
    }

    /// Looks for losses, and tells them.
    fn count_losses(&mut self, handler: &mut impl Listener) -> losses::News {
        let contradictions = self.tracker.model.tables.contradictions();
        let mut news = self.losses.look(&self.session, contradictions);
        if self.shedding.is_on() || self.settling.is_some() {
            // Of tables that are not known, changes come that do not fit.
            news.lost.retain(|(place, _)| *place != Place::Model);
        }
        let dropped = self.tracker.stacks.dropped() + self.tracker.model.openers.refused();
        let stacks = self.losses.stacks(news.stacks, dropped);
        news.lost.extend(stacks.map(|count| (Place::Stacks, count)));
        for (place, count) in &news.lost {
            handler.lost(Lost {
                place: *place,
                count: *count,
                repaired: self.tracker.repaired,
            });
        }
        news
    }

    /// The pass that was planned.
    fn on_pass(&mut self, handler: &mut impl Listener) {
        if self.shedding.is_on() {
            self.next_pass = Some(Instant::now() + CENSUS.duration());
            self.try_pass(Purpose::Baseline, handler);
            self.choose_watched();
        } else if self.settling.is_some() {
            self.settle_once(handler);
        } else {
            self.heal(handler);
        }
    }

    /// One pass, and a next one for as long as something is suspected or lost.
    fn heal(&mut self, handler: &mut impl Listener) {
        let outcome = self.try_pass(Purpose::Reconcile, handler);
        let is_clean = outcome.is_some_and(|outcome| outcome.suspects == 0);
        let is_lost = self.count_losses(handler).is_suspect;
        let pause = if self.is_blind { SECOND } else { CONFIRM };
        self.next_pass = (!is_clean || is_lost).then(|| Instant::now() + pause);
    }

    /// Gives most tables up for now.
    fn shed(&mut self, handler: &mut impl Listener) {
        let watched = self.choose_watched();
        self.arm();
        self.settling = None;
        self.next_pass = Some(Instant::now() + CENSUS.duration());
        handler.notice(format!(
            "there are more changes than can be read: following only {watched} tables near their limits \
             or growing, and looking at the others every {} s",
            CENSUS.duration().as_secs()
        ));
    }

    /// Chooses which tables are followed whatever else there is; how many.
    fn choose_watched(&mut self) -> usize {
        // Where they cannot be read now, what was read last has to do.
        let tasks = self
            .read_limits()
            .unwrap_or_else(|| self.tracker.engine().limits().cloned().collect());
        let mut full: Vec<(u64, u64)> = tasks
            .iter()
            .filter_map(|task| {
                let part = u64::from(task.used?) * 100 / task.soft.max(1);
                (part >= FULL).then_some((part, task.files))
            })
            .collect();
        full.sort_unstable_by(|one, other| other.cmp(one));
        let since = clock::since_boot_ns().saturating_sub(CENSUS.ns());
        let growing = growing(self.tracker.engine(), since, GROWN);
        let chosen = full.into_iter().map(|(_, files)| files).chain(growing);
        let watched: BTreeSet<u64> = chosen.take(WATCHED_MAX as usize).collect();
        let set = maps::watch_only(&mut self.session.ebpf, &watched);
        self.troubles.note("some tables are not followed", set);
        watched.len()
    }

    /// Takes all tables up again, as at the start.
    fn resume(&mut self, handler: &mut impl Listener) {
        self.arm();
        handler.notice("following every table again".to_owned());
        self.try_pass(Purpose::Baseline, handler);
        self.settling = Some(0);
        self.next_pass = Some(Instant::now() + CONFIRM);
    }

    /// Takes what is left in the ring, and reports what has gone wrong: the stream ends.
    pub(super) fn drain(&mut self, handler: &mut impl Listener) {
        self.tracker.drain(&mut self.ring, handler);
        self.count_losses(handler);
        self.end_troubles(handler);
    }

    /// Reports what has gone wrong and was not reported yet.
    pub(super) fn end_troubles(&mut self, handler: &mut impl Listener) {
        for trouble in self.troubles.rest() {
            handler.notice(trouble);
        }
    }

    /// Heals what is suspected now, if anything. On a host that keeps losing records this ends too.
    pub(super) async fn settle(&mut self, handler: &mut impl Listener) {
        const AT_MOST: usize = 20;
        self.tracker.drain(&mut self.ring, handler);
        if self.session.backend == Backend::Census {
            self.try_pass(Purpose::Look, handler);
            return;
        }
        if self.shedding.is_on() {
            self.shedding.resume();
            self.resume(handler);
        }
        while self.settling.is_some() {
            self.wait(CONFIRM, handler).await;
            self.settle_once(handler);
        }
        if self.count_losses(handler).is_suspect || self.next_pass.is_some() {
            for _ in 0..AT_MOST {
                self.heal(handler);
                if self.next_pass.is_none() {
                    break;
                }
                self.wait(CONFIRM, handler).await;
            }
        }
    }

    /// What differs between the model and the kernel, in two looks.
    pub(super) async fn compare(&mut self, handler: &mut impl Listener) -> Result<Vec<Difference>> {
        let outcome = if self.session.backend == Backend::Census {
            self.compare_looks(handler).await?
        } else {
            self.look_twice(CONFIRM, handler).await?
        };
        Ok(self.tracker.describe(&outcome))
    }

    async fn look_twice(
        &mut self,
        between: Duration,
        handler: &mut impl Listener,
    ) -> Result<Outcome> {
        self.pass(Purpose::Audit, handler)?;
        self.wait(between, handler).await;
        let outcome = self.pass(Purpose::Audit, handler)?;
        outcome.context("the ring buffer was full during the comparison: give more --ring-size")
    }

    /// On census the model is what the last look has shown, and whatever changes after it differs without
    /// being wrong. What is wrong differs after every look.
    async fn compare_looks(&mut self, handler: &mut impl Listener) -> Result<Outcome> {
        const LOOKS: usize = 3;
        let mut common: Option<Outcome> = None;
        for _ in 0..LOOKS {
            self.pass(Purpose::Look, handler)?;
            let outcome = self.look_twice(LOOK, handler).await?;
            common = Some(match common {
                Some(before) => outcome.common_with(&before),
                None => outcome,
            });
        }
        common.context("nothing was compared")
    }

    /// Waits, with the ring read meanwhile.
    async fn wait(&mut self, time: Duration, handler: &mut impl Listener) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            sleep(LOOK.min(time)).await;
            self.tracker.drain(&mut self.ring, handler);
        }
    }
}
