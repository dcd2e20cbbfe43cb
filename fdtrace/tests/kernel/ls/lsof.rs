//! `fdtrace ls` against lsof, on the whole host, with fds of many kinds held still.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use super::{ensure, objects, said, temporary};

/// A process and its number for a file.
type Place = (u64, u64);

/// What a tool says of each fd, in the words that both can use.
type Look = BTreeMap<Place, String>;

/// So many processes hold fds; and so many fds, at least, must have been compared.
const HOLDERS: usize = 3;
const COMPARED: usize = HOLDERS * 120;

/// Two looks of lsof between two of ls. What changes in between is nobody's mistake, and neither is
/// an fd that was closed just while the other tool looked: only what differs each time counts.
pub(super) fn agrees() -> Result<(), String> {
    let holders = (0..HOLDERS).map(Holder::start);
    let holders = holders.collect::<Result<Vec<_>, String>>()?;
    let held: BTreeSet<u64> = holders.iter().map(Holder::pid).collect();
    // The test's own fds; they close when it ends.
    let _file = File::open("/etc/hostname").map_err(said)?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(said)?;
    let _stream = TcpStream::connect(listener.local_addr().map_err(said)?).map_err(said)?;
    let mut lasting: Option<BTreeMap<Place, String>> = None;
    for _ in 0..3 {
        let (differences, compared) = compare(&held)?;
        ensure(compared >= COMPARED, || {
            format!("only {compared} of the held fds could be compared")
        })?;
        let before = lasting.take();
        let is_lasting = |place: &Place| before.as_ref().is_none_or(|old| old.contains_key(place));
        let differences: BTreeMap<_, _> = differences
            .into_iter()
            .filter(|(place, _)| is_lasting(place))
            .collect();
        if differences.is_empty() {
            return Ok(());
        }
        lasting = Some(differences);
    }
    Err(format!("{lasting:#?}"))
}

/// The differences, and how many fds of the `held` processes were the same for both tools.
fn compare(held: &BTreeSet<u64>) -> Result<(BTreeMap<Place, String>, usize), String> {
    let first = objects(&[])?;
    let ours = [lsof()?, lsof()?];
    let last = objects(&[])?;
    let guarded = guarded(&ours[0]);
    let theirs = ours.each_ref().map(|entries| by_lsof(entries, &guarded));
    let known = &ours[0];
    let mine = [&first, &last].map(|objects| by_ls(objects, known, &guarded));
    let mut differences = BTreeMap::new();
    let mut compared = 0;
    for (place, by_ls) in both(&mine) {
        let by_lsof = [theirs[0].get(place), theirs[1].get(place)];
        if by_lsof == [None, None] {
            differences.insert(*place, format!("ls: {by_ls}; lsof: nothing"));
        } else if by_lsof[0] == by_lsof[1] && by_lsof[0] != Some(by_ls) {
            differences.insert(*place, format!("ls: {by_ls}; lsof: {:?}", by_lsof[0]));
        } else if by_lsof[0] == Some(by_ls) && held.contains(&place.0) {
            compared += 1;
        }
    }
    for (place, by_lsof) in both(&theirs) {
        if mine.iter().all(|look| !look.contains_key(place)) {
            differences.insert(*place, format!("ls: nothing; lsof: {by_lsof}"));
        }
    }
    Ok((differences, compared))
}

/// What both looks of a tool show alike.
fn both(looks: &[Look; 2]) -> impl Iterator<Item = (&Place, &String)> {
    looks[0]
        .iter()
        .filter(|(place, what)| looks[1].get(place) == Some(what))
}

/// One file of lsof's field output (`lsof -F`).
#[derive(Debug, Default)]
struct Entry {
    /// t: `REG`, `IPv4`, ….
    kind: String,
    /// P: `TCP`, `UDP`.
    protocol: String,
    /// TST: the state of a socket.
    state: String,
    /// i: inode number.
    inode: String,
    /// n: everything else.
    name: String,
}

/// One look of lsof. Names of memory maps and working directories are no fds, and left out.
fn lsof() -> Result<BTreeMap<Place, Entry>, String> {
    let output = Command::new("lsof")
        .args(["-w", "-nP", "-F", "pftPTin"])
        // What is not ASCII is then escaped, and no locale matters.
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("lsof: {error}; `cargo xtask setup` installs it"))?;
    // Its status is 1 when there was anything at all that it could not look at.
    let text = String::from_utf8_lossy(&output.stdout);
    let mut entries: BTreeMap<Place, Entry> = BTreeMap::new();
    let mut pid = 0;
    let mut place = None;
    for line in text.lines() {
        let Some((field, value)) = line.split_at_checked(1) else {
            continue;
        };
        match field {
            "p" => pid = value.parse().map_err(said)?,
            "f" => {
                place = value.parse().ok().map(|fd| (pid, fd));
                continue;
            }
            _ => {}
        }
        let Some(place) = place.filter(|_| field != "p") else {
            place = None;
            continue;
        };
        let entry = entries.entry(place).or_default();
        match (field, value.strip_prefix("ST=")) {
            ("t", _) => value.clone_into(&mut entry.kind),
            ("P", _) => value.clone_into(&mut entry.protocol),
            ("T", Some(state)) => state.clone_into(&mut entry.state),
            ("i", _) => value.clone_into(&mut entry.inode),
            ("n", _) => entry.name = unescaped(value),
            _ => {}
        }
    }
    Ok(entries)
}

/// Processes that a security module guards even from root: lsof can list their numbers, but may
/// read none of their links, and such a module may hide them from iterators, too.
fn guarded(entries: &BTreeMap<Place, Entry>) -> BTreeSet<u64> {
    let is_refused = |entry: &Entry| entry.name.ends_with("(readlink: Permission denied)");
    entries
        .iter()
        .filter_map(|((pid, _), entry)| is_refused(entry).then_some(*pid))
        .collect()
}

fn by_lsof(entries: &BTreeMap<Place, Entry>, guarded: &BTreeSet<u64>) -> Look {
    entries
        .iter()
        .filter(|((pid, _), _)| !guarded.contains(pid))
        .map(|(place, entry)| (*place, entry_in_common_words(entry)))
        .collect()
}

/// Without -K, lsof looks at the tables of processes only, not at those that threads have unshared.
fn by_ls(objects: &[Value], known: &BTreeMap<Place, Entry>, guarded: &BTreeSet<u64>) -> Look {
    let mut look = Look::new();
    for object in objects
        .iter()
        .filter(|object| object["pid"] == object["tid"])
    {
        let number = |name: &str| object[name].as_u64().unwrap_or_default();
        let place = (number("pid"), number("fd"));
        if !guarded.contains(&place.0) {
            let is_bare = known.get(&place).is_some_and(|entry| entry.kind == "sock");
            look.insert(place, object_in_common_words(object, is_bare));
        }
    }
    look
}

/// What differs in lsof's words, and why.
fn entry_in_common_words(entry: &Entry) -> String {
    let name = &entry.name;
    match entry.kind.as_str() {
        // A socket that no table in lsof's own /proc/net lists: only its protocol's name is known.
        "sock" => {
            let protocol = name.strip_prefix("protocol: ").unwrap_or(name);
            bare(protocol).to_owned()
        }
        "IPv4" | "IPv6" => {
            let protocol = entry.protocol.to_lowercase();
            format!("{protocol} {name} {}", state(&entry.state))
        }
        // The type (STREAM …) is in the name; ls does not tell it.
        "unix" => {
            let path = name.rfind("type=").map_or(name.as_str(), |at| &name[..at]);
            format!("unix {} {}", path.trim_end(), state(&entry.state))
        }
        // lsof tells more of these (interfaces, groups, addresses in hexadecimal) than ls.
        "netlink" => "netlink".to_owned(),
        "pack" => "packet".to_owned(),
        "raw" | "raw6" => "socket".to_owned(),
        // It has the number in a field of its own.
        "FIFO" if name == "pipe" => format!("pipe:[{}]", entry.inode),
        // It adds the count of an eventfd and the like: `[eventfd:7]`, `[pidfd:42]`.
        "a_inode" => match name.split_once(':') {
            Some((start, _)) if start.starts_with('[') => format!("{start}]"),
            _ => name.clone(),
        },
        _ => name.clone(),
    }
}

/// What differs in ls's words, and why. `is_bare`: lsof could not find this socket.
fn object_in_common_words(object: &Value, is_bare: bool) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&object["kind"]);
    let target = escaped(&text(&object["target"]));
    let its_state = text(&object["peer"]["state"]);
    match kind.as_str() {
        // /proc/net lists no socket that is neither bound for others to find nor connected, nor
        // any of another network namespace. Everything else lsof has to know.
        "tcp" | "udp" if is_bare && (is_unlisted(object) || is_elsewhere(object)) => kind,
        "unix" if is_bare && is_elsewhere(object) => kind,
        "tcp" | "udp" => {
            let remote = text(&object["peer"]["address"]);
            let arrow = if remote.is_empty() { "" } else { "->" };
            let local = any_address(&target);
            format!("{kind} {local}{arrow}{remote} {}", state(&its_state))
        }
        // Without an address ls shows the inode, as /proc does, and lsof nothing.
        "unix" if target.starts_with("socket:[") => format!("unix  {}", state(&its_state)),
        "unix" => format!("unix {target} {}", state(&its_state)),
        "netlink" | "packet" | "vsock" | "socket" => kind,
        // lsof has the prefix in its column of types.
        _ if target.starts_with("anon_inode:") => target["anon_inode:".len()..].to_owned(),
        // ls has the mark in a field of its own.
        _ if object["deleted"] == true => format!("{target} (deleted)"),
        _ => target,
    }
}

/// The protocol's name in the kernel (`struct proto`), as the kind it is.
fn bare(protocol: &str) -> &'static str {
    match protocol {
        "TCP" | "TCPv6" | "MPTCP" | "MPTCPv6" => "tcp",
        "UDP" | "UDPv6" => "udp",
        "UNIX" | "UNIX-STREAM" => "unix",
        "NETLINK" => "netlink",
        "PACKET" => "packet",
        "AF_VSOCK" => "vsock",
        _ => "socket",
    }
}

fn is_unlisted(object: &Value) -> bool {
    let local = object["target"].as_str().unwrap_or_default();
    object["peer"]["state"] == "close" || local.ends_with(":0")
}

/// In a network namespace that is not lsof's?
fn is_elsewhere(object: &Value) -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    namespace(&object["pid"].to_string()) != namespace("self")
}

/// lsof writes the address that stands for all as an asterisk.
fn any_address(address: &str) -> String {
    for any in ["0.0.0.0:", "[::]:"] {
        if let Some(port) = address.strip_prefix(any) {
            return format!("*:{port}");
        }
    }
    address.to_owned()
}

/// ls names states as ss does (`fin-wait-2`), lsof as netstat does (`FIN_WAIT2`), and those of unix
/// sockets as the socket layer does. UDP has none worth telling.
fn state(name: &str) -> String {
    let plain = name.to_lowercase().replace(['-', '_'], "");
    match plain.as_str() {
        "connected" => "established".to_owned(),
        "unconnected" => "close".to_owned(),
        _ => plain,
    }
}

/// lsof escapes backslashes and control characters, and all bytes that are not ASCII. The latter are
/// bytes again here, and JSON's U+FFFD where they are no UTF-8.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        let hexadecimal = tail
            .strip_prefix(b"x")
            .and_then(|digits| std::str::from_utf8(digits.get(..2)?).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = match (first, hexadecimal) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                &tail[3..]
            }
            (b'\\', None) if !tail.is_empty() => {
                bytes.extend([*first, tail[0]]);
                &tail[1..]
            }
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The rest of lsof's escapes, which cannot be taken back: `^A` may as well be a name.
fn escaped(target: &str) -> String {
    let mut text = String::new();
    for character in target.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\x08' => text.push_str("\\b"),
            '\x0c' => text.push_str("\\f"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\x7f' => text.push_str("^?"),
            '\0'..' ' => {
                text.push('^');
                text.push(char::from(character as u8 + 0x40));
            }
            _ => text.push(character),
        }
    }
    text
}

/// A process that holds fds of many kinds still; it ends when this is dropped.
struct Holder {
    child: Child,
    folder: PathBuf,
}

impl Holder {
    fn start(number: usize) -> Result<Self, String> {
        let folder = temporary(&format!("holder-{number}"));
        fs::create_dir_all(&folder).map_err(said)?;
        let mut child = Command::new("python3")
            .args(["-c", include_str!("holder.py")])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("python3: {error}"))?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let holder = Self { child, folder };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map_err(said)?;
        ensure(line == "held\n", || format!("a holder says {line:?}"))?;
        Ok(holder)
    }

    fn pid(&self) -> u64 {
        self.child.id().into()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
