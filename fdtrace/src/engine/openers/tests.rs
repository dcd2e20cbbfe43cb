use rustc_hash::FxHashSet;

use super::*;

type Tables = FxHashSet<Slot>;

fn open(tables: &mut Tables, files: u64, fd: u32, file: u64) {
    tables.insert((files, fd, file));
}

fn close(tables: &mut Tables, files: u64, fd: u32, file: u64) {
    tables.remove(&(files, fd, file));
}

#[test]
fn an_opener_is_that_of_one_file() {
    let (mut openers, tables) = (Openers::default(), Tables::default());
    let mut gone = Vec::new();
    openers.put((1, 3, 0xa), 7, &|slot| tables.contains(&slot), &mut gone);
    assert_eq!(openers.get(1, 3, 0xa), Some(7));
    assert_eq!(openers.get(1, 3, 0xb), None, "another file took its place");
    assert_eq!(openers.get(2, 3, 0xa), None, "another table");
    openers.put((1, 3, 0xb), 8, &|slot| tables.contains(&slot), &mut gone);
    assert_eq!(openers.get(1, 3, 0xb), Some(8));
    assert_eq!(gone, [7]);
}

#[test]
fn those_of_closed_fds_are_forgotten() {
    let (mut openers, mut tables) = (Openers::default(), Tables::default());
    let mut gone = Vec::new();
    let mut sequence = 0;
    // One fd of all stays open.
    for round in 0..FEW as u64 * 10 {
        let (fd, file) = (u32::try_from(round % 8_000).unwrap(), round + 1);
        openers.put(
            (1, fd, file),
            sequence,
            &|slot| tables.contains(&slot),
            &mut gone,
        );
        open(&mut tables, 1, fd, file);
        if round > 0 {
            close(&mut tables, 1, fd, file);
        }
        sequence += 1;
        assert!(openers.len() <= FEW);
    }
    assert_eq!(openers.get(1, 0, 1), None, "its slot was used again");
    // Each is either known or gone, and none twice.
    gone.sort_unstable();
    gone.dedup();
    assert_eq!(
        gone.len() + openers.len(),
        usize::try_from(sequence).unwrap()
    );
}

#[test]
fn there_is_an_end_to_it() {
    let (mut openers, mut tables) = (Openers::default(), Tables::default());
    let mut gone = Vec::new();
    for number in 0..MAX as u64 + 5 {
        let fd = u32::try_from(number).unwrap();
        openers.put(
            (1, fd, number + 1),
            number,
            &|slot| tables.contains(&slot),
            &mut gone,
        );
        open(&mut tables, 1, fd, number + 1);
    }
    assert_eq!((openers.len(), openers.refused()), (MAX, 5));
    assert_eq!(gone.len(), 5);
}
