//! Tables that are copied and come to nothing, or in a crowd.

use fdtrace::engine::Engine as _;

use super::{Both, compare, runtime};
use crate::{
    Setting, ensure,
    gym::{self, Gym},
    tables::Victim,
};

/// What following by records got wrong: whatever becomes of copies, the kernel's own tables are right, and in what gym
/// opens no age is unknown.
pub(super) fn are_right(setting: &Setting) -> Result<(), String> {
    const VICTIMS: &[Victim] = &[
        ("fork_crowd", &[]),
        ("fork_fails", &[]),
        ("unshare_fails", &[]),
    ];
    let runtime = runtime()?;
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
