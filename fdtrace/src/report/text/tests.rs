use std::{fmt::Write as _, sync::Arc};

use insta::assert_snapshot;

use super::*;
use crate::{
    diagnose::{
        cause::{Cause, Silent},
        diagnosis::Diagnosis,
        holders::Holder,
        origin::{Ancestor, Lineage, Nofile, Whose},
        shared::SharedHolder,
        verdict::{self, Verdict},
    },
    enrich::{
        names::Named,
        stacks::{Frame, Frequent, Runtime, Stack},
    },
    ground::{kind::Kind, task::Task, tcp_state::TcpState},
    report::{
        fact::{Exhausted, NearLimit, Shared, samples},
        failing::FailedIn,
        openers::Openers,
    },
};

/// The time of day stands in the zone of the machine.
fn without_time(text: &str, exhausted: &Exhausted) -> String {
    let time = local(exhausted.time);
    text.replacen(&time.strftime("%H:%M:%S").to_string(), "HH:MM:SS", 1)
}

fn shown(change: impl FnOnce(&mut Exhausted)) -> String {
    let mut exhausted = samples::exhausted();
    change(&mut exhausted);
    let mut output = Vec::new();
    let fact = Fact::Exhausted(Box::new(exhausted.clone()));
    write(&mut output, &fact, Page::PLAIN).unwrap();
    without_time(&String::from_utf8(output).unwrap(), &exhausted)
}

fn with_header(lines: &[String]) -> String {
    let mut output = Vec::new();
    write(&mut output, &Fact::Start, Page::PLAIN).unwrap();
    String::from_utf8(output).unwrap() + &lines.concat()
}

#[test]
fn exhaustions() {
    let lines = [
        shown(|_| ()),
        shown(|exhausted| {
            exhausted.repeats = 1_234_567;
            exhausted.is_news = false;
            exhausted.used = Some(1024);
            exhausted.open = Some(1019);
            exhausted.tid = 2240;
            exhausted.cgroup = b"/".to_vec();
        }),
        shown(|exhausted| {
            exhausted.used = None;
            exhausted.open = None;
            exhausted.exe = None;
            exhausted.soft = u64::MAX;
            exhausted.hard = u64::MAX;
        }),
        shown(|exhausted| exhausted.has_ended = true),
    ];
    assert_snapshot!(with_header(&lines));
}

#[test]
fn whose_limit_it_is_and_who_fills_a_shared_one() {
    let lines = [
        shown(|exhausted| {
            (exhausted.soft, exhausted.hard) = (150, 4096);
            let above = Ancestor {
                pid: 70,
                comm: "ba\x1b[2Jsh".to_owned(),
                limits: Some(Nofile {
                    soft: 1024,
                    hard: 4096,
                }),
                ..Ancestor::default()
            };
            let lineage = Lineage {
                above: vec![above],
                unit: None,
            };
            let own = Nofile {
                soft: 150,
                hard: 4096,
            };
            exhausted.whose = Some(Whose::of(own, &exhausted.place(), Some(&lineage)));
        }),
        shown(|exhausted| {
            exhausted.cause = Cause::InotifyInstances;
            let holder = |pid, comm: &str, count| SharedHolder {
                pid,
                comm: comm.to_owned(),
                count,
            };
            exhausted.shared = Some(Shared {
                holders: vec![
                    holder(811, "containerd-shim", 64),
                    holder(93, "edi\x1b[2Jtor", 9),
                ],
                is_partial: true,
            });
        }),
    ];
    assert_snapshot!(with_header(&lines));
}

fn stack(functions: &[&str]) -> Arc<Stack> {
    let frames = functions.iter().map(|function| Frame {
        function: Some((*function).to_owned()),
        ..Frame::default()
    });
    Arc::new(Stack {
        frames: frames.collect(),
        ..Stack::default()
    })
}

/// A leak of connections, and a few other things.
fn leak(exhausted: &mut Exhausted) {
    const SECOND: u64 = 1_000_000_000;
    let now_ns = exhausted.time_ns;
    let holder = |kind, target: &str, count, ages: Option<(u64, u64)>| Holder {
        kind,
        target: (!target.is_empty()).then(|| target.as_bytes().to_vec()),
        states: Vec::new(),
        targets: 1,
        count,
        inodes: count,
        inherited: 0,
        oldest_ns: ages.map(|(oldest, _)| now_ns - oldest * SECOND),
        newest_ns: ages.map(|(_, newest)| now_ns - newest * SECOND),
        example: (0, 0),
        files: Vec::new(),
        folders: None,
        openers: Vec::new(),
    };
    let mut hung_up = holder(Kind::Tcp, "10.0.0.3:5432", 812, Some((2_460, 2)));
    hung_up.states = vec![(TcpState::CLOSE_WAIT, 812)];
    let mut inherited = holder(Kind::Char, "/dev/null", 3, None);
    inherited.inherited = 3;
    let holders = [
        hung_up,
        holder(
            Kind::File,
            "/var/lib/shop/orders/2026-11-22.journal",
            190,
            Some((70, 2)),
        ),
        holder(Kind::Unix, "/run/systemd/journal/stdout", 6, None),
        holder(Kind::Epoll, "", 4, Some((3_000, 3_000))),
        inherited,
        holder(Kind::Pipe, "", 2, None),
        holder(Kind::Eventfd, "", 2, None),
    ];
    exhausted.diagnosis = Some(Diagnosis {
        now_ns,
        since_ns: now_ns - 3_600 * SECOND,
        holders: holders.into(),
        growth_per_min: Some(19.2),
        verdict: Some(Verdict {
            kind: verdict::Kind::Leak,
            growth_per_min: Some(19.2),
            evidence: vec![
                "minimum open rose 230 to 1015 in 41 min".to_owned(),
                "410 of 410 open 20 min ago still open".to_owned(),
                "812 of 1019 in CLOSE_WAIT: closed by the other end only".to_owned(),
            ],
        }),
        is_whole: true,
    });
    exhausted.open = Some(1_019);
    exhausted.openers = Openers::resolved(vec![
        Frequent {
            most: vec![
                (
                    700,
                    stack(&[
                        "connect",
                        "_connect (psycopg2/__init__.py:122)",
                        "query (pool.py:41)",
                    ]),
                ),
                (100, stack(&["connect", "ping (health.py:9)"])),
            ],
            others: 12,
        },
        Frequent {
            most: vec![(190, stack(&["fopen", "append (journal.py:77)"]))],
            others: 0,
        },
    ]);
}

/// Verdict first, then where it comes from, what it rests on, and what to do.
#[test]
fn a_whole_report() {
    let mut exhausted = samples::exhausted();
    leak(&mut exhausted);
    let fact = Fact::Exhausted(Box::new(exhausted.clone()));
    let mut all = String::new();
    for (width, colour) in [
        (None, false),
        (Some(80), false),
        (Some(100), false),
        (Some(160), false),
        (Some(80), true),
    ] {
        let mut output = Vec::new();
        write(&mut output, &fact, Page { width, colour }).unwrap();
        let text = String::from_utf8(output).unwrap();
        let is_command = |line: &&str| line.contains("prlimit");
        for line in text.lines().filter(|line| !is_command(line) && !colour) {
            let columns = line.chars().count();
            assert!(width.is_none_or(|width| columns <= width), "{line}");
        }
        let width = width.map_or("any".to_owned(), |width| width.to_string());
        let colours = if colour { ", colours" } else { "" };
        let _ = writeln!(all, "== width {width}{colours}");
        all += &without_time(&text, &exhausted).replace('\x1b', "ESC");
    }
    assert_snapshot!(all);
}

/// The code that could not open anything more is told, unless it is the code that has opened most.
#[test]
fn the_code_that_has_failed() {
    let with = |functions: &[&str]| {
        shown(|exhausted| {
            leak(exhausted);
            exhausted.failed_in = FailedIn::resolved(stack(functions));
        })
    };
    let other = with(&["accept", "serve (pool\n.py:41)"]);
    let expected = "\n  failed   in serve (pool\\x0a.py:41)\n  holds ";
    assert!(other.contains(expected), "{other}");
    let same = with(&[
        "connect",
        "_connect (psycopg2/__init__.py:122)",
        "query (pool.py:41)",
    ]);
    assert!(!same.contains("failed"), "{same}");
    let nothing_known = shown(|exhausted| {
        exhausted.failed_in = FailedIn::resolved(stack(&["serve"]));
    });
    assert!(
        nothing_known.contains("\n  failed   in serve\n"),
        "{nothing_known}"
    );
}

/// What would give names to the functions of a report is said once, below them.
#[test]
fn what_would_give_names() {
    let text = shown(|exhausted| {
        leak(exhausted);
        let stack = Stack {
            nameless: Some(Runtime::Java),
            ..Stack::clone(&stack(&["open64"]))
        };
        exhausted.openers = Openers::resolved(vec![Frequent {
            most: vec![(1, stack.into())],
            others: 0,
        }]);
    });
    let line =
        "\n  names    run jcmd 2231 Compiler.perfmap (JDK 17 and newer) to see functions of Java";
    assert!(text.contains(line), "{text}");
    assert_eq!(text.matches("jcmd").count(), 1);
}

/// Every verdict begins with its own word.
#[test]
fn every_verdict_is_a_clause() {
    let kinds = [
        verdict::Kind::Leak,
        verdict::Kind::Saturation,
        verdict::Kind::Burst,
        verdict::Kind::Inherited,
        verdict::Kind::Unknown,
    ];
    let mut clauses = String::new();
    for kind in kinds {
        for cause in [Cause::RlimitNofile, Cause::NrOpen] {
            let shown = shown(|exhausted| {
                leak(exhausted);
                exhausted.cause = cause;
                if let Some(diagnosis) = &mut exhausted.diagnosis
                    && let Some(verdict) = &mut diagnosis.verdict
                {
                    verdict.kind = kind;
                }
            });
            clauses += shown.lines().nth(1).unwrap();
            clauses.push('\n');
        }
    }
    assert_snapshot!(clauses);
}

#[test]
fn fds_that_no_holder_stands_for_are_told() {
    let shown = shown(|exhausted| exhausted.diagnosis = Some(Diagnosis::default()));
    assert!(
        shown.contains("\n  holds      1024  not known\n"),
        "{shown}"
    );
}

fn near_limit() -> Box<NearLimit> {
    let task = Task {
        files: 1,
        tgid: 2231,
        tid: 2231,
        soft: 150,
        hard: 150,
        used: Some(122),
        comm: b"python3".to_vec(),
    };
    let diagnosis = Diagnosis {
        growth_per_min: Some(19.2),
        ..Diagnosis::default()
    };
    let time = "2026-11-22T08:15:30.123456Z".parse().unwrap();
    Box::new(NearLimit {
        uid: Some(33),
        cgroup: Some(b"/system.slice/web.service".to_vec()),
        ..NearLimit::new(task, Some(diagnosis), time)
    })
}

fn written(fact: &Fact) -> String {
    let mut output = Vec::new();
    write(&mut output, fact, Page::PLAIN).unwrap();
    String::from_utf8(output).unwrap()
}

#[test]
fn a_warning_says_what_to_type_and_how_far_it_can_be_raised() {
    let near = near_limit();
    let time = local(near.time).strftime("%H:%M:%S").to_string();
    let written = written(&Fact::NearLimit(near));
    assert_snapshot!(written.replacen(&time, "HH:MM:SS", 1));
}

#[test]
fn the_date_is_told_when_the_day_changes() {
    let mut days = Days::default();
    let mut told = |time: &str| {
        let (mut output, time) = (Vec::new(), time.parse().unwrap());
        let near = NearLimit {
            time,
            ..*near_limit()
        };
        days.write(&mut output, &Fact::NearLimit(Box::new(near)))
            .unwrap();
        let day = local(time).date().to_string();
        (String::from_utf8(output).unwrap(), format!("{day}\n"))
    };
    let nothing = String::new();
    assert_eq!(
        told("2026-11-22T08:15:30Z").0,
        nothing,
        "of the first day nobody needs to be told"
    );
    assert_eq!(told("2026-11-22T08:16:30Z").0, nothing);
    let (written, day) = told("2026-11-24T08:16:30Z");
    assert_eq!(written, day);
    assert_eq!(told("2026-11-24T08:16:31Z").0, nothing);
}

/// A new exhaustion after a quiet time has no repeats, and neither has one that goes on slowly.
#[test]
fn holders_and_remedies_are_told_together_or_not_at_all() {
    for (repeats, is_news) in [(0, true), (0, false), (9, true), (9, false)] {
        let shown = shown(|exhausted| {
            (exhausted.repeats, exhausted.is_news) = (repeats, is_news);
            exhausted.diagnosis = Some(Diagnosis::default());
        });
        let has = |words| shown.contains(words);
        assert_eq!(
            (has("not known"), has("  now ")),
            (is_news, is_news),
            "{shown}"
        );
    }
}

#[test]
fn where_it_belongs() {
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let pod = format!("/kubepods/burstable/pod0a1b2c3d-1111-2222-3333-444455556666/{ID}");
    let named = Named {
        container: Some("web\x1b[2J".to_owned()),
        pod: Some("web-5d9c".to_owned()),
        namespace: Some("shop".to_owned()),
    };
    let mut lines = String::new();
    for (cgroup, named) in [
        ("/", Named::default()),
        ("/mine/own", Named::default()),
        ("/user.slice/user-7.slice/session-3.scope", Named::default()),
        (
            "/user.slice/user-7.slice/user@7.service/app.slice/mail.service",
            Named::default(),
        ),
        (
            &format!("/system.slice/docker-{ID}.scope"),
            Named::default(),
        ),
        ("/lxc.payload.a-name-that-is-longer", Named::default()),
        (&pod, Named::default()),
        (&pod, named),
    ] {
        let shown = shown(|exhausted| {
            exhausted.cgroup = cgroup.as_bytes().to_vec();
            exhausted.named = named;
        });
        let who = shown.lines().find(|line| line.starts_with("  who"));
        lines += who.unwrap();
        lines.push('\n');
    }
    assert_snapshot!(lines);
}

#[test]
fn the_header_fits_a_terminal() {
    assert!(with_header(&[]).trim_end().len() < 80);
}

#[test]
fn every_cause_names_what_to_look_at() {
    let causes = [
        Cause::RlimitNofile,
        Cause::NrOpen,
        Cause::TableSize,
        Cause::FileMax,
        Cause::UnixSockets,
        Cause::DupfdMinimum,
        Cause::InotifyInstances,
        Cause::FanotifyGroups,
        Cause::MqueueBytes,
        Cause::PipePages,
        Cause::IoUringFiles,
        Cause::FileServer,
        Cause::Other,
    ];
    let mut words = String::new();
    for cause in causes {
        let shown = shown(|exhausted| exhausted.cause = cause);
        let details = shown.lines().nth(1).unwrap();
        assert_eq!(
            details.contains("NO FD LIMIT"),
            !cause.is_fd_limit(),
            "{cause:?}"
        );
        words += details;
        words.push('\n');
    }
    for silent in [
        Silent::MsgCtrunc,
        Silent::IoUringCqe,
        Silent::Dup2Ebadf,
        Silent::Binder,
        Silent::SeccompAddfd,
    ] {
        let shown = shown(|exhausted| exhausted.silent = Some(silent));
        words += shown.lines().nth(2).unwrap();
        words.push('\n');
    }
    assert_snapshot!(words);
}

#[test]
fn losses_and_the_end() {
    let places = [
        Place::Ring,
        Place::Storms,
        Place::Follow,
        Place::Skipped,
        Place::Shed,
        Place::Output,
    ];
    let mut lines: Vec<_> = places.map(|place| loss(&samples::loss(place))).into();
    lines.push(summary(&samples::summary()));
    let nothing_lost = Summary {
        lost: 0,
        ..samples::summary()
    };
    lines.push(summary(&nothing_lost));
    let one = Summary {
        exhausted: 1,
        failures: 1,
        ..nothing_lost
    };
    lines.push(summary(&one));
    assert_snapshot!(lines.join("\n"));
}

#[test]
fn hostile_text_stays_on_its_line_and_steers_nothing() {
    for hostile in samples::HOSTILE {
        let shown = shown(|exhausted| {
            exhausted.comm = hostile.to_vec();
            exhausted.exe = Some(hostile.to_vec());
            exhausted.cgroup = hostile.to_vec();
            exhausted.host = None;
        });
        let lines: Vec<_> = shown.split('\n').collect();
        assert_eq!(lines.len(), 8, "{shown:?}");
        for line in lines {
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
}

#[test]
fn only_exhaustions_are_lines_of_stdout() {
    for fact in [
        Fact::Loss(samples::loss(Place::Ring)),
        Fact::Summary(samples::summary()),
    ] {
        let mut output = Vec::new();
        write(&mut output, &fact, Page::PLAIN).unwrap();
        assert!(output.is_empty());
    }
}
