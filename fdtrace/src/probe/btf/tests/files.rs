//! BTF from files: raw, in an ELF file, in neither.

use std::{fs, path::PathBuf};

use super::{damage::every_kind, *};

/// A file that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("fdtrace-{}-{name}", std::process::id()));
        fs::write(&path, bytes).expect("a temporary file");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing to do about a temporary file that is gone already.
        let _ = fs::remove_file(&self.0);
    }
}

/// A 64-bit ELF file with a section of names, one named `name`, and nothing else.
fn elf(name: &[u8], section: &[u8]) -> Vec<u8> {
    let names = [b"\0.shstrtab\0", name, b"\0"].concat();
    let mut bytes = vec![0; 64];
    let put = |bytes: &mut Vec<u8>, at: usize, value: &[u8]| {
        bytes[at..at + value.len()].copy_from_slice(value);
    };
    bytes.extend(&names);
    bytes.extend(section);
    let table = bytes.len();
    bytes.resize(table + 3 * 64, 0);
    let order = if cfg!(target_endian = "little") { 1 } else { 2 };
    put(&mut bytes, 0, &[0x7f, b'E', b'L', b'F', 2, order, 1]);
    put(&mut bytes, 40, &table.to_ne_bytes());
    for (at, half) in [(58, 64u16), (60, 3), (62, 1)] {
        put(&mut bytes, at, &half.to_ne_bytes());
    }
    let places = [
        (1u32, 64, names.len()),
        (11, 64 + names.len(), section.len()),
    ];
    for (i, (name, offset, len)) in places.into_iter().enumerate() {
        let header = table + (i + 1) * 64;
        put(&mut bytes, header, &name.to_ne_bytes());
        put(&mut bytes, header + 24, &offset.to_ne_bytes());
        put(&mut bytes, header + 32, &len.to_ne_bytes());
    }
    bytes
}

#[track_caller]
fn refuses(name: &str, bytes: &[u8], message: &str) {
    let file = Scratch::new(name, bytes);
    let error = Btf::from_file(&file.0).expect_err("an error").to_string();
    assert!(error.contains(message), "{error}");
}

#[test]
fn raw_and_in_an_elf_file() {
    let raw = every_kind().finish();
    let inside = elf(b".BTF", &raw);
    for (name, bytes) in [("raw", raw), ("elf", inside)] {
        let file = Scratch::new(name, &bytes);
        let btf = Btf::from_file(&file.0).expect(name);
        assert_eq!(at(&btf, "s", "x"), (16, 4), "{name}");
    }
}

#[test]
fn neither() {
    let path = PathBuf::from("/nonexistent/vmlinux");
    let error = Btf::from_file(&path).expect_err("an error");
    assert_eq!(
        error.to_string(),
        "cannot read BTF from /nonexistent/vmlinux"
    );
    assert!(matches!(error, BtfError::Read { .. }));
    assert!(matches!(
        Btf::from_file(&std::env::temp_dir()),
        Err(BtfError::Read { .. })
    ));
    refuses("empty", b"", "ends inside the header");
    refuses("text", b"#!/bin/sh\n", "not BTF");
}

/// `/dev/zero` never ends.
#[test]
fn no_end() {
    let error = Btf::from_file("/dev/zero".as_ref()).expect_err("an error");
    assert!(matches!(error, BtfError::TooLarge { .. }), "{error}");
}

#[test]
fn elf_files_without_btf() {
    let good = elf(b".BTF", &every_kind().finish());
    refuses("ext", &elf(b".BTF.ext", b"x"), "without a .BTF section");
    for len in 4..good.len() {
        let file = Scratch::new("cut", &good[..len]);
        assert!(Btf::from_file(&file.0).is_err(), "{len} bytes");
    }
    for (name, at, value, message) in [
        ("class", 4, 1, "not a 64-bit ELF"),
        ("order", 5, 3, "other byte order"),
        ("entries", 58, 40, "without a section table"),
        ("where", 47, 0xff, "cannot read BTF"),
    ] {
        let mut bytes = good.clone();
        bytes[at] = value;
        refuses(name, &bytes, message);
    }
    let mut huge = good;
    let len = huge.len();
    huge[len - 64 + 37] = 1;
    refuses("huge", &huge, "larger than any kernel's");
}
