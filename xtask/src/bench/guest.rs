//! A guest in which the meter carries out a plan, and the figures it tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Options, peers,
    peers::Peer,
    plan::{Line, Load, Plan, Ready, Tracer},
    row::Measure,
    statistics,
};
use crate::{
    build,
    kernel::Kernel,
    vm::{self, Accelerator},
};

/// In the figures: the loads alone.
pub(crate) const UNTRACED: &str = "untraced";
/// In the figures: fdtrace itself.
pub(crate) const FDTRACE: &str = "fdtrace";

/// What fdtrace says when it sees everything.
const ARMED: &str = "Hit Ctrl-C";
/// bpftrace and its compiler are 200 MB of files, which lie in memory twice while the kernel unpacks them.
const MEMORY: &str = "3G";
/// Protections against the processor's own flaws cost more than any tracer, and differ by processor.
const KERNEL_ARGUMENTS: &[&str] = &["mitigations=off"];
/// Several times what it takes on a machine that has nothing else to do.
const LIMIT: Duration = Duration::from_mins(20);

/// What to measure in one boot.
pub(crate) struct Session<'a> {
    options: &'a Options,
    plan: Plan,
    files: BTreeSet<PathBuf>,
    placed: BTreeMap<PathBuf, PathBuf>,
    /// What there is in place of a peer's figures.
    absent: Vec<(&'static str, Measure)>,
}

impl<'a> Session<'a> {
    /// The loads alone, and under `fdtrace watch`.
    pub(crate) fn new(options: &'a Options, loads: Vec<Load>, rounds: u32) -> Self {
        let untraced = untraced(&loads);
        let fdtrace = Tracer {
            name: FDTRACE.to_owned(),
            command: if options.slots {
                vec!["/bin/slots".to_owned()]
            } else {
                ["/bin/fdtrace", "watch"].map(str::to_owned).to_vec()
            },
            ready: Ready::Said(ARMED.to_owned()),
            loads: untraced.loads.clone(),
        };
        Self {
            options,
            plan: Plan {
                tracers: vec![untraced, fdtrace],
                loads,
                rounds,
            },
            files: BTreeSet::new(),
            placed: BTreeMap::new(),
            absent: Vec::new(),
        }
    }

    /// The loads alone once more.
    pub(crate) fn add_untraced(&mut self) {
        let untraced = untraced(&self.plan.loads);
        self.plan.tracers.push(untraced);
    }

    /// More options of a tracer that is there.
    pub(crate) fn add_options(&mut self, name: &str, options: &[&str]) {
        for tracer in &mut self.plan.tracers {
            if tracer.name == name {
                let options = options.iter().map(|option| (*option).to_owned());
                tracer.command.extend(options);
            }
        }
    }

    /// fdtrace once more, with other options.
    pub(crate) fn add_fdtrace(&mut self, name: &str, options: &[&str]) {
        let command = ["/bin/fdtrace", "watch"].iter().chain(options);
        let tracer = Tracer {
            name: name.to_owned(),
            command: command.map(|word| (*word).to_owned()).collect(),
            ready: Ready::Said(ARMED.to_owned()),
            loads: untraced(&self.plan.loads).loads,
        };
        self.plan.tracers.push(tracer);
    }

    /// Files for the guest, by their places in it.
    pub(crate) fn add_files(&mut self, files: BTreeMap<PathBuf, PathBuf>) {
        self.placed.extend(files);
    }

    /// A peer beside some of the loads, or around them.
    pub(crate) fn add(&mut self, peer: Peer, ready: Ready, loads: &[&str]) -> Result<()> {
        if self.options.slots {
            let measure = Measure::NotMeasured("--slots".to_owned());
            self.absent.push((peer.name, measure));
            return Ok(());
        }
        match peer.find(self.options.quick) {
            Ok(program) => {
                self.files.extend(peers::with_libraries(&program)?);
                self.plan.tracers.push(peer.tracer(&program, ready, loads));
            }
            Err(measure) => self.absent.push((peer.name, measure)),
        }
        Ok(())
    }

    /// Boots and measures.
    pub(crate) fn run(self, kernel: Kernel, accelerator: Accelerator) -> Result<Figures> {
        let plan = serde_json::to_string(&self.plan)?;
        let mut request = vm::Request::new(kernel, vec!["/bin/meter".to_owned(), plan]);
        // What is only tried out need not be compiled as carefully as what is released.
        if self.options.slots {
            request.files.push((build::slots()?, "/bin/slots".into()));
        } else {
            let fdtrace = if self.options.quick {
                build::fdtrace()?
            } else {
                build::released_for_guests()?
            };
            request.files.push((fdtrace, "/bin/fdtrace".into()));
        }
        request.files.push((build::gym()?, "/bin/gym".into()));
        request.files.push((build::meter()?, "/bin/meter".into()));
        let shared = self.files.into_iter().map(|path| (path.clone(), path));
        request.files.extend(shared);
        let placed = self.placed.into_iter().map(|(place, path)| (path, place));
        request.files.extend(placed);
        request.memory = MEMORY.into();
        request.accelerator = accelerator;
        request.kernel_arguments = KERNEL_ARGUMENTS;
        request.limit = LIMIT;
        // opensnoop asks libc for the time with each line. libc opens a file for it where this is not
        // set and the file is absent, opensnoop tells that as well, and so on without end.
        request
            .environment
            .push(("TZ".to_owned(), "UTC0".to_owned()));
        let mut shown = Shown(Vec::new());
        let outcome = vm::run(&request, &mut shown)?;
        let output = String::from_utf8_lossy(&shown.0);
        let status = outcome
            .status()
            .with_context(|| format!("it told: {output}"))?;
        ensure!(
            status == 0,
            "the meter ended with status {status}: {output}"
        );
        Ok(Figures {
            lines: lines(&output),
            absent: self.absent,
        })
    }
}

fn untraced(loads: &[Load]) -> Tracer {
    Tracer {
        name: UNTRACED.to_owned(),
        command: Vec::new(),
        ready: Ready::Untraced,
        loads: loads.iter().map(|load| load.name.clone()).collect(),
    }
}

/// What comes out of a guest: kept, and shown as it comes, since it takes long.
struct Shown(Vec<u8>);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend(bytes);
        io::stderr().write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// What the meter has told, among other things that end up on the same terminal.
fn lines(output: &str) -> Vec<Line> {
    let lines = output.lines().map(str::trim);
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// What the meter has told.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    lines: Vec<Line>,
    absent: Vec<(&'static str, Measure)>,
}

impl Figures {
    /// Nanoseconds for an operation of a load, in each round.
    pub(crate) fn each(&self, tracer: &str, load: &str) -> Vec<f64> {
        let figure = |line: &Line| match line {
            Line::Load {
                tracer: whose,
                load: what,
                ns,
                operations,
            } if whose == tracer && what == load => Some(as_f64(*ns) / as_f64(*operations)),
            _ => None,
        };
        self.lines.iter().filter_map(figure).collect()
    }

    /// The same, in the middle of all rounds.
    pub(crate) fn cost(&self, tracer: &str, load: &str) -> Measure {
        self.measure(tracer, self.each(tracer, load))
    }

    /// The same without any tracer, at its lowest: a kernel that has just booted has work of its own.
    pub(crate) fn untraced(&self, load: &str) -> Measure {
        let lowest = self.each(UNTRACED, load).into_iter().reduce(f64::min);
        self.measure(UNTRACED, lowest.into_iter().collect())
    }

    /// Nanoseconds from a tracer's start until it was ready.
    pub(crate) fn start(&self, tracer: &str) -> Measure {
        let figure = |line: &Line| match line {
            Line::Start { tracer: whose, ns } if whose == tracer => Some(as_f64(*ns)),
            _ => None,
        };
        self.measure(tracer, self.lines.iter().filter_map(figure).collect())
    }

    /// Bytes of memory that a tracer had.
    pub(crate) fn memory(&self, tracer: &str) -> Measure {
        let figure = |line: &Line| match line {
            Line::Memory {
                tracer: whose,
                resident,
            } if whose == tracer => Some(as_f64(*resident)),
            _ => None,
        };
        self.measure(tracer, self.lines.iter().filter_map(figure).collect())
    }

    /// The median, or why there is none.
    pub(crate) fn measure(&self, tracer: &str, figures: Vec<f64>) -> Measure {
        if let Some(figure) = statistics::median(figures) {
            return Measure::Figure(figure);
        }
        if let Some((_, measure)) = self.absent.iter().find(|(name, _)| *name == tracer) {
            return measure.clone();
        }
        let reason = self.lines.iter().find_map(|line| match line {
            Line::Failed {
                tracer: whose,
                reason,
            } if whose == tracer => Some(reason.lines().next().unwrap_or_default().to_owned()),
            _ => None,
        });
        Measure::Failed(reason.unwrap_or_else(|| "no figure came from the guest".to_owned()))
    }
}

/// A number that is counted, where fractions do not matter any more.
#[expect(
    clippy::cast_precision_loss,
    reason = "figures have three digits, not sixteen"
)]
pub(crate) fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = r#"[  2.1] a line of the kernel's
{"type":"load","tracer":"untraced","load":"getppid","ns":3280,"operations":10}
{"type":"load","tracer":"untraced","load":"getppid","ns":10210,"operations":10}
{"type":"start","tracer":"fdtrace","ns":250}
{"type":"load","tracer":"fdtrace","load":"getppid","ns":3300,"operations":10}
{"type":"load","tracer":"fdtrace","load":"getppid","ns":3360,"operations":10}
{"type":"failed","tracer":"syscount","reason":"syscount has ended: no BTF\nand more"}
"#;

    #[test]
    fn figures_are_taken_from_what_a_guest_prints() {
        let figures = Figures {
            lines: lines(OUTPUT),
            absent: vec![("bpftrace", Measure::NotAvailable("no package".to_owned()))],
        };
        assert_eq!(figures.untraced("getppid"), Measure::Figure(328.0));
        assert_eq!(figures.cost(FDTRACE, "getppid"), Measure::Figure(333.0));
        assert_eq!(figures.start(FDTRACE), Measure::Figure(250.0));
        assert_eq!(
            figures.cost("syscount", "getppid"),
            Measure::Failed("syscount has ended: no BTF".to_owned())
        );
        assert_eq!(
            figures.cost("bpftrace", "getppid"),
            Measure::NotAvailable("no package".to_owned())
        );
        assert!(matches!(figures.memory(FDTRACE), Measure::Failed(_)));
    }
}
