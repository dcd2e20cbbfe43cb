//! `fdtrace doctor`: what this kernel offers, which backend runs and why, and the limits in force.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::{Ended, kernel_log_level, own, print_all};
use crate::{
    cli::Doctor,
    probe::{
        attach,
        backend::{Backend, Coverage, Rejected},
        cgroup,
        globals::{self, ResolvedField},
        host, load, proc_mount, requirements,
    },
    report::json,
};

/// Limits of the host that have to do with fds or are mistaken for it.
const SYSCTLS: [&str; 7] = [
    "fs/nr_open",
    "fs/file-max",
    "fs/inotify/max_user_instances",
    "fs/fanotify/max_user_groups",
    "fs/pipe-user-pages-hard",
    "fs/mqueue/queues_max",
    "kernel/unprivileged_bpf_disabled",
];

/// Everything that the doctor finds.
#[derive(Serialize)]
struct Findings {
    version: &'static str,
    kernel: String,
    machine: String,
    btf: bool,
    lockdown: Option<String>,
    cgroup2: Option<String>,
    missing_capabilities: Vec<&'static str>,
    backend: Option<&'static str>,
    backends: Vec<BackendFinding>,
    limits: Vec<(String, Option<u64>)>,
    files: Option<u64>,
    fields: Vec<FieldFinding>,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct BackendFinding {
    name: &'static str,
    works: bool,
    reason: Option<String>,
    coverage: Option<Coverage>,
    /// What to do about what it misses, or about its not working.
    advice: Vec<String>,
}

#[derive(Serialize)]
struct FieldFinding {
    field: String,
    offset: Option<u32>,
}

/// Looks at everything, prints it; status 1 where no backend works.
pub(super) fn run(args: &Doctor) -> Result<Ended> {
    own::raise_limit();
    let findings = examine(args);
    print_all(|output| {
        if args.run.json {
            json::line(output, "doctor", Timestamp::now(), &findings)
        } else {
            print(output, &findings, args.run.verbose > 0)
        }
    })?;
    Ok(if findings.backend.is_some() {
        Ended::Done
    } else {
        Ended::NothingFound
    })
}

fn examine(args: &Doctor) -> Findings {
    let uname = rustix::system::uname();
    let mut problems = Vec::new();
    let btf = load::kernel_types(args.run.btf.as_deref());
    let fields = match &btf {
        Ok(btf) => globals::resolve_fields(btf).unwrap_or_else(|error| {
            problems.push(format!("{error:#}"));
            Vec::new()
        }),
        Err(error) => {
            problems.push(format!("{error:#}"));
            Vec::new()
        }
    };
    problems.extend(requirements::problems());
    problems.extend(
        proc_mount::gaps()
            .iter()
            .map(|gap| format!("not seen here: {gap}")),
    );
    let backends = survey(args, &mut problems);
    for advice in backends.iter().flat_map(|backend| &backend.advice) {
        if !problems.contains(advice) {
            problems.push(advice.clone());
        }
    }
    let wanted = args.run.backend.forced();
    let works = |finding: &&BackendFinding| {
        finding.works && wanted.is_none_or(|backend| backend.name() == finding.name)
    };
    Findings {
        version: env!("CARGO_PKG_VERSION"),
        kernel: uname.release().to_string_lossy().into_owned(),
        machine: uname.machine().to_string_lossy().into_owned(),
        btf: btf.is_ok(),
        lockdown: requirements::lockdown(),
        cgroup2: cgroup::mount_point().map(|path| path.display().to_string()),
        missing_capabilities: requirements::missing_capabilities(),
        backend: backends.iter().find(works).map(|finding| finding.name),
        backends,
        limits: SYSCTLS
            .iter()
            .map(|name| (name.replace('/', "."), host::sysctl(name)))
            .collect(),
        files: host::files().files,
        fields: fields.into_iter().map(FieldFinding::from).collect(),
        problems,
    }
}

fn survey(args: &Doctor, problems: &mut Vec<String>) -> Vec<BackendFinding> {
    let options = load::Options {
        backend: None,
        btf: args.run.btf.as_deref(),
        log_level: kernel_log_level(&args.run),
        alarms: true,
        tables: Some(load::Tables { details: false }),
        stacks: load::Stacks::Never,
        slots: false,
        ring_bytes: load::SMALL_RING,
        without_hook: None,
    };
    match attach::survey(&options) {
        Ok(outcomes) => outcomes.into_iter().map(BackendFinding::from).collect(),
        Err(error) => {
            let reason = format!("{error:#}");
            if !problems.contains(&reason) {
                problems.push(reason);
            }
            Vec::new()
        }
    }
}

impl From<(Backend, Result<Coverage, Rejected>)> for BackendFinding {
    fn from((backend, outcome): (Backend, Result<Coverage, Rejected>)) -> Self {
        let name = backend.name();
        match outcome {
            Ok(coverage) => Self {
                name,
                works: true,
                reason: None,
                advice: coverage.advice.clone(),
                coverage: Some(coverage),
            },
            Err(rejected) => Self {
                name,
                works: false,
                reason: Some(rejected.reason),
                coverage: None,
                advice: rejected.advice.into_iter().collect(),
            },
        }
    }
}

impl From<ResolvedField> for FieldFinding {
    fn from(field: ResolvedField) -> Self {
        Self {
            field: format!("{}.{}", field.structure, field.paths[0]),
            offset: field.offset,
        }
    }
}

fn print(output: &mut impl Write, findings: &Findings, in_full: bool) -> io::Result<()> {
    let yes = |found: bool| if found { "yes" } else { "no" };
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    writeln!(output, "fdtrace       {}", findings.version)?;
    writeln!(
        output,
        "kernel        {} {}",
        findings.kernel, findings.machine
    )?;
    writeln!(output, "BTF           {}", yes(findings.btf))?;
    writeln!(output, "lockdown      {}", or_unknown(&findings.lockdown))?;
    let cgroup2 = findings
        .cgroup2
        .clone()
        .unwrap_or_else(|| "not mounted, --cgroup cannot be used".to_owned());
    writeln!(output, "cgroup v2     {cgroup2}")?;
    writeln!(output, "capabilities  {}", capabilities(findings))?;
    writeln!(
        output,
        "backend       {}",
        findings.backend.unwrap_or("none works")
    )?;
    for backend in &findings.backends {
        print_backend(output, backend, in_full)?;
    }
    writeln!(output, "limits of the host")?;
    for (name, value) in &findings.limits {
        let value = value.map_or_else(|| unreadable().to_owned(), |value| value.to_string());
        writeln!(output, "  {name:<34} {value}")?;
    }
    if let Some(files) = findings.files {
        writeln!(output, "  {:<34} {files}", "files allocated now")?;
    }
    if in_full {
        writeln!(output, "offsets of kernel fields")?;
        for field in &findings.fields {
            let offset = field
                .offset
                .map_or_else(|| "absent".to_owned(), |offset| offset.to_string());
            writeln!(output, "  {:<34} {offset}", field.field)?;
        }
    }
    for problem in &findings.problems {
        writeln!(output, "problem: {problem}")?;
    }
    Ok(())
}

/// Why a limit has no value.
fn unreadable() -> &'static str {
    if Path::new("/proc/sys").exists() {
        "not on this kernel"
    } else {
        "unknown: there is no /proc/sys"
    }
}

/// Are they enough? That is for the kernel to say, and not for the list.
fn capabilities(findings: &Findings) -> String {
    let missing = &findings.missing_capabilities;
    if !missing.is_empty() {
        return format!("missing {}", missing.join(", "));
    }
    let is_short = findings
        .backends
        .iter()
        .any(|backend| !backend.advice.is_empty());
    if is_short {
        "all there, and not enough on this host (see problem)".to_owned()
    } else {
        "all there".to_owned()
    }
}

fn print_backend(
    output: &mut impl Write,
    backend: &BackendFinding,
    in_full: bool,
) -> io::Result<()> {
    match (&backend.coverage, &backend.reason) {
        (Some(coverage), _) => {
            writeln!(
                output,
                "  {:<8} works, its self-test saw an EMFILE",
                backend.name
            )?;
            for miss in &coverage.misses {
                writeln!(output, "           does not see {miss}")?;
            }
            for feature in &coverage.absent {
                writeln!(output, "           does not look for {feature}")?;
            }
            for hook in coverage.hooks.iter().filter(|_| in_full) {
                write!(output, "           {}: {}", hook.function, hook.sees)?;
                match &hook.place {
                    Some(place) => writeln!(output, " (at {place})")?,
                    None => writeln!(output)?,
                }
            }
            Ok(())
        }
        (None, reason) => {
            writeln!(
                output,
                "  {:<8} does not work: {}",
                backend.name,
                reason.as_deref().unwrap_or("unknown")
            )
        }
    }
}
