use std::{
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::AsRawFd,
        unix::{fs::MetadataExt, net::UnixListener},
    },
};

use super::*;

fn inode(socket: &impl AsRawFd) -> u64 {
    let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
    fs::metadata(path).unwrap().ino()
}

#[test]
fn own_sockets_are_found() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = TcpStream::connect(address).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let waiting = UdpSocket::bind("[::1]:0").or_else(|_| UdpSocket::bind("127.0.0.1:0"));
    let waiting = waiting.unwrap();
    let path = std::env::temp_dir().join(format!("fdtrace-sockets-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    let unix = UnixListener::bind(&path).unwrap();
    let port = address.port();
    let udp_port = waiting.local_addr().unwrap().port();
    let expected = [
        (inode(&listener), Kind::Tcp, format!("*:{port}")),
        (inode(&client), Kind::Tcp, address.to_string()),
        (inode(&accepted), Kind::Tcp, format!("clients of *:{port}")),
        (inode(&waiting), Kind::Udp, format!("*:{udp_port}")),
        (inode(&unix), Kind::Unix, path.display().to_string()),
    ];
    let question = |inode, kind| Question {
        pid: std::process::id(),
        inode,
        kind,
    };
    let questions = expected
        .iter()
        .map(|(inode, kind, _)| question(*inode, *kind));
    let mut questions: Vec<_> = questions.collect();
    questions.push(question(1, Kind::Tcp));
    let found = find(&questions);
    let mut ends = found.ends;
    ends.sort_unstable();
    let mut expected = expected.map(|(inode, _, end)| (inode, end.into_bytes()));
    expected.sort_unstable();
    assert_eq!(ends, expected);
    let state = |inode| {
        let mut states = found.states.iter();
        states.find(|(of, _)| *of == inode).map(|(_, state)| *state)
    };
    assert_eq!(state(inode(&listener)), Some(TcpState::LISTEN));
    assert_eq!(state(inode(&accepted)), Some(TcpState::ESTABLISHED));
    assert_eq!(state(inode(&waiting)), None, "UDP knows no state");
    fs::remove_file(path).unwrap();
}

#[test]
fn addresses_are_read_as_they_are_written() {
    let little = cfg!(target_endian = "little");
    if little {
        let read = |text| address(text).map(|address| address.to_string());
        assert_eq!(read("0100007F:1F90").as_deref(), Some("127.0.0.1:8080"));
        let mapped = "0000000000000000FFFF00000100007F:0050";
        assert_eq!(read(mapped).as_deref(), Some("127.0.0.1:80"));
        let six = "B80D0120000000000000000001000000:01BB";
        assert_eq!(read(six).as_deref(), Some("[2001:db8::1]:443"));
        for wrong in ["", "0100007F", "01:0", "0100007F:10000", "x100007F:0001"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}

#[test]
fn a_path_that_looks_like_a_line_makes_nobody_believe_it() {
    let wanted = [7, 8, 9].into_iter().collect();
    let text = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
        0000000000000001: 00000002 00000000 00010000 0001 01     7 /run/a b\n\
        0000000000000002: 00000002 00000000 00010000 0001 01     9 /tmp/x\n\
        0000000000000003: 00000002 00000000 00010000 0001 01     8 /run/lie\n\
        0000000000000004: 00000003 00000000 00000000 0001 03     8\n";
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
    let mut ends = unix(lines, &wanted);
    ends.sort_unstable();
    let expected = [(7, b"/run/a b".to_vec()), (9, b"/tmp/x".to_vec())];
    assert_eq!(ends, expected);
}
