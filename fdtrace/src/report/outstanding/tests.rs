use std::sync::Arc;

use super::*;
use crate::{
    diagnose::{
        outstanding::{FromBefore, Row},
        verdict::{Kind as VerdictKind, Verdict},
    },
    enrich::stacks::{Frame, Stack},
    ground::kind::Kind,
    report::fact::samples::HOSTILE,
};

const SECOND: u64 = 1_000_000_000;

/// A function of a program with debug information, in its main.
fn stack(function: &str) -> Arc<Stack> {
    let frame = |function: &str, line| Frame {
        function: Some(function.to_owned()),
        file: Some("/src/a.c".to_owned()),
        line: Some(line),
        ..Frame::default()
    };
    Arc::new(Stack {
        frames: vec![frame(function, 7), frame("main", 20)],
        ..Stack::default()
    })
}

fn sample(target: &[u8], is_folded: bool) -> Outstanding {
    let holder = Holder {
        kind: Kind::File,
        target: Some(target.to_vec()),
        states: Vec::new(),
        targets: 1,
        count: 245,
        inodes: 1,
        inherited: 0,
        oldest_ns: Some(10 * SECOND),
        newest_ns: Some(59 * SECOND),
        example: (3, 7),
        files: Vec::new(),
        folders: None,
        openers: Vec::new(),
    };
    let mixed = Holder {
        kind: Kind::Tcp,
        target: None,
        targets: 12,
        count: 12,
        ..holder.clone()
    };
    let row = |holder, stack, grown_by| Row {
        pid: 2231,
        comm: b"web server".to_vec(),
        endless: 0,
        holder,
        stack,
        grown_by,
    };
    let other_path = Holder {
        count: 40,
        ..holder.clone()
    };
    Outstanding {
        time: "2026-11-22T08:15:30.123456789Z".parse().unwrap(),
        block: Block {
            now_ns: 100 * SECOND,
            rows: vec![
                row(holder, Some(stack("leak one")), Some(33)),
                row(other_path, Some(stack("leak;two")), Some(0)),
                row(mixed, None, None),
            ],
            fds: 297,
            processes: 1,
            verdicts: vec![(
                2231,
                b"web server".to_vec(),
                Verdict {
                    kind: VerdictKind::Leak,
                    growth_per_min: Some(147.0),
                    evidence: vec!["it grows".to_owned()],
                },
            )],
            before: Vec::new(),
        },
        awaited: None,
        found: None,
        older_s: 30.0,
        is_folded,
        owners: Vec::new(),
    }
}

fn text(outstanding: &Outstanding) -> String {
    let mut output = Vec::new();
    write_text(&mut output, outstanding, Page::PLAIN).unwrap();
    String::from_utf8(output).unwrap()
}

#[test]
fn a_block_for_people() {
    let text = text(&sample(b"/etc/hostname", false));
    let lines: Vec<_> = text.lines().skip(1).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn folded_stacks_have_no_spaces_but_one() {
    let text = text(&sample(b"/a b;c", true));
    assert_eq!(
        text,
        "web_server;main_(/src/a.c:20);leak_one_(/src/a.c:7);file;/a_b_c 245\n\
         web_server;main_(/src/a.c:20);leak_two_(/src/a.c:7);file;/a_b_c 40\n\
         web_server;tcp;(12_different) 12\n"
    );
}

#[test]
fn an_object_a_row() {
    let mut output = Vec::new();
    write_json(&mut output, &sample(b"/etc/hostname", false)).unwrap();
    insta::assert_snapshot!(String::from_utf8(output).unwrap());
}

#[test]
fn hostile_targets_stay_in_their_line() {
    for target in HOSTILE {
        for is_folded in [false, true] {
            let text = text(&sample(target, is_folded));
            assert!(
                text.chars()
                    .all(|letter| letter == '\n' || !letter.is_control())
            );
            assert_eq!(
                text.lines().count(),
                if is_folded { 3 } else { 9 },
                "{text}"
            );
        }
    }
}

/// A process that was full before fdtrace came: there are no rows, and yet it may leak.
#[test]
fn fds_from_before_are_no_empty_block() {
    let hostile = HOSTILE.concat();
    let mut outstanding = sample(&hostile, false);
    let holder = Holder {
        count: 97,
        oldest_ns: None,
        newest_ns: None,
        ..outstanding.block.rows[0].holder.clone()
    };
    outstanding.block = Block {
        before: vec![FromBefore {
            pid: 7,
            comm: hostile.clone(),
            used: Some(100),
            soft: 100,
            open: 97,
            closed: 0,
            holders: vec![holder],
        }],
        ..Block::default()
    };
    let people = text(&outstanding);
    let said = "100 of 100 fds are in use, 97 of them were open before fdtrace looked; none of these has been closed";
    assert!(
        people.contains(said) && people.contains("     97  file "),
        "{people}"
    );
    let mut json = Vec::new();
    write_json(&mut json, &outstanding).unwrap();
    let json = String::from_utf8(json).unwrap();
    for part in [
        "\"type\":\"open_before\"",
        "\"open\":97,\"closed\":0,\"used\":100,\"limit\":100",
        "\"count\":97",
    ] {
        assert!(json.contains(part), "{json}");
    }
    for text in [people, json] {
        assert_eq!(
            text.chars()
                .find(|letter| letter.is_control() && *letter != '\n'),
            None
        );
    }
}
