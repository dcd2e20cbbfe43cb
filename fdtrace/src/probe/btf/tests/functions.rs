//! Prototypes, enumerators, tracepoints.

use super::{builder::*, *};
use crate::probe::btf::{Function, Parameter};

fn parameter(name: &str, type_name: &str, size: u32) -> Parameter {
    Parameter {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        size,
        by_value: false,
    }
}

#[test]
fn a_prototype_reads_like_c() {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    let unsigned = b.int("unsigned int", 4);
    let character = b.int("char", 1);
    let table = b.structure(STRUCT, "files_struct", 704, &[("next_fd", unsigned, 0)]);
    let to_table = b.refer(PTR, "", table);
    let to_int = b.refer(PTR, "", int);
    let constant = b.refer(CONST, "", character);
    let user = b.refer(TYPE_TAG, "user", constant);
    let text = b.refer(PTR, "", user);
    let declared = b.refer(FWD, "file", 0);
    let file = b.refer(PTR, "", declared);
    let files = b.refer(PTR, "", file);
    let mode = b.int("short unsigned int", 2);
    let mode = b.refer(TYPEDEF, "umode_t", mode);
    let kind = b.enumeration(ENUM, "ucount_type", &[]);
    let anything = b.refer(PTR, "", 0);
    let prototype = b.raw(0, FUNC_PROTO, 0, int, &[]);
    let call = b.refer(PTR, "", prototype);
    b.function(
        "dup_fd",
        to_table,
        &[
            ("oldf", to_table),
            ("max_fds", unsigned),
            ("errorp", to_int),
            ("name", text),
            ("res", files),
            ("mode", mode),
            ("type", kind),
            ("", anything),
            ("actor", call),
            ("", 0),
        ],
    );
    let found = parse(b).function("dup_fd").unwrap().unwrap();
    assert_eq!(
        found,
        Function {
            returns: "struct files_struct *".to_owned(),
            parameters: vec![
                parameter("oldf", "struct files_struct *", 8),
                parameter("max_fds", "unsigned int", 4),
                parameter("errorp", "int *", 8),
                parameter("name", "char *", 8),
                parameter("res", "struct file **", 8),
                parameter("mode", "umode_t", 2),
                parameter("type", "enum ucount_type", 4),
                parameter("", "void *", 8),
                parameter("actor", "function *", 8),
                parameter("", "...", 0),
            ],
        }
    );
}

#[test]
fn structures_by_value_are_told_also_behind_a_typedef() {
    let mut b = Builder::new();
    let int = b.int("unsigned int", 4);
    let inner = b.structure(STRUCT, "", 4, &[("val", int, 0)]);
    let uid = b.refer(TYPEDEF, "kuid_t", inner);
    let path = b.structure(STRUCT, "path", 16, &[]);
    let either = b.structure(UNION, "", 8, &[]);
    b.function("f", 0, &[("uid", uid), ("path", path), ("either", either)]);
    let found = parse(b).function("f").unwrap().unwrap();
    let by_value = |name, type_name, size| Parameter {
        by_value: true,
        ..parameter(name, type_name, size)
    };
    assert_eq!(found.returns, "void");
    assert_eq!(
        found.parameters,
        [
            by_value("uid", "kuid_t", 4),
            by_value("path", "struct path", 16),
            by_value("either", "union (anonymous)", 8),
        ]
    );
}

#[test]
fn pointers_to_arrays_and_arrays_of_pointers_differ() {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    let row = b.array(int, 4);
    let to_row = b.refer(PTR, "", row);
    let pointer = b.refer(PTR, "", int);
    let pointers = b.array(pointer, 4);
    b.function("f", 0, &[("to_row", to_row), ("pointers", pointers)]);
    let found = parse(b).function("f").unwrap().unwrap();
    let expected = [
        parameter("to_row", "int [4]*", 8),
        parameter("pointers", "int *[4]", 32),
    ];
    assert_eq!(found.parameters, expected);
}

#[test]
fn only_functions_are_functions() {
    let mut b = Builder::new();
    b.structure(STRUCT, "alloc_fd", 8, &[]);
    let found = b.function("do_dup2", 0, &[]);
    b.refer(FUNC, "broken", found);
    let btf = parse(b);
    assert_eq!(btf.function("alloc_fd").unwrap(), None);
    assert_eq!(btf.function("do_dup").unwrap(), None);
    assert_eq!(btf.function("do_dup2").unwrap().unwrap().parameters, []);
    let error = btf.function("broken").unwrap_err();
    assert!(
        error.to_string().contains("a type that is no prototype"),
        "{error}"
    );
}

#[test]
fn enumerators_of_all_widths_and_signs() {
    let mut b = Builder::new();
    b.enumeration(ENUM, "plain", &[("ZERO", 0), ("TOP", u32::MAX)]);
    b.enumeration(ENUM | FLAG, "signed", &[("MINUS", u32::MAX), ("FIVE", 5)]);
    let (small, big) = (b.name("SMALL"), b.name("BIG"));
    let wide = b.name("wide");
    b.raw(wide, ENUM64, 2, 8, &[small, 7, 0, big, 1, 0x8000_0000]);
    let btf = parse(b);
    assert_eq!(btf.enumerator("plain", "ZERO"), Some(0));
    assert_eq!(btf.enumerator("plain", "TOP"), Some(0xffff_ffff));
    assert_eq!(btf.enumerator("signed", "MINUS"), Some(-1));
    assert_eq!(btf.enumerator("signed", "FIVE"), Some(5));
    assert_eq!(btf.enumerator("wide", "SMALL"), Some(7));
    assert_eq!(btf.enumerator("wide", "BIG"), Some(i64::MIN + 1));
    assert_eq!(btf.enumerator("wide", "ZERO"), None);
    assert_eq!(btf.enumerator("none", "ZERO"), None);
}

#[test]
fn a_tracepoint_is_a_typedef() {
    let mut b = Builder::new();
    let prototype = b.raw(0, FUNC_PROTO, 0, 0, &[]);
    let pointer = b.refer(PTR, "", prototype);
    b.refer(TYPEDEF, "btf_trace_sys_exit", pointer);
    b.function("btf_trace_sys_enter", 0, &[]);
    let btf = parse(b);
    assert!(btf.has_tracepoint("sys_exit"));
    assert!(!btf.has_tracepoint("sys_enter"));
    assert!(!btf.has_tracepoint("sys"));
}
