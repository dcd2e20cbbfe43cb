//! systemd's units in a path.

/// What systemd's own parser would tell of a path (`cg_path_get_unit`, `cg_path_get_user_unit`,
/// `cg_path_get_session`; src/basic/cgroup-util.c).
#[derive(Debug, Default)]
pub(super) struct Units {
    pub(super) system: Option<Unit>,
    pub(super) user: Option<Unit>,
    pub(super) session: Option<String>,
    pub(super) login_uid: Option<u32>,
}

/// A valid name.
#[derive(Debug)]
pub(super) struct Unit(String);

impl Unit {
    /// A part of a path; systemd puts an underscore before what would be taken for a file of the kernel's.
    fn of(part: &str) -> Option<Self> {
        let name = part.strip_prefix('_').unwrap_or(part);
        is_valid(name).then(|| Self(name.to_owned()))
    }

    pub(super) fn into_name(self) -> String {
        self.0
    }
}

/// Units that hold processes.
const KINDS: [&str; 6] = ["service", "scope", "slice", "socket", "mount", "swap"];
/// `UNIT_NAME_MAX` of systemd, with the end of the string.
const LENGTH_MAX: usize = 255;

/// Could systemd have a unit of this name, with processes in it?
#[must_use]
pub fn is_valid(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    let Some((stem, kind)) = name.rsplit_once('.') else {
        return false;
    };
    name.len() <= LENGTH_MAX
        && KINDS.contains(&kind)
        && !stem.is_empty()
        && !stem.starts_with('@')
        && name.bytes().all(is_allowed)
}

pub(super) fn units(parts: &[&str]) -> Units {
    let (slices, rest) = after_slices(parts);
    let login_uid = slices.iter().rev().find_map(|slice| {
        let uid = slice.strip_prefix("user-")?.strip_suffix(".slice")?;
        uid.parse().ok()
    });
    let Some((first, below)) = rest.split_first() else {
        return Units {
            system: slices.last().and_then(|slice| Unit::of(slice)),
            login_uid,
            ..Units::default()
        };
    };
    let system = Unit::of(first);
    // Only logind makes sessions, and only in a user's slice.
    let session = login_uid.and_then(|_| {
        let session = first.strip_prefix("session-")?.strip_suffix(".scope")?;
        let is_valid =
            !session.is_empty() && session.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_valid.then(|| session.to_owned())
    });
    let manager: Option<u32> = first
        .strip_prefix("user@")
        .and_then(|rest| rest.strip_suffix(".service")?.parse().ok());
    let user = manager.and_then(|_| {
        let (slices, rest) = after_slices(below);
        rest.first()
            .or(slices.last())
            .and_then(|part| Unit::of(part))
    });
    Units {
        system,
        user,
        session,
        login_uid: manager.or(login_uid),
    }
}

/// The slices at the beginning, and what comes after them.
fn after_slices<'a, 'b>(parts: &'a [&'b str]) -> (&'a [&'b str], &'a [&'b str]) {
    let is_slice = |part: &&str| {
        part.rsplit_once('.')
            .is_some_and(|(_, kind)| kind == "slice")
            && Unit::of(part).is_some()
    };
    let count = parts.iter().take_while(|part| is_slice(part)).count();
    parts.split_at(count)
}
