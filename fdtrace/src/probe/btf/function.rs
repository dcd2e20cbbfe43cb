//! Functions and their prototypes, enumerators, tracepoints: what this kernel has.

use super::{
    Btf,
    error::BtfError,
    field::{DEPTH, is_modifier},
    format::{Kind, words},
    table::Type,
};

/// More parameters than any function of the kernel has; the compiler's own limit is 127 portably.
const PARAMETERS: usize = 255;

/// A function's prototype.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// In order. A variadic function ends with one of type `...`.
    pub parameters: Vec<Parameter>,
    /// What it returns, written like [`Parameter::type_name`].
    pub returns: String,
}

/// One parameter of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, empty where the BTF has none.
    pub name: String,
    /// Its type in C: `struct files_struct *`, `unsigned int`, `umode_t`.
    ///
    /// Without `const`, `volatile`, `restrict` and type tags, which come and go between kernels and
    /// change nothing about the value. A pointer to a function is `function *`.
    pub type_name: String,
    /// Bytes of the value itself: 8 for a pointer, 0 for `...`. More than 8 takes two registers,
    /// and the parameters behind it move.
    pub size: u32,
    /// A struct or union handed over by value, also where a typedef hides it (`kuid_t`).
    pub by_value: bool,
}

impl Btf {
    /// The prototype of the first function of that name; `None` where there is none.
    ///
    /// Being listed is necessary for fentry, not enough: the kernel may still refuse to attach.
    pub fn function(&self, name: &str) -> Result<Option<Function>, BtfError> {
        let Some(function) = self.table.find(name, |kind| kind == Kind::Func) else {
            return Ok(None);
        };
        let prototype = self.get(function.operand, function.id)?;
        let damaged = |problem| BtfError::Damaged {
            id: prototype.id,
            problem,
        };
        if prototype.kind != Kind::FuncProto {
            return Err(damaged("a function has a type that is no prototype"));
        }
        let parameters = prototype.elements();
        if parameters.len() > PARAMETERS {
            return Err(damaged("a function has more than 255 parameters"));
        }
        Ok(Some(Function {
            parameters: parameters
                .map(|[name, of]| self.parameter(name, self.get(of, prototype.id)?))
                .collect::<Result<_, BtfError>>()?,
            returns: self.type_name(self.get(prototype.operand, prototype.id)?)?,
        }))
    }

    /// The value of the enumerator `name` of the first enum `enumeration`; `None` where the kernel
    /// has no such enum or no such enumerator in it.
    ///
    /// An unsigned 64-bit value above [`i64::MAX`] comes out as the negative number of the same
    /// bits.
    #[must_use]
    pub fn enumerator(&self, enumeration: &str, name: &str) -> Option<i64> {
        let found = self.table.find(enumeration, |kind| {
            matches!(kind, Kind::Enum | Kind::Enum64)
        })?;
        if found.kind == Kind::Enum64 {
            let [_, low, high] = found
                .elements::<3>()
                .find(|&[at, ..]| self.table.is_named(at, name))?;
            return Some((u64::from(high) << 32 | u64::from(low)).cast_signed());
        }
        let [_, value] = found
            .elements::<2>()
            .find(|&[at, _]| self.table.is_named(at, name))?;
        // kind_flag tells signed enums. Kernels before 6.0 never set it: their -1 is 4294967295.
        Some(if found.flag {
            i64::from(value.cast_signed())
        } else {
            i64::from(value)
        })
    }

    /// Whether there is a tracepoint `name` that `tp_btf` programs can use: the kernel describes
    /// each by a typedef `btf_trace_NAME` (`include/trace/bpf_probe.h`).
    #[must_use]
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.table
            .find(&format!("btf_trace_{name}"), |kind| kind == Kind::Typedef)
            .is_some()
    }

    fn parameter(&self, name: u32, of: Type<'_>) -> Result<Parameter, BtfError> {
        if of.kind == Kind::Void {
            return Ok(Parameter {
                name: String::new(),
                type_name: "...".to_owned(),
                size: 0,
                by_value: false,
            });
        }
        Ok(Parameter {
            name: self.table.text(name),
            type_name: self.type_name(of)?,
            size: self.byte_len(of)?,
            by_value: matches!(self.strip(of)?.kind, Kind::Struct | Kind::Union),
        })
    }

    /// A type as C writes it, outermost qualifiers dropped, typedefs kept.
    fn type_name<'a>(&'a self, mut of: Type<'a>) -> Result<String, BtfError> {
        // `*` and `[n]`, the outermost first.
        let mut suffixes = Vec::new();
        for _ in 0..DEPTH {
            let next = match of.kind {
                Kind::Ptr => {
                    suffixes.push("*".to_owned());
                    of.operand
                }
                Kind::Array => {
                    let [element, _, len] = words(of.tail);
                    suffixes.push(format!("[{len}]"));
                    element
                }
                kind if is_modifier(kind) && kind != Kind::Typedef => of.operand,
                _ => {
                    let mut text = self.base_name(of);
                    if !suffixes.is_empty() {
                        text.push(' ');
                    }
                    text.extend(suffixes.into_iter().rev());
                    return Ok(text);
                }
            };
            of = self.get(next, of.id)?;
        }
        Err(BtfError::Damaged {
            id: of.id,
            problem: "its pointers nest without end",
        })
    }

    /// The name of a type that is no pointer, array or qualifier.
    fn base_name(&self, of: Type<'_>) -> String {
        let keyword = match of.kind {
            Kind::Void => return "void".to_owned(),
            Kind::FuncProto => return "function".to_owned(),
            Kind::Struct => "struct ",
            Kind::Fwd if !of.flag => "struct ",
            Kind::Union | Kind::Fwd => "union ",
            Kind::Enum | Kind::Enum64 => "enum ",
            _ => "",
        };
        let name = self.table.text(of.name);
        format!(
            "{keyword}{}",
            if name.is_empty() {
                "(anonymous)"
            } else {
                &name
            }
        )
    }
}
