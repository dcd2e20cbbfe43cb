use std::path::Path;

use super::*;

/// The BTF files that the repository has, each of another kernel.
fn kernels() -> Vec<Btf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/btf");
    let paths = std::fs::read_dir(folder).unwrap();
    let mut paths = paths.map(|entry| entry.unwrap().path());
    paths
        .by_ref()
        .filter(|path| path.extension().is_some_and(|extension| extension == "btf"))
        .map(|path| Btf::from_file(&path).unwrap())
        .collect()
}

#[test]
fn a_function_has_the_same_number_as_in_the_whole() {
    let kernels = kernels();
    assert!(!kernels.is_empty());
    for whole in kernels {
        let Targets(functions) = Targets::new(&whole);
        assert!(functions.len() > 10, "{functions:?}");
        let few = Btf::parse(btf::only(functions.iter().copied())).unwrap();
        for (function, id) in functions {
            assert_eq!(few.function_id(function), Some(id), "{function}");
            assert_eq!(whole.function_id(function), Some(id), "{function}");
        }
    }
}

#[test]
fn what_is_not_asked_for_is_left_out() {
    let few = Btf::parse(btf::only([("late", 9), ("early", 2), ("void", 0)])).unwrap();
    assert_eq!(few.types(), 9);
    assert_eq!(few.function_id("early"), Some(2));
    assert_eq!(few.function_id("late"), Some(9));
    assert_eq!(few.function_id("void"), None);
    assert_eq!(few.function_id(""), None);
}

#[test]
fn aya_reads_it() {
    for whole in kernels() {
        let targets = Targets::new(&whole);
        targets.all().unwrap();
        targets.iterators().unwrap();
    }
    Targets(Vec::new()).all().unwrap();
}
