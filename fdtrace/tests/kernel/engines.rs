//! Both engines side by side: the one that replays records, and the one that joins the kernel's tables with slots.
//! Whatever gym does to tables, they must tell the same of all of them.

use std::{fmt::Write as _, thread, time::Duration};

use fdtrace::{
    engine::{
        Engine,
        change::{Change, Op, Sink},
        table::OpenFd,
    },
    ground::kind::Kind,
    joined::Joined,
    model::tables::reconcile::Purpose,
    probe::{
        attach::{Session, attach},
        backend::Backend,
        load::{Options, Stacks, Tables},
        misses::Misses,
        scope::Scope,
        slots::Slots,
    },
    stream::ring::Ring,
    tracker::{Handler, Known, Tracker},
};
use libtest_mimic::Trial;
use rustc_hash::FxHashMap;

use super::{
    Setting, ensure,
    gym::{self, Facts, Gym},
    tables::{GROUPS, Victim},
    trial,
};

/// Differences that are written out.
const SHOWN: usize = 20;
/// How far two times of the same opening can be apart: ticks. On a machine of its own that is one; an emulated CPU that
/// gets no time takes its ticks late, and the kernel's clock of ticks stands still meanwhile (8 ms were seen at 4 ms a
/// tick).
const TICKS: u64 = 25;
/// A dup2 that comes to a number between its hook and itself, as another thread installs a file there, is not counted in
/// slots. Of two that come to the same number together, records tell in another order, and count one less now and then.
/// Both were seen of [`OVER`] alone, which does nothing else than try that, on emulated CPUs: in one call of 1 700 at most.
/// Fewer than one in so many; of all others, than one in ten times as many.
const MET: u64 = 100;
/// It copies files over numbers for which another thread opens.
const OVER: &str = "dup2_over";
/// Between two looks into the ring.
const PAUSE: Duration = Duration::from_millis(10);
/// The ring has room for what victims do while nobody reads it.
const RING_BYTES: u32 = 64 << 20;

/// What a trial does.
type Test = fn(&Setting) -> Result<(), String>;

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    if !setting.sees_inside_calls() {
        return Vec::new();
    }
    let group = |(name, victims): &(&str, &'static [Victim])| {
        let setting = setting.clone();
        let victims = *victims;
        trial(format!("engines::{name}"), move || agree(&setting, victims))
    };
    let mut trials: Vec<Trial> = GROUPS.iter().map(group).collect();
    let setting = setting.clone();
    let others: [(_, Test); 2] = [
        ("half_made", half_made),
        ("hooks_sit_on_branches", hooks_sit_on_branches),
    ];
    for (name, test) in others {
        let setting = setting.clone();
        trials.push(trial(format!("engines::{name}"), move || test(&setting)));
    }
    trials
}

/// What is attached for slots, and for alarms if asked for.
fn options(setting: &Setting, alarms: bool) -> Options<'static> {
    let backend = Backend::ALL
        .into_iter()
        .find(|backend| backend.to_string() == setting.backend);
    Options {
        backend,
        btf: None,
        log_level: 0,
        alarms,
        tables: None,
        slots: true,
        stacks: Stacks::Never,
        ring_bytes: RING_BYTES,
        without_hook: None,
    }
}

/// Where a kernel's `alloc_fd` and `alloc_empty_file` have a branch that only failing calls take, they are watched there by
/// both backends; else it is said why not.
fn hooks_sit_on_branches(setting: &Setting) -> Result<(), String> {
    let attached = attach(&options(setting, true), &Scope::default());
    let (session, _ring) = attached.map_err(|error| format!("{error:#}"))?;
    // That kernel's compiler has made two of `expand_files`' one, and of `alloc_empty_file`'s.
    let release = rustix::system::uname();
    let is_old = release.release().to_bytes().starts_with(b"5.10.");
    let begins = if is_old {
        "its end: "
    } else {
        "its failing branch, at +0x"
    };
    for function in ["alloc_fd", "alloc_empty_file"] {
        let mut hooks = session.coverage.hooks.iter();
        let hook = hooks.find(|hook| hook.function.trim_start_matches('_') == function);
        let place = hook.and_then(|hook| hook.place.as_deref());
        println!("{function} at {}", place.unwrap_or_default());
        ensure(place.is_some_and(|place| place.starts_with(begins)), || {
            format!("{function}: {place:?}")
        })?;
    }
    Ok(())
}

/// Who has put which file where, as single changes tell it.
#[derive(Default)]
struct Openers(FxHashMap<(u64, u32, u64), u32>);

impl Sink for Openers {
    fn change(&mut self, change: Change, _: &[u8]) {
        if matches!(change.op, Op::Open | Op::Dup | Op::Replace | Op::Receive) {
            let slot = (change.files, change.open.fd, change.open.file);
            self.0.insert(slot, change.tid);
        }
    }
}

impl Handler for Openers {
    fn alarm(&mut self, _: &[u8], _: &mut Known<'_>) {}
}

/// Both engines, fed by one session.
struct Both {
    session: Session,
    slots: Slots,
    misses: Misses,
    ring: Ring,
    tracker: Tracker,
    openers: Openers,
}

impl Both {
    /// Must be called, and used, within a tokio runtime.
    fn start(setting: &Setting) -> anyhow::Result<Self> {
        let options = Options {
            tables: Some(Tables { details: true }),
            ..options(setting, false)
        };
        let (session, ring) = attach(&options, &Scope::default())?;
        let mut both = Self {
            slots: Slots::of(&session.ebpf)?,
            misses: Misses::of(&session.ebpf),
            session,
            ring: Ring::new(ring)?,
            tracker: Tracker::of_host(),
            openers: Openers::default(),
        };
        let baseline = both.tracker.pass(
            &mut both.session,
            &mut both.ring,
            Purpose::Baseline,
            &mut both.openers,
        )?;
        anyhow::ensure!(baseline.is_some(), "the first pass has lost its mark");
        Ok(both)
    }

    /// What a victim holds, once it holds still. The ring is read meanwhile: on a slow machine it has no room for all.
    fn held(&mut self, victim: &mut Gym) -> Result<Facts, String> {
        let facts = thread::scope(|scope| {
            let waiting = scope.spawn(|| victim.held());
            while !waiting.is_finished() {
                self.drain();
                thread::sleep(PAUSE);
            }
            waiting.join().map_err(|_| "a panic".to_owned())?
        });
        self.drain();
        facts
    }

    fn drain(&mut self) {
        self.tracker.drain(&mut self.ring, &mut self.openers);
    }

    fn look(&mut self) -> anyhow::Result<Joined> {
        let joined = Joined::look(&mut self.session, &self.slots, &self.misses)?;
        self.drain();
        Ok(joined)
    }
}

fn agree(setting: &Setting, victims: &[Victim]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let _entered = runtime.enter();
    let mut both = Both::start(setting).map_err(|error| format!("{error:#}"))?;
    let mut running = Vec::new();
    for (scenario, arguments) in victims {
        let mut command = gym::command(scenario);
        command.args(*arguments);
        let mut victim = Gym::start(command)?;
        let facts = both
            .held(&mut victim)
            .map_err(|error| format!("{scenario}: {error}"))?;
        if let Some(reason) = &facts.skipped {
            println!("{scenario} cannot be had here: {reason}");
        } else {
            running.push((scenario, victim, facts));
        }
    }
    let joined = both.look().map_err(|error| format!("{error:#}"))?;
    let lost = both.session.shared.counters();
    println!(
        "{:?} fds and tables, {}, {} not believed, counters {lost:?}",
        joined.size(),
        joined.ages_unknown().unwrap_or_default(),
        joined.not_believed
    );
    for (scenario, _, facts) in &running {
        // A thread that shares its process's table is told of under its leader's number.
        let user = u32::try_from(facts.tid)
            .ok()
            .and_then(|tid| joined.thread(tid));
        let open = user
            .and_then(|user| joined.head(user.files))
            .map(|head| head.open);
        ensure(open.map(u64::from) == Some(facts.open), || {
            format!("{scenario}: {open:?} open instead of {facts:?}")
        })?;
    }
    let differences = compare(&both, &joined);
    for (scenario, victim, _) in running {
        victim
            .end()
            .map_err(|error| format!("{scenario}: {error}"))?;
    }
    ensure(differences.is_empty(), || {
        let shown: Vec<_> = differences.iter().take(SHOWN).map(String::as_str).collect();
        format!("{} differences:\n{}", differences.len(), shown.join("\n"))
    })
}

/// What following by records got wrong: whatever becomes of copies, the kernel's own tables are right, and in what gym
/// opens no age is unknown.
fn half_made(setting: &Setting) -> Result<(), String> {
    const VICTIMS: &[Victim] = &[
        ("fork_crowd", &[]),
        ("fork_fails", &[]),
        ("unshare_fails", &[]),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let _entered = runtime.enter();
    let mut both = Both::start(setting).map_err(|error| format!("{error:#}"))?;
    for (scenario, arguments) in VICTIMS {
        let mut command = gym::command(scenario);
        command.args(*arguments);
        let mut victim = Gym::start(command)?;
        let facts = both
            .held(&mut victim)
            .map_err(|error| format!("{scenario}: {error}"))?;
        let joined = both.look().map_err(|error| format!("{error:#}"))?;
        let mut comm = [0; 16];
        comm[..scenario.len()].copy_from_slice(scenario.as_bytes());
        let mut files: Vec<u64> = joined
            .threads()
            .filter(|thread| thread.comm == comm)
            .map(|thread| thread.files)
            .collect();
        files.sort_unstable();
        files.dedup();
        let fds = || files.iter().flat_map(|files| joined.fds(*files, 0));
        // What was opened before gym was started is not its own.
        let of_gym = || fds().filter(|open| open.fd > 2);
        let unknown = of_gym().filter(|open| open.since_ns == 0).count();
        println!(
            "{scenario}: {} tables, {} fds, {unknown} ages unknown; by records {} differences",
            files.len(),
            of_gym().count(),
            compare(&both, &joined).len(),
        );
        if facts.skipped.is_none() {
            let user = u32::try_from(facts.pid)
                .ok()
                .and_then(|tid| joined.thread(tid));
            let open = user
                .and_then(|user| joined.head(user.files))
                .map(|head| head.open);
            ensure(open.map(u64::from) == Some(facts.open), || {
                format!("{scenario}: {open:?} open instead of {facts:?}")
            })?;
            ensure(unknown == 0, || {
                format!("{scenario}: {unknown} ages are unknown")
            })?;
        }
        victim
            .end()
            .map_err(|error| format!("{scenario}: {error}"))?;
    }
    Ok(())
}

/// What the engines do not agree about. fdtrace's own table changes while it looks.
fn compare(both: &Both, joined: &Joined) -> Vec<String> {
    let model = both.tracker.engine();
    let own = std::process::id();
    let mut differences = Vec::new();
    for head in joined.tables().into_iter().filter(|head| head.tgid != own) {
        let name = joined
            .threads()
            .find(|thread| thread.files == head.files)
            .map(|thread| String::from_utf8_lossy(&thread.comm).into_owned())
            .unwrap_or_default();
        let name = name.trim_end_matches('\0');
        let mut differs = |what: String| {
            let mut line = String::new();
            let _ = write!(line, "{} {name} {:x}: {what}", head.tgid, head.files);
            differences.push(line);
        };
        let Some(followed) = model.table(head.files) else {
            differs(format!(
                "{} fds of a table that was not followed",
                head.open
            ));
            continue;
        };
        let mut replayed: FxHashMap<u32, OpenFd> = model
            .fds(head.files, 0)
            .map(|open| (open.fd, open))
            .collect();
        for open in joined.fds(head.files, 0) {
            let Some(other) = replayed.remove(&open.fd) else {
                differs(format!("fd {} was not followed", open.fd));
                continue;
            };
            // What records have of a table that was copied while it changed is read by a later pass.
            let is_unread = other.is_inherited && (other.inode, other.kind) == (0, Kind::Unknown);
            let is_same = (open.inode, open.kind) == (other.inode, other.kind) || is_unread;
            if open.file != other.file || !is_same {
                differs(format!("{open:?} was followed as {other:?}"));
                continue;
            }
            let opener = joined.opened(head.files, open.fd).map(|opened| opened.tid);
            let slot = (head.files, open.fd, open.file);
            let told = both.openers.0.get(&slot).copied();
            // What came with a table and has no slot may be what the hooks have missed.
            let may_be_missed =
                open.since_ns == 0 && other.is_inherited && !joined.missed.is_nothing();
            if !may_be_missed && let Some(difference) = age(&open, &other) {
                differs(difference);
            }
            if told.is_some() && opener != told && !other.is_inherited {
                differs(format!("fd {}: by {opener:?} instead of {told:?}", open.fd));
            }
        }
        for open in replayed.values() {
            differs(format!("{open:?} is not there"));
        }
        let opened = joined.opened_count(head.files).unwrap_or_default();
        let is_new = head.generation > model.first_looked_ns();
        let wanted = followed.gained - followed.copied;
        let met = if name == OVER { MET } else { 10 * MET };
        if is_new && opened.abs_diff(wanted) * met > wanted {
            differs(format!(
                "{opened} opened instead of {} less {}",
                followed.gained, followed.copied
            ));
        }
    }
    differences
}

/// How the age of an fd differs. What was there before the first pass the slots may know, and records not.
fn age(open: &OpenFd, other: &OpenFd) -> Option<String> {
    if other.since_ns == 0 {
        return None;
    }
    if open.since_ns == 0 {
        return Some(format!("the age of {other:?} is not known"));
    }
    let apart = open.since_ns.abs_diff(other.since_ns);
    let is_near = apart <= TICKS * fdtrace::probe::slots::tick_ns();
    (!is_near || open.is_inherited != other.is_inherited)
        .then(|| format!("{apart} ns apart: {open:?} was followed as {other:?}"))
}
