//! Limits of the host, and of each of its users.

use super::{Remedy, Situation, When, shell};

/// The highest `fs.nr_open` (`sysctl_nr_open_max`; fs/file.c, 64 bit): the greatest int, in whole words of
/// the table's bitmap.
pub(super) const NR_OPEN_MAX: u64 = 0x7fff_ffc0;
/// The kernel's own `fs.nr_open`.
const NR_OPEN: u64 = 1 << 20;
/// Bytes that an open file takes by itself: the `filp` slab gives each `struct file` 192 (6.18) to 256 (before).
const FILE_SIZE: u64 = 256;
/// Bytes of a page where no record says otherwise.
const PAGE_SIZE: u64 = 4_096;
/// The settings of users are ints.
const INT_MAX: u64 = 0x7fff_ffff;

/// At once, until the next boot.
pub(super) fn set(name: &str, value: u64) -> String {
    format!("sysctl -w {name}={value}")
}

/// At every boot from now on.
pub(super) fn for_good(name: &str, value: u64) -> Remedy {
    let file = name.replace('.', "-");
    let path = format!("/etc/sysctl.d/90-fdtrace-{file}.conf");
    let line = format!("{name} = {value}");
    let command = shell::write_file(&[&line], &path);
    Remedy::command(
        When::Permanent,
        command,
        format!("sets {name} at every boot"),
    )
}

/// `fs.nr_open`: it was below the limit of the process, or its table, or the table of its parent.
pub(super) fn nr_open(situation: &Situation) -> Vec<Remedy> {
    const NAME: &str = "fs.nr_open";
    let Some(current) = situation.host.settings.nr_open else {
        return not_known(NAME);
    };
    let used = situation.used.map_or(0, u64::from).saturating_add(1);
    let soft = if situation.soft == u64::MAX {
        0
    } else {
        situation.soft
    };
    let least = current.saturating_mul(2).max(used).max(soft).max(NR_OPEN);
    let wanted = least
        .checked_next_power_of_two()
        .unwrap_or(NR_OPEN_MAX)
        .min(NR_OPEN_MAX);
    if wanted <= current {
        return vec![Remedy::words(
            When::Now,
            "fs.nr_open is as high as it goes: fewer fds must do",
        )];
    }
    let why = if current < NR_OPEN {
        format!("fs.nr_open was lowered to {current}: {NR_OPEN} is the kernel's own")
    } else {
        format!("fs.nr_open is {current}, and a table must be larger")
    };
    vec![
        Remedy::command(When::Now, set(NAME, wanted), why),
        for_good(NAME, wanted),
    ]
}

/// fs.file-max: all files of the host.
pub(super) fn file_max(situation: &Situation) -> Vec<Remedy> {
    let mut remedies = more_files(situation, |current| {
        format!(
            "doubles what all processes together may have open, {current} now; root is exempt. Costs up to {} of the \
             kernel's memory when all are used, without what they lead to",
            size(
                doubled(current)
                    .saturating_sub(current)
                    .saturating_mul(FILE_SIZE)
            )
        )
    });
    remedies.push(Remedy::command(
        When::Now,
        "fdtrace ls --count".to_owned(),
        "says which processes have so many files open",
    ));
    remedies
}

/// The unix sockets of the host, which may be twice as many (`unix_create1` in `net/unix/af_unix.c`).
pub(super) fn unix_sockets(situation: &Situation) -> Vec<Remedy> {
    let mut remedies = more_files(situation, |current| {
        let sockets = current.saturating_mul(2);
        format!(
            "the host may have twice fs.file-max unix sockets, {sockets} now, root's among them; one that waits \
             to be accepted counts as well"
        )
    });
    remedies.push(Remedy::command(
        When::Now,
        "fdtrace ls --kind unix".to_owned(),
        "says which processes have so many unix sockets open",
    ));
    remedies
}

/// Twice as many, and not few.
fn doubled(files: u64) -> u64 {
    files.saturating_mul(2).max(1 << 16)
}

/// Doubles fs.file-max; `why` is given its value.
fn more_files(situation: &Situation, why: impl Fn(u64) -> String) -> Vec<Remedy> {
    const NAME: &str = "fs.file-max";
    /// A long of the kernel's.
    const MAX: u64 = i64::MAX.unsigned_abs();
    match situation.host.file_max {
        Some(current) if current < MAX => {
            let wanted = doubled(current).min(MAX);
            vec![
                Remedy::command(When::Now, set(NAME, wanted), why(current)),
                for_good(NAME, wanted),
            ]
        }
        Some(_) => Vec::new(),
        None => not_known(NAME),
    }
}

/// What one more of a user's costs.
#[derive(Clone, Copy)]
pub(super) enum Cost {
    /// Little, until something is watched: a watch pins an inode, which takes about a kilobyte (`INOTIFY_WATCH_COST`;
    /// `fs/notify/inotify/inotify_user.c`).
    Watches,
    /// Memory that nothing can take back.
    Pages,
}

/// A number of bytes for people.
fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    match bytes {
        0..MIB => format!("{} KiB", bytes.div_ceil(1 << 10)),
        _ => format!("{} MiB", bytes.div_ceil(MIB)),
    }
}

/// A limit that each user has for all processes together.
pub(super) fn of_user(name: &str, current: Option<u64>, cost: Cost) -> Vec<Remedy> {
    /// Enough for most, and cheap.
    const USUAL: u64 = 1024;
    // No setting, or none that limits: nothing is known of what it is now.
    let Some(current) = current.filter(|current| (1..INT_MAX).contains(current)) else {
        return not_known(name);
    };
    let wanted = current.saturating_mul(2).clamp(USUAL, INT_MAX);
    let cost = match cost {
        Cost::Watches => {
            "each takes less than a kilobyte of the kernel's memory, and each of its watches \
                          about one"
                .to_owned()
        }
        Cost::Pages => {
            let more = (wanted - current).saturating_mul(PAGE_SIZE);
            format!(
                "costs each user up to {} more of memory that cannot be reclaimed",
                size(more)
            )
        }
    };
    let text = format!(
        "{current} is what a user may have in all processes together; others may hold them; {cost}"
    );
    vec![
        Remedy::command(When::Now, set(name, wanted), text),
        for_good(name, wanted),
    ]
}

/// Without the value now, a new one could lower it.
fn not_known(name: &str) -> Vec<Remedy> {
    vec![Remedy::command(
        When::Now,
        format!("sysctl {name}"),
        format!("tells {name}, which is not known here: raise it above what it is"),
    )]
}
