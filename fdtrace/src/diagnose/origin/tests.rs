use super::*;

const ID: &str = "3f4c0e1b9a7d52f86e3b4c0e1b9a7d52f86e3b4c0e1b9a7d52f86e3b4c0e1b9a";
const USUAL: (u64, u64) = (1_024, 524_288);
/// As systemd and those that it leaves alone have it.
const HIGH: (u64, u64) = (1 << 20, 1 << 20);

fn nofile((soft, hard): (u64, u64)) -> Nofile {
    Nofile { soft, hard }
}

fn ancestor(pid: u32, comm: &str, cgroup: &str, limits: (u64, u64)) -> Ancestor {
    Ancestor {
        pid,
        comm: comm.to_owned(),
        cgroup: cgroup.to_owned(),
        limits: Some(nofile(limits)),
        script: None,
    }
}

fn systemd() -> Ancestor {
    ancestor(1, "systemd", "/init.scope", HIGH)
}

fn unit(limits: Option<(u64, u64)>) -> UnitFile {
    UnitFile {
        name: "web.service".to_owned(),
        limits: limits.map(nofile),
        path: limits.map(|_| "/etc/systemd/system/web.service".to_owned()),
    }
}

/// Whose the limits are of a process in this cgroup, with these above it.
fn whose(own: (u64, u64), cgroup: &str, above: Vec<Ancestor>, unit: Option<UnitFile>) -> Whose {
    let lineage = Lineage { above, unit };
    Whose::of(
        nofile(own),
        &place::parse(cgroup.as_bytes()),
        Some(&lineage),
    )
}

fn told(whose: &Whose) -> (Origin, String) {
    (whose.origin, whose.words().unwrap_or_default())
}

#[test]
fn a_limit_that_the_parent_has_not_was_set_by_itself() {
    let master = ancestor(70, "nginx", WEB, (20_000, 20_000));
    let worker = whose((256, 256), WEB, vec![master, systemd()], Some(unit(None)));
    let words = "set by itself (its parent has 20000)".to_owned();
    assert_eq!(told(&worker), (Origin::Own, words));
    let parent = ancestor(70, "bash", "/", USUAL);
    let lowered = whose((150, 524_288), "/", vec![parent], None);
    let words = "set by itself (its parent has 1024, hard 524288)".to_owned();
    assert_eq!(told(&lowered), (Origin::Own, words));
}

const WEB: &str = "/system.slice/web.service";

#[test]
fn a_unit_gives_what_its_files_say_or_the_default() {
    let direct = |own, says| told(&whose(own, WEB, vec![systemd()], Some(unit(says))));
    let given = "given by the unit web.service (/etc/systemd/system/web.service)".to_owned();
    assert_eq!(
        direct((500, 600), Some((500, 600))),
        (Origin::Unit, given.clone())
    );
    let default = "systemd's default, as web.service sets none".to_owned();
    assert_eq!(direct(USUAL, None), (Origin::Unit, default));
    assert_eq!(direct((500, 524_288), None).0, Origin::Own);
    assert_eq!(direct((500, 600), Some((1_000, 2_000))).0, Origin::Own);
    // A worker has it from its master, which has it from the unit.
    let master = ancestor(70, "gunicorn", WEB, (500, 600));
    let worker = whose(
        (500, 600),
        WEB,
        vec![master, systemd()],
        Some(unit(Some((500, 600)))),
    );
    assert_eq!(told(&worker), (Origin::Unit, given));
    // Nobody could read its files.
    let unknown = whose((500, 600), WEB, vec![systemd()], None);
    assert_eq!(told(&unknown), (Origin::Unknown, String::new()));
}

#[test]
fn a_program_that_raises_its_soft_limit_to_the_hard_one_was_given_that() {
    let java = whose((524_288, 524_288), WEB, vec![systemd()], Some(unit(None)));
    let words = "the hard one systemd's default, as web.service sets none; the soft one raised to it by itself";
    assert_eq!(told(&java), (Origin::Unit, words.to_owned()));
    assert!(java.has_raised_soft);
}

#[test]
fn a_supervisor_that_has_raised_it_passes_it_on() {
    let supervisord = ancestor(70, "supervisord", WEB, (4_096, 524_288));
    let sh = ancestor(71, "sh", WEB, (4_096, 524_288));
    let above = vec![sh, supervisord, systemd()];
    let child = whose((4_096, 524_288), WEB, above, Some(unit(None)));
    assert_eq!(
        told(&child),
        (
            Origin::Parent,
            "given by supervisord (70), minfds".to_owned()
        )
    );
    assert_eq!(child.parent.as_ref().map(|parent| parent.pid), Some(71));
    assert!(child.known_starter().is_some());
}

#[test]
fn a_shell_that_has_lowered_it_is_named_with_its_script() {
    let mut script = ancestor(80, "sh", "/", (150, 150));
    script.script = Some("/srv/start.sh".to_owned());
    let login = ancestor(70, "bash", "/", USUAL);
    let child = whose((150, 150), "/", vec![script, login], None);
    let words = "inherited from the shell sh (80), which runs /srv/start.sh".to_owned();
    assert_eq!(told(&child), (Origin::Parent, words));
}

#[test]
fn a_login_gives_limits_also_where_they_are_those_of_its_server() {
    let session = "/user.slice/user-1000.slice/session-3.scope";
    for of_server in [USUAL, HIGH] {
        let bash = ancestor(70, "bash", session, USUAL);
        let sshd = ancestor(60, "sshd", "/system.slice/ssh.service", of_server);
        let whose = whose(USUAL, session, vec![bash, sshd, systemd()], None);
        assert_eq!(
            told(&whose),
            (Origin::Session, "given at login, by sshd (60)".to_owned())
        );
    }
    // Within a login, for the same limits: not sudo has given them.
    let sudo = ancestor(80, "sudo", session, USUAL);
    let bash = ancestor(70, "bash", session, USUAL);
    let tmux = ancestor(60, "tmux", session, HIGH);
    let above = vec![sudo, bash, tmux];
    assert_eq!(told(&whose(USUAL, session, above, None)).0, Origin::Parent);
}

#[test]
fn a_container_gives_what_its_first_process_has() {
    let inside = format!("/system.slice/docker-{ID}.scope");
    let first = ancestor(90, "sh", &inside, (100, 100));
    let shim = ancestor(
        60,
        "containerd-shim",
        "/system.slice/containerd.service",
        HIGH,
    );
    let given = (Origin::Container, "given by the container".to_owned());
    let own = whose((100, 100), &inside, vec![first.clone(), shim.clone()], None);
    assert_eq!(told(&own), given);
    // The shim has the same: it is outside all the same.
    let own = whose(HIGH, &inside, vec![shim.clone()], None);
    assert_eq!(told(&own), given);
    // An entry point that lowers it.
    let own = whose((50, 100), &inside, vec![first, shim], None);
    assert_eq!(own.origin, Origin::Own);
}

#[test]
fn of_what_is_gone_or_was_left_to_init_nothing_is_said() {
    let gone = Whose::of(nofile(USUAL), &Place::default(), None);
    assert_eq!(told(&gone), (Origin::Unknown, String::new()));
    let init = ancestor(1, "init", "/", HIGH);
    assert_eq!(whose(USUAL, "/", vec![init], None).origin, Origin::Unknown);
    // All the way up it is the same.
    let init = ancestor(1, "init", "/", HIGH);
    let all = whose(HIGH, "/", vec![init], None);
    assert_eq!(
        told(&all),
        (Origin::Parent, "inherited from init (1)".to_owned())
    );
}

#[test]
fn a_users_service_manager_passes_its_own_on() {
    let manager = "/user.slice/user-1000.slice/user@1000.service";
    let user = ancestor(
        60,
        "systemd",
        &format!("{manager}/init.scope"),
        (2_048, 4_096),
    );
    let scope = format!("{manager}/app.slice/app-mail-1.scope");
    let own = whose((2_048, 4_096), &scope, vec![user.clone(), systemd()], None);
    assert_eq!(
        told(&own),
        (Origin::Parent, "inherited from systemd (60)".to_owned())
    );
    let service = format!("{manager}/app.slice/web.service");
    let own = whose(
        (2_048, 4_096),
        &service,
        vec![user, systemd()],
        Some(unit(None)),
    );
    assert_eq!(own.origin, Origin::Unit);
}
