//! Who holds the fds, a row each, and by which code they were opened.

use std::io::{self, Write};

use crate::{
    diagnose::{diagnosis::Diagnosis, holders::Holder},
    enrich::stacks::Frequent,
    report::{
        block::Block,
        folders,
        openers::Openers,
        page::Page,
        stack,
        words::{age, seconds_between, target},
    },
};

/// Groups that people are shown; scripts get all there are.
const SHOWN: usize = 5;
const HOLDS: &str = "holds";
/// Columns of a count, and the space behind it.
pub(super) const KIND_AT: usize = 8;

/// The code that has opened the largest group.
pub(super) fn opened(block: &mut Block, diagnosis: &Diagnosis, openers: &Openers, page: Page) {
    let Some(largest) = diagnosis.holders.first() else {
        return;
    };
    for line in opener_lines(largest.count, openers.of(0), page) {
        block.say("opened", line);
    }
}

/// All groups; `unlisted`: fds that no holder stands for.
pub(super) fn holds(
    block: &mut Block,
    diagnosis: &Diagnosis,
    unlisted: u32,
    openers: &Openers,
    page: Page,
) {
    for (index, holder) in diagnosis.holders.iter().enumerate().take(SHOWN) {
        row(block, HOLDS, holder, described(holder, diagnosis));
        if index > 0 {
            let lines = opener_lines(holder.count, openers.of(index), page);
            for line in lines {
                block.row(HOLDS, " ".repeat(KIND_AT), format!("by {line}"));
            }
        }
    }
    others(block, HOLDS, &diagnosis.holders);
    if unlisted > 0 {
        block.row(HOLDS, column(unlisted), "not known");
    }
}

/// Lines below a table of which nothing but one look is known.
pub(in crate::report) fn write_snapshot(
    output: &mut impl Write,
    holders: &[Holder],
) -> io::Result<()> {
    let mut block = Block::default();
    for holder in holders.iter().take(SHOWN) {
        row(&mut block, "", holder, target(holder).unwrap_or_default());
    }
    others(&mut block, "", holders);
    block.write(output, Page::PLAIN)
}

/// A group, and the folders of its files where they are several.
fn row(block: &mut Block, label: &'static str, holder: &Holder, description: String) {
    let kind = holder.kind.to_string();
    let column = format!("{}{kind:<9} ", column(holder.count));
    let hang = " ".repeat(column.len());
    block.row(label, column, description);
    for line in folders::several(holder) {
        block.row(label, hang.clone(), line);
    }
}

pub(super) fn column(count: u32) -> String {
    format!("{count:>6}  ")
}

fn others(block: &mut Block, label: &'static str, holders: &[Holder]) {
    let rest = holders.iter().skip(SHOWN);
    let others: u32 = rest.map(|holder| holder.count).sum();
    if others > 0 {
        block.row(label, column(others), "others");
    }
}

/// The stacks of a group of so many fds, a line each. Where there are several, their counts and those of the last
/// lines add up to it.
fn opener_lines(fds: u32, openers: Option<&Frequent>, page: Page) -> Vec<String> {
    let Some(Frequent { most, others }) = openers else {
        return Vec::new();
    };
    if let [(_, only)] = &most[..] {
        return vec![stack::line(only, page)];
    }
    let mut left = usize::try_from(fds).unwrap_or(usize::MAX);
    let mut lines = Vec::new();
    for (count, stack) in most {
        lines.push(format!("{count} by {}", stack::line(stack, page)));
        left = left.saturating_sub(*count);
    }
    if *others > 0 {
        lines.push(format!("{others} by others"));
        left = left.saturating_sub(*others);
    }
    if left > 0 && !most.is_empty() {
        lines.push(format!("{left} more, whose stacks were not looked at"));
    }
    lines
}

fn described(holder: &Holder, diagnosis: &Diagnosis) -> String {
    let mut parts: Vec<_> = target(holder).into_iter().collect();
    let age_of = |moment_ns| age(seconds_between(moment_ns, diagnosis.now_ns));
    match (holder.oldest_ns, holder.newest_ns) {
        (Some(oldest), newest) if newest.is_none_or(|newest| age_of(newest) == age_of(oldest)) => {
            parts.push(format!("{} old", age_of(oldest)));
        }
        (Some(oldest), Some(newest)) => {
            parts.push(format!("{} to {} old", age_of(newest), age_of(oldest)));
        }
        (_, newest) => {
            // What rounds to nothing is no age.
            let traced = seconds_between(diagnosis.since_ns, diagnosis.now_ns);
            let traced = Some(traced).filter(|seconds| *seconds >= 0.05);
            match (newest, traced.map(age)) {
                (Some(newest), Some(traced)) => {
                    parts.push(format!("{} old to more than {traced}", age_of(newest)));
                }
                (Some(newest), None) => parts.push(format!("{} old and older", age_of(newest))),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::enrich::stacks::{Frame, Stack};

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
        assert_eq!(opener_lines(1_000, Some(&two), Page::PLAIN), lines);
        assert_eq!(opener_lines(256, Some(&two), Page::PLAIN), lines[..3]);
        let one = Frequent {
            most: vec![(256, opened_by("leak"))],
            others: 0,
        };
        assert_eq!(opener_lines(1_000, Some(&one), Page::PLAIN), ["leak"]);
        assert!(opener_lines(3, Some(&Frequent::default()), Page::PLAIN).is_empty());
    }
}
