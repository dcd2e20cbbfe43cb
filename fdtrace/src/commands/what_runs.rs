//! Which backend runs, and what it cannot see: said at every start.

use super::say;
use crate::{
    cli::RunArgs,
    probe::{
        attach::Session,
        backend::{self, Backend, Rejected},
        plan,
    },
};

/// Says on stderr which backends do not run, and what the one that does cannot see.
pub(super) fn say_what_runs(session: &Session, args: &RunArgs) {
    let (rejected, misses) = (&session.rejected, &session.coverage.misses);
    for line in what_runs(session.backend, rejected, misses, args.verbose > 0) {
        say(&line);
    }
    for advice in backend::all_advice(&session.rejected, Some(&session.coverage)) {
        say(advice);
    }
}

/// What [`say_what_runs`] says. That census is chosen, and what it never sees, is one line, unless more is asked for:
/// `doctor` has the rest. What is missing for a reason of this machine's is always told.
fn what_runs(
    backend: Backend,
    rejected: &[Rejected],
    misses: &[String],
    is_verbose: bool,
) -> Vec<String> {
    let is_short = backend == Backend::Census && !is_verbose;
    let is_usual = |miss: &&String| is_short && plan::CENSUS_MISSES.contains(&miss.as_str());
    let mut lines = Vec::new();
    if is_short {
        let names: Vec<_> = rejected.iter().map(|it| it.backend.name()).collect();
        let others = match names.as_slice() {
            [] => String::new(),
            [one] => format!("{one} does not work here; "),
            several => format!("{} do not work here; ", several.join(" and ")),
        };
        let what = match misses.iter().filter(is_usual).count() {
            0 => "census looks at the tables once a second".to_owned(),
            1 => "census does not see one kind of events".to_owned(),
            count => format!("census does not see {count} kinds of events"),
        };
        lines.push(format!("{others}{what}: see fdtrace doctor"));
    } else {
        let reasons = rejected.iter();
        lines.extend(reasons.map(|it| format!("not {}: {}", it.backend, it.reason)));
    }
    let misses = misses.iter().filter(|miss| !is_usual(miss));
    lines.extend(misses.map(|miss| format!("not seen here: {miss}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(backend: Backend) -> Rejected {
        Rejected {
            backend,
            reason: "the kernel refuses it".to_owned(),
            advice: None,
        }
    }

    #[test]
    fn what_census_never_sees_is_one_line_and_all_else_is_told() {
        let rejected = [Backend::Fentry, Backend::Kprobe].map(rejected);
        let mut misses: Vec<_> = plan::CENSUS_MISSES
            .iter()
            .map(|miss| (*miss).to_owned())
            .collect();
        let usual = "fentry and kprobe do not work here; census does not see 6 kinds of events: see fdtrace doctor";
        assert_eq!(
            what_runs(Backend::Census, &rejected, &misses, false),
            [usual]
        );
        misses.push("other users' processes".to_owned());
        assert_eq!(
            what_runs(Backend::Census, &rejected, &misses, false),
            [usual, "not seen here: other users' processes"]
        );
        let all = what_runs(Backend::Census, &rejected, &misses, true);
        assert_eq!(all.len(), 2 + misses.len());
        assert_eq!(all[0], "not fentry: the kernel refuses it");
        let one_of_it = what_runs(Backend::Kprobe, &rejected[..1], &misses[6..], false);
        assert_eq!(
            one_of_it,
            [
                "not fentry: the kernel refuses it",
                "not seen here: other users' processes"
            ]
        );
        // Commands that show no failures miss none.
        assert_eq!(
            what_runs(Backend::Census, &[], &[], false),
            ["census looks at the tables once a second: see fdtrace doctor"]
        );
        assert_eq!(
            what_runs(Backend::Census, &[], &misses[..6], false),
            ["census does not see 6 kinds of events: see fdtrace doctor"]
        );
    }
}
