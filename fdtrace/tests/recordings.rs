//! Streams that real kernels have told, read back: the model is exact at their end, and every command
//! says the same of them as ever, byte for byte.
//!
//! How they were made is told in `recordings/README.md`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use fdtrace::{
    report::fact::Place,
    stream::recording::{Encoder, Event, Note, number},
};
use insta::assert_snapshot;
use serde_json::Value;

/// All recordings, by name.
fn recordings() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "fdtrace")
        })
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path))
        .collect();
    files.sort();
    assert!(files.len() >= 6, "{files:?}");
    files
}

/// What a command writes to stdout; it must end well.
fn said(path: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_fdtrace"))
        .args(arguments)
        .arg("--replay")
        .arg(path)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_model_is_exact_at_the_end() {
    let mut all = String::new();
    for (name, path) in recordings() {
        let text = said(&path, &["audit", "--json", "--quiet"]);
        let _ = writeln!(all, "{name}: {text}");
    }
    assert_snapshot!(all);
}

#[test]
fn failures_are_told_as_ever() {
    let mut all = String::new();
    for (name, path) in recordings() {
        let text = said(&path, &["--json", "--quiet"]);
        let _ = writeln!(all, "{name}:\n{text}");
    }
    assert_snapshot!(all);
}

/// Whatever a failure's report waited for: it is no earlier than the line above it, and shows a table that holds what
/// the kernel has counted at the failure.
#[test]
fn failures_are_in_order_of_time_and_show_the_table_of_their_moment() {
    for (name, path) in recordings() {
        let text = said(&path, &["--json", "--quiet"]);
        let objects: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let times = objects
            .iter()
            .map(|object| object["time"].as_str().unwrap());
        assert!(times.is_sorted(), "{name}");
        for report in objects
            .iter()
            .filter(|object| object["type"] == "exhausted")
        {
            let holders = report["holders"].as_array().unwrap();
            let counts = holders
                .iter()
                .map(|holder| holder["count"].as_u64().unwrap());
            let listed = counts.sum::<u64>() + report["unlisted"].as_u64().unwrap_or(0);
            let is_known = !report["unlisted"].is_null();
            assert!(!is_known || report["open"] == listed, "{name}: {report}");
        }
    }
}

/// Thousands of lines: how many of each kind there are, and what they sum up to.
#[test]
fn changes_are_told_as_ever() {
    let mut all = String::new();
    for (name, path) in recordings() {
        let text = said(&path, &["trace", "--json", "--quiet"]);
        let mut ops: BTreeMap<String, u32> = BTreeMap::new();
        for line in text.lines() {
            let object: Value = serde_json::from_str(line).unwrap();
            let op = object["op"].as_str().unwrap_or("summary");
            *ops.entry(op.to_owned()).or_default() += 1;
        }
        let checksum = crc32fast::hash(text.as_bytes());
        let _ = writeln!(all, "{name}: {ops:?}, CRC-32 {checksum:08x}");
    }
    assert_snapshot!(all);
}

/// The one that has them all: below each change and by code path, and in no other way without being asked.
#[test]
fn stacks_are_told_as_ever() {
    let recordings = recordings();
    let (_, path) = recordings
        .iter()
        .find(|(name, _)| name == "6.1-stacks")
        .unwrap();
    let trace = ["trace", "--quiet", "--comm", "server", "--op", "open"];
    let with = said(path, &[&trace[..], &["--stacks", "auto"]].concat());
    assert_eq!(
        with,
        said(path, &[&trace[..], &["--stacks", "always"]].concat())
    );
    let lines = with.lines().filter(|line| !line.starts_with("   "));
    let mut without = lines.collect::<Vec<_>>().join("\n");
    without.push('\n');
    assert_eq!(without, said(path, &trace));
    let leaks = said(
        path,
        &[
            "leaks",
            "--quiet",
            "--comm",
            "server",
            "--older",
            "1s",
            "--interval",
            "1s",
        ],
    );
    let folded = said(
        path,
        &[
            "leaks", "--folded", "--quiet", "--comm", "server", "--older", "1s", "-d", "2",
        ],
    );
    let never = said(
        path,
        &[
            "leaks", "--quiet", "--comm", "server", "--older", "1s", "-i", "1s", "--stacks",
            "never",
        ],
    );
    assert_snapshot!(format!("{with}\n{leaks}\n{folded}\n{never}"));
}

/// Stacks that were not taken are missing from nothing where none are shown.
#[test]
fn stacks_that_are_missing_are_told_where_stacks_are_shown() {
    let (_, path) = &recordings()[0];
    let bytes = std::fs::read(path).unwrap();
    let line = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let length = u32::from_le_bytes(bytes[line + 4..line + 8].try_into().unwrap());
    let first = line + 16 + length as usize;
    let mut encoder = Encoder::default();
    encoder.add(Event::Note(&Note::Lost {
        place: Place::Stacks,
        count: 7,
        now_ns: 0,
    }));
    let mut chunk = encoder.take().unwrap();
    number(&mut chunk, 1);
    let lossy = std::env::temp_dir().join(format!("fdtrace-lossy-{}", std::process::id()));
    std::fs::write(&lossy, [&bytes[..first], &chunk].concat()).unwrap();
    let losses = [
        &["trace"][..],
        &["trace", "--stacks", "auto"],
        &["watch"],
        &["watch", "--stacks", "never"],
        &["leaks"],
        &["leaks", "--stacks", "never"],
    ]
    .map(|arguments| {
        let text = said(&lossy, &[arguments, &["--json", "--quiet"]].concat());
        text.matches(r#""where":"stacks","count":7"#).count()
    });
    std::fs::remove_file(&lossy).unwrap();
    assert_eq!(losses, [0, 1, 1, 0, 1, 0]);
}

/// A recording whose model goes wrong is noticed: here, one that has lost a part of itself.
#[test]
fn a_hole_is_told() {
    let (_, path) = &recordings()[0];
    let bytes = std::fs::read(path).unwrap();
    let line = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let after = |at: usize| {
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
        at + 16 + length as usize
    };
    let (first, second) = (after(line), after(after(line)));
    let holed = std::env::temp_dir().join(format!("fdtrace-holed-{}", std::process::id()));
    std::fs::write(&holed, [&bytes[..first], &bytes[second..]].concat()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_fdtrace"))
        .args(["audit", "--replay"])
        .arg(&holed)
        .output()
        .unwrap();
    std::fs::remove_file(&holed).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("1 part of the recording missing here"),
        "{output:?}"
    );
}
