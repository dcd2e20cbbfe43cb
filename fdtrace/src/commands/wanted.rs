//! Which of the host's tables were asked for, where no kernel program says it: by looking processes up.

use std::collections::HashSet;

use super::troubles::Troubles;
use crate::{
    cli::ScopeArgs,
    engine::Engine,
    enrich::process::user_of,
    ground::task::Task,
    probe::{cgroup, scope},
};

/// Does a name contain the text that was asked for? No text: any name does.
pub(super) fn has_name(comm: &[u8], part: &[u8]) -> bool {
    part.is_empty() || comm.windows(part.len()).any(|window| window == part)
}

/// The filters of a command.
pub(super) struct Wanted {
    scope: ScopeArgs,
    /// The processes are on this host, and now.
    is_live: bool,
}

impl Wanted {
    /// Among the processes of this host.
    pub(super) fn live(scope: &ScopeArgs) -> Self {
        Self {
            scope: scope.clone(),
            is_live: true,
        }
    }

    /// Among those of a recording, whose users nobody knows.
    pub(super) fn recorded(scope: &ScopeArgs) -> Self {
        Self {
            scope: scope.clone(),
            is_live: false,
        }
    }

    /// Is every process asked for?
    pub(super) fn is_all(&self) -> bool {
        let ScopeArgs {
            pids,
            cgroups,
            comm,
            uid,
            ..
        } = &self.scope;
        pids.is_empty() && cgroups.is_empty() && comm.is_none() && uid.is_none()
    }

    /// Those of the tasks that were asked for, as far as that can be found out. A process has its own name and those
    /// of its threads, which `engine` knows.
    pub(super) fn choose(
        &self,
        mut tasks: Vec<Task>,
        engine: &dyn Engine,
        troubles: &mut Troubles,
    ) -> Vec<Task> {
        if tasks.is_empty() {
            return tasks;
        }
        let scope = &self.scope;
        if let Some(name) = &scope.comm {
            let named = engine
                .threads()
                .filter(|thread| has_name(&thread.comm, name.as_bytes()));
            let named: HashSet<u32> = named.map(|thread| thread.tgid).collect();
            tasks
                .retain(|task| named.contains(&task.tgid) || has_name(&task.comm, name.as_bytes()));
        }
        let pids = || scope.pids.iter().copied().collect::<HashSet<_>>();
        let (family, members) = if self.is_live {
            let family = scope::family(&scope.pids, scope.follow);
            let family = troubles.note("children of the processes asked for are left out", family);
            (family.unwrap_or_else(pids), self.members())
        } else {
            (pids(), None)
        };
        let user_of = |pid| self.is_live.then(|| user_of(pid)).flatten();
        tasks.retain(|task| {
            (family.is_empty() || family.contains(&task.tgid))
                && members
                    .as_ref()
                    .is_none_or(|members| members.contains(&task.tgid))
                && scope.uid.is_none_or(|uid| user_of(task.tgid) == Some(uid))
        });
        tasks
    }

    /// The processes in the cgroups asked for; `None` where none was. One that has gone has no members, and
    /// changes nothing about the others.
    fn members(&self) -> Option<HashSet<u32>> {
        let cgroups = &self.scope.cgroups;
        let members = cgroups.iter().filter_map(|path| cgroup::members(path).ok());
        (!cgroups.is_empty()).then(|| members.flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::engine::fake::Fake;

    const NOBODY: [u32; 0] = [];

    fn task(tgid: u32, comm: &str) -> Task {
        Task {
            files: 1,
            tgid,
            tid: tgid,
            soft: 1,
            hard: 1,
            used: Some(1),
            comm: comm.as_bytes().to_vec(),
        }
    }

    fn chosen(wanted: &Wanted, tasks: Vec<Task>) -> Vec<u32> {
        let engine = Fake::default();
        let chosen = wanted.choose(tasks, &engine, &mut Troubles::default());
        let chosen = chosen.into_iter();
        chosen.map(|task| task.tgid).collect()
    }

    #[test]
    fn filters_are_joined_by_and() {
        let own = std::process::id();
        let tasks = || vec![task(own, "web"), task(own, "db"), task(1, "web")];
        let mut scope = ScopeArgs {
            pids: vec![own],
            comm: Some("we".to_owned()),
            ..ScopeArgs::default()
        };
        assert_eq!(chosen(&Wanted::live(&scope), tasks()), [own]);
        scope.uid = Some(user_of(own).unwrap());
        assert_eq!(chosen(&Wanted::live(&scope), tasks()), [own]);
        assert_eq!(chosen(&Wanted::recorded(&scope), tasks()), NOBODY);
        scope.uid = Some(4_000_000);
        assert_eq!(chosen(&Wanted::live(&scope), tasks()), NOBODY);
    }

    #[test]
    fn a_process_has_the_names_of_its_threads() {
        let mut engine = Fake::default();
        engine.bind(7, 7, 7, "java");
        engine.bind(7, 8, 7, "http-exec-1");
        engine.bind(9, 9, 9, "other");
        // A table of the thread's own bears the thread's name.
        let own_table = Task {
            tid: 8,
            ..task(7, "http-exec-1")
        };
        let tasks = || vec![task(7, "java"), own_table.clone(), task(9, "other")];
        for (name, expected) in [("java", vec![7, 7]), ("exec", vec![7, 7]), ("oth", vec![9])] {
            let scope = ScopeArgs {
                comm: Some(name.to_owned()),
                ..ScopeArgs::default()
            };
            let wanted = Wanted::recorded(&scope);
            let chosen = wanted.choose(tasks(), &engine, &mut Troubles::default());
            let chosen: Vec<_> = chosen.iter().map(|task| task.tgid).collect();
            assert_eq!(chosen, expected, "{name}");
        }
    }
}
