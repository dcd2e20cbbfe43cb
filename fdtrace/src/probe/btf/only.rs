//! A BTF of a few functions, each with its own number.

use zerocopy::IntoBytes as _;

use super::{
    Btf,
    format::{Kind, MAGIC, RECORD_LEN},
};

/// `BTF_KIND_FWD` and `BTF_KIND_FUNC`, as `btf_type.info` has them.
const FWD: u32 = 7 << 24;
const FUNC: u32 = 12 << 24;

impl Btf {
    /// The number of the first function of that name; `None` where there is none.
    #[must_use]
    pub fn function_id(&self, name: &str) -> Option<u32> {
        let function = self.table.find(name, |kind| kind == Kind::Func)?;
        Some(function.id)
    }
}

/// BTF in which the types of these numbers are functions of these names, and all others up to the last of
/// them are declarations of nothing, the smallest type that there is.
///
/// Whoever only asks for the number of a function gets it from this as from the whole, in a twentieth of the
/// time and memory.
#[must_use]
pub fn only<'a>(functions: impl IntoIterator<Item = (&'a str, u32)>) -> Vec<u8> {
    let mut strings = vec![0];
    let mut types: Vec<[u32; 3]> = Vec::new();
    for (name, id) in functions {
        let Some(index) = id.checked_sub(1).map(|index| index as usize) else {
            continue;
        };
        if types.len() <= index {
            types.resize(index + 1, [0, FWD, 0]);
        }
        types[index] = [length(&strings), FUNC, 0];
        strings.extend(name.bytes().chain([0]));
    }
    let types_length = length(&types).saturating_mul(length(&[0; RECORD_LEN]));
    // `struct btf_header`: magic, version and flags; its length; types; strings.
    let [magic0, magic1] = MAGIC.to_ne_bytes();
    let mut bytes = vec![magic0, magic1, 1, 0];
    let header = [24, 0, types_length, types_length, length(&strings)];
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(types.as_bytes());
    bytes.extend(strings);
    bytes
}

fn length<T>(of: &[T]) -> u32 {
    u32::try_from(of.len()).unwrap_or(u32::MAX)
}
