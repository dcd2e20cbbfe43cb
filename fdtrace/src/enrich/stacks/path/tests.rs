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
    full(Stack {
        frames: frames.collect(),
        ..Stack::default()
    })
}

fn full(stack: Stack) -> CodePath {
    CodePath::new(Arc::new(stack), Detail::Full)
}

/// How many of these paths there are, by equality and by hash.
fn different(paths: &[CodePath]) -> usize {
    let set: HashSet<_> = paths.iter().cloned().collect();
    set.len()
}

#[test]
fn copies_and_instructions_of_one_line_are_one_path() {
    let one = path(&[("leak", Some(7), 0x10), ("main", Some(20), 0x40)]);
    let copy = full(Stack::clone(&one.stack));
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

/// What nobody can see tells no rows apart: they would be equal for whoever reads them.
#[test]
fn where_no_line_is_known_the_function_counts_and_without_one_the_address() {
    let paths = [path(&[("leak", None, 0x10)]), path(&[("leak", None, 0x18)])];
    assert_eq!(different(&paths), 1);
    let nameless = |address| {
        let frame = Frame {
            module: Some("/bin/a".to_owned()),
            address,
            ..Frame::default()
        };
        full(Stack {
            frames: vec![frame],
            ..Stack::default()
        })
    };
    assert_eq!(
        different(&[nameless(0x10), nameless(0x18), nameless(0x10)]),
        2
    );
}

/// As many functions as a line has room for, from the caller on.
#[test]
fn a_line_of_text_tells_less_apart_than_all_functions() {
    let frames = |innermost, outermost| {
        let mut stack = Stack::clone(
            &path(&[
                (innermost, Some(1), 1),
                ("a", Some(1), 1),
                ("b", Some(1), 1),
                ("c", Some(1), 1),
                ("d", Some(1), 1),
                (outermost, Some(1), 1),
            ])
            .stack,
        );
        stack.frames[0].is_wrapper = true;
        Arc::new(stack)
    };
    let stacks = [frames("open", "main"), frames("open64", "run")];
    let paths = |detail| stacks.clone().map(|stack| CodePath::new(stack, detail));
    assert_eq!(different(&paths(Detail::Full)), 2);
    assert_eq!(different(&paths(Detail::Shown)), 1);
}

#[test]
fn scripts_make_paths_and_where_a_copy_ended_does_not() {
    let whole = path(&[("leak", Some(7), 0x10)]);
    let with = |change: fn(&mut Stack)| {
        let mut stack = Stack::clone(&whole.stack);
        change(&mut stack);
        full(stack)
    };
    let cut = with(|stack| stack.is_cut = true);
    let script = with(|stack| stack.script = Some("/srv/app.py".to_owned()));
    assert_eq!(different(&[whole.clone(), cut, script]), 2);
}
