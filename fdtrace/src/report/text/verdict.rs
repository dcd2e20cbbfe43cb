//! What is wrong, in one clause.

use anstyle::Style;

use crate::{
    diagnose::{
        diagnosis::Diagnosis,
        holders::Holder,
        verdict::{Kind, Verdict},
    },
    report::{
        folders,
        page::{BAD, LOAD, STRONG},
        sanitize::printable,
        words::rate,
    },
};

/// The verdict of a diagnosis, and the style of its first word; `None` where nobody has judged.
pub(super) fn clause(diagnosis: Option<&Diagnosis>) -> Option<(Style, String)> {
    let diagnosis = diagnosis?;
    let verdict = diagnosis.verdict.as_ref()?;
    Some(match verdict.kind {
        Kind::Leak => (BAD, leak(verdict, diagnosis.holders.first())),
        Kind::Saturation => (
            LOAD,
            "SATURATION, no leak: the load takes more fds than the limit allows".to_owned(),
        ),
        Kind::Burst => (
            LOAD,
            "BURST, no leak seen: a short peak has filled the table".to_owned(),
        ),
        Kind::Inherited => (
            BAD,
            "INHERITED: most fds came with the process, from the one that started it".to_owned(),
        ),
        Kind::Unknown => (
            STRONG,
            "UNKNOWN: too little was seen to tell a leak from load".to_owned(),
        ),
    })
}

/// Of what most of the table is, and how fast.
fn leak(verdict: &Verdict, largest: Option<&Holder>) -> String {
    let of = largest.map_or_else(String::new, |holder| format!(" of {}", what(holder)));
    let growth = verdict.growth_per_min;
    let growth = growth.map_or_else(String::new, |growth| format!(", {}", rate(growth)));
    format!("LEAK{of}{growth}")
}

/// A group in few words: its row tells the rest.
fn what(holder: &Holder) -> String {
    if let Some(words) = folders::one(holder) {
        return words;
    }
    match &holder.target {
        Some(target) => format!("{} {}", holder.kind, printable(target)),
        None => holder.kind.to_string(),
    }
}
