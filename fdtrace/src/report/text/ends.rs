//! Who has the other ends of what fills a table, and of what files were received by.

use super::holders::{KIND_AT, column};
use crate::{
    diagnose::ends::{Ends, OtherEnds, Sender, SentBy},
    report::{block::Block, sanitize::printable},
};

/// Who has the other ends of pipes and unix sockets, a row each.
pub(super) fn ends(block: &mut Block, ends: &Ends) {
    if let Some(pipes) = &ends.pipes {
        rows(block, "pipe", pipes);
    }
    if let Some(unix) = &ends.unix {
        rows(block, "unix socket", unix);
    }
}

fn rows(block: &mut Block, what: &str, ends: &OtherEnds) {
    const ENDS: &str = "ends";
    let mut row = |count: u32, text: &str| {
        if count > 0 {
            let plural = if count == 1 { "" } else { "s" };
            block.row(ENDS, column(count), format!("{what}{plural} {text}"));
        }
    };
    for other in &ends.others {
        let comm = printable(other.comm.as_bytes());
        row(other.count, &format!("to {comm} (pid {})", other.pid));
    }
    row(ends.own, "with both ends in this process");
    row(ends.closed, "whose other end is closed");
    row(ends.waiting, "not accepted yet by the other end");
    row(ends.unknown, "to processes that are not known");
    if ends.total > ends.others.len() {
        let more = ends.total - ends.others.len();
        let text = format!("{what}s to {more} more processes");
        block.row(ENDS, " ".repeat(KIND_AT), text);
    }
}

/// Who may have sent the files that were dropped.
pub(super) fn sent_by(sent: Option<&SentBy>) -> String {
    let Some(SentBy {
        fd,
        processes,
        total,
    }) = sent
    else {
        return "who sent them is not known".to_owned();
    };
    let sender = |sender: &Sender| {
        let comm = printable(sender.comm.as_bytes());
        format!("{comm} (pid {})", sender.pid)
    };
    let mut senders: Vec<_> = processes.iter().map(sender).collect();
    if *total > processes.len() {
        senders.push(format!("{} more", total - processes.len()));
    }
    let senders = senders.join(", ");
    format!("they came by fd {fd}, whose other end is in {senders}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{diagnose::ends::OtherEnd, report::page::Page};

    fn sender(pid: u32, comm: &str) -> Sender {
        let comm = comm.to_owned();
        Sender { pid, comm }
    }

    #[test]
    fn who_has_the_other_ends_is_counted_by_what_they_are_of() {
        let other = |pid, comm: &str, count| OtherEnd {
            pid,
            comm: comm.to_owned(),
            count,
        };
        let pipes = OtherEnds {
            others: vec![other(71, "a\nchild", 1)],
            total: 1,
            closed: 5,
            ..OtherEnds::default()
        };
        let unix = OtherEnds {
            others: vec![other(412, "dbus-daemon", 12), other(9, "shim", 3)],
            total: 4,
            own: 2,
            closed: 1,
            waiting: 7,
            unknown: 6,
        };
        let mut block = Block::default();
        let both = Ends {
            pipes: Some(pipes),
            unix: Some(unix),
            sent_by: None,
        };
        ends(&mut block, &both);
        let mut text = Vec::new();
        block.write(&mut text, Page::PLAIN).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }

    #[test]
    fn who_may_have_sent_dropped_files_has_the_other_end() {
        let sent = |processes, total| {
            sent_by(Some(&SentBy {
                fd: 5,
                processes,
                total,
            }))
        };
        assert_eq!(
            sent(vec![sender(12, "a\x1bsender")], 1),
            "they came by fd 5, whose other end is in a\\x1bsender (pid 12)"
        );
        let two = vec![sender(12, "one"), sender(13, "two")];
        assert!(sent(two, 9).ends_with("in one (pid 12), two (pid 13), 7 more"));
        assert_eq!(sent_by(None), "who sent them is not known");
    }
}
