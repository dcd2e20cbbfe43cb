use fdtrace_common::{
    change::{OpenRecord, ThreadRecord},
    held::{HeldRecord, WHOLE},
    record::{RECORD_BOUND, RECORD_HELD, RECORD_OPENED},
};
use zerocopy::FromZeros;

use super::*;
use crate::{ground::kind::Kind, model::Model, stream::record::Changed};

fn patient(cause: Option<Cause>, used: Option<u32>) -> Patient {
    Patient {
        seen: Sighting {
            files: 1,
            tid: 1,
            tgid: 1,
            started_ns: 0,
            open: None,
        },
        soft: 64,
        cause,
        used,
    }
}

#[test]
fn the_table_is_what_has_run_out_where_it_is_full_or_has_one_number_left() {
    let soft = Some(Cause::RlimitNofile);
    let cases = [
        (soft, Some(64), true),
        (soft, Some(63), true),
        (soft, Some(62), false),
        (soft, Some(3), false),
        (soft, None, true),
        (Some(Cause::FileMax), Some(64), false),
        (None, Some(52), true),
    ];
    for (cause, used, wanted) in cases {
        let patient = patient(cause, used);
        assert_eq!(patient.is_about_table(), wanted, "{patient:?}");
    }
}

const SECOND: u64 = 1_000_000_000;

/// A diagnosis after so many seconds, of a table of so many files.
fn diagnosis(second: u64, count: u32, kind: Option<verdict::Kind>) -> Diagnosis {
    Diagnosis {
        now_ns: (100 + second) * SECOND,
        since_ns: 100 * SECOND,
        holders: vec![Holder {
            kind: Kind::File,
            target: None,
            states: Vec::new(),
            targets: 1,
            count,
            inodes: 1,
            inherited: 0,
            oldest_ns: None,
            newest_ns: None,
            example: (0, 0),
            files: Vec::new(),
            folders: None,
            openers: Vec::new(),
        }],
        growth_per_min: None,
        verdict: kind.map(|kind| Verdict {
            kind,
            growth_per_min: None,
            evidence: vec![format!("after {second} s")],
        }),
        is_whole: true,
    }
}

/// How many the holders of the later one of these stand for when the earlier one was told, and what the verdict is
/// and when it was made.
fn told(before: &Diagnosis, later: &Diagnosis) -> (u32, Option<(verdict::Kind, String)>) {
    let told = later.clone().after(before);
    let verdict = told.verdict;
    let verdict = verdict.map(|verdict| (verdict.kind, verdict.evidence.concat()));
    (told.holders[0].count, verdict)
}

#[test]
fn a_later_diagnosis_says_what_it_knows_more_and_nothing_that_it_knows_less() {
    use verdict::Kind::{Leak, Saturation, Unknown};
    // The table is always that of the failure at hand; the verdict is the better one.
    let cases = [
        (Some(Unknown), Some(Leak), Some((Leak, 5))),
        (Some(Unknown), Some(Unknown), Some((Unknown, 5))),
        (Some(Leak), Some(Unknown), Some((Leak, 4))),
        (Some(Leak), None, Some((Leak, 4))),
        (None, Some(Unknown), Some((Unknown, 5))),
        // Both have an answer: that of a longer time counts.
        (Some(Leak), Some(Saturation), Some((Saturation, 5))),
        (None, None, None),
    ];
    for (before, later, wanted) in cases {
        let told = told(&diagnosis(4, 64, before), &diagnosis(5, 63, later));
        let wanted = wanted.map(|(kind, second)| (kind, format!("after {second} s")));
        assert_eq!(told, (63, wanted), "{later:?} after {before:?}");
    }
}

#[test]
fn a_table_that_was_followed_for_a_shorter_time_overrules_nothing() {
    let before = diagnosis(4, 64, Some(verdict::Kind::Leak));
    let mut later = diagnosis(9, 64, Some(verdict::Kind::Burst));
    later.since_ns = 108 * SECOND;
    let (_, verdict) = told(&before, &later);
    assert_eq!(verdict, Some((verdict::Kind::Leak, "after 4 s".to_owned())));
    // What it rests on began then.
    assert_eq!(later.after(&before).since_ns, before.since_ns);
}

#[test]
fn a_table_of_another_moment_overrules_nothing() {
    let before = diagnosis(4, 64, Some(verdict::Kind::Unknown));
    let mut later = diagnosis(5, 3, Some(verdict::Kind::Leak));
    later.is_whole = false;
    assert_eq!(later.clone().after(&before), before);
    assert_eq!(before.clone().after(&later), before);
}

/// A process with so many files open, as the model knows it.
fn model(files: u32) -> Model {
    let mut model = Model::default();
    model.tables.apply(
        Changed::Bound(&ThreadRecord {
            kind: RECORD_BOUND,
            files: 1,
            tgid: 1,
            tid: 1,
            ..ThreadRecord::new_zeroed()
        }),
        &mut (),
    );
    for fd in 0..files {
        let record = OpenRecord {
            kind: RECORD_OPENED,
            fd,
            files: 1,
            file: u64::from(fd) + 1,
            time_ns: 50 * SECOND,
            ..OpenRecord::new_zeroed()
        };
        model.tables.apply(Changed::Opened(&record), &mut ());
    }
    model
}

/// What the kernel tells when such a process has run into its limit.
fn hold(model: &mut Model, files: u32) {
    for fd in 0..files {
        let mut record = HeldRecord::new_zeroed();
        record.slot.kind = RECORD_HELD;
        record.slot.flags = WHOLE;
        (record.slot.fd, record.slot.file) = (fd, u64::from(fd) + 1);
        (record.slot.files, record.slot.tgid, record.slot.tid) = (1, 1, 1);
        model.hold(&record);
    }
}

/// How many fds a diagnosis lists where the kernel has counted 64, and whether that is the table.
fn listed(model: &Model) -> (u32, bool) {
    let mut patient = patient(Some(Cause::RlimitNofile), Some(64));
    patient.seen.open = Some(64);
    let diagnosis = Diagnosis::of(patient, model, 60 * SECOND).unwrap();
    (64 - diagnosis.unlisted(64), diagnosis.is_whole)
}

#[test]
fn the_table_is_the_one_that_the_kernel_has_counted() {
    assert_eq!(listed(&model(64)), (64, true));
    assert_eq!(listed(&model(60)), (60, true), "a little behind");
    assert_eq!(listed(&model(3)), (3, false));
    let mut told = model(3);
    hold(&mut told, 64);
    assert_eq!(listed(&told), (64, true));
    // The ring was full.
    let mut cut = model(64);
    hold(&mut cut, 10);
    assert_eq!(listed(&cut), (64, true));
}

#[test]
fn of_a_table_of_another_moment_there_is_no_verdict() {
    let mut patient = patient(Some(Cause::RlimitNofile), Some(64));
    patient.seen.open = Some(64);
    let verdict = Diagnosis::of(patient, &model(3), 60 * SECOND)
        .unwrap()
        .verdict
        .unwrap();
    assert_eq!(
        (verdict.kind, verdict.evidence.concat()),
        (
            verdict::Kind::Unknown,
            "64 fds were open when the call failed, but 3 in the last snapshot of the table"
                .to_owned()
        )
    );
}
