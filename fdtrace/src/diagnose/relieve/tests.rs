use super::*;
use crate::ground::host::Settings;

fn service() -> Subject {
    Subject {
        pid: 2231,
        comm: b"web".to_vec(),
        exe: Some(b"/usr/bin/web".to_vec()),
        uid: Some(33),
        is_kernel_thread: false,
        is_in_other_namespace: Some(false),
        may_be_changed: true,
        limits: Limits {
            soft: 1_024,
            hard: 524_288,
        },
        used: Some(1_024),
        grown: 0,
        seconds: 3.0,
        failures: vec![Cause::RlimitNofile],
        select: Some(Select::No),
        is_go: false,
    }
}

fn around() -> Around {
    Around {
        host: Host {
            files: Some(9_000),
            file_max: Some(97_065),
            settings: Settings {
                nr_open: Some(1 << 20),
                ..Settings::default()
            },
        },
        may_raise_hard: true,
        sees_failures: true,
        ..Around::default()
    }
}

/// The check of this name, with what raising to the target has come to altogether.
fn of(
    subject: &Subject,
    around: &Around,
    asked: Option<u64>,
    name: &str,
) -> (Outcome, Option<Check>) {
    let checks = subject.checks(subject.target(asked, around), around);
    let worst = worst(&checks);
    (worst, checks.into_iter().find(|check| check.check == name))
}

fn outcome(subject: &Subject, asked: Option<u64>, name: &str) -> Outcome {
    of(subject, &around(), asked, name).1.expect(name).outcome
}

#[test]
fn a_service_at_its_limit_is_safe_to_raise() {
    let (service, around) = (service(), around());
    let target = service.target(None, &around).unwrap();
    assert_eq!((target.soft, target.hard), (4_096, 524_288));
    let checks = service.checks(Some(target), &around);
    assert_eq!(worst(&checks), Outcome::Ok, "{checks:#?}");
    let names: Vec<_> = checks.iter().map(|check| check.check).collect();
    assert_eq!(
        names,
        [
            "process", "userns", "rights", "cause", "limit", "nr_open", "file-max", "select",
            "buys"
        ]
    );
}

#[test]
fn nothing_is_raised_further_than_is_known_to_serve_unless_somebody_says_so() {
    let with = |soft, hard| Subject {
        limits: Limits { soft, hard },
        used: Some(soft),
        ..service()
    };
    let target = |subject: &Subject, asked| {
        subject
            .target(asked, &around())
            .map(|it| (it.soft, it.hard))
    };
    assert_eq!(target(&with(60, 4_096), None), Some((4_096, 4_096)));
    assert_eq!(
        target(&with(20_000, 524_288), None),
        Some((65_536, 524_288))
    );
    assert_eq!(target(&with(1_024, 1_024), None), Some((4_096, 4_096)));
    assert_eq!(target(&with(65_536, 65_536), None), None);
    assert_eq!(
        target(&with(65_536, 65_536), Some(100_000)),
        Some((100_000, 100_000))
    );
    assert_eq!(
        target(&with(1_024, 4_096), Some(512)),
        None,
        "that lowers it"
    );
    assert_eq!(
        target(&with(1_024, u64::MAX), None),
        Some((4_096, u64::MAX))
    );
    // Without the right to raise the hard limit, up to that.
    let poor = Around {
        may_raise_hard: false,
        ..around()
    };
    assert_eq!(
        with(1_024, 2_000).target(None, &poor).map(|it| it.soft),
        Some(2_000)
    );
    let impossible = of(&with(1_024, 1_024), &poor, None, "limit").1.unwrap();
    assert_eq!(impossible.outcome, Outcome::Impossible);
    assert_eq!(
        outcome(&with(1_024, 524_288), Some(1 << 21), "limit"),
        Outcome::Refused
    );
    assert_eq!(
        outcome(&with(65_536, 65_536), None, "limit"),
        Outcome::Impossible
    );
}

#[test]
fn the_kernels_own_bound_is_told_with_what_to_type() {
    let low = |nr_open| {
        let mut around = around();
        around.host.settings.nr_open = Some(nr_open);
        around
    };
    let with_hard = |hard| Subject {
        limits: Limits { soft: 1_024, hard },
        ..service()
    };
    assert_eq!(
        with_hard(1_024).target(None, &low(2_048)).map(|it| it.soft),
        Some(2_048)
    );
    let (_, check) = of(&with_hard(1_024), &low(2_048), Some(4_096), "nr_open");
    let check = check.unwrap();
    assert_eq!(check.outcome, Outcome::Impossible);
    assert!(
        check.evidence.contains("fs.nr_open=4096"),
        "{}",
        check.evidence
    );
    // prlimit sets the hard limit as well, if only to what it is.
    for hard in [4_096, u64::MAX] {
        let (_, check) = of(&with_hard(hard), &low(2_048), Some(2_000), "nr_open");
        assert_eq!(check.unwrap().outcome, Outcome::Impossible, "{hard}");
    }
}

#[test]
fn select_refuses_where_it_was_called_and_warns_where_it_may_be() {
    let with = |select: Option<Select>, soft| Subject {
        select,
        limits: Limits {
            soft,
            hard: 524_288,
        },
        ..service()
    };
    let called = || Some(Select::Called { most: 1_020 });
    let imported = || {
        Some(Select::Imported {
            by: "/lib/libold.so".to_owned(),
        })
    };
    for (subject, asked, expected) in [
        (with(called(), 1_024), None, Outcome::Refused),
        (with(called(), 256), Some(1_024), Outcome::Ok),
        (with(called(), 256), Some(1_025), Outcome::Refused),
        (with(called(), 2_000), None, Outcome::Warning),
        (with(imported(), 1_024), None, Outcome::Warning),
        (with(imported(), 256), Some(1_024), Outcome::Ok),
        (with(Some(Select::No), 1_024), None, Outcome::Ok),
        (with(None, 1_024), None, Outcome::Warning),
    ] {
        assert_eq!(
            outcome(&subject, asked, "select"),
            expected,
            "{subject:?} {asked:?}"
        );
    }
}

#[test]
fn a_limit_that_is_not_in_the_way_is_left_alone() {
    let with = |used, failures: &[Cause]| Subject {
        used,
        failures: failures.to_vec(),
        ..service()
    };
    assert_eq!(
        outcome(&with(Some(12), &[]), None, "cause"),
        Outcome::Refused
    );
    assert_eq!(outcome(&with(Some(820), &[]), None, "cause"), Outcome::Ok);
    assert_eq!(
        outcome(&with(Some(12), &[Cause::RlimitNofile]), None, "cause"),
        Outcome::Ok
    );
    let other = with(Some(1_000), &[Cause::FileMax]);
    let (_, check) = of(&other, &around(), None, "cause");
    let check = check.unwrap();
    assert_eq!(check.outcome, Outcome::Refused);
    assert!(check.evidence.contains("file_max"), "{}", check.evidence);
    assert_eq!(outcome(&with(None, &[]), None, "cause"), Outcome::Warning);
    // A master that forks the workers is raised with them.
    let together = Around {
        is_one_near: true,
        ..around()
    };
    let (_, check) = of(&with(Some(12), &[]), &together, None, "cause");
    assert_eq!(check.unwrap().outcome, Outcome::Ok);
}

#[test]
fn whose_limits_are_not_to_be_set_is_left_alone() {
    let worst_of = |change: fn(&mut Subject)| {
        let mut subject = service();
        change(&mut subject);
        of(&subject, &around(), None, "").0
    };
    assert_eq!(worst_of(|it| it.pid = 1), Outcome::Refused);
    assert_eq!(
        worst_of(|it| it.is_kernel_thread = true),
        Outcome::Impossible
    );
    assert_eq!(
        worst_of(|it| it.is_in_other_namespace = Some(true)),
        Outcome::Refused
    );
    assert_eq!(
        worst_of(|it| it.is_in_other_namespace = None),
        Outcome::Warning
    );
    assert_eq!(
        worst_of(|it| it.may_be_changed = false),
        Outcome::Impossible
    );
}

#[test]
fn what_else_runs_out_is_warned_of() {
    let mut tight = around();
    tight.host.files = Some(96_000);
    tight.memory = Some((95 << 20, 100 << 20));
    tight.others_near = vec![7, 8];
    let service = Subject {
        is_go: true,
        ..service()
    };
    for name in ["file-max", "memory", "runtime", "others"] {
        let (worst, check) = of(&service, &tight, None, name);
        assert_eq!(check.expect(name).outcome, Outcome::Warning, "{name}");
        assert_eq!(worst, Outcome::Warning);
    }
}

#[test]
fn growth_tells_what_it_buys() {
    let growing = Subject {
        grown: 30,
        ..service()
    };
    let (_, check) = of(&growing, &around(), None, "buys");
    // 3072 more at 10 a second.
    assert_eq!(
        check.unwrap().evidence,
        "it grew by 30 in 3.0 s: at that rate 4096 are open in 5 min"
    );
    let shrinking = Subject {
        grown: -30,
        ..service()
    };
    let (_, check) = of(&shrinking, &around(), None, "buys");
    assert_eq!(check.unwrap().evidence, "it did not grow in 3.0 s");
}
