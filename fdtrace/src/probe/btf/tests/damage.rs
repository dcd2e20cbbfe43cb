//! Input that is no BTF, or BTF that lies: an error, in bounded time.

use std::time::{Duration, Instant};

use super::{builder::*, *};

/// A struct, a function, and at least one record of every kind.
pub(super) fn every_kind() -> Builder {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    let pointer = b.refer(PTR, "", int);
    let array = b.array(int, 4);
    let inner = b.structure(UNION, "", 4, &[("x", int, 0), ("y", int, 0)]);
    b.structure(
        STRUCT | FLAG,
        "s",
        32,
        &[
            ("a", array, 0),
            ("", inner, 128),
            ("bit", int, 1 << 24 | 0xa0),
            ("p", pointer, 192),
        ],
    );
    b.enumeration(ENUM, "e", &[("ONE", 1)]);
    b.refer(FWD, "f", 0);
    for kind in [TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG] {
        b.refer(kind, "t", int);
    }
    b.function("f", int, &[("s", pointer)]);
    let name = b.name("v");
    let variable = b.raw(name, VAR, 0, int, &[1]);
    b.raw(name, DATASEC, 1, 4, &[variable, 0, 4]);
    b.raw(name, FLOAT, 0, 8, &[]);
    b.raw(name, DECL_TAG, 0, int, &[u32::MAX]);
    b.raw(name, ENUM64, 1, 8, &[name, 1, 0]);
    b.structure(STRUCT, "last", 4, &[("x", int, 0)]);
    b
}

#[track_caller]
fn refuses(bytes: Vec<u8>, message: &str) {
    let error = Btf::parse(bytes).expect_err("an error").to_string();
    assert!(error.contains(message), "{error}");
}

fn patched(at: usize, word: u32) -> Vec<u8> {
    let mut bytes = every_kind().finish();
    bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    bytes
}

#[test]
fn the_size_of_every_kind_is_known() {
    let btf = parse(every_kind());
    assert_eq!(
        at(&btf, "last", "x"),
        (0, 4),
        "all records before it had the right length"
    );
    assert_eq!(btf.enumerator("v", "v"), Some(1));
}

#[test]
fn cut_off_anywhere() {
    let bytes = every_kind().finish();
    for len in 0..bytes.len() {
        assert!(
            Btf::parse(bytes[..len].to_vec()).is_err(),
            "{len} bytes of {}",
            bytes.len()
        );
    }
}

#[test]
fn types_that_end_anywhere() {
    let whole = parse(every_kind()).types();
    let types = u32::from_ne_bytes(every_kind().finish()[12..16].try_into().unwrap());
    let fits = (0..types)
        .filter(|&len| Btf::parse(patched(12, len)).is_ok())
        .count();
    assert_eq!(
        fits, whole,
        "only a whole number of records, from none to all but one"
    );
}

#[test]
fn something_else_than_btf() {
    refuses(b"".to_vec(), "ends inside the header");
    refuses(b"BTF!".to_vec(), "this is not BTF: it starts with");
    refuses(patched(0, 0x0001_eb9f)[..20].to_vec(), "impossible length");
    refuses(patched(0, 0x0002_eb9f), "version 2 with flags 0x0");
    refuses(patched(0, 0x0101_eb9f), "version 1 with flags 0x1");
    let mut foreign = every_kind().finish();
    foreign[..2].reverse();
    refuses(foreign, "other byte order");
}

#[test]
fn a_header_that_points_outside() {
    for len in [0, 23, 1 << 20, u32::MAX] {
        refuses(patched(4, len), "impossible length");
    }
    for at in [8, 12] {
        refuses(patched(at, u32::MAX), "its types lie outside");
        refuses(patched(at, 1 << 20), "its types lie outside");
    }
    for at in [16, 20] {
        refuses(patched(at, u32::MAX), "its strings lie outside");
    }
    refuses(patched(20, 0), "its last string has no end");
    refuses(patched(20, 2), "its last string has no end");
    let mut b = every_kind();
    b.layout(&[(0, 0)]);
    let mut bytes = b.finish();
    bytes[28..32].copy_from_slice(&5u32.to_ne_bytes());
    refuses(bytes, "its layout lies outside");
}

#[test]
fn names_and_numbers_that_do_not_exist() {
    let mut b = Builder::new();
    b.raw(9999, STRUCT, 0, 4, &[]);
    refuses(b.finish(), "its name lies outside the strings (type 1)");

    let mut b = Builder::new();
    let name = b.name("s");
    b.raw(name, STRUCT, 2, 8, &[9999, 0, 0, u32::MAX, 777, 0]);
    b.structure(STRUCT, "t", 8, &[("x", 777, 0), ("", u32::MAX, 0)]);
    b.function("f", 777, &[]);
    b.function("g", 0, &[("x", 778)]);
    b.refer(FUNC, "h", 779);
    let btf = parse(b);
    assert!(
        btf.field("s", "x").unwrap_err().is_absent(),
        "a member without a name is no member"
    );
    for path in ["x", "y"] {
        let error = btf.field("t", path).unwrap_err().to_string();
        assert!(
            error.contains("names a type that does not exist (type 2)"),
            "{error}"
        );
    }
    for name in ["f", "g", "h"] {
        let error = btf.function(name).unwrap_err().to_string();
        assert!(
            error.contains("names a type that does not exist"),
            "{error}"
        );
    }
}

#[test]
fn members_that_are_not_there() {
    let mut b = Builder::new();
    let name = b.name("s");
    b.raw(name, STRUCT, 0x00ff_ffff, 8, &[]);
    refuses(b.finish(), "the types end inside a record (type 1)");
}

#[test]
fn all_24_bits_of_a_length_and_7_of_a_kind_count() {
    let mut b = Builder::new();
    let name = b.name("e");
    let values: Vec<u32> = (0..70_000).flat_map(|value| [name, value]).collect();
    b.raw(0, ENUM, 70_000, 4, &values);
    b.raw(0, 100, 70_000, 0, &vec![0; 70_000]);
    b.structure(STRUCT, "s", 4, &[]);
    let mut layout = [(0, 0); 101];
    layout[100] = (0, 4);
    b.layout(&layout);
    let btf = parse(b);
    assert_eq!((btf.types(), btf.size_of("s").unwrap()), (3, 4));
}

#[test]
fn a_newer_kind_needs_a_layout() {
    let newer = |layout: &[(u8, u8)]| {
        let mut b = Builder::new();
        let int = b.int("int", 4);
        b.raw(0, 21, 3, int, &[1, 2, 3, 4]);
        b.structure(STRUCT, "s", 8, &[("x", int, 32)]);
        if !layout.is_empty() {
            b.layout(layout);
        }
        Btf::parse(b.finish())
    };
    let mut layout = [(0, 0); 22];
    layout[21] = (4, 4);
    let btf = newer(&layout).unwrap();
    assert_eq!(at(&btf, "s", "x"), (4, 4));
    for layout in [&[][..], &layout[..21]] {
        let error = newer(layout).unwrap_err();
        assert!(
            matches!(error, BtfError::UnknownKind { id: 2, kind: 21 }),
            "{error}"
        );
    }
    let mut b = Builder::new();
    b.raw(0, 0, 0, 0, &[]);
    b.layout(&layout);
    let error = Btf::parse(b.finish()).unwrap_err();
    assert!(
        matches!(error, BtfError::UnknownKind { id: 1, kind: 0 }),
        "{error}"
    );
}

#[test]
fn types_that_contain_themselves() {
    let mut b = Builder::new();
    let circle = b.next();
    b.refer(TYPEDEF, "circle", circle + 1);
    b.refer(CONST, "", circle);
    let array = b.next();
    b.array(array, 1);
    let row = b.next();
    b.array(row + 1, u32::MAX);
    b.array(row + 2, 2);
    let int = b.int("int", 4);
    let pointer = b.next();
    b.refer(PTR, "", pointer);
    let own = b.next();
    b.structure(STRUCT, "s", 8, &[("", own, 0), ("x", int, 0)]);
    b.structure(
        STRUCT,
        "t",
        8,
        &[
            ("circle", circle, 0),
            ("array", array, 0),
            ("row", row, 0),
            ("void", 0, 0),
        ],
    );
    b.function("f", pointer, &[]);
    b.function("g", 0, &[("x", circle)]);
    let btf = parse(b);
    for (structure, path, problem) in [
        ("s", "x", "its members nest without end"),
        ("t", "circle", "its typedefs go round in a circle"),
        ("t", "array", "its arrays nest without end"),
        ("t", "row", "an array is larger than 4 GiB"),
        ("t", "void", "a value has a type without a size"),
    ] {
        let error = btf.field(structure, path).unwrap_err();
        assert!(
            error.to_string().contains(problem),
            "{structure}.{path}: {error}"
        );
        assert!(!error.is_absent());
    }
    assert!(
        btf.function("f")
            .unwrap_err()
            .to_string()
            .contains("pointers nest without end")
    );
    assert!(
        btf.function("g")
            .unwrap_err()
            .to_string()
            .contains("go round in a circle")
    );
}

/// Each anonymous struct has the next one twice: 2^30 ways to the innermost, none with the name.
#[test]
fn shared_anonymous_members_cost_no_exponential_time() {
    let mut b = Builder::new();
    for _ in 0..30 {
        let next = b.next() + 1;
        b.structure(STRUCT, "", 8, &[("", next, 0), ("", next, 64)]);
    }
    b.structure(STRUCT, "", 8, &[]);
    b.structure(STRUCT, "s", 8, &[("", 1, 0)]);
    let btf = parse(b);
    let start = Instant::now();
    let error = btf.field("s", "x").unwrap_err();
    assert!(
        error.to_string().contains("its members nest without end"),
        "{error}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

/// A hundred thousand types share one name of a megabyte: 10^11 steps, were it hashed whole.
#[test]
fn shared_names_cost_no_quadratic_time() {
    let start = Instant::now();
    let mut b = Builder::new();
    let name = b.name(&"x".repeat(1 << 20));
    for _ in 0..100_000 {
        b.raw(name, STRUCT, 0, 4, &[]);
    }
    let prototype = b.raw(0, FUNC_PROTO, 1, 0, &[name, name]);
    let function = b.name("f");
    b.raw(function, FUNC, 0, prototype, &[]);
    let btf = parse(b);
    for _ in 0..20 {
        assert!(btf.size_of(&"x".repeat(70)).is_err());
        assert_eq!(
            btf.function("f").unwrap().unwrap().parameters[0].name.len(),
            512
        );
    }
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_function_with_too_many_parameters() {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    b.function("f", 0, &[("x", int); 255]);
    b.function("g", 0, &[("x", int); 256]);
    let btf = parse(b);
    assert_eq!(btf.function("f").unwrap().unwrap().parameters.len(), 255);
    let error = btf.function("g").unwrap_err();
    assert!(
        error.to_string().contains("more than 255 parameters"),
        "{error}"
    );
}
