use std::collections::HashSet;

use super::*;

fn path(frames: &[(&str, Option<u32>, u64)]) -> CodePath {
    let frames = frames.iter().map(|(function, line, address)| Frame {
        function: Some((*function).to_owned()),
        file: line.map(|_| "/src/a.c".to_owned()),
        line: *line,
        address: *address,
        ..Frame::default()
    });
    CodePath(Arc::new(Stack {
        frames: frames.collect(),
        ..Stack::default()
    }))
}

/// How many of these paths there are, by equality and by hash.
fn different(paths: &[CodePath]) -> usize {
    let set: HashSet<_> = paths.iter().cloned().collect();
    set.len()
}

#[test]
fn copies_and_instructions_of_one_line_are_one_path() {
    let one = path(&[("leak", Some(7), 0x10), ("main", Some(20), 0x40)]);
    let copy = CodePath(Arc::new(Stack::clone(&one.0)));
    let unrolled = path(&[("leak", Some(7), 0x18), ("main", Some(20), 0x48)]);
    assert_eq!(different(&[one, copy, unrolled]), 1);
}

#[test]
fn lines_functions_and_callers_make_paths() {
    let paths = [
        path(&[("leak", Some(7), 0x10), ("main", Some(20), 0x40)]),
        path(&[("leak", Some(8), 0x10), ("main", Some(20), 0x40)]),
        path(&[("leak", Some(7), 0x10), ("main", Some(21), 0x40)]),
        path(&[("seep", Some(7), 0x10), ("main", Some(20), 0x40)]),
        path(&[("leak", Some(7), 0x10)]),
        path(&[("leak", None, 0x10)]),
    ];
    assert_eq!(different(&paths), paths.len());
}

/// Without debug information, a function that is called from two places is told apart by them.
#[test]
fn where_no_line_is_known_the_address_counts() {
    let paths = [path(&[("leak", None, 0x10)]), path(&[("leak", None, 0x18)])];
    assert_eq!(different(&paths), 2);
}

#[test]
fn scripts_and_ends_make_paths() {
    let whole = path(&[("leak", Some(7), 0x10)]);
    let with = |change: fn(&mut Stack)| {
        let mut stack = Stack::clone(&whole.0);
        change(&mut stack);
        CodePath(Arc::new(stack))
    };
    let cut = with(|stack| stack.is_cut = true);
    let script = with(|stack| stack.script = Some("/srv/app.py".to_owned()));
    assert_eq!(different(&[whole.clone(), cut, script]), 3);
}
