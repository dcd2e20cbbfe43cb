//! Which of the host's tables were asked for, where no kernel program says it: by looking processes up.

use std::collections::HashSet;

use super::troubles::Troubles;
use crate::{
    cli::ScopeArgs,
    enrich::process::user_of,
    probe::{cgroup, scope},
    stream::decode::Task,
};

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

    /// Those of the tasks that were asked for, as far as that can be found out.
    pub(super) fn choose(&self, mut tasks: Vec<Task>, troubles: &mut Troubles) -> Vec<Task> {
        if tasks.is_empty() {
            return tasks;
        }
        let scope = &self.scope;
        let name = scope.comm.as_deref().unwrap_or_default().as_bytes();
        tasks.retain(|task| {
            name.is_empty() || task.comm.windows(name.len()).any(|part| part == name)
        });
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
        let chosen = wanted.choose(tasks, &mut Troubles::default()).into_iter();
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
}
