//! Loading the object: its maps made, its globals told, nothing attached.

use std::{io, path::Path, time::Instant};

use anyhow::{Context, Result, anyhow, bail};
use aya::{
    Btf as AyaBtf, Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{MapData, RingBuf},
    programs::{Program, ProgramError},
};
use log::debug;
use rustix::process::{Resource, getrlimit};

use super::{
    backend::Backend,
    branch::Branches,
    btf::{Btf, BtfError},
    census,
    globals::Globals,
    own_fds::{self, Plan},
    preemption,
    scope::Scope,
    shared::Shared,
    slots, tables,
    targets::Targets,
};

/// The kernel programs, compiled and stripped by build.rs.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fdtrace-ebpf.o"));
/// The same for kernels without `bpf_loop`.
static OBJECT_UNROLLED: &[u8] =
    include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fdtrace-ebpf-unrolled.o"));

/// How to load.
pub struct Options<'a> {
    /// Only this backend; the best that works where it is `None`.
    pub backend: Option<Backend>,
    /// A BTF file in place of the kernel's own.
    pub btf: Option<&'a Path>,
    /// Kernel-side log lines up to this level of aya-log's; 0 for none.
    pub log_level: u8,
    /// Tell of calls that fail for want of an fd.
    pub alarms: bool,
    /// Follow every fd table of the host, and how.
    pub tables: Option<Tables>,
    /// Have each file leave in a slot when and by whom it came into its table.
    pub slots: bool,
    /// Take stacks of those who open fds.
    pub stacks: Stacks,
    /// Bytes of the ring buffer: a power of two, at least a page.
    pub ring_bytes: u32,
    /// A kernel function whose hook is left out, for trying what the self-test says.
    pub without_hook: Option<String>,
}

/// How tables are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Each change is shown: records tell the user and the call behind it, and whether the filters let
    /// it through.
    pub details: bool,
}

/// Of which opens the stack is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stacks {
    /// Of none.
    #[default]
    Never,
    /// Of those in the tables given to `maps::take_stacks`.
    Named,
    /// Of all in scope.
    Always,
}

/// Room for the records of 50 ms in which two CPUs do nothing but open and close: the reader looks
/// that often, and at once where a quarter is full.
pub const RING_BYTES: u32 = 8 << 20;
/// Room for alarms alone.
pub const SMALL_RING: u32 = 1 << 20;

/// What hooks are wanted for, see [`Options`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Wants {
    pub(super) alarms: bool,
    pub(super) tables: bool,
    pub(super) slots: bool,
    pub(super) stacks: Stacks,
}

/// The object loaded, nothing attached.
pub struct Loaded {
    pub(super) ebpf: Ebpf,
    pub(super) ring: RingBuf<MapData>,
    pub(super) shared: Shared,
    pub(super) targets: Targets,
    /// Their types, once there has been something to load by them.
    pub(super) types: Option<AyaBtf>,
    pub(super) btf: Btf,
    pub(super) wants: Wants,
    pub(super) without_hook: Option<String>,
    /// Programs on trampolines can lose their CPU.
    pub(super) preempts: bool,
    /// Where functions begin to fail.
    pub(super) branches: Branches,
}

/// The kernel's types: its own BTF, or that of a file.
pub fn kernel_types(file: Option<&Path>) -> Result<Btf> {
    let Some(file) = file else {
        return Ok(Btf::from_sys_fs()?);
    };
    Btf::from_file(file).map_err(|error| match error {
        BtfError::Read { .. } | BtfError::Elf { .. } => error.into(),
        nameless => anyhow!(nameless).context(format!("--btf {}", file.display())),
    })
}

/// Creates the maps, with everything that the programs will be told.
pub fn load(options: &Options<'_>, scope: &Scope) -> Result<Loaded> {
    if OBJECT.is_empty() {
        bail!("this fdtrace was built without its kernel programs (AYA_BUILD_SKIP): build it anew");
    }
    let start = Instant::now();
    let btf = kernel_types(options.btf)?;
    debug!("kernel types read in {:?}", start.elapsed());
    let object = if btf.enumerator("bpf_func_id", "BPF_FUNC_loop").is_some() {
        OBJECT
    } else {
        debug!("no bpf_loop: the verifier walks every loop");
        OBJECT_UNROLLED
    };
    let preempts = preemption::preempts_programs(&btf)?;
    own_fds::check(&Plan {
        object,
        btf: &btf,
        options,
        scope,
        preempts,
    })?;
    let globals = Globals::new(&btf, scope, options)?;
    let mut loader = EbpfLoader::new();
    // Nothing in the object is relocated by the kernel's types: that is what the globals are for.
    loader.btf(None);
    loader.map_max_entries("RECORDS", options.ring_bytes);
    loader.map_max_entries("LOST", Shared::cpus()?);
    loader.map_max_entries("REPEATS", Shared::cpus()?);
    if !options.alarms {
        // Nobody counts failures.
        loader.map_max_entries("STORMS", 1);
    }
    if let Some(entries) = scope.most_pids() {
        loader.map_max_entries("PIDS", entries);
    }
    if scope.cgroups.is_empty() {
        loader.map_max_entries("CGROUPS", 1);
    }
    globals.write(&mut loader);
    if options.stacks == Stacks::Never {
        for map in ["STACK_TABLES", "STACK_IMAGES", "PYTHONS"] {
            loader.map_max_entries(map, 1);
        }
    }
    if options.log_level == 0 {
        // As small as rings can be: it is made a page. What its size is need not be asked for, and with file
        // capabilities cannot be: before 6.4 rustix reads /proc/self/auxv, which is root's then, and panics.
        loader.map_max_entries("AYA_LOGS", 1);
    }
    if options.slots {
        slots::make_room(&mut loader);
    }
    let mut ebpf = loader.load(object).map_err(explain_load)?;
    debug!("maps made after {:?}", start.elapsed());
    if options.slots {
        slots::fill(&mut ebpf)?;
    }
    scope.fill(&mut ebpf)?;
    let shared = Shared::of(&ebpf)?;
    let ring = ebpf
        .take_map("RECORDS")
        .context("no map RECORDS in the kernel object")?;
    Ok(Loaded {
        ebpf,
        ring: RingBuf::try_from(ring)?,
        shared,
        wants: Wants {
            alarms: options.alarms,
            tables: options.tables.is_some(),
            slots: options.slots,
            stacks: options.stacks,
        },
        without_hook: options.without_hook.clone(),
        preempts,
        branches: Branches::default(),
        targets: Targets::new(&btf),
        types: None,
        btf,
    })
}

fn explain_load(error: aya::EbpfError) -> anyhow::Error {
    let error = anyhow!(error);
    let mut io = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>());
    let is_refused = io.any(|io| io.kind() == io::ErrorKind::PermissionDenied);
    // Kernels before 5.11 charge maps to it (`bpf_charge_memlock` in kernel/bpf/syscall.c), and say EPERM.
    match getrlimit(Resource::Memlock).current.filter(|_| is_refused) {
        Some(bytes) => error.context(format!(
            "the kernel refused fdtrace's maps, which may have to fit into RLIMIT_MEMLOCK ({bytes} bytes): \
             `ulimit -l unlimited`, or cap_sys_resource for a binary with capabilities"
        )),
        None => error.context("the kernel refused fdtrace's maps"),
    }
}

impl Loaded {
    /// For a snapshot: the programs and maps, with the processes asked for in scope.
    pub fn for_snapshot(self, scope: &Scope) -> Result<(Ebpf, Targets)> {
        let Self {
            mut ebpf, targets, ..
        } = self;
        scope.add_descendants(&mut ebpf)?;
        Ok((ebpf, targets))
    }

    /// Loads the iterators through which tables are looked at: reading the types for it is half of what that
    /// takes, and is done once.
    pub(super) fn load_iterators(&mut self, backend: Backend) -> Result<()> {
        let types = match self.types.take() {
            Some(types) => types,
            None => self.targets.iterators()?,
        };
        census::load(&mut self.ebpf, &types, census::program_of(backend))?;
        if self.wants.tables {
            tables::load(&mut self.ebpf, &types)?;
        }
        if self.wants.slots {
            slots::load(&mut self.ebpf, &types)?;
        }
        Ok(())
    }

    /// What the verifier has looked at for all programs loaded; kernels before 5.16 do not tell.
    pub(super) fn verified_instructions(&self) -> u32 {
        let infos = self
            .ebpf
            .programs()
            .filter_map(|(_, program)| program.info().ok());
        infos
            .filter_map(|info| info.verified_instruction_count())
            .sum()
    }

    /// Takes every program out of the kernel again.
    pub(super) fn unload(&mut self) {
        for (name, program) in self.ebpf.programs_mut() {
            let outcome = match program {
                Program::FEntry(program) => program.unload(),
                Program::FExit(program) => program.unload(),
                Program::KProbe(program) => program.unload(),
                Program::RawTracePoint(program) => program.unload(),
                Program::Iter(program) => program.unload(),
                _ => Ok(()),
            };
            match outcome {
                Ok(()) | Err(ProgramError::NotLoaded) => {}
                Err(error) => debug!("unloading {name}: {error}"),
            }
        }
    }
}
