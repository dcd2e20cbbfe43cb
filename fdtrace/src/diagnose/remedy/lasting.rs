//! Limits that last, set where the process comes from.

use super::{Remedy, Situation, When, harmless, limit::shown, shell};
use crate::ground::place::{Container, Runtime};

/// A limit in the words of all who set it.
pub(super) struct Limit {
    /// Of systemd's setting, without `Limit`.
    unit: &'static str,
    /// Of limits.conf, of `docker --ulimit`, of LXC.
    name: &'static str,
    /// Of the shell's ulimit, which sets both limits.
    flag: char,
    soft: u64,
    hard: u64,
    /// The hard limit as it is; `None`: no record tells.
    present: Option<u64>,
}

impl Limit {
    /// `RLIMIT_MSGQUEUE`, away with it.
    pub(super) const MSGQUEUE: Self = Self {
        unit: "MSGQUEUE",
        name: "msgqueue",
        flag: 'q',
        soft: u64::MAX,
        hard: u64::MAX,
        present: None,
    };

    /// `RLIMIT_NOFILE`, whose hard limit is `present`.
    pub(super) fn files(soft: u64, hard: u64, present: u64) -> Self {
        Self {
            unit: "NOFILE",
            name: "nofile",
            flag: 'n',
            soft,
            hard,
            present: Some(present),
        }
    }

    /// Is it above the hard limit, or may it be? Then nobody but root can set it, and not before that one.
    pub(super) fn is_above(&self) -> bool {
        self.present.is_none_or(|present| self.hard > present)
    }

    /// The hard limit in words.
    pub(super) fn present(&self) -> String {
        let present = self.present.map(shown);
        present.map_or_else(
            || "the hard limit".to_owned(),
            |hard| format!("the hard limit, {hard},"),
        )
    }

    /// `LimitNOFILE=SOFT:HARD`: one number would set both, and lower the hard limit.
    pub(super) fn line(&self) -> String {
        let value = |limit| match limit {
            u64::MAX => "infinity".to_owned(),
            limit => limit.to_string(),
        };
        format!(
            "Limit{}={}:{}",
            self.unit,
            value(self.soft),
            value(self.hard)
        )
    }

    /// `nofile=SOFT:HARD`; -1 is unlimited.
    fn ulimit(&self) -> String {
        let value = |limit| match limit {
            u64::MAX => "-1".to_owned(),
            limit => limit.to_string(),
        };
        format!(
            "--ulimit {}={}:{}",
            self.name,
            value(self.soft),
            value(self.hard)
        )
    }

    pub(super) fn in_shell(&self) -> String {
        format!("`ulimit -S{} {}`", self.flag, shown(self.soft))
    }

    pub(super) fn hard_in_shell(&self) -> String {
        format!("`ulimit -H{} {}`", self.flag, shown(self.hard))
    }
}

/// The limit of whatever is nearest to the process and can set one.
pub(super) fn remedies(limit: &Limit, situation: &Situation) -> Vec<Remedy> {
    let place = situation.place;
    if place.pod.is_some() {
        return of_pod(limit, place.container.as_ref());
    }
    if let Some(container) = &place.container {
        return vec![of_container(limit, container)];
    }
    if let (Some(unit), Some(uid)) = (&place.user_unit, place.login_uid)
        && let Some(section) = section(unit)
    {
        return of_user_unit(limit, unit, uid, section);
    }
    if let Some(uid) = place.login_uid
        && (place.session.is_some()
            || place
                .user_unit
                .as_deref()
                .is_some_and(|unit| unit != "init.scope"))
    {
        return vec![of_login(limit, uid)];
    }
    if let Some(unit) = &place.unit
        && let Some(section) = section(unit)
    {
        let file = situation
            .whose
            .and_then(|whose| whose.unit.as_ref()?.path.as_deref());
        return of_unit(limit, unit, section, file);
    }
    let (program, soft) = (situation.program(), limit.in_shell());
    let text = if limit.is_above() {
        format!(
            "{} comes first: root raises it where {program} is started, {} in a script that runs as root, or \
             setrlimit; then {soft}",
            limit.present(),
            limit.hard_in_shell()
        )
    } else {
        format!(
            "whatever starts {program} sets its limits: {soft} in the script that does, or setrlimit"
        )
    };
    vec![Remedy::words(When::Permanent, text)]
}

/// The section of a unit's file that takes limits; scopes and slices start nothing, and take none.
fn section(unit: &str) -> Option<&'static str> {
    match unit.rsplit_once('.')?.1 {
        "service" => Some("Service"),
        "socket" => Some("Socket"),
        "mount" => Some("Mount"),
        "swap" => Some("Swap"),
        _ => None,
    }
}

/// Writes a file beside the unit's own, which works for it alone, and is there after updates.
fn drop_in(limit: &Limit, folder: &str, unit: &str, section: &str, reload: &str) -> String {
    let file = format!("90-fdtrace-{}.conf", limit.name);
    drop_in_file(limit, folder, unit, section, reload, &file)
}

/// The same by this name: the last one counts, by the order of their names.
fn drop_in_file(
    limit: &Limit,
    folder: &str,
    unit: &str,
    section: &str,
    reload: &str,
    file: &str,
) -> String {
    let below = shell::quote(unit).into_owned();
    let header = format!("[{section}]");
    let write = shell::write_file(
        &[&header, &limit.line()],
        &format!("{folder}/{below}.d/{file}"),
    );
    format!("mkdir -p {folder}/{below}.d && {write} && {reload}")
}

/// `set_by`: the file that sets it now, where that is known.
fn of_unit(limit: &Limit, unit: &str, section: &str, set_by: Option<&str>) -> Vec<Remedy> {
    // What it must come after.
    let other = set_by
        .and_then(|path| path.rsplit_once(".d/"))
        .map(|(_, name)| name);
    let names = ["90", "zz"].map(|begin| format!("{begin}-fdtrace-{}.conf", limit.name));
    let name = names
        .iter()
        .find(|name| other.is_none_or(|other| other <= name.as_str()));
    let Some(name) = name else {
        let path = set_by
            .and_then(harmless)
            .unwrap_or("the drop-in that sets it");
        let text = format!(
            "{} in {path}, then `systemctl daemon-reload` and a restart",
            limit.line()
        );
        return vec![Remedy::words(When::Permanent, text)];
    };
    let command = drop_in_file(
        limit,
        "/etc/systemd/system",
        unit,
        section,
        "systemctl daemon-reload",
        name,
    );
    let mut text = format!("{} for {unit}, from its next start on", limit.line());
    if let Some((stem, rest)) = unit.split_once('@')
        && let Some((_, kind)) = rest.rsplit_once('.')
    {
        text = format!("{text}; in {stem}@.{kind}.d in place of {unit}.d it is for all instances");
    }
    vec![
        Remedy::command(When::Permanent, command, text),
        Remedy::command(
            When::Permanent,
            format!("systemctl restart -- {}", shell::quote(unit)),
            "ends the process and starts it anew, with the new limit and without its fds",
        ),
    ]
}

fn of_user_unit(limit: &Limit, unit: &str, uid: u32, section: &str) -> Vec<Remedy> {
    let folder = "~/.config/systemd/user";
    let command = drop_in(
        limit,
        folder,
        unit,
        section,
        "systemctl --user daemon-reload",
    );
    let mut remedies = Vec::new();
    if limit.is_above() {
        let manager = format!("user@{uid}.service");
        let first = drop_in(
            limit,
            "/etc/systemd/system",
            &manager,
            "Service",
            "systemctl daemon-reload",
        );
        let text = format!(
            "as root, and first: {} of the user's systemd is the most that {unit} can get; {} for {manager}, from its \
             next start on (a restart ends all that the user runs in it)",
            limit.present(),
            limit.line()
        );
        remedies.push(Remedy::command(When::Permanent, first, text));
    }
    remedies.extend([
        Remedy::command(
            When::Permanent,
            command,
            format!(
                "as the user, not as root: {} for {unit}, from its next start on; the hard limit of the user's \
                 systemd cannot be exceeded",
                limit.line()
            ),
        ),
        Remedy::command(
            When::Permanent,
            format!("systemctl --user restart -- {}", shell::quote(unit)),
            "as the user: ends the process and starts it anew, with the new limit and without its fds",
        ),
    ]);
    remedies
}

/// `pam_limits` takes `:UID` for exactly that user; root must be named.
fn of_login(limit: &Limit, uid: u32) -> Remedy {
    let user = if uid == 0 {
        "root".to_owned()
    } else {
        format!(":{uid}")
    };
    let line = |kind: &str, value| format!("{user} {kind} {} {}", limit.name, shown(value));
    let soft = line("soft", limit.soft);
    let mut lines = vec![&*soft];
    let above = line("hard", limit.hard);
    if limit.is_above() {
        lines.push(&above);
    }
    let path = format!(
        "/etc/security/limits.d/90-fdtrace-{}-{uid}.conf",
        limit.name
    );
    let text = format!("for all that user {uid} starts, from the next login on (pam_limits)");
    Remedy::command(When::Permanent, shell::write_file(&lines, &path), text)
}

fn of_container(limit: &Limit, container: &Container) -> Remedy {
    let id = &container.id;
    let text = match container.runtime {
        Some(Runtime::Docker) => format!(
            "start the container anew with `{}`; for all containers: `default-ulimits` in \
             /etc/docker/daemon.json",
            limit.ulimit()
        ),
        Some(Runtime::Podman) => format!(
            "start the container anew with `{}`; for all containers: `default_ulimits` in \
             /etc/containers/containers.conf",
            limit.ulimit()
        ),
        Some(Runtime::Lxc) => format!(
            "`lxc.prlimit.{} = {}:{}` in the configuration of the container {id}, then start it anew",
            limit.name,
            shown(limit.soft),
            shown(limit.hard)
        ),
        Some(Runtime::Nspawn) => format!(
            "in the machine {id}: `{}` in the unit's file there; or below [Exec] in \
             /etc/systemd/nspawn/{id}.nspawn, for all of it",
            limit.line()
        ),
        Some(Runtime::Containerd | Runtime::CriO) | None if limit.is_above() => format!(
            "start the container anew with `{}`: {} is set from outside, and nothing in the container can raise it",
            limit.ulimit(),
            limit.present()
        ),
        Some(Runtime::Containerd | Runtime::CriO) | None => format!(
            "start the container anew with `{}`, or {} first in its entry point",
            limit.ulimit(),
            limit.in_shell()
        ),
    };
    Remedy::words(When::Permanent, text)
}

/// Containers of a pod begin with the limits of the runtime's own service.
fn of_pod(limit: &Limit, container: Option<&Container>) -> Vec<Remedy> {
    let text = if limit.is_above() {
        format!(
            "no field of a pod sets it, and nothing in the container can raise {} which is that of the node's runtime: \
             raise it there first, then start the pod anew",
            limit.present()
        )
    } else {
        format!(
            "no field of a pod sets it: {} first in the container's entry point, up to its hard limit; or the limits \
             of the node's runtime",
            limit.in_shell()
        )
    };
    let words = Remedy::words(When::Permanent, text);
    let unit = match container.and_then(|container| container.runtime) {
        Some(Runtime::Containerd) => "containerd.service",
        Some(Runtime::CriO) => "crio.service",
        _ => return vec![words],
    };
    let command = drop_in(
        limit,
        "/etc/systemd/system",
        unit,
        "Service",
        "systemctl daemon-reload",
    );
    let text = format!(
        "on the node: for every container that is started once {unit} has been restarted, unless the \
         runtime's own configuration sets limits"
    );
    vec![words, Remedy::command(When::Permanent, command, text)]
}
