use super::*;
use crate::{
    enrich::stacks::Frame,
    report::event::FdEvent,
    stream::{clock::Clock, decode::samples::alarm},
};

const SECOND: u64 = 1_000_000_000;

fn event(fd: u32) -> Fact {
    let event = FdEvent::failed(alarm(), Clock::System);
    Fact::Event(Box::new(FdEvent {
        fd: Some(fd),
        ..event
    }))
}

fn stack(function: &str) -> Arc<Stack> {
    let frame = Frame {
        function: Some(function.to_owned()),
        ..Frame::default()
    };
    Arc::new(Stack {
        frames: vec![frame],
        ..Stack::default()
    })
}

/// The numbers that come out, each with the function.
fn told(facts: impl Iterator<Item = Fact>) -> Vec<(u32, String)> {
    let told = facts.map(|fact| match fact {
        Fact::Event(event) => {
            let caller = event.stack.as_ref().and_then(|stack| stack.caller());
            let function = caller.map(ToString::to_string).unwrap_or_default();
            (event.fd.unwrap_or_default(), function)
        }
        _ => (0, String::new()),
    });
    told.collect()
}

fn ready(held: &mut Held, now_ns: u64) -> Vec<(u32, String)> {
    told(std::iter::from_fn(|| held.ready(now_ns)))
}

#[test]
fn what_waits_for_nothing_comes_at_once() {
    let mut held = Held::default();
    held.push(event(3), None, 0);
    held.push(event(4), None, 0);
    assert_eq!(
        ready(&mut held, 0),
        [(3, String::new()), (4, String::new())]
    );
}

#[test]
fn the_order_stays_whichever_stack_is_told_first() {
    let mut held = Held::default();
    held.push(event(3), Some(1), 0);
    held.push(event(4), None, 0);
    held.push(event(5), Some(2), 0);
    held.resolved(&[2], &stack("other"));
    assert_eq!(ready(&mut held, SECOND), []);
    // One that nobody waits for is not kept.
    held.resolved(&[1, 7], &stack("one"));
    assert_eq!(
        ready(&mut held, SECOND),
        [
            (3, "one".to_owned()),
            (4, String::new()),
            (5, "other".to_owned())
        ]
    );
    assert!(held.stacks.is_empty());
}

#[test]
fn a_stack_that_never_comes_holds_nothing_up_for_long() {
    let mut held = Held::default();
    held.push(event(3), Some(1), 0);
    held.push(event(4), Some(2), 9 * SECOND);
    assert_eq!(ready(&mut held, 9 * SECOND), []);
    assert_eq!(ready(&mut held, 10 * SECOND), [(3, String::new())]);
    held.resolved(&[1, 2], &stack("late"));
    assert_eq!(ready(&mut held, 10 * SECOND), [(4, "late".to_owned())]);
    assert!(held.stacks.is_empty());
}

#[test]
fn no_more_wait_than_there_is_room_for() {
    let mut held = Held::default();
    let mut came = 0;
    for number in 0..2 * FACTS as u64 {
        held.push(event(3), Some(number), 0);
        came += ready(&mut held, 0).len();
        assert!(held.facts.len() <= FACTS && held.stacks.len() <= FACTS);
    }
    assert_eq!(came, FACTS);
    assert_eq!(told(std::iter::from_fn(|| held.next())).len(), FACTS);
}

/// A recording may say anything.
#[test]
fn a_number_that_comes_twice_is_no_trouble() {
    let mut held = Held::default();
    held.push(event(3), Some(1), 0);
    held.push(event(4), Some(1), 0);
    held.resolved(&[1, 1], &stack("one"));
    assert_eq!(
        ready(&mut held, 0),
        [(3, "one".to_owned()), (4, String::new())]
    );
}
