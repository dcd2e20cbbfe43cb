//! Offsets and sizes of members.

use super::{builder::*, *};

/// `struct outer`: something of everything a path can meet. Bit offsets, as in BTF.
fn outer() -> Btf {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    let long = b.int("long", 8);
    let pointer = b.refer(PTR, "", int);
    let limit = b.structure(
        STRUCT,
        "rlimit",
        16,
        &[("rlim_cur", long, 0), ("rlim_max", long, 64)],
    );
    let limits = b.array(limit, 16);
    let row = b.array(int, 3);
    let grid = b.array(row, 2);
    let flexible = b.array(limit, 0);
    let choice = b.structure(UNION, "", 8, &[("f_llist", pointer, 0), ("f_word", int, 0)]);
    let deep = b.structure(STRUCT, "", 12, &[("lead", int, 0), ("", choice, 32)]);
    let tagged = b.refer(TYPE_TAG, "rcu", choice);
    let quiet = b.refer(CONST, "", tagged);
    let named = b.refer(TYPEDEF, "choice_t", quiet);
    let float = b.raw(0, FLOAT, 0, 8, &[]);
    let value = b.enumeration(ENUM, "state", &[("S_ON", 1)]);
    b.structure(
        STRUCT,
        "outer",
        400,
        &[
            ("first", int, 0),
            ("to", pointer, 64),
            ("rlim", limits, 128),
            ("grid", grid, 128 + 2048),
            ("", deep, 2400),
            ("named", named, 2496),
            ("ratio", float, 2560),
            ("state", value, 2624),
            ("tail", flexible, 3200),
        ],
    );
    parse(b)
}

#[test]
fn members_have_their_byte_offset_and_size() {
    let btf = outer();
    assert_eq!(at(&btf, "outer", "first"), (0, 4));
    assert_eq!(at(&btf, "outer", "to"), (8, 8));
    assert_eq!(at(&btf, "outer", "rlim"), (16, 256));
    assert_eq!(at(&btf, "outer", "ratio"), (320, 8));
    assert_eq!(at(&btf, "outer", "state"), (328, 4));
    assert_eq!(btf.size_of("outer").unwrap(), 400);
    assert_eq!(btf.size_of("rlimit").unwrap(), 16);
}

#[test]
fn anonymous_members_belong_to_what_encloses_them() {
    let btf = outer();
    assert_eq!(at(&btf, "outer", "lead"), (300, 4));
    assert_eq!(at(&btf, "outer", "f_llist"), (304, 8));
    assert_eq!(at(&btf, "outer", "f_word"), (304, 4));
}

#[test]
fn typedefs_qualifiers_and_tags_are_looked_through() {
    assert_eq!(at(&outer(), "outer", "named.f_word"), (312, 4));
    for kind in [TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG] {
        let mut b = Builder::new();
        let int = b.int("int", 4);
        let inner = b.structure(STRUCT, "inner", 8, &[("x", int, 32)]);
        let other = b.refer(kind, "other", inner);
        b.structure(STRUCT, "s", 16, &[("in", other, 64)]);
        assert_eq!(at(&parse(b), "s", "in.x"), (12, 4), "kind {kind}");
    }
}

#[test]
fn elements_are_counted_in_their_own_size() {
    let btf = outer();
    assert_eq!(at(&btf, "outer", "rlim[0]"), (16, 16));
    assert_eq!(at(&btf, "outer", "rlim[7].rlim_cur"), (128, 8));
    assert_eq!(at(&btf, "outer", "rlim[15].rlim_max"), (264, 8));
    assert_eq!(obstacle(&btf, "outer", "rlim[16]"), Obstacle::Index(16));
    assert_eq!(at(&btf, "outer", "grid"), (272, 24));
    assert_eq!(at(&btf, "outer", "grid[1]"), (284, 12));
    assert_eq!(at(&btf, "outer", "grid[1][2]"), (292, 4));
    assert_eq!(obstacle(&btf, "outer", "grid[1][3]"), Obstacle::Index(3));
}

#[test]
fn a_flexible_array_is_empty_and_takes_any_index() {
    let btf = outer();
    assert_eq!(at(&btf, "outer", "tail"), (400, 0));
    assert_eq!(at(&btf, "outer", "tail[2].rlim_max"), (440, 8));
    let far = btf.field("outer", "tail[4294967295]").unwrap_err();
    assert_eq!(
        far.to_string(),
        "the BTF is damaged: it lies behind 4 GiB (type 4)"
    );
}

#[test]
fn pointers_are_not_followed() {
    let btf = outer();
    assert_eq!(obstacle(&btf, "outer", "to.rlim_cur"), Obstacle::Pointer);
    assert_eq!(obstacle(&btf, "outer", "to[0]"), Obstacle::Pointer);
    assert_eq!(
        btf.field("outer", "to.rlim_cur").unwrap_err().to_string(),
        "`outer.to.rlim_cur`: at `rlim_cur`, the path would follow a pointer; resolve the pointer \
         and what it points to separately"
    );
}

#[test]
fn steps_must_fit_the_type() {
    let btf = outer();
    assert_eq!(obstacle(&btf, "outer", "first.x"), Obstacle::NotAStructure);
    assert_eq!(
        obstacle(&btf, "outer", "rlim.rlim_cur"),
        Obstacle::NotAStructure
    );
    assert_eq!(obstacle(&btf, "outer", "first[0]"), Obstacle::NotAnArray);
    assert_eq!(obstacle(&btf, "outer", "rlim[1][1]"), Obstacle::NotAnArray);
}

#[test]
fn an_absent_field_is_told_apart_from_everything_else() {
    let btf = outer();
    let error = btf.field("outer", "rlim[7].rlim_min").unwrap_err();
    assert!(error.is_absent());
    assert_eq!(
        error.to_string(),
        "`outer.rlim[7].rlim_min`: this kernel has no member `rlim_min` there"
    );
    let error = btf.field("inner", "x").unwrap_err();
    assert!(error.is_absent());
    assert_eq!(
        error.to_string(),
        "this kernel's BTF has no struct or union `inner`"
    );
    assert!(btf.size_of("inner").unwrap_err().is_absent());
    // A prefix, an extension and the empty name are other names.
    for name in ["firs", "first_", ""] {
        assert!(btf.field("outer", name).is_err(), "{name:?}");
    }
    assert!(!btf.field("outer", "to.x").unwrap_err().is_absent());
}

#[test]
fn the_first_alternative_that_exists_is_taken() {
    let btf = outer();
    let first = Some(Field { offset: 0, size: 4 });
    assert_eq!(
        btf.field_any("outer", &["f_ref", "first", "to"]).unwrap(),
        first
    );
    assert_eq!(btf.field_any("outer", &["f_ref", "f_count"]).unwrap(), None);
    assert_eq!(btf.field_any("nowhere", &["first"]).unwrap(), None);
    assert_eq!(btf.field_any("outer", &[]).unwrap(), None);
    assert!(
        btf.field_any("outer", &["to.x", "first"]).is_err(),
        "a real error is not skipped"
    );
}

#[test]
fn paths_have_one_spelling() {
    let btf = outer();
    for path in [
        "",
        ".",
        "first.",
        ".first",
        "rlim[",
        "rlim]",
        "rlim[]",
        "rlim[x]",
        "rlim[-1]",
        "rlim[+1]",
        "rlim[1",
        "rlim[1]x",
        "rlim[1]]",
        "[1]",
        "rlim[4294967296]",
        "rlim.[1]",
        "rlim[[1]]",
    ] {
        let error = btf.field("outer", path).unwrap_err();
        assert!(matches!(error, BtfError::Path { .. }), "{path:?}: {error}");
    }
}

#[test]
fn bitfields_with_kind_flag_are_refused() {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    let place = |size: u32, offset: u32| size << 24 | offset;
    b.structure(
        STRUCT | FLAG,
        "s",
        16,
        &[
            ("plain", int, place(0, 32)),
            ("three", int, place(3, 64)),
            ("four", int, place(4, 67)),
            ("whole", int, place(32, 96)),
        ],
    );
    let btf = parse(b);
    assert_eq!(at(&btf, "s", "plain"), (4, 4));
    for name in ["three", "four", "whole"] {
        assert_eq!(obstacle(&btf, "s", name), Obstacle::Bitfield, "{name}");
    }
}

#[test]
fn bitfields_in_the_integer_are_refused() {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    let bits = |b: &mut Builder, size, encoding| b.raw(0, INT, 0, size, &[encoding]);
    let three = bits(&mut b, 4, 3);
    let shifted = bits(&mut b, 4, 4 << 16 | 32);
    let wide = bits(&mut b, 16, 128);
    let behind = b.refer(TYPEDEF, "u3", three);
    let inner = b.structure(STRUCT, "", 4, &[("in", int, 4)]);
    b.structure(
        STRUCT,
        "s",
        64,
        &[
            ("plain", int, 32),
            ("three", three, 64),
            ("shifted", shifted, 96),
            ("behind", behind, 128),
            ("odd", int, 161),
            ("wide", wide, 256),
            ("", inner, 384),
        ],
    );
    let btf = parse(b);
    assert_eq!(at(&btf, "s", "plain"), (4, 4));
    assert_eq!(at(&btf, "s", "wide"), (32, 16), "an __int128 is an integer");
    for name in ["three", "shifted", "behind", "odd", "in"] {
        assert_eq!(obstacle(&btf, "s", name), Obstacle::Bitfield, "{name}");
    }
}

#[test]
fn offsets_without_kind_flag_have_32_bits() {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    b.structure(STRUCT, "s", 1 << 28, &[("far", int, 0x8000_0000)]);
    assert_eq!(at(&parse(b), "s", "far"), (0x1000_0000, 4));
}

#[test]
fn forward_declarations_and_later_namesakes_are_passed_over() {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    b.refer(FWD, "s", 0);
    b.refer(TYPEDEF, "s", int);
    b.function("s", 0, &[]);
    b.structure(STRUCT, "s", 8, &[("x", int, 32)]);
    b.structure(STRUCT, "s", 16, &[("x", int, 96), ("y", int, 0)]);
    b.structure(UNION, "u", 4, &[("x", int, 0)]);
    let btf = parse(b);
    assert_eq!(at(&btf, "s", "x"), (4, 4));
    assert!(btf.field("s", "y").unwrap_err().is_absent());
    assert_eq!(btf.size_of("s").unwrap(), 8);
    assert_eq!(at(&btf, "u", "x"), (0, 4));
}
