use super::*;
use crate::enrich::select::AskedSelect;
use crate::{diagnose::verdict::Verdict, stream::decode::samples};

const SECOND: u64 = 1_000_000_000;

/// A finding of so many seconds.
fn finding(second: u64, kind: verdict::Kind) -> Finding {
    Finding {
        cause: Cause::RlimitNofile,
        diagnosis: Some(Diagnosis {
            now_ns: second * SECOND,
            verdict: Some(Verdict {
                kind,
                growth_per_min: None,
                evidence: Vec::new(),
            }),
            is_whole: true,
            ..Diagnosis::default()
        }),
        openers: Openers::default(),
        failed_in: FailedIn::default(),
        ends: Ends::default(),
        select: AskedSelect::default(),
    }
}

/// A report of that second with what was found of its failure.
fn report(second: u64, made: Finding) -> Report<Finding> {
    Report {
        alarm: samples::alarm(),
        made,
        repeats: 1,
        time_ns: second * SECOND,
        is_first: false,
    }
}

fn is_first(report: Report<Finding>) -> Report<Finding> {
    Report {
        is_first: true,
        ..report
    }
}

#[test]
fn the_same_is_told_again_after_a_minute() {
    let mut diagnoses = Diagnoses::default();
    let made = finding(1, verdict::Kind::Leak);
    let mut is_news = |report| diagnoses.of(&report).1;
    assert!(is_news(is_first(report(1, made.clone()))));
    assert!(!is_news(report(2, made.clone())));
    assert!(!is_news(report(60, made.clone())));
    assert!(is_news(report(61, made.clone())));
    assert!(!is_news(report(62, made.clone())));
}

#[test]
fn a_better_answer_is_news_and_a_lesser_one_is_not_told() {
    let mut diagnoses = Diagnoses::default();
    let mut told = |second, kind| {
        let (finding, is_news) = diagnoses.of(&report(second, finding(second, kind)));
        (finding.verdict(), is_news)
    };
    let (leak, unknown) = (verdict::Kind::Leak, verdict::Kind::Unknown);
    assert_eq!(told(1, unknown), (Some(unknown), true));
    assert_eq!(told(2, leak), (Some(leak), true));
    assert_eq!(told(3, unknown), (Some(leak), false));
}

#[test]
fn where_nothing_is_known_what_was_known_is_told() {
    let mut diagnoses = Diagnoses::default();
    let made = finding(1, verdict::Kind::Leak);
    diagnoses.of(&report(1, made.clone()));
    let nothing = Finding {
        cause: Cause::NrOpen,
        diagnosis: None,
        openers: Openers::default(),
        failed_in: FailedIn::default(),
        ends: Ends::default(),
        select: AskedSelect::default(),
    };
    let (told, is_news) = diagnoses.of(&report(2, nothing));
    assert_eq!((told.diagnosis, is_news), (made.diagnosis, false));
    assert_eq!(told.cause, Cause::NrOpen, "that of the failure at hand");
}

#[test]
fn an_exhaustion_after_a_quiet_time_has_a_diagnosis_of_its_own() {
    let mut diagnoses = Diagnoses::default();
    diagnoses.of(&is_first(report(1, finding(1, verdict::Kind::Leak))));
    let other = finding(7, verdict::Kind::Leak);
    let (told, is_news) = diagnoses.of(&is_first(report(7, other.clone())));
    assert_eq!((told, is_news), (other, true));
    let other = finding(17, verdict::Kind::Unknown);
    let (told, is_news) = diagnoses.of(&is_first(report(17, other.clone())));
    assert_eq!((told, is_news), (other, true));
}
