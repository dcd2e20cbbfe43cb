//! The resolver on BTF made for the purpose. Real kernels are in `fdtrace/tests/btf_kernels.rs`.

mod builder;
mod damage;
mod fields;
mod files;
mod functions;
mod random;

use super::{Btf, BtfError, Field, Obstacle};
use builder::Builder;

/// Parses what the builder made.
#[track_caller]
fn parse(builder: Builder) -> Btf {
    Btf::parse(builder.finish()).expect("valid BTF")
}

/// Offset and size of a field that is there.
#[track_caller]
fn at(btf: &Btf, structure: &str, path: &str) -> (u32, u32) {
    let Field { offset, size } = btf.field(structure, path).expect("a field");
    (offset, size)
}

/// What stands in the way of a field that is there, but cannot be reached.
#[track_caller]
fn obstacle(btf: &Btf, structure: &str, path: &str) -> Obstacle {
    match btf.field(structure, path) {
        Err(BtfError::Unreachable { problem, .. }) => problem,
        other => panic!("{structure}.{path}: {other:?}"),
    }
}
