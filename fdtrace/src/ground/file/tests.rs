use zerocopy::FromZeros;

use super::*;

fn record() -> FileRecord {
    FileRecord::new_zeroed()
}

fn named(name: &[u8]) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..name.len()].copy_from_slice(name);
    bytes
}

const REGULAR: u32 = 0o100_644;
const SOCKET: u32 = 0o140_777;

#[test]
fn kinds_are_told_by_file_system_first() {
    let anonymous = |name: &[u8], mode| {
        let record = FileRecord {
            magic: 0x0904_1934,
            mode,
            name: named(name),
            ..record()
        };
        OpenFile::new(&record, b"").kind
    };
    // Whatever type anonymous inodes have on a kernel.
    for mode in [0, 0o600, REGULAR] {
        assert_eq!(anonymous(b"[eventpoll]", mode), Kind::Epoll);
        assert_eq!(anonymous(b"bpf-map", mode), Kind::Bpf);
        assert_eq!(anonymous(b"[io_uring]", mode), Kind::IoUring);
        assert_eq!(anonymous(b"[landlock-ruleset]", mode), Kind::Anon);
    }
}

#[test]
fn files_that_have_no_file_system_of_their_own_to_show_are_told_by_the_kernels() {
    let with_magic = |magic, mode| {
        let record = FileRecord {
            magic,
            mode,
            ..record()
        };
        OpenFile::new(&record, b"/name").kind
    };
    // Newer kernels give inodes of their own file systems a type, a regular file's (6.16).
    for mode in [0o600, REGULAR] {
        assert_eq!(with_magic(0x6e73_6673, mode), Kind::Ns);
        assert_eq!(with_magic(0x5345_434d, mode), Kind::Secretmem);
        assert_eq!(with_magic(0x444d_4142, mode), Kind::Dmabuf);
        assert_eq!(with_magic(0x474d_454d, mode), Kind::Anon);
        assert_eq!(with_magic(0x5049_4446, mode), Kind::Pidfd);
    }
    assert_eq!(with_magic(0x1980_0202, REGULAR), Kind::Mqueue);
    assert_eq!(with_magic(0x1980_0202, 0o041_777), Kind::Dir, "its mount");
}

#[test]
fn a_message_queue_that_was_unlinked_is_deleted() {
    let queue = |links, path| {
        let record = FileRecord {
            magic: 0x1980_0202,
            mode: REGULAR,
            links,
            ..record()
        };
        let file = OpenFile::new(&record, path);
        (file.target, file.deleted)
    };
    assert_eq!(queue(1, b"/jobs"), (b"/jobs".to_vec(), false));
    assert_eq!(queue(0, b"/jobs (deleted)"), (b"/jobs".to_vec(), true));
}

#[test]
fn a_file_named_like_a_memfd_is_a_file() {
    let with_magic = |magic| {
        let record = FileRecord {
            magic,
            mode: REGULAR,
            name: named(b"memfd:cache"),
            links: 1,
            ..record()
        };
        OpenFile::new(&record, b"/srv/memfd:cache").kind
    };
    assert_eq!(with_magic(0xef53), Kind::File);
    assert_eq!(with_magic(0x0102_1994), Kind::Memfd);
}

#[test]
fn pipes_and_named_pipes_differ() {
    let with_magic = |magic| {
        let record = FileRecord {
            magic,
            mode: 0o010_600,
            ..record()
        };
        OpenFile::new(&record, b"").kind
    };
    assert_eq!(with_magic(0x5049_5045), Kind::Pipe);
    assert_eq!(with_magic(0xef53), Kind::Fifo);
}

#[test]
fn only_an_unlinked_file_loses_its_mark() {
    let path = b"/srv/report (deleted)";
    let gone = OpenFile::new(
        &FileRecord {
            mode: REGULAR,
            ..record()
        },
        path,
    );
    assert_eq!(
        (gone.target.as_slice(), gone.deleted),
        (&b"/srv/report"[..], true)
    );
    let named_so = FileRecord {
        mode: REGULAR,
        links: 1,
        ..record()
    };
    let there = OpenFile::new(&named_so, path);
    assert_eq!((there.target.as_slice(), there.deleted), (&path[..], false));
}

#[test]
fn sockets_show_both_ends() {
    let mut connected = FileRecord {
        mode: SOCKET,
        family: 2,
        socket_type: 1,
        state: 1,
        local_port: 40_000,
        remote_port: 5432,
        ..record()
    };
    connected.local[..4].copy_from_slice(&[10, 0, 0, 1]);
    connected.remote[..4].copy_from_slice(&[10, 0, 0, 3]);
    let file = OpenFile::new(&connected, b"socket:[7]");
    assert_eq!(file.kind, Kind::Tcp);
    assert_eq!(file.target, b"10.0.0.1:40000");
    assert_eq!(file.remote.unwrap().to_string(), "10.0.0.3:5432");
    assert_eq!(file.state, Some(TcpState::ESTABLISHED));
    let listening = FileRecord {
        state: 10,
        remote_port: 0,
        ..connected
    };
    let file = OpenFile::new(&listening, b"socket:[7]");
    assert_eq!((file.remote, file.state), (None, Some(TcpState::LISTEN)));
}

#[test]
fn ipv4_in_an_ipv6_socket_reads_as_ipv4() {
    let mut mapped = FileRecord {
        mode: SOCKET,
        family: 10,
        socket_type: 2,
        local_port: 53,
        ..record()
    };
    mapped.local[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
    let file = OpenFile::new(&mapped, b"");
    assert_eq!(
        (file.kind, file.target.as_slice()),
        (Kind::Udp, &b"127.0.0.1:53"[..])
    );
}

#[test]
fn unix_sockets_have_paths_abstract_names_or_numbers() {
    let bound = |name: &[u8], length| {
        let mut record = FileRecord {
            mode: SOCKET,
            family: 1,
            unix_length: length,
            ..record()
        };
        record.unix[..name.len()].copy_from_slice(name);
        OpenFile::new(&record, b"socket:[12]").target
    };
    assert_eq!(bound(b"/run/web.sock\0", 14), b"/run/web.sock");
    assert_eq!(bound(b"\0control", 8), b"@control");
    assert_eq!(bound(b"", 0), b"socket:[12]");
    // A length beyond the room is no reason to read beyond it.
    assert_eq!(bound(&[b'x'; 108], 4000), [b'x'; 108]);
}

#[test]
fn modes_and_flags_are_spelled_as_in_open() {
    let with_flags = |flags| {
        OpenFile::new(
            &FileRecord {
                mode: REGULAR,
                flags,
                ..record()
            },
            b"/x",
        )
    };
    assert_eq!(with_flags(0).flags.mode(), "r");
    assert_eq!(with_flags(1).flags.mode(), "w");
    assert_eq!(with_flags(2).flags.mode(), "rw");
    assert_eq!(with_flags(0o10_000_000).flags.mode(), "path");
    let appended = with_flags(0o2_001 | 0o4_010_000);
    assert!(appended.flags.names().eq(["O_APPEND", "O_SYNC"]));
    assert!(with_flags(0o10_000).flags.names().eq(["O_DSYNC"]));
    let cloexec = FileRecord {
        mode: REGULAR,
        close_on_exec: 1,
        ..record()
    };
    assert!(
        OpenFile::new(&cloexec, b"/x")
            .flags
            .names()
            .eq(["O_CLOEXEC"])
    );
}

#[test]
fn a_state_of_another_kernel_is_no_panic() {
    let odd = FileRecord {
        mode: SOCKET,
        family: 2,
        socket_type: 1,
        state: 200,
        ..record()
    };
    assert_eq!(OpenFile::new(&odd, b"").state, None);
}

#[test]
fn a_table_is_listed_once_for_each_process() {
    let file = |tgid, tid, files, fd| {
        let record = FileRecord {
            tgid,
            tid,
            files,
            fd,
            ..FileRecord::new_zeroed()
        };
        OpenFile::new(&record, b"/x")
    };
    let mut found = Vec::new();
    // The leader, 10, has exited; 21 has left its leader's table; 30 is a process that shares 20's.
    for (tgid, tid, files) in [
        (10, 11, 1),
        (10, 12, 1),
        (20, 20, 2),
        (20, 21, 3),
        (20, 22, 3),
        (30, 30, 2),
    ] {
        found.extend([0, 1].map(|fd| file(tgid, tid, files, fd)));
    }
    OpenFile::one_a_table(&mut found);
    let left: Vec<_> = found.iter().map(|file| (file.tid, file.fd)).collect();
    let threads = [11, 20, 21, 30];
    assert_eq!(left, threads.map(|tid| [(tid, 0), (tid, 1)]).concat());
}
