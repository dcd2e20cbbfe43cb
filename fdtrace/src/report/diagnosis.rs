//! A diagnosis as text and as JSON: who holds the fds, and what to make of it.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::Serialize;

use super::{
    connections,
    folders::{self, FolderFields},
    json,
    openers::{self, Openers},
    sanitize::printable,
    stack::lines as stack_lines,
};
use crate::{
    diagnose::{
        diagnosis::Diagnosis,
        holders::Holder,
        verdict::{self, Verdict},
    },
    enrich::stacks::{Frequent, Stack},
    ground::{kind::Kind, tcp_state::TcpState},
};

/// Groups that people are shown; scripts get all there are.
const SHOWN: usize = 5;

/// Lines below a report; `unlisted`: fds that no holder stands for.
pub(super) fn write_text(
    output: &mut impl Write,
    diagnosis: &Diagnosis,
    unlisted: u32,
    openers: &Openers,
) -> io::Result<()> {
    for (index, holder) in diagnosis.holders.iter().enumerate().take(SHOWN) {
        write_holder(output, holder, &description(holder, diagnosis))?;
        write_folders(output, holder)?;
        write_openers(output, holder.count, openers.of(index))?;
    }
    write_others(output, &diagnosis.holders)?;
    if unlisted > 0 {
        writeln!(output, "         {unlisted:>7} not known")?;
    }
    match &diagnosis.verdict {
        Some(verdict) => writeln!(output, "         {}", sentence(verdict)),
        None => Ok(()),
    }
}

/// Lines below a table of which nothing but one look is known.
pub(super) fn write_snapshot(output: &mut impl Write, holders: &[Holder]) -> io::Result<()> {
    for holder in holders.iter().take(SHOWN) {
        write_holder(output, holder, &target(holder).unwrap_or_default())?;
        write_folders(output, holder)?;
    }
    write_others(output, holders)
}

fn write_holder(output: &mut impl Write, holder: &Holder, description: &str) -> io::Result<()> {
    let (count, kind) = (holder.count, holder.kind.to_string());
    let line = format!("         {count:>7} {kind:<9} {description}");
    writeln!(output, "{}", line.trim_end())
}

/// The folders of its files, a line each, where they are several.
fn write_folders(output: &mut impl Write, holder: &Holder) -> io::Result<()> {
    let mut lines = folders::several(holder).into_iter();
    lines.try_for_each(|line| writeln!(output, "                 {line}"))
}

fn write_others(output: &mut impl Write, holders: &[Holder]) -> io::Result<()> {
    let rest = holders.iter().skip(SHOWN);
    let others: u32 = rest.map(|holder| holder.count).sum();
    if others > 0 {
        writeln!(output, "         {others:>7} others")?;
    }
    Ok(())
}

/// What a group leads to; `None`: its kind says it all.
pub(super) fn target(holder: &Holder) -> Option<String> {
    if let Some(words) = folders::one(holder) {
        return Some(words);
    }
    let target = match &holder.target {
        Some(target) => Some(printable(target)),
        None if holder.targets > 1 => Some(format!("{} different", holder.targets)),
        None => None,
    };
    connections::words(holder, target.as_deref()).or(target)
}

/// The stacks of a group of so many fds, a line each. Where there are several, their counts and those of the last
/// lines add up to it.
fn write_openers(output: &mut impl Write, fds: u32, openers: Option<&Frequent>) -> io::Result<()> {
    let Some(Frequent { most, others }) = openers else {
        return Ok(());
    };
    if let [(_, only)] = &most[..] {
        return write_opener(output, only);
    }
    let mut left = usize::try_from(fds).unwrap_or(usize::MAX);
    for (count, stack) in most {
        let functions = printable(openers::line(stack).as_bytes());
        writeln!(output, "                 {count} by {functions}")?;
        left = left.saturating_sub(*count);
    }
    if *others > 0 {
        writeln!(output, "                 {others} by others")?;
        left = left.saturating_sub(*others);
    }
    if left > 0 && !most.is_empty() {
        writeln!(
            output,
            "                 {left} more, whose stacks were not looked at"
        )?;
    }
    Ok(())
}

/// The stack of all of a group.
pub(super) fn write_opener(output: &mut impl Write, stack: &Stack) -> io::Result<()> {
    let functions = printable(openers::line(stack).as_bytes());
    writeln!(output, "                 by {functions}")
}

fn description(holder: &Holder, diagnosis: &Diagnosis) -> String {
    let mut parts: Vec<_> = target(holder).into_iter().collect();
    let age = |moment_ns| age_words(seconds_between(moment_ns, diagnosis.now_ns));
    let is_one = holder.count == 1;
    match (holder.oldest_ns, holder.newest_ns) {
        (Some(oldest), _) if is_one => parts.push(format!("{} old", age(oldest))),
        (Some(oldest), Some(newest)) => {
            parts.push(format!("{} to {} old", age(newest), age(oldest)));
        }
        (_, newest) => {
            // What rounds to nothing is no age.
            let traced = Some(traced(diagnosis)).filter(|seconds| *seconds >= 0.05);
            match (newest, traced.map(age_words)) {
                (Some(newest), Some(traced)) => {
                    parts.push(format!("{} old to more than {traced}", age(newest)));
                }
                (Some(newest), None) => parts.push(format!("{} old and older", age(newest))),
                (None, Some(traced)) => parts.push(format!("more than {traced} old")),
                (None, None) => {}
            }
        }
    }
    if holder.inherited > 0 {
        parts.push(format!("{} inherited", holder.inherited));
    }
    parts.join(", ")
}

/// How long the table has been followed, seconds.
fn traced(diagnosis: &Diagnosis) -> f64 {
    seconds_between(diagnosis.since_ns, diagnosis.now_ns)
}

/// A verdict with what it rests on.
#[must_use]
pub(super) fn sentence(verdict: &Verdict) -> String {
    let growth = verdict
        .growth_per_min
        .map_or_else(String::new, |growth| format!(", {growth} a minute"));
    let evidence: Vec<_> = verdict
        .evidence
        .iter()
        .map(|words| printable(words.as_bytes()))
        .collect();
    format!("{}{growth}: {}", verdict.kind, evidence.join("; "))
}

/// An age for people: no more exact than it is worth.
#[must_use]
pub(super) fn age_words(seconds: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(86_400.0, "d"), (3_600.0, "h"), (60.0, "min")];
    match UNITS.iter().find(|(unit, _)| seconds >= 2.0 * unit) {
        Some((unit, name)) => format!("{:.0} {name}", seconds / unit),
        None if seconds >= 10.0 => format!("{seconds:.0} s"),
        None => format!("{seconds:.1} s"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds, to be read by people")]
fn seconds_between(from_ns: u64, until_ns: u64) -> f64 {
    until_ns.saturating_sub(from_ns) as f64 / 1e9
}

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
}

impl HolderFields {
    /// A holder now, of a table that has been followed since a moment.
    pub(super) fn new(holder: &Holder, stack: Option<&Stack>, since_ns: u64, now_ns: u64) -> Self {
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
            stack: stack.map(stack_lines),
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
pub(super) fn holders(diagnosis: &Diagnosis, openers: &Openers) -> Vec<HolderFields> {
    let holders = diagnosis.holders.iter().enumerate();
    let (since_ns, now_ns) = (diagnosis.since_ns, diagnosis.now_ns);
    holders
        .map(|(index, holder)| {
            let most_frequent = openers.of(index).and_then(|openers| openers.most.first());
            let stack = most_frequent.map(|(_, stack)| &**stack);
            HolderFields::new(holder, stack, since_ns, now_ns)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::enrich::stacks::Frame;

    fn opened_by(function: &str) -> Arc<Stack> {
        let frame = Frame {
            function: Some(function.to_owned()),
            ..Frame::default()
        };
        Arc::new(Stack {
            frames: vec![frame],
            ..Stack::default()
        })
    }

    #[test]
    fn counts_of_openers_add_up_to_those_of_their_group() {
        let written = |fds, openers: &Frequent| {
            let mut output = Vec::new();
            write_openers(&mut output, fds, Some(openers)).unwrap();
            let text = String::from_utf8(output).unwrap();
            text.lines()
                .map(|line| line.trim().to_owned())
                .collect::<Vec<_>>()
        };
        let two = Frequent {
            most: vec![(150, opened_by("leak")), (100, opened_by("seep"))],
            others: 6,
        };
        let lines = [
            "150 by leak",
            "100 by seep",
            "6 by others",
            "744 more, whose stacks were not looked at",
        ];
        assert_eq!(written(1_000, &two), lines);
        assert_eq!(written(256, &two), lines[..3]);
        let one = Frequent {
            most: vec![(256, opened_by("leak"))],
            others: 0,
        };
        assert_eq!(written(1_000, &one), ["by leak"]);
        assert!(written(3, &Frequent::default()).is_empty());
    }

    #[test]
    fn ages_have_the_unit_that_fits() {
        let words = [0.04, 1.94, 59.0, 119.0, 150.0, 7_300.0, 200_000.0].map(age_words);
        assert_eq!(
            words,
            ["0.0 s", "1.9 s", "59 s", "119 s", "2 min", "2 h", "2 d"]
        );
    }
}
