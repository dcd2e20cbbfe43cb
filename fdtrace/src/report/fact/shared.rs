//! Who holds most of what processes share, as far as a report tells it.

use super::Exhausted;
use crate::{
    diagnose::{
        cause::Cause,
        shared::{self, SharedHolder},
    },
    enrich::lookup::Lookup,
};

/// Who holds most of what processes share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The largest first. From [`Exhausted::complete`] on, [`shared::SHOWN`] at most, and of the user whose limit it is.
    pub holders: Vec<SharedHolder>,
    /// Some processes were not looked at: those that the filters do not ask for, or more than there was time for.
    pub is_partial: bool,
}

impl Exhausted {
    /// Keeps those whose limit it is. Where the tables that are followed do not account for most of it, /proc is asked.
    pub(super) fn choose_shared(&mut self, lookup: &mut dyn Lookup) {
        let Some((shared, counted)) = self.shared.as_mut().zip(shared::counted(self.cause)) else {
            return;
        };
        let uid = self.uid;
        if counted.is_of_user {
            let is_theirs = |it: Option<u32>| it.is_none_or(|it| it == uid);
            shared
                .holders
                .retain(|holder| is_theirs(lookup.user(holder.pid)));
        }
        let settings = self.host.map(|host| host.settings).unwrap_or_default();
        let all = match self.cause {
            Cause::FileMax => self.host.and_then(|host| host.files),
            Cause::InotifyInstances => settings.inotify_instances,
            Cause::FanotifyGroups => settings.fanotify_groups,
            _ => None,
        };
        let known: u64 = shared.holders.iter().map(|holder| holder.count).sum();
        let is_enough = !shared.is_partial && all.is_none_or(|all| known >= all / 2);
        if !is_enough && let Some((holders, is_partial)) = lookup.shared(counted, uid) {
            *shared = Shared {
                holders,
                is_partial,
            };
        }
        shared.holders.truncate(shared::SHOWN);
    }
}
