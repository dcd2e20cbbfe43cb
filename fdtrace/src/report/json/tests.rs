use insta::assert_snapshot;
use serde_json::{Value, json};

use super::*;
use crate::{
    diagnose::{
        cause::{Cause, Silent},
        ends::{Ends, Sender},
    },
    enrich::names::Named,
    probe::backend::Backend,
    report::fact::samples,
};

fn written(fact: &Fact) -> String {
    let mut output = Vec::new();
    write(&mut output, fact).unwrap();
    String::from_utf8(output).unwrap()
}

fn exhausted(change: impl FnOnce(&mut Exhausted)) -> String {
    let mut exhausted = samples::exhausted();
    change(&mut exhausted);
    written(&Fact::Exhausted(Box::new(exhausted)))
}

fn parsed(line: &str) -> Value {
    assert_eq!(line.matches('\n').count(), 1, "{line:?}");
    assert!(line.ends_with('\n'), "{line:?}");
    serde_json::from_str(line).unwrap()
}

#[test]
fn every_kind_of_fact() {
    let lines = [
        exhausted(|_| ()),
        exhausted(|exhausted| {
            exhausted.cause = Cause::FileMax;
            exhausted.errno = "ENFILE";
            exhausted.silent = Some(Silent::IoUringCqe);
            exhausted.call = "io_uring".to_owned();
            exhausted.repeats = 48_211;
            exhausted.tid = 2240;
        }),
        exhausted(|exhausted| {
            let pod = "kubepods-pod0a1b2c3d_1111_2222_3333_444455556666.slice";
            let id = "0123456789abcdef".repeat(4);
            let path = format!("/kubepods.slice/{pod}/cri-containerd-{id}.scope");
            exhausted.cgroup = path.into_bytes();
            exhausted.named = Named {
                container: Some("web".to_owned()),
                pod: Some("web-5d9c".to_owned()),
                namespace: Some("shop".to_owned()),
            };
        }),
        written(&Fact::Loss(samples::loss(Place::Ring))),
        written(&Fact::Summary(samples::summary())),
    ];
    assert_snapshot!(lines.concat());
}

#[test]
fn what_is_not_known_is_null() {
    let object = parsed(&exhausted(|exhausted| {
        exhausted.used = None;
        exhausted.open = None;
        exhausted.exe = None;
        exhausted.cgroup = b"/".to_vec();
        exhausted.soft = u64::MAX;
        exhausted.hard = u64::MAX;
    }));
    for pointer in [
        "/used",
        "/open",
        "/exe",
        "/limit/soft",
        "/limit/hard",
        "/unit",
        "/user_unit",
        "/container",
        "/container_name",
        "/pod",
        "/pod_name",
        "/pod_namespace",
        "/verdict",
    ] {
        assert_eq!(object.pointer(pointer), Some(&Value::Null), "{pointer}");
    }
    let object = parsed(&exhausted(|exhausted| exhausted.hard = u64::MAX - 1));
    assert_eq!(object["limit"]["hard"], u64::MAX - 1);
}

#[test]
fn names_of_causes_and_silences_are_those_of_the_contract() {
    let causes = [
        (Cause::RlimitNofile, "rlimit_nofile"),
        (Cause::NrOpen, "nr_open"),
        (Cause::TableSize, "table_size"),
        (Cause::FileMax, "file_max"),
        (Cause::UnixSockets, "unix_sockets"),
        (Cause::DupfdMinimum, "dupfd_minimum"),
        (Cause::InotifyInstances, "inotify_instances"),
        (Cause::FanotifyGroups, "fanotify_groups"),
        (Cause::MqueueBytes, "mqueue_bytes"),
        (Cause::PipePages, "pipe_pages"),
        (Cause::IoUringFiles, "io_uring_files"),
        (Cause::FileServer, "file_server"),
        (Cause::Other, "other"),
    ];
    for (cause, name) in causes {
        assert_eq!(parsed(&exhausted(|fact| fact.cause = cause))["cause"], name);
    }
    let silences = [
        (Silent::MsgCtrunc, "msg_ctrunc"),
        (Silent::IoUringCqe, "io_uring_cqe"),
        (Silent::Dup2Ebadf, "dup2_ebadf"),
        (Silent::Binder, "binder"),
        (Silent::SeccompAddfd, "seccomp_addfd"),
    ];
    for (silent, name) in silences {
        assert_eq!(
            parsed(&exhausted(|fact| fact.silent = Some(silent)))["silent"],
            name
        );
    }
    for backend in Backend::ALL {
        let summary = Summary {
            backend,
            ..samples::summary()
        };
        assert_eq!(
            parsed(&written(&Fact::Summary(summary)))["backend"],
            backend.name()
        );
    }
}

#[test]
fn hostile_text_stays_on_its_line() {
    for hostile in samples::HOSTILE {
        let line = exhausted(|exhausted| {
            exhausted.comm = hostile.to_vec();
            exhausted.exe = Some(hostile.to_vec());
            exhausted.cgroup = hostile.to_vec();
            exhausted.named.container = Some(String::from_utf8_lossy(hostile).into_owned());
        });
        let object = parsed(&line);
        let expected = String::from_utf8_lossy(hostile).into_owned();
        for field in ["comm", "exe", "cgroup", "container_name"] {
            assert_eq!(object[field], *expected, "{field}");
        }
        let line = line.trim_end_matches('\n');
        assert!(!line.chars().any(is_hostile), "{line:?}");
    }
}

#[test]
fn an_output_that_fails_says_how() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = write(&mut Full, &Fact::Loss(samples::loss(Place::Ring))).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn other_ends_are_objects_of_their_own() {
    let line = exhausted(|exhausted| {
        let others = vec![OtherEnd {
            pid: 412,
            comm: "dbus-daemon".to_owned(),
            count: 12,
        }];
        exhausted.ends = Ends {
            pipes: None,
            unix: Some(OtherEnds {
                others,
                total: 1,
                own: 2,
                closed: 3,
                waiting: 4,
                unknown: 5,
            }),
            sent_by: Some(SentBy {
                fd: 5,
                processes: vec![Sender {
                    pid: 12,
                    comm: "a_sender".to_owned(),
                }],
                total: 1,
            }),
        };
    });
    let object = parsed(&line);
    assert_eq!(object["pipe_ends"], Value::Null);
    let unix = json!({
        "others": [{ "pid": 412, "comm": "dbus-daemon", "count": 12 }],
        "total": 1, "own": 2, "closed": 3, "waiting": 4, "unknown": 5,
    });
    assert_eq!(object["unix_ends"], unix);
    let sent_by = json!({ "fd": 5, "processes": [{ "pid": 12, "comm": "a_sender" }], "total": 1 });
    assert_eq!(object["sent_by"], sent_by);
}
