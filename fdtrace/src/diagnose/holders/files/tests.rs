use fdtrace_common::file::FileRecord;
use zerocopy::FromZeros;

use super::*;

fn file(tid: u32, fd: u32, path: &str, links: u32) -> OpenFile {
    let record = FileRecord {
        mode: 0o100_644,
        tgid: 5,
        tid,
        fd,
        inode: 7,
        links,
        ..FileRecord::new_zeroed()
    };
    OpenFile::new(&record, path.as_bytes())
}

fn socket(fd: u32, kind: Kind, local: &str, remote: Option<&str>) -> OpenFile {
    OpenFile {
        kind,
        target: local.as_bytes().to_vec(),
        remote: remote.map(|remote| remote.parse().unwrap()),
        ..file(5, fd, "", 1)
    }
}

fn told(holders: &[Holder]) -> Vec<(Kind, &str, u32)> {
    let told = holders.iter().map(|holder| {
        let target = holder.target.as_deref().unwrap_or_default();
        (
            holder.kind,
            std::str::from_utf8(target).unwrap(),
            holder.count,
        )
    });
    told.collect()
}

#[test]
fn files_are_grouped_by_their_whole_path_and_deleted_ones_are_marked() {
    let files = [
        file(5, 3, "/a/x.log", 1),
        file(5, 4, "/b/x.log", 1),
        file(5, 5, "/b/x.log", 1),
        file(5, 6, "/b/x.log (deleted)", 0),
        file(6, 3, "/b/x.log", 1),
    ];
    let tables = by_table(&files);
    assert_eq!(
        told(&tables[&5]),
        [
            (Kind::File, "/b/x.log", 2),
            (Kind::File, "/a/x.log", 1),
            (Kind::File, "/b/x.log (deleted)", 1)
        ]
    );
    assert_eq!(told(&tables[&6]), [(Kind::File, "/b/x.log", 1)]);
    let ages = (tables[&5][0].oldest_ns, tables[&5][0].newest_ns);
    assert_eq!(ages, (None, None), "a snapshot knows no ages");
}

#[test]
fn sockets_are_grouped_by_other_end_port_or_path() {
    let files = [
        socket(3, Kind::Tcp, "0.0.0.0:80", None),
        socket(4, Kind::Tcp, "10.0.0.1:80", Some("10.0.0.7:5000")),
        socket(5, Kind::Tcp, "10.0.0.1:80", Some("10.0.0.8:5001")),
        socket(6, Kind::Tcp, "10.0.0.1:4000", Some("10.0.0.3:5432")),
        socket(7, Kind::Tcp, "10.0.0.1:4001", Some("10.0.0.3:5432")),
        socket(8, Kind::Tcp, "10.0.0.1:4002", Some("10.0.0.3:5432")),
        socket(9, Kind::Udp, "0.0.0.0:53", None),
        socket(10, Kind::Unix, "/run/x.sock", None),
        socket(11, Kind::Unix, "socket:[70]", None),
        socket(12, Kind::Unix, "socket:[71]", None),
    ];
    let tables = by_table(&files);
    assert_eq!(
        told(&tables[&5]),
        [
            (Kind::Tcp, "10.0.0.3:5432", 3),
            (Kind::Tcp, "clients of *:80", 2),
            (Kind::Unix, "", 2),
            (Kind::Tcp, "*:80", 1),
            (Kind::Udp, "*:53", 1),
            (Kind::Unix, "/run/x.sock", 1),
        ]
    );
}
