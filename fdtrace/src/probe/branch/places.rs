//! Which instructions of a function, and of those that it calls, tell that it fails.

use std::fmt::Display;

use super::flow::{ALIGNMENT, Flow, Read, follow};

/// Instructions, by their addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::probe) struct Places {
    /// Where the function begins. A probe there can lie some bytes behind (`arch_adjust_kprobe_addr` in
    /// arch/x86/kernel/kprobes/core.c).
    start: u64,
    /// Its own, which loads the errno.
    pub(in crate::probe) own: u64,
    /// The one that does in a function which this one calls, and hands the errno on from there.
    pub(in crate::probe) handed_on: Option<u64>,
    /// Those behind calls from that function to others which load the errno.
    pub(in crate::probe) behind: Vec<u64>,
}

impl Places {
    /// How far into its function its own place is.
    pub(in crate::probe) fn offset(&self) -> u64 {
        self.own - self.start
    }
}

/// Finds the places where a call of the function at an address fails with the errno; the reason where one of them is not the only
/// one.
pub(super) fn find(
    entry: u64,
    errno: i32,
    hands_on: bool,
    read: &mut Read<'_>,
) -> Result<Places, String> {
    let function = follow(entry, errno, read)?;
    let mut places = Places {
        start: entry & !(ALIGNMENT - 1),
        own: only(&function)?,
        handed_on: None,
        behind: Vec::new(),
    };
    if !hands_on {
        return Ok(places);
    }
    for target in targets(&function) {
        let callee = follow(target, errno, read).map_err(of_called)?;
        if callee.loads.is_empty() {
            continue;
        }
        let place = only(&callee).map_err(of_called)?;
        if places.handed_on.replace(place).is_some() {
            return Err("several functions that it calls load the errno".to_owned());
        }
        for target in targets(&callee) {
            if !follow(target, errno, read)
                .map_err(of_called)?
                .loads
                .is_empty()
            {
                let mut calls = callee.calls.iter();
                let calls = calls.by_ref().filter(|call| call.target == target);
                places.behind.extend(calls.map(|call| call.behind));
            }
        }
    }
    match places.handed_on {
        Some(_) => Ok(places),
        None => Err("no function that it calls loads the errno".to_owned()),
    }
}

/// The only instruction that loads the errno.
fn only(function: &Flow) -> Result<u64, String> {
    match function.loads[..] {
        _ if function.is_indirect => Err("it goes where only a register knows".to_owned()),
        [place] => Ok(place),
        [] => Err("no instruction loads the errno".to_owned()),
        _ => Err("more than one instruction loads the errno".to_owned()),
    }
}

/// The functions that it calls, each once.
fn targets(function: &Flow) -> Vec<u64> {
    let mut targets: Vec<_> = function.calls.iter().map(|call| call.target).collect();
    targets.sort_unstable();
    targets.dedup();
    targets
}

fn of_called(reason: impl Display) -> String {
    format!("of a function that it calls: {reason}")
}

#[cfg(test)]
mod tests;
