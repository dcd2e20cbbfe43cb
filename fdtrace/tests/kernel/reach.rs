//! Which tests run in which guests of an ordinary run.
//!
//! What a kernel does in its own way is tested on each of them: calls, hooks, tables, iterators. What a backend does
//! in its own way is tested once with each. What user space does is tested once, besides this host's census.
//! `cargo xtask test --full` and a run for a named kernel or with a filter leave nothing out.

use std::env;

use libtest_mimic::Trial;

/// A kernel and a backend, as `FDTRACE_KERNEL` and `FDTRACE_BACKEND` spell them.
type Pair = (&'static str, &'static str);

const NEW_FENTRY: Pair = ("new", "fentry");
const V6_1_FENTRY: Pair = ("6.1", "fentry");
const V6_12_KPROBE: Pair = ("6.12", "kprobe");
const V5_10_KPROBE: Pair = ("5.10", "kprobe");

const EVERYWHERE: &[Pair] = &[NEW_FENTRY, V6_1_FENTRY, V6_12_KPROBE, V5_10_KPROBE];
/// Both backends, each on one of its kernels.
const OUTER: &[Pair] = &[NEW_FENTRY, V5_10_KPROBE];
const INNER: &[Pair] = &[V6_1_FENTRY, V6_12_KPROBE];

/// Tests by how their names begin; the longest beginning counts. Where one runs of several that could, is chosen so
/// that the guests take about as long as each other.
const REACH: &[(&str, &[Pair])] = &[
    ("conditions::", &[V5_10_KPROBE]),
    ("conditions::at_its_own_fd_limit", &[V6_12_KPROBE]),
    ("conditions::doctor_and_force_agree", EVERYWHERE),
    ("conditions::kernel_log_lines", EVERYWHERE),
    ("conditions::killed_leaves_nothing", EVERYWHERE),
    ("conditions::leaks_at_its_own_fd_limit", &[V6_12_KPROBE]),
    ("conditions::locked_down", EVERYWHERE),
    ("conditions::record_at_its_own_fd_limit", &[V6_12_KPROBE]),
    ("ends::", EVERYWHERE),
    // Of an engine that no command has yet: each of the two objects once, with and without `bpf_loop`.
    ("engines::", &[V6_1_FENTRY, V5_10_KPROBE]),
    ("exhaustion::", EVERYWHERE),
    // Of Python, which the guest of 6.1 has.
    ("languages::", &[V6_1_FENTRY]),
    ("leaks::", &[V5_10_KPROBE]),
    ("leaks::of_a_command_that_leaves_three", OUTER),
    ("limits::", OUTER),
    // Of Python as well; where the interpreters are is the same everywhere, and on this host with census.
    ("lines::", &[V6_1_FENTRY]),
    ("lives::", &[V6_1_FENTRY]),
    ("losses::", EVERYWHERE),
    ("ls::", EVERYWHERE),
    ("moment::", &[V5_10_KPROBE]),
    ("moment::bursts", OUTER),
    // What a right allows differs by kernel and by way of attaching.
    ("privilege::", &[V6_1_FENTRY, V5_10_KPROBE]),
    ("record::", &[V6_1_FENTRY]),
    ("record::replayed", &[V6_1_FENTRY, V5_10_KPROBE]),
    ("relieve::", &[V6_12_KPROBE]),
    ("remedy::", &[V6_12_KPROBE]),
    // Of Node, as above.
    ("runtimes::", &[V6_1_FENTRY]),
    // Filters that are applied in the kernel.
    ("scope::cgroup_with_descendants", OUTER),
    ("scope::children_", OUTER),
    ("scope::comm_contains", OUTER),
    ("scope::filters_combined", OUTER),
    ("scope::grandchildren_", OUTER),
    ("scope::pid_set", EVERYWHERE),
    ("scope::uid", OUTER),
    ("scope::thread_names", INNER),
    ("scope::self_tests_are_nobodys_alarm", INNER),
    ("scope::", &[V6_12_KPROBE]),
    ("select::", EVERYWHERE),
    ("services::", &[V6_1_FENTRY]),
    // One with Python.
    ("shapes::", &[V6_1_FENTRY]),
    ("stacks::", &[NEW_FENTRY]),
    ("stacks::left_by_command", EVERYWHERE),
    // On a busy machine it has failed on 5.10 and 7.2 (the stack is empty); why is not known yet.
    ("stacks::left_by_one_gone_at_once", EVERYWHERE),
    ("stacks::of_c_program", &[NEW_FENTRY, V6_12_KPROBE]),
    (
        "stacks::of_process_that_is_gone",
        &[NEW_FENTRY, V6_12_KPROBE],
    ),
    ("storm::", EVERYWHERE),
    ("tables::", EVERYWHERE),
    // Minutes of load on the newest kernel, which preempts itself.
    ("tables::soak", &[NEW_FENTRY]),
    ("tables::too_much_to_read", &[NEW_FENTRY]),
    ("threads::", INNER),
    ("trace::", EVERYWHERE),
    ("verdicts::", &[NEW_FENTRY]),
];

/// Those of the tests that run here; says how many others there are.
pub(crate) fn here(trials: Vec<Trial>, backend: &str) -> Vec<Trial> {
    let Ok(kernel) = env::var("FDTRACE_KERNEL") else {
        return trials;
    };
    let every_test = trial(&trials);
    let all = trials.len();
    let is_here = |trial: &Trial| {
        let pairs = pairs(trial.name());
        pairs.is_none_or(|pairs| pairs.contains(&(&*kernel, backend)))
    };
    let mut trials: Vec<_> = trials.into_iter().filter(is_here).collect();
    let elsewhere = all - trials.len();
    println!("skipped: {elsewhere} of {all} tests: other kernels run them (tests/kernel/reach.rs)");
    trials.push(every_test);
    trials
}

/// Where the test runs; `None` if nobody has said it, so everywhere.
fn pairs(name: &str) -> Option<&'static [Pair]> {
    REACH
        .iter()
        .filter(|(beginning, _)| name.starts_with(beginning))
        .max_by_key(|(beginning, _)| beginning.len())
        .map(|(_, pairs)| *pairs)
}

/// No test is forgotten in the table.
fn trial(trials: &[Trial]) -> Trial {
    let names = trials.iter().map(Trial::name);
    let forgotten: Vec<_> = names
        .filter(|name| pairs(name).is_none())
        .map(str::to_owned)
        .collect();
    super::trial("reach::of_every_test", move || {
        super::ensure(forgotten.is_empty(), || {
            format!("where do these run? {forgotten:?}")
        })
    })
}
