use proptest::prelude::*;

use super::*;
use crate::engine::table::{Connection, TableBuilder};

/// An fd, and what it leads to.
type Open = (OpenFd, Option<&'static str>);

fn file(name: &'static str, since_ns: u64) -> Open {
    let open = OpenFd {
        kind: Kind::File,
        since_ns,
        inode: 5,
        ..OpenFd::default()
    };
    (open, Some(name))
}

fn socket(inode: u64, end: Option<&'static str>) -> Open {
    let open = OpenFd {
        kind: Kind::Tcp,
        since_ns: 3,
        inode,
        ..OpenFd::default()
    };
    (open, end)
}

fn grouped(fds: impl IntoIterator<Item = Open>) -> Vec<Holder> {
    let mut table = TableBuilder::default();
    for (fd, (open, target)) in (0..).zip(fds) {
        let entry = Entry {
            open: OpenFd { fd, ..open },
            ..Entry::default()
        };
        table.push(entry, target.map(str::as_bytes));
    }
    holders(&table.build())
}

fn told(holders: &[Holder]) -> Vec<(Kind, String, u32)> {
    let target = |holder: &Holder| match &holder.target {
        Some(target) => String::from_utf8_lossy(target).into_owned(),
        None => format!("({})", holder.targets),
    };
    let told = holders
        .iter()
        .map(|holder| (holder.kind, target(holder), holder.count));
    told.collect()
}

#[test]
fn the_same_target_is_one_row_with_its_count_and_ages() {
    let slots = [
        file("a.log", 40),
        file("b.log", 9),
        file("a.log", 20),
        file("a.log", 30),
    ];
    let holders = grouped(slots);
    assert_eq!(
        told(&holders),
        [
            (Kind::File, "a.log".to_owned(), 3),
            (Kind::File, "b.log".to_owned(), 1)
        ]
    );
    let first = &holders[0];
    assert_eq!(
        (first.oldest_ns, first.newest_ns, first.inodes),
        (Some(20), Some(40), 1)
    );
    assert_eq!(first.example, (0, 5), "the newest");
}

#[test]
fn an_age_that_nobody_has_seen_is_none() {
    let holders = grouped([file("a", 0), file("a", 20)]);
    assert_eq!(
        (holders[0].oldest_ns, holders[0].newest_ns),
        (None, Some(20))
    );
    let holders = grouped([file("a", 0)]);
    assert_eq!((holders[0].oldest_ns, holders[0].newest_ns), (None, None));
}

#[test]
fn sockets_are_told_by_their_ends_where_those_are_known() {
    let end = |fd| [0, 2, 3].contains(&fd).then_some("10.0.0.3:5432");
    let holders = grouped((0..5).map(|fd| socket(fd, end(fd))));
    assert_eq!(
        told(&holders),
        [
            (Kind::Tcp, "10.0.0.3:5432".to_owned(), 3),
            (Kind::Tcp, "(1)".to_owned(), 2)
        ]
    );
    assert_eq!(holders[0].inodes, 3);
}

#[test]
fn beyond_ten_groups_the_rest_is_told_by_kind() {
    const NAMES: [&str; 14] = [
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n",
    ];
    let slots = NAMES.iter().flat_map(|name| [file(name, 7), file(name, 7)]);
    let slots = slots.chain([file("a", 8), socket(1, None)]);
    let holders = grouped(slots);
    assert_eq!(holders.len(), 12);
    assert_eq!(holders[0].count, 8, "{holders:?}");
    assert_eq!((&holders[0].target, holders[0].targets), (&None, 4));
    assert_eq!(told(&holders)[1], (Kind::File, "a".to_owned(), 3));
    let all: u32 = holders.iter().map(|holder| holder.count).sum();
    assert_eq!(all, 30);
}

#[test]
fn many_small_groups_of_files_are_one_row() {
    const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let log = || (0..100).map(|_| file("log", 7));
    let names = |count| NAMES.into_iter().take(count).map(|name| file(name, 7));
    let row = |name: &str, count| (Kind::File, name.to_owned(), count);
    let holders = grouped(log().chain(names(6)));
    assert_eq!(told(&holders), [row("log", 100), row("(6)", 6)]);
    assert_eq!(holders[0].files, [], "one file has a path");
    let looked_at: Vec<_> = (100..106).map(|fd| (fd, 5)).collect();
    assert_eq!(holders[1].files, looked_at);
    assert_eq!(
        grouped(log().chain(names(4))).len(),
        5,
        "a few have rows of their own"
    );
    // Of sockets each leads elsewhere.
    let sockets = NAMES.map(|end| socket(1, Some(end)));
    assert_eq!(grouped(sockets).len(), 6);
}

#[test]
fn files_of_a_large_table_are_looked_at_evenly() {
    let fds = (0..10_000).map(|inode| {
        let (open, name) = file("a", 7);
        (OpenFd { inode, ..open }, name)
    });
    let holders = grouped(fds);
    let files = &holders[0].files;
    assert_eq!((holders.len(), files.len()), (1, 1_000));
    assert_eq!((files[1], files[999]), ((10, 10), (9_990, 9_990)));
}

#[test]
fn what_came_with_the_table_is_counted() {
    let mut inherited = file("a", 7);
    inherited.0.is_inherited = true;
    let holders = grouped([inherited, file("a", 9)]);
    assert_eq!((holders[0].count, holders[0].inherited), (2, 1));
}

/// Sockets of these states, each with its end: the states of each row.
fn states(sockets: &[(Option<TcpState>, &'static str)]) -> Vec<Vec<(TcpState, u32)>> {
    let mut table = TableBuilder::default();
    for (state, end) in sockets {
        let entry = Entry {
            open: socket(1, None).0,
            connection: state.map(|state| Connection {
                state,
                is_client: false,
            }),
            ..Entry::default()
        };
        table.push(entry, Some(end.as_bytes()));
    }
    let holders = holders(&table.build());
    holders.into_iter().map(|holder| holder.states).collect()
}

#[test]
fn states_of_connections_are_counted_row_by_row() {
    const ENDS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let (up, hung_up) = (TcpState::ESTABLISHED, TcpState::CLOSE_WAIT);
    let a = |state| (state, "10.0.0.3:8080");
    let sockets = [
        a(Some(up)),
        a(Some(hung_up)),
        a(None),
        a(Some(hung_up)),
        (Some(up), "10.0.0.4:1"),
    ];
    assert_eq!(
        states(&sockets),
        [vec![(hung_up, 2), (up, 1)], vec![(up, 1)]]
    );
    // Those of the row of all others too.
    assert_eq!(
        states(&ENDS.map(|end| (Some(hung_up), end)))[0],
        [(hung_up, 2)]
    );
    assert_eq!(states(&[a(None)]), [vec![]]);
}

proptest! {
    #[test]
    fn every_fd_is_in_one_group(slots in prop::collection::vec((0_u16..26, 0_usize..30, 0_u64..9), 1..200)) {
        const NAMES: &str = "abcdefghijklmnopqrstuvwxyz0123";
        let count = slots.len();
        let slots = slots.into_iter().map(|(kind, name, since_ns)| {
            let open = OpenFd {
                kind: Kind::from_repr(kind).unwrap_or_default(),
                since_ns,
                inode: since_ns,
                ..OpenFd::default()
            };
            (open, Some(&NAMES[name..=name]))
        });
        let holders = grouped(slots);
        let all: u32 = holders.iter().map(|holder| holder.count).sum();
        prop_assert_eq!(all as usize, count);
        prop_assert!(holders.len() <= GROUPS_MAX + 26);
        prop_assert!(holders.is_sorted_by(|one, other| one.count >= other.count));
    }
}
