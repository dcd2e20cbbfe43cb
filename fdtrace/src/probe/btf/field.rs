//! From a member path to a byte offset and a size.

use super::{
    Btf, Field,
    error::{BtfError, Obstacle},
    format::{Kind, words},
    path::{Step, steps},
    table::Type,
};

/// How many typedefs, qualifiers, array dimensions or anonymous members may be nested. The kernel
/// itself stops at 32 (`MAX_RESOLVE_DEPTH` in `kernel/bpf/btf.c`).
pub(super) const DEPTH: usize = 32;
/// How many members one path may look at, in all. No struct of a kernel before 7.1 can have more
/// than 65 535; without a bound, nested anonymous members that share types cost exponential time.
const MEMBERS: usize = 1 << 17;
/// BTF does not say how long a pointer is. fdtrace runs on 64-bit machines only.
const POINTER_LEN: u32 = 8;

/// A member that was found.
struct Member<'a> {
    /// Its type, without typedefs and qualifiers.
    of: Type<'a>,
    /// Bits from the start of the structure that was searched.
    bit_offset: u64,
    /// Whether the BTF says that it is a bitfield. One that does not start at a byte is, too.
    bitfield: bool,
}

impl Btf {
    /// Byte offset and size of `path` in the first struct or union called `structure`.
    ///
    /// A path is `member`, `member.member` or `member[index]`, to any depth: `f_path.dentry`,
    /// `rlim[7].rlim_cur`. Members of anonymous structs and unions belong to what encloses them, as
    /// in C. A flexible array (`[]`) has size 0 and takes any index. A path stays inside the
    /// structure: it never follows a pointer.
    pub fn field(&self, structure: &str, path: &str) -> Result<Field, BtfError> {
        let mut here = self.structure(structure)?;
        let mut offset = 0u64;
        let mut budget = MEMBERS;
        for step in steps(path)? {
            let obstacle = |problem| BtfError::Unreachable {
                structure: structure.to_owned(),
                path: path.to_owned(),
                step: step.to_string(),
                problem,
            };
            match (step, here.kind) {
                (_, Kind::Ptr) => return Err(obstacle(Obstacle::Pointer)),
                (Step::Member(name), Kind::Struct | Kind::Union) => {
                    let found = self.member(here, name, 0, &mut budget)?;
                    let member = found.ok_or_else(|| BtfError::NoField {
                        structure: structure.to_owned(),
                        path: path.to_owned(),
                        step: name.to_owned(),
                    })?;
                    if member.bitfield || member.bit_offset % 8 != 0 {
                        return Err(obstacle(Obstacle::Bitfield));
                    }
                    offset += member.bit_offset / 8;
                    here = member.of;
                }
                (Step::Member(_), _) => return Err(obstacle(Obstacle::NotAStructure)),
                (Step::Index(index), Kind::Array) => {
                    let [element, _, len] = words(here.tail);
                    if index >= len && len != 0 {
                        return Err(obstacle(Obstacle::Index(len)));
                    }
                    here = self.strip(self.get(element, here.id)?)?;
                    // (2^32 - 1)^2 and an offset below 2^32 stay below 2^64.
                    offset += u64::from(self.byte_len(here)?) * u64::from(index);
                }
                (Step::Index(_), _) => return Err(obstacle(Obstacle::NotAnArray)),
            }
            if offset > u64::from(u32::MAX) {
                return Err(BtfError::Damaged {
                    id: here.id,
                    problem: "it lies behind 4 GiB",
                });
            }
        }
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        Ok(Field {
            offset,
            size: self.byte_len(here)?,
        })
    }

    /// The first of `paths` that this kernel's `structure` has; `None` where it has none of them,
    /// or where there is no such structure.
    pub fn field_any(&self, structure: &str, paths: &[&str]) -> Result<Option<Field>, BtfError> {
        for path in paths {
            match self.field(structure, path) {
                Ok(field) => return Ok(Some(field)),
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Size in bytes of the first struct or union of that name.
    pub fn size_of(&self, structure: &str) -> Result<u32, BtfError> {
        Ok(self.structure(structure)?.operand)
    }

    /// The first struct or union of that name. A forward declaration is neither.
    fn structure(&self, name: &str) -> Result<Type<'_>, BtfError> {
        self.table
            .find(name, |kind| matches!(kind, Kind::Struct | Kind::Union))
            .ok_or_else(|| BtfError::NoStructure {
                name: name.to_owned(),
            })
    }

    /// The member `name` of a struct or union, offsets from its start; anonymous ones are searched.
    fn member(
        &self,
        structure: Type<'_>,
        name: &str,
        depth: usize,
        budget: &mut usize,
    ) -> Result<Option<Member<'_>>, BtfError> {
        let endless = BtfError::Damaged {
            id: structure.id,
            problem: "its members nest without end",
        };
        if depth > DEPTH {
            return Err(endless);
        }
        let structure = self.get(structure.id, structure.id)?;
        for [member_name, id, place] in structure.elements() {
            let Some(left) = budget.checked_sub(1) else {
                return Err(endless);
            };
            *budget = left;
            // With kind_flag a member's place is 8 bits of bitfield size above 24 bits of offset.
            let (bit_offset, bitfield_len) = if structure.flag {
                (place & 0x00ff_ffff, place >> 24)
            } else {
                (place, 0)
            };
            let bit_offset = u64::from(bit_offset);
            if self.table.is_named(member_name, name) {
                let of = self.strip(self.get(id, structure.id)?)?;
                let bitfield = bitfield_len != 0 || is_partial_int(of);
                return Ok(Some(Member {
                    of,
                    bit_offset,
                    bitfield,
                }));
            }
            if self.table.is_named(member_name, "") {
                let inner = self.strip(self.get(id, structure.id)?)?;
                if !matches!(inner.kind, Kind::Struct | Kind::Union) {
                    continue;
                }
                if let Some(found) = self.member(inner, name, depth + 1, budget)? {
                    return Ok(Some(Member {
                        bit_offset: bit_offset + found.bit_offset,
                        ..found
                    }));
                }
            }
        }
        Ok(None)
    }

    /// What is behind typedefs, qualifiers and type tags.
    pub(super) fn strip<'a>(&'a self, mut of: Type<'a>) -> Result<Type<'a>, BtfError> {
        for _ in 0..DEPTH {
            if !is_modifier(of.kind) {
                return Ok(of);
            }
            of = self.get(of.operand, of.id)?;
        }
        Err(BtfError::Damaged {
            id: of.id,
            problem: "its typedefs go round in a circle",
        })
    }

    /// Size in bytes of a value of this type.
    pub(super) fn byte_len(&self, of: Type<'_>) -> Result<u32, BtfError> {
        let mut len = 1u32;
        let mut of = self.strip(of)?;
        for _ in 0..DEPTH {
            let (factor, element) = match of.kind {
                Kind::Array => {
                    let [element, _, elements] = words(of.tail);
                    (elements, Some(element))
                }
                Kind::Ptr => (POINTER_LEN, None),
                Kind::Int
                | Kind::Struct
                | Kind::Union
                | Kind::Enum
                | Kind::Enum64
                | Kind::Float => (of.operand, None),
                _ => {
                    return Err(BtfError::Damaged {
                        id: of.id,
                        problem: "a value has a type without a size",
                    });
                }
            };
            len = len.checked_mul(factor).ok_or(BtfError::Damaged {
                id: of.id,
                problem: "an array is larger than 4 GiB",
            })?;
            let Some(element) = element else {
                return Ok(len);
            };
            of = self.strip(self.get(element, of.id)?)?;
        }
        Err(BtfError::Damaged {
            id: of.id,
            problem: "its arrays nest without end",
        })
    }
}

/// `typedef`, `const`, `volatile`, `restrict` and type tags: another type under another name.
pub(super) fn is_modifier(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Typedef | Kind::Const | Kind::Volatile | Kind::Restrict | Kind::TypeTag
    )
}

/// The older encoding of bitfields: an `INT` that uses only some bits of its bytes.
fn is_partial_int(of: Type<'_>) -> bool {
    let [encoding] = words(of.tail);
    let (bits, bit_offset) = (encoding & 0xff, encoding >> 16 & 0xff);
    of.kind == Kind::Int && (bit_offset != 0 || u64::from(bits) != u64::from(of.operand) * 8)
}
