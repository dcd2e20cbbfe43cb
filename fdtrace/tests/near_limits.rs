//! Ten thousand tables near their limits at once: what that costs in time, memory and output.

use std::time::{Duration, Instant};

use fdtrace::{
    diagnose::{
        diagnosis::{Diagnosis, Patient},
        near_limit::NearLimit,
    },
    ground::task::Task,
    model::{Model, tables::reconcile::Purpose},
    report::{
        fact::{Fact, NearLimit as Warning},
        json,
    },
    stream::clock::Clock,
};
use fdtrace_common::{
    change::{OpenRecord, ThreadRecord},
    record::{RECORD_BOUND, RECORD_SEEN},
};
use zerocopy::FromZeros;

const TABLES: u32 = 10_000;
const LIMIT: u64 = 64;
const USED: u32 = 60;
const SECOND: u64 = 1_000_000_000;

/// Two fds of a table have a name, as hostile as 32 bytes can be: each name is a row of its own.
fn model() -> Model {
    let mut model = Model::default();
    let mut pass = model.tables.begin_pass();
    for table in 1..=TABLES {
        pass.thread(ThreadRecord {
            kind: RECORD_BOUND,
            files: u64::from(table),
            tgid: table,
            tid: table,
            ..ThreadRecord::new_zeroed()
        });
        for fd in 0..USED {
            let mut record = OpenRecord {
                kind: RECORD_SEEN,
                fd,
                files: u64::from(table),
                file: u64::from(table) * LIMIT + u64::from(fd),
                mode: 0o100_644,
                ..OpenRecord::new_zeroed()
            };
            record.name.fill(0x1b);
            let own = format!("{table:05}{:02}", fd / 2);
            record.name[..7].copy_from_slice(own.as_bytes());
            pass.slot(&mut model.tables, &record);
        }
    }
    model.tables.end_pass(pass, Purpose::Baseline, &mut ());
    model
}

fn tasks() -> Vec<Task> {
    let task = |tid| Task {
        files: u64::from(tid),
        tgid: tid,
        tid,
        soft: LIMIT,
        hard: LIMIT,
        used: Some(USED),
        comm: vec![0x1b; 15],
    };
    (1..=TABLES).map(task).collect()
}

#[test]
fn ten_thousand_tables_near_their_limits_are_told_of_a_few_at_a_time() {
    const SECONDS: u64 = 20;
    let mut model = model();
    let mut near = NearLimit::new(80);
    let (mut told, mut longest, mut bytes) = (0, Duration::ZERO, 0);
    for second in 1..=SECONDS {
        let now_ns = second * SECOND;
        let start = Instant::now();
        let noted = model.limits.look(tasks());
        model.second(now_ns);
        let past = near.look(model.limits.all());
        let chosen = near.tell(past);
        assert!(chosen.len() <= 16, "{} in one second", chosen.len());
        assert!(noted.is_none_or(|noted| noted.len() <= 1_024));
        for task in chosen {
            told += 1;
            let diagnosis = Diagnosis::of(Patient::of_task(&task), &model, now_ns);
            let holders = diagnosis.as_ref().map_or(0, |told| told.holders.len());
            assert_eq!(holders, 11, "ten, and what is left");
            let warning = Warning::new(task, diagnosis, Clock::System.now());
            let mut line = Vec::new();
            json::write(&mut line, &Fact::NearLimit(Box::new(warning))).unwrap();
            assert!(line.len() < 8 << 10, "{} bytes in a line", line.len());
            bytes += line.len();
        }
        longest = longest.max(start.elapsed());
    }
    // All of them would have been 160.
    assert_eq!(told, 16 * SECONDS);
    assert!(model.trends.len() <= 8_192, "{} pasts", model.trends.len());
    assert!(bytes < 3 << 20, "{bytes} bytes of output");
    // Without optimization, on a machine that has other things to do.
    assert!(
        longest < Duration::from_secs(2),
        "a second took {longest:?}"
    );
}
