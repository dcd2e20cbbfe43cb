//! What an audit has found: every difference with its history, and the verdict.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use serde::Serialize;

use super::{
    json,
    sanitize::printable,
    words::{count, counted, limit},
};
use crate::{
    engine::change::{Change, Op},
    probe::{backend::Backend, runs::ProgramRuns},
    stream::clock::Clock,
};

/// The whole result.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The clock of what was followed.
    pub clock: Clock,
    /// What ran.
    pub backend: Backend,
    /// For how long.
    pub duration_s: f64,
    /// Records applied.
    pub records: u64,
    /// Records that nobody has seen.
    pub lost: u64,
    /// Slots put right before the comparison.
    pub repaired: u64,
    /// What fdtrace's programs in the kernel have done; `None`: nobody has counted.
    pub programs: Option<Vec<ProgramRuns>>,
    /// Tables compared; processes can share one.
    pub tables: usize,
    /// The processes, and threads with tables of their own.
    pub compared: Vec<Compared>,
    /// What differs.
    pub differences: Vec<Disagreement>,
}

/// One process's table.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The table, which processes can share.
    pub files: u64,
    /// The process.
    pub pid: u32,
    /// The thread whose table it is.
    pub tid: u32,
    /// Its name. Hostile text.
    pub comm: Vec<u8>,
    /// Numbers taken, as the kernel counts them.
    pub used: Option<u32>,
    /// Fds open, as they were followed.
    pub open: u32,
    /// Soft `RLIMIT_NOFILE`.
    pub soft: u64,
}

/// One difference.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// The process.
    pub pid: u32,
    /// The thread whose table it is.
    pub tid: u32,
    /// Its name. Hostile text.
    pub comm: Vec<u8>,
    /// The number; `None` where it is about which table a thread uses.
    pub fd: Option<u32>,
    /// As it was followed. Hostile text.
    pub model: Option<String>,
    /// As it is.
    pub kernel: Option<String>,
    /// What was told of it last.
    pub history: Vec<Change>,
}

/// Writes it, as text or as JSON; with `all` also what agrees.
pub fn write(
    output: &mut impl Write,
    as_json: bool,
    all: bool,
    verdict: &Verdict,
) -> io::Result<()> {
    if as_json {
        write_json(output, all, verdict)
    } else {
        write_text(output, all, verdict)
    }
}

fn write_text(output: &mut impl Write, all: bool, verdict: &Verdict) -> io::Result<()> {
    if all && !verdict.compared.is_empty() {
        writeln!(
            output,
            "{:>7} {:<15} {:>7} {:>7} {:>9}",
            "PID", "COMM", "USED", "OPEN", "LIMIT"
        )?;
        for table in &verdict.compared {
            let thread = if table.tid == table.pid {
                String::new()
            } else {
                format!(" [thread {}]", table.tid)
            };
            writeln!(
                output,
                "{:>7} {:<15} {:>7} {:>7} {:>9}{thread}",
                table.pid,
                printable(&table.comm),
                count(table.used.map(u64::from)),
                table.open,
                limit(table.soft),
            )?;
        }
    }
    for difference in &verdict.differences {
        let nothing = "nothing".to_owned();
        writeln!(
            output,
            "{:>7} {:<15} {} followed: {}, in the kernel: {}",
            difference.pid,
            printable(&difference.comm),
            difference.fd.map_or_else(
                || format!("thread {}", difference.tid),
                |fd| format!("fd {fd}")
            ),
            printable(difference.model.as_ref().unwrap_or(&nothing).as_bytes()),
            difference.kernel.as_ref().unwrap_or(&nothing),
        )?;
        for change in &difference.history {
            writeln!(
                output,
                "        {:.6} {} by {}/{}, file {:#x}",
                verdict.clock.at(change.time_ns),
                change.op,
                change.tgid,
                change.tid,
                change.open.file,
            )?;
        }
    }
    let open = open(&verdict.compared);
    let result = if verdict.differences.is_empty() {
        "exact".to_owned()
    } else {
        counted(verdict.differences.len() as u64, "difference")
    };
    writeln!(
        output,
        "{result}: {} of {} in {}, after {} in {:.1} s, {} lost, {} repaired, {} backend",
        counted(open, "fd"),
        processes(processes_of(&verdict.compared)),
        counted(verdict.tables as u64, "table"),
        counted(verdict.records, "record"),
        verdict.duration_s,
        verdict.lost,
        verdict.repaired,
        verdict.backend,
    )
}

fn processes(count: usize) -> String {
    format!("{count} process{}", if count == 1 { "" } else { "es" })
}

#[derive(Serialize)]
struct ProcessFields<'a> {
    pid: u32,
    tid: u32,
    comm: &'a str,
    used: Option<u32>,
    open: u32,
    limit: Option<u64>,
}

#[derive(Serialize)]
struct DifferenceFields<'a> {
    pid: u32,
    tid: u32,
    comm: &'a str,
    fd: Option<u32>,
    model: Option<&'a str>,
    kernel: Option<&'a str>,
    history: Vec<HistoryFields>,
}

#[derive(Serialize)]
struct HistoryFields {
    time: String,
    op: Op,
    pid: u32,
    tid: u32,
    file: String,
}

#[derive(Serialize)]
struct SummaryFields<'a> {
    backend: Backend,
    duration_s: f64,
    records: u64,
    lost: u64,
    repaired: u64,
    differences: usize,
    processes: usize,
    tables: usize,
    fds: u64,
    programs: Option<&'a [ProgramRuns]>,
}

fn write_json(output: &mut impl Write, all: bool, verdict: &Verdict) -> io::Result<()> {
    let now = verdict.clock.now();
    for table in verdict.compared.iter().filter(|_| all) {
        let fields = ProcessFields {
            pid: table.pid,
            tid: table.tid,
            comm: &String::from_utf8_lossy(&table.comm),
            used: table.used,
            open: table.open,
            limit: (table.soft != u64::MAX).then_some(table.soft),
        };
        json::line(output, "process", now, &fields)?;
    }
    for difference in &verdict.differences {
        let history = difference.history.iter().map(|change| HistoryFields {
            time: format!("{:.6}", verdict.clock.at(change.time_ns)),
            op: change.op,
            pid: change.tgid,
            tid: change.tid,
            file: format!("{:#x}", change.open.file),
        });
        let fields = DifferenceFields {
            pid: difference.pid,
            tid: difference.tid,
            comm: &String::from_utf8_lossy(&difference.comm),
            fd: difference.fd,
            model: difference.model.as_deref(),
            kernel: difference.kernel.as_deref(),
            history: history.collect(),
        };
        json::line(output, "difference", now, &fields)?;
    }
    let fields = SummaryFields {
        backend: verdict.backend,
        duration_s: verdict.duration_s,
        records: verdict.records,
        lost: verdict.lost,
        repaired: verdict.repaired,
        differences: verdict.differences.len(),
        processes: processes_of(&verdict.compared),
        tables: verdict.tables,
        fds: open(&verdict.compared),
        programs: verdict.programs.as_deref(),
    };
    json::line(output, "summary", now, &fields)
}

/// Fds open in these tables, each table counted once.
fn open(compared: &[Compared]) -> u64 {
    let tables: BTreeMap<u64, u32> = compared
        .iter()
        .map(|table| (table.files, table.open))
        .collect();
    tables.into_values().map(u64::from).sum()
}

/// The processes that these tables belong to.
fn processes_of(compared: &[Compared]) -> usize {
    let processes: BTreeSet<u32> = compared.iter().map(|table| table.pid).collect();
    processes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::table::OpenFd;

    fn verdict() -> Verdict {
        let change = Change {
            op: Op::Close,
            time_ns: 1,
            files: 0x1000,
            open: OpenFd {
                fd: 3,
                ..OpenFd::default()
            },
            tgid: 7,
            tid: 8,
            uid: 0,
            call: 0,
            in_scope: true,
            comm: [0; 16],
            process: [0; 16],
        };
        Verdict {
            clock: Clock::System,
            backend: Backend::Kprobe,
            duration_s: 2.5,
            records: 100,
            lost: 1,
            repaired: 2,
            programs: None,
            tables: 1,
            compared: vec![Compared {
                files: 0x1000,
                pid: 7,
                tid: 7,
                comm: b"\x1b[2Jx".to_vec(),
                used: Some(5),
                open: 4,
                soft: 1024,
            }],
            differences: vec![Disagreement {
                pid: 7,
                tid: 7,
                comm: b"\x1b[2Jx".to_vec(),
                fd: Some(3),
                model: Some("file a\nb file 0x10".to_owned()),
                kernel: None,
                history: vec![change],
            }],
        }
    }

    fn written(as_json: bool, verdict: &Verdict) -> String {
        let mut output = Vec::new();
        write(&mut output, as_json, true, verdict).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn a_difference_is_told_with_its_history() {
        let text = written(false, &verdict());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[2].contains("fd 3 followed: file a\\x0ab file 0x10, in the kernel: nothing"));
        assert!(lines[3].contains("close by 7/8"));
        assert_eq!(
            lines[4],
            "1 difference: 4 fds of 1 process in 1 table, after 100 records in 2.5 s, 1 lost, \
             2 repaired, kprobe backend"
        );
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn json_ends_with_a_summary() {
        let text = written(true, &verdict());
        let objects: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let types: Vec<_> = objects.iter().map(|object| &object["type"]).collect();
        assert_eq!(types, ["process", "difference", "summary"]);
        assert_eq!(objects[1]["kernel"], serde_json::Value::Null);
        assert_eq!(objects[1]["history"][0]["op"], "close");
        assert_eq!(objects[2]["differences"], 1);
    }

    #[test]
    fn tables_and_processes_are_counted_once() {
        let mut verdict = verdict();
        let own = verdict.compared[0].clone();
        // Another process with the same table, and a thread of the first with one of its own.
        let sharer = Compared {
            pid: 9,
            tid: 9,
            ..own.clone()
        };
        let thread = Compared {
            files: 0x2000,
            tid: 8,
            open: 3,
            ..own
        };
        verdict.compared.extend([sharer, thread]);
        verdict.tables = 2;
        let text = written(false, &verdict);
        assert!(text.contains("7 fds of 2 processes in 2 tables"), "{text}");
        let json = written(true, &verdict);
        let summary: serde_json::Value =
            serde_json::from_str(json.lines().last().unwrap()).unwrap();
        assert_eq!(
            (&summary["fds"], &summary["processes"]),
            (&7.into(), &2.into())
        );
    }

    #[test]
    fn agreement_is_one_word() {
        let mut verdict = verdict();
        verdict.differences.clear();
        assert!(written(false, &verdict).contains("\nexact: 4 fds"));
    }
}
