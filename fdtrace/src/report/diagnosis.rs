//! A diagnosis as JSON: who holds the fds, and what to make of it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    folders::{self, FolderFields},
    json,
    openers::Openers,
    stack,
    words::seconds_between,
};
use crate::{
    diagnose::{
        diagnosis::Diagnosis,
        holders::Holder,
        verdict::{self, Verdict},
    },
    enrich::stacks::Stack,
    ground::{kind::Kind, tcp_state::TcpState},
};

/// Milliseconds are as exact as anybody wants an age.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}

/// One holder as the contract has it.
#[derive(Serialize)]
pub(super) struct HolderFields {
    kind: Kind,
    target: Option<String>,
    /// Of connections that are all in the same one, as `ls` spells it.
    state: Option<&'static str>,
    /// How many are in each state, as far as that is known.
    states: Option<BTreeMap<&'static str, u32>>,
    targets: u32,
    /// Of different files: the folder that all of them lie in which were looked at.
    below: Option<String>,
    /// The folders that most of them lie in; their counts are of so many fds that were looked at.
    folders: Option<Vec<FolderFields>>,
    looked_at: Option<u32>,
    count: u32,
    inherited: Option<u32>,
    /// At least so old where `oldest_at_least` says so: it was there before anybody looked.
    oldest_s: Option<f64>,
    oldest_at_least: Option<bool>,
    newest_s: Option<f64>,
    /// What an interpreter runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<String>,
    stack: Option<Vec<String>>,
    /// What would give names to functions that have none in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<String>,
}

impl HolderFields {
    /// A holder now, of a process's table that has been followed since a moment.
    pub(super) fn new(
        holder: &Holder,
        stack: Option<&Stack>,
        pid: u32,
        since_ns: u64,
        now_ns: u64,
    ) -> Self {
        let age = |moment_ns| rounded(seconds_between(moment_ns, now_ns));
        Self {
            kind: holder.kind,
            target: holder.target.as_deref().map(json::text),
            state: holder.state().map(TcpState::name),
            states: states(holder),
            targets: holder.targets,
            below: folders::below(holder),
            folders: folders::fields(holder),
            looked_at: holder.folders.as_ref().map(|folders| folders.looked_at),
            count: holder.count,
            inherited: Some(holder.inherited),
            oldest_s: Some(age(holder.oldest_ns.unwrap_or(since_ns))),
            oldest_at_least: Some(holder.oldest_ns.is_none()),
            newest_s: holder.newest_ns.map(age),
            script: stack.and_then(|stack| stack.script.clone()),
            stack: stack.map(stack::lines),
            names: stack.and_then(|stack| stack::names(stack, pid)),
        }
    }

    /// A holder of which nothing but one look is known.
    pub(super) fn of_snapshot(holder: &Holder) -> Self {
        Self {
            kind: holder.kind,
            target: holder.target.as_deref().map(json::text),
            state: holder.state().map(TcpState::name),
            states: states(holder),
            targets: holder.targets,
            below: folders::below(holder),
            folders: folders::fields(holder),
            looked_at: holder.folders.as_ref().map(|folders| folders.looked_at),
            count: holder.count,
            inherited: None,
            oldest_s: None,
            oldest_at_least: None,
            newest_s: None,
            script: None,
            stack: None,
            names: None,
        }
    }
}

fn states(holder: &Holder) -> Option<BTreeMap<&'static str, u32>> {
    let states = holder.states.iter();
    let states: BTreeMap<_, _> = states
        .map(|(state, count)| (state.name(), *count))
        .collect();
    (!states.is_empty()).then_some(states)
}

/// All holders of a diagnosis.
pub(super) fn holders(diagnosis: &Diagnosis, openers: &Openers, pid: u32) -> Vec<HolderFields> {
    let holders = diagnosis.holders.iter().enumerate();
    let (since_ns, now_ns) = (diagnosis.since_ns, diagnosis.now_ns);
    holders
        .map(|(index, holder)| {
            let most_frequent = openers.of(index).and_then(|openers| openers.most.first());
            let stack = most_frequent.map(|(_, stack)| &**stack);
            HolderFields::new(holder, stack, pid, since_ns, now_ns)
        })
        .collect()
}

/// A verdict as the contract has it.
#[derive(Serialize)]
pub(super) struct VerdictFields<'a> {
    kind: verdict::Kind,
    growth_per_min: Option<f64>,
    evidence: &'a [String],
}

impl<'a> From<&'a Verdict> for VerdictFields<'a> {
    fn from(verdict: &'a Verdict) -> Self {
        Self {
            kind: verdict.kind,
            growth_per_min: verdict.growth_per_min,
            evidence: &verdict.evidence,
        }
    }
}
