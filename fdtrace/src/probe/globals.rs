//! The read-only globals of the kernel programs: what they are told when they are loaded.
//!
//! The verifier sees them as constants, so that a field that is absent or a filter that is off costs
//! nothing in the program that is loaded.

use anyhow::{Context, Result, bail};
use aya::EbpfLoader;
use fdtrace_common::{alarm::OWN_LIMITS, fields::ABSENT, select::SELECT_CALLS};

use super::{
    btf::Btf,
    load::{Options, Stacks},
    plan,
    scope::Scope,
};
use crate::ground::call;

/// One struct member that a program reads.
struct FieldRow {
    required: bool,
    global: &'static str,
    structure: &'static str,
    paths: &'static [&'static str],
}

macro_rules! rows {
    ($($need:ident $name:ident: $structure:literal, $($path:literal)|+;)*) => {
        const FIELDS: &[FieldRow] = &[$(FieldRow {
            required: rows!(@ $need),
            global: stringify!($name),
            structure: $structure,
            paths: &[$($path),+],
        }),*];
    };
    (@ required) => { true };
    (@ optional) => { false };
}
fdtrace_common::kernel_fields!(rows);

/// A struct member as this kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedField {
    /// The global that carries it.
    pub global: &'static str,
    /// The struct.
    pub structure: &'static str,
    /// The member's possible paths.
    pub paths: &'static [&'static str],
    /// Bytes from the struct's start; `None` where this kernel has no such member.
    pub offset: Option<u32>,
}

/// Looks every field up.
///
/// Fails where one is missing that fdtrace cannot do without, and says which.
pub fn resolve_fields(btf: &Btf) -> Result<Vec<ResolvedField>> {
    let resolve = |row: &FieldRow| {
        let field = match btf.field_any(row.structure, row.paths) {
            Err(error) if error.is_absent() && !row.required => None,
            other => other.with_context(|| {
                format!(
                    "looking up {}.{} in the kernel's BTF",
                    row.structure, row.paths[0]
                )
            })?,
        };
        if field.is_none() && row.required {
            bail!(
                "the kernel's BTF has no {}.{}: fdtrace does not know this kernel's layout",
                row.structure,
                row.paths.join(" or ."),
            );
        }
        Ok(ResolvedField {
            global: row.global,
            structure: row.structure,
            paths: row.paths,
            offset: field.map(|field| field.offset),
        })
    };
    FIELDS.iter().map(resolve).collect()
}

/// `THREAD_SIZE` of x86-64 and arm64 with 4 KiB pages (`arch/x86/include/asm/page_64_types.h`): no
/// BTF tells it. Needed only where `bpf_task_pt_regs` is missing, and the self-test proves it there: it
/// checks the name of the call that a record carries.
const STACK_SIZE: u32 = 16 * 1024;

/// Numbers of the calls with a limit of their own, native ones first; those that a table lacks match
/// no call.
fn own_limit_numbers() -> [u32; OWN_LIMITS] {
    let mut numbers = [u32::MAX; OWN_LIMITS];
    let calls = plan::OWN_LIMIT_CALLS;
    let native = calls.iter().map(|name| call::number(name));
    let compat = calls.iter().map(|name| call::compat_number(name));
    for (number, known) in numbers.iter_mut().zip(native.chain(compat)) {
        *number = known.unwrap_or(u32::MAX);
    }
    numbers
}

/// The numbers of select.
fn select_numbers() -> [u32; SELECT_CALLS] {
    let mut numbers = [u32::MAX; SELECT_CALLS];
    let (native, compat) = plan::SELECT_CALLS;
    let native = native.iter().map(|name| call::number(name));
    let compat = compat.iter().map(|name| call::compat_number(name));
    for (number, known) in numbers.iter_mut().zip(native.chain(compat)) {
        *number = known.unwrap_or(u32::MAX);
    }
    numbers
}

/// Every global's value.
pub struct Globals {
    words: Vec<(&'static str, u32)>,
    long_words: Vec<(&'static str, u64)>,
    own_limits: [u32; OWN_LIMITS],
    selects: [u32; SELECT_CALLS],
    log_level: u8,
}

impl Globals {
    /// Collects what the programs are told: layout and abilities of this kernel, numbers of system
    /// calls, whom to watch, and what for.
    pub fn new(btf: &Btf, scope: &Scope, options: &Options<'_>) -> Result<Self> {
        let fields = resolve_fields(btf)?;
        let offset = |field: &ResolvedField| (field.global, field.offset.unwrap_or(ABSENT));
        let mut words: Vec<_> = fields.iter().map(offset).collect();
        let has_helper = |name| u32::from(btf.enumerator("bpf_func_id", name).is_some());
        let number = |name| call::number(name).unwrap_or(u32::MAX);
        let compat_number = |name| call::compat_number(name).unwrap_or(u32::MAX);
        let (comm, mask) = scope.comm_pattern();
        // The kernel's side tells why (`repeats`).
        let can_repeat = ["BPF_FUNC_task_pt_regs", "BPF_FUNC_get_current_task_btf"]
            .into_iter()
            .all(|name| has_helper(name) == 1)
            && scope.uid.is_none()
            && scope.cgroups.is_empty()
            && mask == [0; 2];
        words.extend([
            ("STACK_SIZE", STACK_SIZE),
            ("REGS_SIZE", btf.size_of("pt_regs").unwrap_or(0)),
            ("HAVE_TASK_PT_REGS", has_helper("BPF_FUNC_task_pt_regs")),
            ("HAVE_TASK_BTF", has_helper("BPF_FUNC_get_current_task_btf")),
            ("CAN_REPEAT", u32::from(can_repeat)),
            ("NR_IO_URING_ENTER", number("io_uring_enter")),
            ("NR_DUP", number("dup")),
            ("NR_DUP2", number("dup2")),
            ("NR_DUP3", number("dup3")),
            ("NR_COMPAT_DUP2", compat_number("dup2")),
            ("NR_COMPAT_DUP3", compat_number("dup3")),
            (
                "DUP_FD_HAS_ERRORP",
                u32::from(plan::dup_fd_has_errorp(btf)?),
            ),
            (
                "INSTALL_HAS_FILES",
                u32::from(plan::install_has_files(btf)?),
            ),
            ("ALARMS", u32::from(options.alarms)),
            ("TRACK", u32::from(options.tables.is_some())),
            (
                "DETAILS",
                u32::from(options.tables.is_some_and(|tables| tables.details)),
            ),
            ("STACKS", u32::from(options.stacks != Stacks::Never)),
            ("SELF_TGID", std::process::id()),
            ("FILTER_PIDS", u32::from(!scope.pids.is_empty())),
            ("FOLLOW", u32::from(scope.follow)),
            ("FILTER_CGROUPS", u32::from(!scope.cgroups.is_empty())),
            ("FILTER_UID", u32::from(scope.uid.is_some())),
            ("UID", scope.uid.unwrap_or(0)),
        ]);
        let long_words = vec![
            ("COMM_LOW", comm[0]),
            ("COMM_HIGH", comm[1]),
            ("COMM_MASK_LOW", mask[0]),
            ("COMM_MASK_HIGH", mask[1]),
            ("RING_PATIENCE", u64::from(options.ring_bytes / 4)),
        ];
        Ok(Self {
            words,
            long_words,
            own_limits: own_limit_numbers(),
            selects: select_numbers(),
            log_level: options.log_level,
        })
    }

    /// Hands the values to the loader.
    pub fn write<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        for (name, value) in &self.words {
            loader.override_global(name, value, true);
        }
        for (name, value) in &self.long_words {
            loader.override_global(name, value, true);
        }
        loader.override_global("NR_OWN_LIMIT", &self.own_limits[..], true);
        loader.override_global("NR_SELECT", &self.selects[..], true);
        loader.override_global(aya_log::LEVEL, &self.log_level, true);
    }
}
