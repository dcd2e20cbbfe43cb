use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::stream::decode::samples;

const SECOND: u64 = PACE_NS;
/// No report.
const NOTHING: [u64; 0] = [];

fn key(process: u32) -> StormKey {
    StormKey {
        tgid: process,
        ..samples::alarm().key
    }
}

/// A record of process 1: the `failures`th that `cpu` has counted.
fn alarm(time_ns: u64, cpu: u32, failures: u64) -> Alarm {
    Alarm {
        time_ns,
        key: key(1),
        failures,
        cpu,
        ..samples::alarm()
    }
}

/// What is made of a failure: when it was, and on which CPU.
fn take(storms: &mut Storms<u64>, alarm: Alarm) -> Option<Report<u64>> {
    storms.apply(alarm, |alarm| {
        alarm.time_ns.wrapping_mul(10) + u64::from(alarm.cpu)
    })
}

fn repeats(report: Option<Report<u64>>) -> Option<u64> {
    report.map(|report| report.repeats)
}

fn all_repeats(reports: &[Report<u64>]) -> Vec<u64> {
    reports.iter().map(|report| report.repeats).collect()
}

#[test]
fn the_first_is_reported_at_once() {
    let mut storms = Storms::<u64>::default();
    let report = take(&mut storms, alarm(7, 0, 1)).unwrap();
    let expected = Report {
        alarm: alarm(7, 0, 1),
        made: 70,
        repeats: 0,
        time_ns: 7,
        is_first: true,
    };
    assert_eq!(report, expected);
}

#[test]
fn the_first_report_stands_for_what_was_lost_before_it() {
    let mut storms = Storms::<u64>::default();
    assert_eq!(repeats(take(&mut storms, alarm(7, 0, 5))), Some(4));
}

#[test]
fn further_ones_wait_for_a_second() {
    let mut storms = Storms::<u64>::default();
    assert_eq!(repeats(take(&mut storms, alarm(0, 0, 1))), Some(0));
    assert_eq!(repeats(take(&mut storms, alarm(SECOND - 1, 1, 40))), None);
    assert_eq!(all_repeats(&storms.due(SECOND - 1)), NOTHING);
    // 1 told, 40 of CPU 1, 9 more of CPU 0: one report that stands for 48 others.
    assert_eq!(repeats(take(&mut storms, alarm(SECOND, 0, 10))), Some(48));
    assert_eq!(all_repeats(&storms.due(SECOND)), NOTHING);
}

#[test]
fn what_is_held_back_is_due_a_second_after_the_last_report() {
    let mut storms = Storms::<u64>::default();
    assert!(take(&mut storms, alarm(0, 0, 1)).is_some());
    assert!(take(&mut storms, alarm(10, 0, 2)).is_none());
    storms.observe(&key(1), [(0, 30), (1, 5)]);
    assert_eq!(all_repeats(&storms.due(SECOND)), [33]);
    assert_eq!(all_repeats(&storms.due(3 * SECOND)), NOTHING);
    assert_eq!(all_repeats(&storms.rest(3 * SECOND)), NOTHING);
}

#[test]
fn the_end_tells_everything() {
    let mut storms = Storms::<u64>::default();
    assert!(take(&mut storms, alarm(0, 0, 1)).is_some());
    storms.observe(&key(1), [(0, 8)]);
    assert_eq!(all_repeats(&storms.rest(1)), [6]);
}

#[test]
fn an_older_total_changes_nothing() {
    let mut storms = Storms::<u64>::default();
    assert_eq!(repeats(take(&mut storms, alarm(0, 0, 100))), Some(99));
    assert!(take(&mut storms, alarm(1, 1, 50)).is_none());
    assert!(take(&mut storms, alarm(2, 0, 60)).is_none());
    storms.observe(&key(1), [(0, 99)]);
    storms.observe(&key(1), []);
    assert_eq!(all_repeats(&storms.due(SECOND)), [49]);
    assert!(take(&mut storms, alarm(3 * SECOND, 0, 70)).is_none());
    assert_eq!(all_repeats(&storms.rest(9 * SECOND)), NOTHING);
}

#[test]
fn kinds_are_counted_apart() {
    let mut storms = Storms::<u64>::default();
    assert!(take(&mut storms, alarm(0, 0, 1)).is_some());
    let other = Alarm {
        key: key(2),
        ..alarm(1, 0, 1)
    };
    assert_eq!(repeats(take(&mut storms, other)), Some(0));
    storms.observe(&key(3), [(0, 1000)]);
    assert_eq!(storms.all().len(), 2);
    assert_eq!(all_repeats(&storms.rest(2)), NOTHING);
}

#[test]
fn reports_come_in_the_order_of_their_failures() {
    let mut storms = Storms::<u64>::default();
    for (process, time_ns) in [(3, 30), (1, 10), (2, 20)] {
        let first = Alarm {
            key: key(process),
            ..alarm(time_ns, 0, 1)
        };
        assert!(take(&mut storms, first).is_some());
        storms.observe(&key(process), [(0, 2)]);
    }
    let rest = storms.rest(40);
    let order: Vec<_> = rest.iter().map(|report| report.alarm.key.tgid).collect();
    assert_eq!(order, [1, 2, 3]);
}

#[test]
fn storms_go_quiet_then_stale() {
    let mut storms = Storms::<u64>::default();
    assert!(take(&mut storms, alarm(SECOND, 0, 1)).is_some());
    assert_eq!(storms.active(SECOND + QUIET_NS - 1), [key(1)]);
    assert_eq!(storms.active(SECOND + QUIET_NS), []);
    assert_eq!(storms.stale(SECOND + STALE.ns()), []);
    assert_eq!(storms.stale(SECOND + STALE.ns() + 1), [key(1)]);
}

#[test]
fn forgetting_tells_what_was_held_back() {
    let mut storms = Storms::<u64>::default();
    assert!(take(&mut storms, alarm(0, 0, 1)).is_some());
    storms.observe(&key(1), [(1, 3)]);
    assert_eq!(repeats(storms.forget(&key(1), 2)), Some(2));
    assert_eq!(storms.forget(&key(1), 3), None);
    assert_eq!(storms.all(), []);
    // The number may be another process's now; a kind that is new is told at once again.
    assert_eq!(repeats(take(&mut storms, alarm(4, 0, 1))), Some(0));
}

/// What a report shows: when its failure was and what was made of it, and when the report was made.
fn shown(report: &Report<u64>) -> (u64, u64, u64) {
    (report.alarm.time_ns, report.made, report.time_ns)
}

#[test]
fn what_is_held_back_is_shown_as_it_was() {
    let mut storms = Storms::<u64>::default();
    assert!(take(&mut storms, alarm(1, 0, 1)).is_some());
    assert!(take(&mut storms, alarm(2, 1, 5)).is_none());
    // Too many to look at each one's table.
    let made = storms.apply(alarm(3, 2, 5), |_| unreachable!("one is pending"));
    assert_eq!(made, None);
    let due = storms.due(SECOND + 1);
    assert_eq!(
        due.iter().map(shown).collect::<Vec<_>>(),
        [(2, 21, SECOND + 1)]
    );
    assert_eq!(all_repeats(&due), [9]);
}

#[test]
fn what_is_only_counted_shows_the_failure_before() {
    let mut storms = Storms::<u64>::default();
    assert!(take(&mut storms, alarm(1, 0, 1)).is_some());
    storms.observe(&key(1), [(0, 6)]);
    let due = storms.due(SECOND + 1);
    assert_eq!(
        due.iter().map(shown).collect::<Vec<_>>(),
        [(1, 10, SECOND + 1)]
    );
    // A record that came late adds nothing.
    assert!(take(&mut storms, alarm(5, 0, 6)).is_none());
    storms.observe(&key(1), [(0, 7)]);
    let rest = storms.rest(2 * SECOND);
    assert_eq!(
        rest.iter().map(shown).collect::<Vec<_>>(),
        [(1, 10, 2 * SECOND)]
    );
}

#[test]
fn what_is_reported_at_once_is_shown_although_another_was_held_back() {
    let mut storms = Storms::<u64>::default();
    assert!(take(&mut storms, alarm(1, 0, 1)).is_some());
    assert!(take(&mut storms, alarm(2, 1, 1)).is_none());
    let report = take(&mut storms, alarm(SECOND + 1, 2, 1)).unwrap();
    assert_eq!(shown(&report), (SECOND + 1, SECOND * 10 + 12, SECOND + 1));
    assert_eq!(report.repeats, 1);
}

#[test]
fn a_failure_after_a_quiet_time_is_a_first_one_again() {
    let mut storms = Storms::<u64>::default();
    let mut firsts = |time_ns, failures| {
        let report = take(&mut storms, alarm(time_ns, 0, failures));
        report.map(|report| report.is_first)
    };
    assert_eq!(firsts(0, 1), Some(true));
    assert_eq!(firsts(2 * SECOND, 2), Some(false));
    assert_eq!(firsts(2 * SECOND + QUIET_NS - 1, 3), Some(false));
    assert_eq!(firsts(2 * SECOND + 2 * QUIET_NS - 1, 4), Some(true));
    assert_eq!(firsts(4 * SECOND + 2 * QUIET_NS, 5), Some(false));
}

/// The reader was held up, so that the last report was made late.
#[test]
fn a_first_one_that_is_held_back_is_reported_as_one() {
    let mut storms = Storms::<u64>::default();
    assert!(take(&mut storms, alarm(0, 0, 1)).is_some());
    storms.observe(&key(1), [(0, 2)]);
    let due = storms.due(QUIET_NS);
    assert!(!due[0].is_first);
    assert!(take(&mut storms, alarm(QUIET_NS + 1, 0, 3)).is_none());
    assert!(take(&mut storms, alarm(QUIET_NS + 2, 1, 1)).is_none());
    let due = storms.due(QUIET_NS + SECOND);
    assert_eq!((due[0].is_first, due[0].repeats), (true, 1));
}

#[test]
fn time_may_stand_at_its_end() {
    let mut storms = Storms::<u64>::default();
    assert!(take(&mut storms, alarm(u64::MAX, 0, 1)).is_some());
    storms.observe(&key(1), [(0, 2)]);
    assert_eq!(storms.active(u64::MAX), []);
    assert_eq!(storms.stale(u64::MAX), []);
    assert_eq!(all_repeats(&storms.due(u64::MAX)), [0]);
}

/// What may happen between the kernel and the reader.
#[derive(Clone, Debug)]
enum Event {
    /// Some calls fail on a CPU; a record of the last is written.
    Fail { process: u32, cpu: u32, times: u64 },
    /// The same, but the record finds the ring full.
    Lose { process: u32, cpu: u32, times: u64 },
    /// The reader takes one of the records written so far, any of them, perhaps once more.
    Deliver(prop::sample::Index),
    /// Time goes by.
    Wait(u64),
    /// The reader's tick.
    Tick,
}

fn event() -> impl Strategy<Value = Event> {
    let fail = (0..3_u32, 0..4_u32, 1..1000_u64);
    prop_oneof![
        4 => fail.clone().prop_map(|(process, cpu, times)| Event::Fail { process, cpu, times }),
        1 => fail.prop_map(|(process, cpu, times)| Event::Lose { process, cpu, times }),
        6 => any::<prop::sample::Index>().prop_map(Event::Deliver),
        2 => (0..2 * SECOND).prop_map(Event::Wait),
        2 => Just(Event::Tick),
    ]
}

/// Kernel and reader, and what the reader was told.
#[derive(Default)]
struct World {
    storms: Storms<u64>,
    now_ns: u64,
    counted: BTreeMap<(u32, u32), u64>,
    written: Vec<Alarm>,
    reports: Vec<(u64, Report<u64>)>,
}

impl World {
    fn fail(&mut self, process: u32, cpu: u32, times: u64) -> Alarm {
        let cell = self.counted.entry((process, cpu)).or_default();
        *cell += times;
        Alarm {
            key: key(process),
            ..alarm(self.now_ns, cpu, *cell)
        }
    }

    fn cells(&self, process: u32) -> Vec<(u32, u64)> {
        let cells = self.counted.range((process, 0)..(process + 1, 0));
        cells.map(|((_, cpu), count)| (*cpu, *count)).collect()
    }

    fn observe(&mut self, keys: &[StormKey]) {
        for key in keys {
            let cells = self.cells(key.tgid);
            self.storms.observe(key, cells);
        }
    }

    fn step(&mut self, event: &Event) {
        // Two records never have the same time.
        self.now_ns += 1;
        match event {
            Event::Fail {
                process,
                cpu,
                times,
            } => {
                let record = self.fail(*process, *cpu, *times);
                self.written.push(record);
            }
            Event::Lose {
                process,
                cpu,
                times,
            } => {
                self.fail(*process, *cpu, *times);
            }
            Event::Deliver(_) if self.written.is_empty() => {}
            Event::Deliver(index) => {
                let record = index.get(&self.written).clone();
                let time_ns = record.time_ns;
                let report = take(&mut self.storms, record);
                self.reports.extend(report.map(|report| (time_ns, report)));
            }
            Event::Wait(time_ns) => self.now_ns += time_ns,
            Event::Tick => {
                self.observe(&self.storms.active(self.now_ns));
                let due = self.storms.due(self.now_ns);
                self.reports
                    .extend(due.into_iter().map(|report| (self.now_ns, report)));
            }
        }
    }

    fn told(&self, process: u32) -> u64 {
        let of_process = self
            .reports
            .iter()
            .filter(|(_, report)| report.alarm.key.tgid == process);
        of_process.map(|(_, report)| 1 + report.repeats).sum()
    }
}

proptest! {
    #[test]
    fn reports_add_up_and_keep_their_pace(events in prop::collection::vec(event(), 0..200)) {
        let mut world = World::default();
        for event in &events {
            world.step(event);
        }
        let mut told_at: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for (time_ns, report) in &world.reports {
            told_at.entry(report.alarm.key.tgid).or_default().push(*time_ns);
        }
        for times in told_at.values() {
            for pair in times.windows(2) {
                prop_assert!(pair[1] >= pair[0] + SECOND, "{times:?}");
            }
        }
        world.observe(&world.storms.all());
        let rest = world.storms.rest(world.now_ns);
        world.reports.extend(rest.into_iter().map(|report| (world.now_ns, report)));
        for key in world.storms.all() {
            let counted: u64 = world.cells(key.tgid).iter().map(|(_, count)| count).sum();
            prop_assert_eq!(world.told(key.tgid), counted);
        }
    }
}
