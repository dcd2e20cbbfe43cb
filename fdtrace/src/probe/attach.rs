//! Loading the programs, and choosing a backend by trying.

use std::{fmt, path::Path, time::Instant};

use anyhow::{Context, Result, anyhow, bail};
use aya::{
    Btf as AyaBtf, Ebpf, EbpfLoader, Endianness, include_bytes_aligned,
    maps::{MapData, RingBuf},
    programs::{FExit, KProbe, KProbeError, Program, ProgramError, RawTracePoint},
};
use log::debug;
use rustix::io::Errno;
use serde::Serialize;

use super::{
    btf::{Btf, BtfError},
    globals::Globals,
    maps, plan,
    plan::{HOOKS, Hook, Role},
    scope::Scope,
    self_test,
};

/// The kernel programs, compiled and stripped by build.rs.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fdtrace.bpf.o"));

/// A way to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Programs at the exit of kernel functions, through trampolines.
    Fentry,
    /// The same on kretprobes.
    Kprobe,
    /// The end of every system call, and the kernel's iterators.
    Census,
}

impl Backend {
    /// All, the best first.
    pub const ALL: [Self; 3] = [Self::Fentry, Self::Kprobe, Self::Census];

    /// Its name on the command line and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Census => "census",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A hook that is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttachedHook {
    /// The kernel function or tracepoint.
    pub function: String,
    /// What is seen there.
    pub sees: &'static str,
}

/// What one backend turned out to see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Hooks that are attached.
    pub hooks: Vec<AttachedHook>,
    /// What cannot be seen, and why.
    pub misses: Vec<String>,
    /// False leads whose feature this kernel has not built in.
    pub absent: Vec<String>,
}

impl Coverage {
    /// Takes down that the kernel has none of a hook's functions; an error if there is no backend
    /// without it.
    fn lacks(&mut self, hook: &Hook) -> Result<()> {
        let reason = format!("the kernel has no function {}", hook.functions.join(" or "));
        let (list, more) = match hook.role {
            Role::Required => bail!(reason),
            Role::Exhaustion => (&mut self.misses, ""),
            Role::FalseLead => (&mut self.absent, " built in"),
        };
        list.push(format!("{}: {reason}{more}", hook.sees));
        Ok(())
    }
}

/// A backend that is not used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// The backend.
    pub backend: Backend,
    /// In one line.
    pub reason: String,
}

/// How to load.
pub struct Options<'a> {
    /// Only this backend; the best that works where it is `None`.
    pub backend: Option<Backend>,
    /// A BTF file in place of the kernel's own.
    pub btf: Option<&'a Path>,
    /// Kernel-side log lines up to this level of aya-log's; 0 for none.
    pub log_level: u8,
}

/// The programs in the kernel. Dropping it takes them out.
pub struct Session {
    /// Programs and maps.
    pub ebpf: Ebpf,
    /// The kernel's types as aya wants them.
    pub btf: AyaBtf,
    /// The backend that runs.
    pub backend: Backend,
    /// What it sees.
    pub coverage: Coverage,
    /// Better backends, and why they are not used.
    pub rejected: Vec<Rejected>,
}

/// The object loaded, nothing attached.
pub struct Loaded {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    aya_btf: AyaBtf,
    btf: Btf,
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
    let aya_btf = match options.btf {
        Some(path) => AyaBtf::parse_file(path, Endianness::default())
            .with_context(|| format!("reading the BTF file {}", path.display()))?,
        None => AyaBtf::from_sys_fs().context("reading the kernel's BTF")?,
    };
    debug!("kernel types read in {:?}", start.elapsed());
    let globals = Globals::new(&btf, scope, options.log_level)?;
    let mut loader = EbpfLoader::new();
    loader.btf(Some(&aya_btf));
    globals.write(&mut loader);
    if options.log_level == 0 {
        loader.map_max_entries("AYA_LOGS", u32::try_from(rustix::param::page_size())?);
    }
    let mut ebpf = loader.load(OBJECT).map_err(explain_load)?;
    debug!("maps made after {:?}", start.elapsed());
    scope.fill(&mut ebpf)?;
    let ring = ebpf
        .take_map("RECORDS")
        .context("no map RECORDS in the kernel object")?;
    Ok(Loaded {
        ebpf,
        ring: RingBuf::try_from(ring)?,
        aya_btf,
        btf,
    })
}

fn explain_load(error: aya::EbpfError) -> anyhow::Error {
    anyhow!(error).context("the kernel refused fdtrace's maps")
}

/// The tick that a session begins with, see `Control::tick`.
pub const FIRST_TICK: u64 = 1;

/// Loads, attaches and proves the backend that is to run. From here on nothing in scope is missed:
/// records wait in the ring that comes with the session.
pub fn attach(options: &Options<'_>, scope: &Scope) -> Result<(Session, RingBuf<MapData>)> {
    let mut loaded = load(options, scope)?;
    let candidates = match options.backend {
        Some(backend) => vec![backend],
        None => Backend::ALL.to_vec(),
    };
    let mut rejected = Vec::new();
    for backend in candidates {
        match loaded.try_backend(backend) {
            Ok(coverage) => {
                loaded.follow(scope)?;
                maps::start(&mut loaded.ebpf, FIRST_TICK)?;
                let Loaded {
                    ebpf,
                    ring,
                    aya_btf,
                    btf: _,
                } = loaded;
                let session = Session {
                    ebpf,
                    btf: aya_btf,
                    backend,
                    coverage,
                    rejected,
                };
                return Ok((session, ring));
            }
            Err(error) => rejected.push(Rejected {
                backend,
                reason: one_line(&error),
            }),
        }
    }
    let reasons = rejected.iter().map(|rejected| {
        format!(
            "{} does not work here: {}",
            rejected.backend, rejected.reason
        )
    });
    bail!("{}", reasons.collect::<Vec<_>>().join("; "))
}

/// Tries every backend, one after the other, and leaves none attached.
pub fn survey(options: &Options<'_>) -> Result<Vec<(Backend, Result<Coverage, String>)>> {
    let mut loaded = load(options, &Scope::default())?;
    let mut try_one = |backend| {
        let outcome = loaded
            .try_backend(backend)
            .map_err(|error| one_line(&error));
        loaded.unload();
        (backend, outcome)
    };
    Ok(Backend::ALL.map(&mut try_one).into())
}

impl Loaded {
    /// For a snapshot: the programs and maps, with the processes asked for in scope.
    pub fn for_snapshot(self, scope: &Scope) -> Result<(Ebpf, AyaBtf)> {
        let Self {
            mut ebpf, aya_btf, ..
        } = self;
        scope.add_descendants(&mut ebpf)?;
        Ok((ebpf, aya_btf))
    }

    /// Attaches one backend and has it prove itself; leaves nothing attached where it fails.
    fn try_backend(&mut self, backend: Backend) -> Result<Coverage> {
        maps::start_self_test(&mut self.ebpf)?;
        let attached = match backend {
            Backend::Fentry | Backend::Kprobe => self.attach_hooks(backend),
            Backend::Census => self.attach_census(),
        };
        let outcome = attached.and_then(|coverage| {
            self_test::run(&mut self.ring, backend)?;
            Ok(coverage)
        });
        if outcome.is_err() {
            self.unload();
        }
        outcome
    }

    fn attach_hooks(&mut self, backend: Backend) -> Result<Coverage> {
        let mut coverage = Coverage::default();
        for hook in HOOKS {
            match self.attach_hook(backend, hook) {
                Ok(Some(function)) => coverage.hooks.push(AttachedHook {
                    function: function.to_owned(),
                    sees: hook.sees,
                }),
                Ok(None) => coverage.lacks(hook)?,
                Err(error) if hook.role == Role::Required => return Err(error),
                Err(error) => {
                    coverage
                        .misses
                        .push(format!("{}: {}", hook.sees, one_line(&error)));
                }
            }
        }
        Ok(coverage)
    }

    /// Attaches one hook to the first of its functions that is there; `None` if none is.
    fn attach_hook(&mut self, backend: Backend, hook: &Hook) -> Result<Option<&'static str>> {
        for function in hook.functions {
            if self.btf.function(function)?.is_none() {
                continue;
            }
            let start = Instant::now();
            let attached = if backend == Backend::Fentry {
                self.attach_fexit(hook.fexit, function)
            } else {
                self.attach_kretprobe(hook, function)
            };
            attached.map_err(|error| explain(backend, function, &error))?;
            debug!(
                "{function}: attached in {:?}, {:?} instructions verified so far",
                start.elapsed(),
                self.verified_instructions(),
            );
            return Ok(Some(function));
        }
        Ok(None)
    }

    fn attach_fexit(&mut self, program: &str, function: &str) -> Result<(), ProgramError> {
        let program: &mut FExit = find(&mut self.ebpf, program)?.try_into()?;
        program.load(function, &self.aya_btf)?;
        program.attach()?;
        Ok(())
    }

    fn attach_kretprobe(&mut self, hook: &Hook, function: &str) -> Result<(), ProgramError> {
        let needs_entry = plan::dup_fd_has_errorp(&self.btf).unwrap_or(false);
        let entry = hook.kprobe.filter(|_| needs_entry);
        for program in entry.into_iter().chain([hook.kretprobe]) {
            let program: &mut KProbe = find(&mut self.ebpf, program)?.try_into()?;
            program.load()?;
            program.attach(function, 0)?;
        }
        Ok(())
    }

    fn attach_census(&mut self) -> Result<Coverage> {
        self.attach_raw_tracepoint(plan::SYS_EXIT, plan::SYS_EXIT)?;
        Ok(Coverage {
            hooks: vec![AttachedHook {
                function: plan::SYS_EXIT.to_owned(),
                sees: "every system call that returns EMFILE or ENFILE",
            }],
            misses: plan::CENSUS_MISSES
                .iter()
                .map(ToString::to_string)
                .collect(),
            absent: Vec::new(),
        })
    }

    fn attach_raw_tracepoint(&mut self, program: &str, tracepoint: &str) -> Result<()> {
        let attach = || -> Result<(), ProgramError> {
            let program: &mut RawTracePoint = find(&mut self.ebpf, program)?.try_into()?;
            program.load()?;
            program.attach(tracepoint)?;
            Ok(())
        };
        let mut attach = attach;
        attach().map_err(|error| explain(Backend::Census, tracepoint, &error))
    }

    /// Keeps the set of watched processes up to date from here on.
    fn follow(&mut self, scope: &Scope) -> Result<()> {
        if scope.pids.is_empty() {
            return Ok(());
        }
        for (program, tracepoint) in plan::FOLLOW_TRACEPOINTS {
            self.attach_raw_tracepoint(program, tracepoint)?;
        }
        scope.add_descendants(&mut self.ebpf)
    }

    /// What the verifier has looked at for all programs loaded; kernels before 5.16 do not tell.
    fn verified_instructions(&self) -> u32 {
        let infos = self
            .ebpf
            .programs()
            .filter_map(|(_, program)| program.info().ok());
        infos
            .filter_map(|info| info.verified_instruction_count())
            .sum()
    }

    fn unload(&mut self) {
        for (name, program) in self.ebpf.programs_mut() {
            let outcome = match program {
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

fn find<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, ProgramError> {
    ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)
}

/// Says in one line what a refusal means.
fn explain(backend: Backend, function: &str, error: &ProgramError) -> anyhow::Error {
    debug!("{function}: {error}");
    let (step, io_error) = match error {
        ProgramError::LoadError { io_error, .. } => ("load", Some(io_error)),
        ProgramError::SyscallError(error) => (error.call, Some(&error.io_error)),
        ProgramError::KProbeError(KProbeError::FileError { io_error, .. }) => {
            ("attach", Some(io_error))
        }
        _ => ("attach", None),
    };
    let Some(io_error) = io_error else {
        return anyhow!("{function}: {}", first_line(&error.to_string()));
    };
    let meaning = match (backend, Errno::from_io_error(io_error)) {
        (Backend::Fentry, Some(Errno::PERM)) => {
            ": this kernel refuses programs that need a trampoline"
        }
        (Backend::Fentry, Some(Errno::OPNOTSUPP)) => ": no trampolines on this kernel",
        (Backend::Kprobe, _) if !has_kprobes() => ": this kernel has no kprobes (CONFIG_KPROBES)",
        _ => "",
    };
    anyhow!("{function}: {step}: {io_error}{meaning}")
}

/// Is there a kprobe event source? Only asked to explain a failure.
fn has_kprobes() -> bool {
    Path::new("/sys/bus/event_source/devices/kprobe").exists()
}

/// An error and its causes, without the pages that a verifier writes.
fn one_line(error: &anyhow::Error) -> String {
    first_line(&format!("{error:#}")).to_owned()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use std::io;

    use aya::sys::SyscallError;

    use super::*;

    fn refusal(call: &'static str, errno: Errno) -> ProgramError {
        ProgramError::SyscallError(SyscallError {
            call,
            io_error: io::Error::from(errno),
        })
    }

    #[test]
    fn a_refusal_says_where_and_what_it_means() {
        let error = refusal("bpf_raw_tracepoint_open", Errno::OPNOTSUPP);
        let text = explain(Backend::Fentry, "alloc_fd", &error).to_string();
        assert_eq!(
            text,
            "alloc_fd: bpf_raw_tracepoint_open: Operation not supported (os error 95): \
             no trampolines on this kernel"
        );
        let error = refusal("bpf_raw_tracepoint_open", Errno::PERM);
        let text = explain(Backend::Fentry, "alloc_fd", &error).to_string();
        assert!(
            text.ends_with("refuses programs that need a trampoline"),
            "{text}"
        );
        let text = explain(Backend::Census, "sys_exit", &error).to_string();
        assert!(text.ends_with("(os error 1)"), "{text}");
    }

    #[test]
    fn kprobes_that_the_kernel_does_not_have_are_named() {
        let error = KProbeError::FileError {
            filename: "/sys/bus/event_source/devices/kprobe/type".into(),
            io_error: io::Error::from(Errno::NOENT),
        };
        let text = explain(Backend::Kprobe, "alloc_fd", &error.into()).to_string();
        let meaning = "this kernel has no kprobes (CONFIG_KPROBES)";
        assert!(text.starts_with("alloc_fd: attach: No such file"), "{text}");
        assert_eq!(text.contains(meaning), !has_kprobes(), "{text}");
    }

    #[test]
    fn the_lack_of_a_function_is_told_to_whom_it_concerns() {
        let mut coverage = Coverage::default();
        let mut lacks = |function: &str| {
            let mut hooks = HOOKS.iter();
            let hook = hooks.find(|hook| hook.functions.contains(&function));
            coverage.lacks(hook.expect(function))
        };
        let error = lacks("alloc_fd").unwrap_err().to_string();
        assert_eq!(error, "the kernel has no function __alloc_fd or alloc_fd");
        lacks("ksys_dup3").unwrap();
        lacks("fuse_file_open").unwrap();
        assert_eq!(
            coverage.misses,
            ["dup2 and dup3 above the limit (EBADF): the kernel has no function ksys_dup3"]
        );
        assert_eq!(
            coverage.absent,
            [
                "EMFILE of a FUSE server that opens: the kernel has no function fuse_file_open \
                 built in"
            ]
        );
    }

    #[test]
    fn other_errors_are_one_line() {
        let text = explain(Backend::Fentry, "dup_fd", &ProgramError::NotLoaded).to_string();
        assert_eq!(text, "dup_fd: the program is not loaded");
        let error = anyhow!("invalid argument\n0: R1=ctx()\nprocessed 1 insns").context("loading");
        assert_eq!(one_line(&error), "loading: invalid argument");
        assert_eq!(one_line(&anyhow!("")), "");
    }
}
