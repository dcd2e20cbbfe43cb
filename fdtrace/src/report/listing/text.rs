//! Columns for people; the last one may be long.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use crate::{
    diagnose::holders::files::ByTable,
    ground::{
        file::OpenFile,
        listing::{Peers, Usage},
    },
    report::{
        sanitize::printable,
        text::write_snapshot,
        words::{count, limit},
    },
};

/// Other ends that are shown of one file; further ones are counted.
const PEERS: usize = 8;

/// Writes fds, a line each.
pub fn files(output: &mut impl Write, rows: &[(&OpenFile, Peers)]) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(
        output,
        "{:>7} {:<15} {:>5} {:<8} {:<4} {:<8} TARGET",
        "PID", "COMM", "FD", "KIND", "MODE", "FLAGS"
    )?;
    let mut line = String::new();
    for (file, peers) in rows {
        line.clear();
        fd(&mut line, file, peers);
        line.push('\n');
        output.write_all(line.as_bytes())?;
    }
    Ok(())
}

/// One fd. Written piece by piece: a format string would take as long as all the rest of `ls`.
fn fd(line: &mut String, file: &OpenFile, peers: &Peers) {
    right(line, file.tgid, 7);
    left(line, &printable(&file.comm), 15);
    right(line, file.fd, 5);
    left(line, file.kind.into(), 8);
    left(line, file.flags.mode(), 4);
    let start = line.len();
    line.extend(file.flags.names().map(letter));
    if line.len() == start {
        line.push('-');
    }
    pad(line, start, 8);
    line.push(' ');
    target(line, file, peers);
}

/// A number, ending in its column.
fn right(line: &mut String, number: u32, width: usize) {
    let mut digits = [0; 10];
    let mut at = digits.len();
    let mut left = number;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(left % 10).unwrap_or_default();
        left /= 10;
        if left == 0 {
            break;
        }
    }
    let digits = &digits[at..];
    line.extend(std::iter::repeat_n(' ', width.saturating_sub(digits.len())));
    line.extend(digits.iter().map(|digit| char::from(*digit)));
    line.push(' ');
}

/// Text, its column filled up.
fn left(line: &mut String, text: &str, width: usize) {
    let start = line.len();
    line.push_str(text);
    pad(line, start, width);
    line.push(' ');
}

/// Fills the column up that begins at byte `start`.
fn pad(line: &mut String, start: usize, width: usize) {
    let length = line[start..].chars().count();
    line.extend(std::iter::repeat_n(' ', width.saturating_sub(length)));
}

/// The flags in a narrow column: JSON spells them out.
fn letter(flag: &str) -> char {
    match flag {
        "O_APPEND" => 'a',
        "O_CLOEXEC" => 'x',
        "O_NONBLOCK" => 'n',
        "O_DIRECT" => 'D',
        "O_DIRECTORY" => 'd',
        "O_SYNC" | "O_DSYNC" => 's',
        "O_PATH" => 'p',
        "O_TMPFILE" => 't',
        _ => '+',
    }
}

fn target(line: &mut String, file: &OpenFile, peers: &Peers) {
    line.push_str(&printable(&file.target));
    // Writing to a string does not fail.
    if let Some(remote) = file.remote {
        let _ = write!(line, " -> {remote}");
    }
    if let Some(state) = file.state {
        let _ = write!(line, " ({state})");
    }
    for (index, peer) in peers.named.iter().take(PEERS).enumerate() {
        let before = if index == 0 { " <->" } else { "," };
        let _ = write!(line, "{before} {}/{}", peer.pid, peer.fd);
    }
    if peers.total > PEERS {
        let _ = write!(line, " +{} more", peers.total - PEERS);
    }
    if file.deleted {
        line.push_str(" (deleted)");
    }
    if file.tid != file.tgid {
        let _ = write!(line, " [thread {}]", file.tid);
    }
}

/// Writes tables in numbers, a line each; below it what fills the table, where that was asked for: by the
/// thread whose table it is.
pub fn usages(
    output: &mut impl Write,
    usages: &[Usage],
    holders: Option<&ByTable>,
) -> io::Result<()> {
    if usages.is_empty() {
        return Ok(());
    }
    writeln!(
        output,
        "{:>7} {:<15} {:>7} {:>7} {:>9} {:>4} KINDS",
        "PID", "COMM", "USED", "OPEN", "LIMIT", "%"
    )?;
    for usage in usages {
        let mut kinds: Vec<_> = usage.kinds.iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let kinds: Vec<_> = kinds
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        let thread = if usage.tid == usage.pid {
            String::new()
        } else {
            format!(" [thread {}]", usage.tid)
        };
        writeln!(
            output,
            "{:>7} {:<15} {:>7} {:>7} {:>9} {:>4} {}{thread}",
            usage.pid,
            printable(&usage.comm),
            count(usage.used.map(u64::from)),
            usage.open,
            limit(usage.soft),
            count(usage.percent()),
            kinds.join(", "),
        )?;
        if let Some(holders) = holders.and_then(|holders| holders.get(&usage.tid)) {
            write_snapshot(output, holders)?;
        }
    }
    Ok(())
}
