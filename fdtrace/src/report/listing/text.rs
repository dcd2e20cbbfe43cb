//! Columns for people; the last one may be long.

use std::io::{self, Write};

use crate::{
    model::{
        file::OpenFile,
        listing::{Peer, Usage},
    },
    report::{
        sanitize::printable,
        text::{count, limit},
    },
};

/// Writes fds, a line each.
pub fn files(output: &mut impl Write, rows: &[(&OpenFile, Option<Peer>)]) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(
        output,
        "{:>7} {:<15} {:>5} {:<8} {:<4} {:<8} TARGET",
        "PID", "COMM", "FD", "KIND", "MODE", "FLAGS"
    )?;
    for (file, peer) in rows {
        let flags: String = file.flags.iter().map(|flag| letter(flag)).collect();
        writeln!(
            output,
            "{:>7} {:<15} {:>5} {:<8} {:<4} {:<8} {}",
            file.tgid,
            printable(&file.comm),
            file.fd,
            file.kind.to_string(),
            file.mode,
            if flags.is_empty() { "-" } else { &flags },
            target(file, *peer),
        )?;
    }
    Ok(())
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

fn target(file: &OpenFile, peer: Option<Peer>) -> String {
    let parts = [
        Some(printable(&file.target)),
        file.remote.map(|remote| format!("-> {remote}")),
        file.state.map(|state| format!("({state})")),
        peer.map(|peer| format!("<-> {}/{}", peer.pid, peer.fd)),
        file.deleted.then(|| "(deleted)".to_owned()),
        (file.tid != file.tgid).then(|| format!("[thread {}]", file.tid)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Writes tables in numbers, a line each.
pub fn usages(output: &mut impl Write, usages: &[Usage]) -> io::Result<()> {
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
        writeln!(
            output,
            "{:>7} {:<15} {:>7} {:>7} {:>9} {:>4} {}",
            usage.pid,
            printable(&usage.comm),
            count(usage.used.map(u64::from)),
            usage.open,
            limit(usage.soft),
            count(usage.percent()),
            kinds.join(", "),
        )?;
    }
    Ok(())
}
