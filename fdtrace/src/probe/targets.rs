//! What programs are attached to, by the numbers of the kernel's types.
//!
//! aya finds a function's number in all of the kernel's BTF, which takes it 18 ms and 20 MB to read: it is
//! given one that holds these functions and nothing else.

use aya::{Btf as AyaBtf, BtfError, Endianness};

use super::{
    btf::{self, Btf},
    plan::{HOOKS, SLOT_HOOKS, TABLE_HOOKS},
};

/// What iterators go over.
const ITERATORS: [&str; 2] = ["bpf_iter_task", "bpf_iter_task_file"];

/// The functions that fdtrace attaches to, as far as this kernel has them.
pub struct Targets(Vec<(&'static str, u32)>);

impl Targets {
    /// Looks them up.
    #[must_use]
    pub fn new(btf: &Btf) -> Self {
        let hooks = HOOKS.iter().chain(TABLE_HOOKS).chain(SLOT_HOOKS);
        let hooked = hooks.flat_map(|hook| hook.places.iter().map(|place| place.function));
        let functions = ITERATORS.into_iter().chain(hooked);
        Self(
            functions
                .filter_map(|function| Some((function, btf.function_id(function)?)))
                .collect(),
        )
    }

    /// The types for loading programs on hooks and on iterators.
    pub fn all(&self) -> Result<AyaBtf, BtfError> {
        self.types(|_| true)
    }

    /// The types for loading programs on iterators alone.
    pub fn iterators(&self) -> Result<AyaBtf, BtfError> {
        self.types(|function| ITERATORS.contains(&function))
    }

    fn types(&self, wanted: impl Fn(&str) -> bool) -> Result<AyaBtf, BtfError> {
        let functions = self.0.iter().copied();
        let bytes = btf::only(functions.filter(|(function, _)| wanted(function)));
        AyaBtf::parse(&bytes, Endianness::default())
    }
}

#[cfg(test)]
mod tests;
