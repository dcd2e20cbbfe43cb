use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
    mpsc::{Sender, channel},
};

use super::*;
use crate::report::fact::{Exhausted, samples};

/// One that can be told from the others.
fn fact(repeats: u64) -> Fact {
    Fact::Exhausted(Box::new(Exhausted {
        repeats,
        is_news: false,
        ..samples::exhausted()
    }))
}

/// Keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Does not write before it is told to, as a pipe that nobody reads from.
struct Stuck {
    reached: Sender<()>,
    released: Receiver<()>,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.reached.send(());
        let _ = self.released.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Fails to write.
struct Failing(io::ErrorKind);

impl Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn facts_are_written_in_order_and_the_last_one_too() {
    let kept = Kept::default();
    let mut writer = Writer::start(kept.clone(), Format::Json, None, || ()).unwrap();
    for number in 1..=3 {
        writer.send(fact(number));
    }
    assert_eq!(writer.dropped(), 0);
    writer.finish(fact(4)).unwrap();
    let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    let numbers = text.lines().map(|line| {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        object["repeats"].as_u64().unwrap()
    });
    assert_eq!(numbers.collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn text_begins_with_one_header() {
    let kept = Kept::default();
    let mut writer = Writer::start(kept.clone(), Format::Text(Paper::Plain), None, || ()).unwrap();
    writer.send(Fact::Start);
    writer.send(fact(1));
    writer.finish(fact(2)).unwrap();
    let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    // And a line a report: they say no more than that it goes on.
    assert_eq!(text.lines().count(), 3);
    assert!(text.starts_with("TIME"), "{text}");
    assert_eq!(text.matches("TIME").count(), 1);
}

#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    let (reached, is_reached) = channel();
    let (release, released) = channel();
    let stuck = Stuck { reached, released };
    let mut writer = Writer::start(stuck, Format::Text(Paper::Plain), None, || ()).unwrap();
    writer.send(Fact::Start);
    // From here on the thread hangs in its header and takes no fact.
    is_reached.recv().unwrap();
    for number in 0..WAITING as u64 {
        writer.send(fact(number));
    }
    assert_eq!(writer.dropped(), 0);
    for number in 0..7 {
        writer.send(fact(number));
    }
    assert_eq!(writer.dropped(), 7);
    drop(release);
    writer.finish(fact(0)).unwrap();
}

#[test]
fn a_closed_pipe_is_an_ordinary_end() {
    let has_ended = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&has_ended);
    let failing = Failing(io::ErrorKind::BrokenPipe);
    let ended = move || ended.store(true, Ordering::SeqCst);
    let mut writer = Writer::start(failing, Format::Json, None, ended).unwrap();
    writer.send(fact(1));
    while !has_ended.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    // Nobody takes it any more, which is no drop: `finish` tells why.
    writer.send(fact(2));
    assert_eq!(writer.dropped(), 0);
    writer.finish(fact(3)).unwrap();
}

#[test]
fn a_full_disk_is_an_error() {
    let failing = Failing(io::ErrorKind::StorageFull);
    let writer = Writer::start(failing, Format::Text(Paper::Plain), None, || ()).unwrap();
    let error = writer.finish(fact(1)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

/// Fails in a way that nobody has foreseen.
struct Panicking;

impl Write for Panicking {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        panic!("this is part of the test");
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_thread_that_panics_ends_the_stream() {
    let (ended, has_ended) = channel();
    let ended = move || {
        let _ = ended.send(());
    };
    let mut writer = Writer::start(Panicking, Format::Text(Paper::Plain), None, ended).unwrap();
    writer.send(Fact::Start);
    has_ended.recv().unwrap();
    assert_eq!(
        writer.finish(fact(1)).unwrap_err().kind(),
        io::ErrorKind::Other
    );
}
