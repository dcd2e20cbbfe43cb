use std::{fmt::Write as _, process::Command};

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;
use crate::{
    diagnose::origin::{Ancestor, Lineage, Nofile, UnitFile},
    ground::{host::Settings, place::parse},
};

const ID: &str = "3f4c0e1b9a7d52f86e3b4c0e1b9a7d52f86e3b4c0e1b9a7d52f86e3b4c0e1b9a";

const HOST: Host = Host {
    files: Some(9_000),
    file_max: Some(97_065),
    settings: Settings {
        nr_open: Some(1 << 20),
        inotify_instances: Some(128),
        fanotify_groups: Some(128),
        pipe_pages: Some(16_384),
    },
};

/// A service at its soft limit, changed.
fn of(cgroup: &str, change: impl FnOnce(&mut Situation)) -> Vec<Remedy> {
    of_one_with(None, cgroup, change)
}

/// The same, of which this is known of select.
fn of_one_with(
    select: Option<&Select>,
    cgroup: &str,
    change: impl FnOnce(&mut Situation),
) -> Vec<Remedy> {
    let place = parse(cgroup.as_bytes());
    let mut situation = Situation {
        cause: Cause::RlimitNofile,
        pid: 2231,
        uid: 33,
        exe: Some(b"/usr/bin/python3.11"),
        soft: 1024,
        hard: 524_288,
        used: Some(1024),
        host: HOST,
        place: &place,
        verdict: Kind::Saturation,
        growth_per_min: None,
        has_ended: false,
        line: None,
        whose: None,
        is_go: false,
        is_exhausted: true,
        are_deleted: false,
        select,
    };
    change(&mut situation);
    remedies(&situation)
}

fn now(remedies: &[Remedy]) -> &str {
    let remedy = remedies.iter().find(|remedy| remedy.when == When::Now);
    remedy.unwrap().command.as_deref().unwrap()
}

fn shown(remedies: &[Remedy]) -> String {
    let lines = remedies.iter().map(|remedy| {
        let when = serde_json::to_value(remedy.when).unwrap();
        let command = remedy.command.as_deref().unwrap_or("-");
        format!(
            "{}: {command}\n    {}\n",
            when.as_str().unwrap(),
            remedy.text
        )
    });
    lines.collect()
}

/// Logs that were rotated by deleting them.
#[test]
fn deleted_files_are_for_whoever_rotates_them() {
    let remedies = of("/system.slice/rsyslog.service", |it| {
        (it.verdict, it.are_deleted) = (Kind::Leak, true);
    });
    assert_eq!(remedies[0].when, When::Code);
    assert!(
        remedies[0].text.starts_with("close files that are deleted"),
        "{remedies:?}"
    );
}

/// What comes for good in every place there is, with these limits.
fn in_every_place(soft: u64, hard: u64) -> String {
    let pod = "kubepods-burstable-pod0a1b2c3d_1111_2222_3333_444455556666.slice";
    let mut all = String::new();
    for cgroup in [
        "/system.slice/web.service",
        "/system.slice/system-web.slice/web@a\\x2db.service",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/mail.service",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/app-mail-1.scope",
        "/user.slice/user-1000.slice/user@1000.service/init.scope",
        "/user.slice/user-1000.slice/session-3.scope",
        "/user.slice/user-0.slice/session-1.scope",
        &format!("/system.slice/docker-{ID}.scope"),
        &format!("/machine.slice/libpod-{ID}.scope"),
        "/lxc.payload.web",
        "/machine.slice/systemd-nspawn@web.service/payload",
        &format!("/kubepods.slice/{pod}/cri-containerd-{ID}.scope"),
        &format!("/kubepods.slice/{pod}/docker-{ID}.scope"),
        "/",
        "/init.scope",
    ] {
        let remedies = of(cgroup, |it| {
            (it.soft, it.hard, it.used) = (soft, hard, Some(1024));
        });
        let _ = write!(all, "== {cgroup}\n{}", shown(&remedies));
    }
    all
}

#[test]
fn every_place_has_its_own_way() {
    assert_snapshot!(in_every_place(1024, 524_288));
}

#[test]
fn above_the_hard_limit_somebody_has_to_raise_that_first() {
    assert_snapshot!(in_every_place(1024, 1024));
}

/// The soft limits that commands and words set.
fn soft_limits(text: &str) -> Vec<u64> {
    let marks = ["nofile=", "NOFILE=", "ulimit -Sn ", "ulimit -n "];
    let all = marks.iter().flat_map(|mark| text.split(mark).skip(1));
    let digits = |rest: &str| {
        rest.split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap()
            .to_owned()
    };
    all.filter_map(|rest| digits(rest).parse().ok()).collect()
}

/// Typed as it stands, a higher limit ends a program that uses select.
#[test]
fn nothing_to_type_raises_the_limit_beyond_what_select_takes() {
    let called = Select::Called { most: 1_020 };
    for verdict in KINDS {
        for (soft, highest) in [(64, 1_024), (1_023, 1_024), (1_024, 1_024)] {
            for cgroup in [
                "/",
                "/system.slice/web.service",
                &format!("/docker/{ID}"),
                &format!("/kubepods/pod0a/{ID}"),
                "/user.slice/user-1000.slice/session-3.scope",
            ] {
                let remedies = of_one_with(Some(&called), cgroup, |it| {
                    (it.verdict, it.soft, it.used) = (verdict, soft, Some(1_000));
                });
                let texts = remedies
                    .iter()
                    .flat_map(|it| [it.command.as_deref(), Some(&it.text)]);
                let limits: Vec<_> = texts.flatten().flat_map(soft_limits).collect();
                assert!(
                    limits.iter().all(|limit| *limit <= highest),
                    "{cgroup} {soft}: {limits:?}"
                );
                assert_eq!(
                    limits.is_empty(),
                    soft == 1_024,
                    "{cgroup} {soft}: {remedies:?}"
                );
                let says_why = |it: &Remedy| it.when == When::Now && it.text.contains("select(2)");
                assert_eq!(remedies.iter().any(says_why), soft == 1_024, "{remedies:?}");
            }
        }
    }
}

#[test]
fn a_program_that_imports_select_is_warned_of_and_one_that_does_not_is_not() {
    let of = |select: &Select, soft| {
        of_one_with(Some(select), "/system.slice/web.service", |it| {
            it.soft = soft;
        })
    };
    let imported = Select::Imported {
        by: "/usr/lib/libold.so.1".to_owned(),
    };
    let remedies = of(&imported, 1_024);
    assert_eq!(now(&remedies), "prlimit --pid 2231 --nofile=4096:");
    let warning = remedies[0].warning.as_deref().unwrap();
    assert!(
        warning.starts_with("/usr/lib/libold.so.1 imports select(2)"),
        "{warning}"
    );
    assert!(of(&Select::No, 1_024).iter().all(|it| it.warning.is_none()));
    // It lives above what a set holds, and may go on to.
    let remedies = of(&Select::Called { most: 8 }, 2_000);
    assert_eq!(now(&remedies), "prlimit --pid 2231 --nofile=65536:");
    let warning = remedies[0].warning.as_deref().unwrap();
    assert!(warning.contains("fds up to 7"), "{warning}");
    let hostile = Select::Imported {
        by: "/tmp/\u{1b}[2J".to_owned(),
    };
    let remedies = of(&hostile, 1_024);
    let warning = remedies[0].warning.as_deref().unwrap();
    assert!(
        warning.starts_with("a file of the program imports"),
        "{warning}"
    );
}

/// `ulimit` refuses a soft limit above the hard one, whoever types it.
#[test]
fn a_soft_limit_in_the_shell_is_not_above_the_hard_one() {
    for (hard, expected) in [(4_096, "Sn 4096`"), (4_095, "Hn 4096`"), (150, "Hn 4096`")] {
        for cgroup in [
            "/",
            &format!("/kubepods/pod0a/{ID}"),
            &format!("/docker/{ID}"),
        ] {
            let remedies = of(cgroup, |it| {
                (it.soft, it.hard, it.used) = (hard.min(1024), hard, Some(1_000));
            });
            let texts = remedies.iter().filter(|it| it.when == When::Permanent);
            for text in texts.map(|remedy| &remedy.text) {
                let first = text.split_once("`ulimit -").map(|(_, first)| first);
                assert!(
                    first.is_none_or(|first| first.starts_with(expected)),
                    "{text}"
                );
                let names_it = text.contains(&hard.to_string()) || cgroup != "/";
                assert!(hard >= 4_096 || names_it, "{text}");
            }
        }
    }
}

/// A process above: number, name, limits, script.
type Above = (u32, &'static str, (u64, u64), Option<&'static str>);

/// What there is to do where these are above it.
fn below(
    cgroup: &str,
    exe: &'static str,
    (soft, hard): (u64, u64),
    above: &[Above],
    unit: Option<UnitFile>,
) -> String {
    let above = above
        .iter()
        .map(|(pid, comm, (soft, hard), script)| Ancestor {
            pid: *pid,
            comm: (*comm).to_owned(),
            cgroup: if *pid == 1 {
                "/init.scope".to_owned()
            } else {
                cgroup.to_owned()
            },
            limits: Some(Nofile {
                soft: *soft,
                hard: *hard,
            }),
            script: script.map(str::to_owned),
        });
    let lineage = Lineage {
        above: above.collect(),
        unit,
    };
    let place = parse(cgroup.as_bytes());
    let whose = Whose::of(Nofile { soft, hard }, &place, Some(&lineage));
    let situation = Situation {
        cause: Cause::RlimitNofile,
        pid: 2231,
        uid: 33,
        exe: Some(exe.as_bytes()),
        soft,
        hard,
        used: Some(u32::try_from(soft).unwrap()),
        host: HOST,
        place: &place,
        verdict: Kind::Saturation,
        growth_per_min: None,
        has_ended: false,
        line: None,
        whose: Some(&whose),
        is_go: false,
        is_exhausted: true,
        are_deleted: false,
        select: None,
    };
    let shown = shown(&remedies(&situation));
    format!("== {exe}, {}\n{shown}", whose.words().unwrap_or_default())
}

#[test]
fn whose_limit_it_is_says_where_it_is_changed() {
    const WEB: &str = "/system.slice/web.service";
    const USUAL: (u64, u64) = (1_024, 524_288);
    let systemd = (1, "systemd", (1 << 20, 1 << 20), None);
    let unit = |path: Option<&str>| {
        Some(UnitFile {
            name: "web.service".to_owned(),
            limits: path.map(|_| Nofile {
                soft: 1_024,
                hard: 524_288,
            }),
            path: path.map(str::to_owned),
        })
    };
    let nginx = [(7, "nginx", (20_000, 20_000), None), systemd];
    let low = (256, 256);
    let mut all = below(WEB, "/usr/sbin/nginx", low, &nginx, unit(None));
    all += &below(WEB, "/opt/own", low, &nginx, unit(None));
    let supervisord = [
        (7, "supervisord", USUAL, None),
        (1, "systemd", (9, 9), None),
    ];
    let other = Some(UnitFile {
        limits: Some(Nofile { soft: 5, hard: 5 }),
        ..UnitFile::default()
    });
    all += &below(WEB, "/opt/worker", USUAL, &supervisord, other);
    for (hard, script) in [
        (524_288, Some("/srv/start.sh")),
        (150, Some("/srv/start.sh")),
        (150, None),
    ] {
        let sh = [(7, "sh", (150, hard), script), (6, "bash", USUAL, None)];
        all += &below("/", "/opt/worker", (150, hard), &sh, None);
    }
    let shim = [(7, "runit", (150, 150), None), (6, "init", USUAL, None)];
    all += &below("/", "/opt/worker", (150, 150), &shim, None);
    all += &below(WEB, "/opt/worker", USUAL, &[systemd], unit(None));
    for path in [
        "/etc/systemd/system/web.service.d/99.conf",
        "/run/systemd/system/web.service.d/zzz.conf",
    ] {
        all += &below(WEB, "/opt/worker", USUAL, &[systemd], unit(Some(path)));
    }
    assert_snapshot!(all);
}

#[test]
fn programs_that_size_themselves_are_told_what_they_take() {
    let mut all = String::new();
    for exe in [
        "/usr/bin/redis-server",
        "/usr/sbin/haproxy",
        "/usr/bin/memcached",
        "/usr/sbin/mariadbd",
        "/usr/lib/postgresql/15/bin/postgres",
        "/opt/jdk/bin/java",
        "/usr/bin/node",
        "/usr/sbin/php-fpm8.2",
    ] {
        for hard in [524_288, 1_024] {
            let systemd = (1, "systemd", (1 << 20, 1 << 20), None);
            let unit = UnitFile {
                name: "web.service".to_owned(),
                limits: Some(Nofile { soft: 1_024, hard }),
                path: Some("/lib/systemd/system/web.service".to_owned()),
            };
            all += &below(
                "/system.slice/web.service",
                exe,
                (1_024, hard),
                &[systemd],
                Some(unit),
            );
        }
    }
    assert_snapshot!(all);
}

/// What is typed must take effect: nothing to type where a program would not notice, or be harmed.
#[test]
fn nothing_is_typed_that_has_no_effect() {
    let typed_when = |exe: &'static str, hard, is_exhausted| {
        let remedies = of("/", |it| {
            (it.exe, it.hard) = (Some(exe.as_bytes()), hard);
            it.is_exhausted = is_exhausted;
        });
        let now = remedies.iter().find(|remedy| remedy.when == When::Now);
        now.unwrap().command.clone()
    };
    let typed = |exe, hard| typed_when(exe, hard, true);
    for exe in ["/usr/bin/redis-server", "/usr/sbin/haproxy"] {
        assert_eq!(typed_when(exe, 524_288, false), None);
        // The limit was lowered since, or it would not have run out.
        assert!(typed(exe, 524_288).is_some());
    }
    assert_eq!(typed("/opt/jdk/bin/java", 1_024), None);
    let up_to_hard = Some("prlimit --pid 2231 --nofile=2000:".to_owned());
    assert_eq!(typed("/opt/jdk/bin/java", 2_000), up_to_hard);
    assert!(typed("/usr/sbin/nginx", 1_024).is_some());
}

#[test]
fn a_higher_limit_buys_time_only_where_the_table_grows() {
    let buys = |change: &dyn Fn(&mut Situation)| {
        let remedies = of("/", |it| change(it));
        let now = remedies.iter().find(|remedy| remedy.when == When::Now);
        now.unwrap().buys.clone()
    };
    let leak = |growth| {
        buys(&|it: &mut Situation| {
            (it.soft, it.hard, it.used) = (150, 4_096, Some(150));
            (it.verdict, it.growth_per_min) = (Kind::Leak, growth);
        })
    };
    assert_eq!(leak(Some(1_184.0)).as_deref(), Some("3 min 19 s"));
    assert_eq!(leak(None), None);
    assert_eq!(buys(&|it: &mut Situation| it.is_exhausted = true), None);
    let still = buys(&|it: &mut Situation| it.is_exhausted = false);
    assert_eq!(still.as_deref(), Some("nothing: it does not grow"));
}

#[test]
fn every_cause_has_its_own_way() {
    let mut all = String::new();
    for cause in [
        Cause::NrOpen,
        Cause::TableSize,
        Cause::FileMax,
        Cause::UnixSockets,
        Cause::DupfdMinimum,
        Cause::InotifyInstances,
        Cause::FanotifyGroups,
        Cause::MqueueBytes,
        Cause::PipePages,
        Cause::IoUringFiles,
        Cause::FileServer,
        Cause::Other,
    ] {
        let remedies = of("/system.slice/web.service", |it| it.cause = cause);
        let _ = write!(all, "== {cause:?}\n{}", shown(&remedies));
    }
    assert_snapshot!(all);
}

#[test]
fn every_verdict_has_its_own_way() {
    let mut all = String::new();
    for verdict in [
        Kind::Leak,
        Kind::Saturation,
        Kind::Burst,
        Kind::Inherited,
        Kind::Unknown,
    ] {
        let remedies = of("/system.slice/web.service", |it| {
            it.verdict = verdict;
            it.growth_per_min = Some(0.866);
            it.line = Some("pool.py:41");
        });
        let _ = write!(all, "== {verdict}\n{}", shown(&remedies));
    }
    assert_snapshot!(all);
}

#[test]
fn prlimit_is_told_no_more_than_it_must() {
    let command = |soft, hard, used: u32, nr_open| {
        let remedies = of("/", |it| {
            (it.soft, it.hard, it.used) = (soft, hard, Some(used));
            it.host.settings.nr_open = nr_open;
        });
        now(&remedies).to_owned()
    };
    let usual = Some(1 << 20);
    assert_eq!(
        command(64, 4096, 64, usual),
        "prlimit --pid 2231 --nofile=4096:"
    );
    assert_eq!(
        command(1024, 1024, 1024, usual),
        "prlimit --pid 2231 --nofile=4096:4096"
    );
    assert_eq!(
        command(4096, 4096, 4096, usual),
        "prlimit --pid 2231 --nofile=65536:65536"
    );
    // A limit that was lowered below what is open.
    assert_eq!(
        command(64, 524_288, 20_000, usual),
        "prlimit --pid 2231 --nofile=524288:"
    );
    assert_eq!(
        command(1024, 1024, 1024, Some(2048)),
        "prlimit --pid 2231 --nofile=2048:2048"
    );
    assert_eq!(
        command(1024, 1024, 1024, Some(1024)),
        "sysctl -w fs.nr_open=4096 && prlimit --pid 2231 --nofile=4096:4096"
    );
    // The kernel refuses a hard limit above fs.nr_open, also one that stays as it is.
    assert_eq!(
        command(1024, 524_288, 1024, Some(65_536)),
        "sysctl -w fs.nr_open=524288 && prlimit --pid 2231 --nofile=4096:"
    );
    assert_eq!(
        command(1 << 20, 1 << 20, 1 << 20, usual),
        "sysctl -w fs.nr_open=4194304 && prlimit --pid 2231 --nofile=4194304:4194304"
    );
}

#[test]
fn nothing_is_lowered_whose_value_is_not_known() {
    for cause in [
        Cause::NrOpen,
        Cause::FileMax,
        Cause::UnixSockets,
        Cause::InotifyInstances,
        Cause::FanotifyGroups,
        Cause::PipePages,
    ] {
        let remedies = of("/", |it| (it.cause, it.host) = (cause, Host::default()));
        let commands = remedies.iter().filter_map(|remedy| remedy.command.as_ref());
        for command in commands {
            assert!(!command.contains('='), "{command}");
        }
    }
}

#[test]
fn the_line_of_code_comes_first() {
    for verdict in [Kind::Leak, Kind::Inherited] {
        let remedies = of("/", |it| {
            (it.verdict, it.line, it.growth_per_min) = (verdict, Some("pool.py:41"), Some(0.866));
        });
        assert_eq!(remedies[0].when, When::Code);
        assert!(
            remedies[0].text.contains("pool.py:41"),
            "{}",
            remedies[0].text
        );
        let now = remedies.iter().find(|remedy| remedy.when == When::Now);
        let is_leak = verdict == Kind::Leak;
        let text = &now.unwrap().text;
        assert_eq!(text.contains("that buys 2 d 11 h"), is_leak, "{text}");
    }
}

fn cgroups() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        "[a-z' \"\\\\$`\n;-]{0,12}",
        Just("web".to_owned()),
        Just("x@1".to_owned()),
        Just("-".to_owned()),
        Just("a\\x2db".to_owned()),
    ];
    let before = prop::sample::select(vec![
        "/system.slice/",
        "/user.slice/user-7.slice/user@7.service/app.slice/",
        "/user.slice/user-7.slice/session-1.scope/",
        "/machine.slice/systemd-nspawn@",
        "/lxc.payload.",
        "/",
    ]);
    let after = prop::sample::select(vec![".service", ".socket", ".mount", ".scope", ""]);
    let made = (before, name, after).prop_map(|(a, b, c)| format!("{a}{b}{c}").into_bytes());
    prop_oneof![made, prop::collection::vec(any::<u8>(), 0..80)]
}

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..100_000,
        any::<u64>(),
        prop::sample::select(vec![
            0,
            64,
            4096,
            1 << 20,
            0x7fff_ffc0,
            0x7fff_ffff,
            u64::MAX
        ]),
    ]
}

const CAUSES: [Cause; 13] = [
    Cause::RlimitNofile,
    Cause::NrOpen,
    Cause::TableSize,
    Cause::FileMax,
    Cause::UnixSockets,
    Cause::DupfdMinimum,
    Cause::InotifyInstances,
    Cause::FanotifyGroups,
    Cause::MqueueBytes,
    Cause::PipePages,
    Cause::IoUringFiles,
    Cause::FileServer,
    Cause::Other,
];
const KINDS: [Kind; 5] = [
    Kind::Leak,
    Kind::Saturation,
    Kind::Burst,
    Kind::Inherited,
    Kind::Unknown,
];

prop_compose! {
    /// A process above, untrusted text in it.
    fn above()(
        comm in prop_oneof![any::<String>(), prop::sample::select(vec!["sh", "supervisord"]).prop_map(String::from)],
        script in prop::option::of(any::<String>()),
        limits in prop::option::of((numbers(), numbers())),
    ) -> Ancestor {
        Ancestor {
            pid: 7,
            comm,
            cgroup: String::new(),
            limits: limits.map(|(soft, hard)| Nofile { soft, hard }),
            script,
        }
    }
}

prop_compose! {
    fn anything()(
        // Half of them are of the cause that there is most to say about.
        cause in prop_oneof![Just(Cause::RlimitNofile), prop::sample::select(CAUSES.to_vec())],
        verdict in prop::sample::select(KINDS.to_vec()),
        cgroup in cgroups(),
        limits in (numbers(), numbers(), prop::option::of(any::<u32>())),
        settings in prop::collection::vec(prop::option::of(numbers()), 5),
        growth in prop::option::of(any::<f64>()),
        has_ended in any::<bool>(),
        exe in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..20),
            prop::sample::select(vec!["nginx", "java", "redis-server", "mariadbd"]).prop_map(Vec::from),
        ],
        line in any::<String>(),
        above in prop::collection::vec(above(), 0..4),
        by in any::<String>(),
        select in 0_usize..4,
    ) -> (Vec<Remedy>, u64, u64, Option<u64>) {
        let place = parse(&cgroup);
        let (soft, hard) = (limits.0.min(limits.1), limits.0.max(limits.1));
        let lineage = Lineage { above, unit: None };
        let whose = Whose::of(Nofile { soft, hard }, &place, Some(&lineage));
        let found = remedies(&Situation {
            cause,
            pid: 2231,
            uid: 7,
            exe: Some(&exe),
            soft,
            hard,
            used: limits.2,
            host: Host {
                files: None,
                file_max: settings[4],
                settings: Settings {
                    nr_open: settings[0],
                    inotify_instances: settings[1],
                    fanotify_groups: settings[2],
                    pipe_pages: settings[3],
                },
            },
            place: &place,
            verdict,
            growth_per_min: growth,
            has_ended,
            line: Some(&line),
            whose: Some(&whose),
            is_go: false,
            is_exhausted: true,
            are_deleted: false,
            select: [None, Some(&Select::No), Some(&Select::Called { most: 9 }), Some(&Select::Imported { by })][select],
        });
        (found, soft, hard, settings[0])
    }
}

/// What a command gives prlimit as soft and hard limit, and sysctl as `fs.nr_open`.
fn values(command: &str) -> (Option<u64>, Option<u64>, Option<u64>) {
    let after = |mark: &str| {
        let rest = command.split_once(mark)?.1;
        Some(rest.split(' ').next().unwrap_or(rest))
    };
    let nofile = after("--nofile=").and_then(|value| value.split_once(':'));
    let nr_open = after("sysctl -w fs.nr_open=").map(|value| value.parse().unwrap());
    (
        nofile.map(|(soft, _)| soft.parse().unwrap()),
        nofile.and_then(|(_, hard)| (!hard.is_empty()).then(|| hard.parse().unwrap())),
        nr_open,
    )
}

proptest! {
    #[test]
    fn all_that_is_said_is_printable_and_limits_only_go_up((remedies, soft, hard, nr_open) in anything()) {
        prop_assert!(!remedies.is_empty());
        for remedy in &remedies {
            let is_printable = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            prop_assert!(is_printable(&remedy.text) && !remedy.text.is_empty());
            prop_assert!(remedy.warning.as_deref().is_none_or(is_printable));
            let Some(command) = &remedy.command else { continue };
            prop_assert!(is_printable(command), "{}", command);
            let (new_soft, new_hard, new_nr_open) = values(command);
            if let Some(new_nr_open) = new_nr_open {
                prop_assert!(nr_open.is_none_or(|nr_open| new_nr_open > nr_open), "{}", command);
            }
            if let Some(new_soft) = new_soft {
                let set_hard = new_hard.unwrap_or(hard);
                prop_assert!(new_soft > soft && set_hard >= hard && new_soft <= set_hard, "{}", command);
                // Where it is not known, the kernel's own is taken.
                let allowed = new_nr_open.or(nr_open).unwrap_or_else(|| set_hard.max(1 << 20));
                prop_assert!(set_hard <= allowed, "{} {} {:?}", command, hard, nr_open);
            }
        }
    }
}

proptest! {
    // Each starts a shell.
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_shell_takes_every_command((remedies, ..) in anything()) {
        let commands: Vec<_> = remedies.into_iter().filter_map(|remedy| remedy.command).collect();
        let script = commands.join("\n");
        let shell = Command::new("sh").args(["-n", "-c", &script]).output().unwrap();
        prop_assert!(shell.status.success() && shell.stderr.is_empty(), "{}: {:?}", script, shell);
    }
}

/// The commands for units are run, in a folder that stands for the host's.
#[test]
fn a_drop_in_is_written_as_it_is_meant() {
    let root = std::env::temp_dir().join(format!("fdtrace-drop-in-{}", std::process::id()));
    std::fs::create_dir_all(&root).unwrap();
    for unit in ["web.service", "a\\x2db@c\\x2dd.service", "-.mount"] {
        let remedies = of(&format!("/system.slice/{unit}"), |_| ());
        let command = remedies
            .iter()
            .find(|remedy| remedy.when == When::Permanent)
            .and_then(|remedy| remedy.command.as_deref())
            .unwrap();
        let here = command
            .replace("/etc/systemd/system", root.to_str().unwrap())
            .replace("systemctl daemon-reload", "true");
        assert_ne!(here, command);
        let status = Command::new("sh").args(["-ec", &here]).status().unwrap();
        assert!(status.success(), "{here}");
        let file = root.join(format!("{unit}.d/90-fdtrace-nofile.conf"));
        let section = if unit == "-.mount" {
            "Mount"
        } else {
            "Service"
        };
        assert_eq!(
            std::fs::read_to_string(file).unwrap(),
            format!("[{section}]\nLimitNOFILE=4096:524288\n")
        );
    }
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn words_are_quoted_for_a_shell() {
    for word in [
        "", "a b", "it's", "$(x)", "a\\x2db", "-n", "`x`", "*", "~", "#",
    ] {
        let script = format!("printf %s {}", shell::quote(word));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), *word);
    }
}

/// What helps the next process, and the others, still does.
#[test]
fn nothing_is_done_to_a_process_that_has_ended() {
    let about_it = |cause, verdict| {
        let found = |has_ended| {
            of("/", |situation| {
                (situation.cause, situation.verdict) = (cause, verdict);
                situation.has_ended = has_ended;
            })
        };
        let (before, after) = (found(false), found(true));
        let is_about_it = |remedy: &Remedy| {
            let command = remedy.command.as_deref();
            command.is_some_and(|command| command.contains("2231"))
        };
        let others: Vec<_> = before
            .iter()
            .filter(|remedy| !is_about_it(remedy))
            .collect();
        assert_eq!(after.iter().collect::<Vec<_>>(), others);
        before.len() - after.len()
    };
    assert_eq!(about_it(Cause::RlimitNofile, Kind::Leak), 1);
    assert_eq!(about_it(Cause::RlimitNofile, Kind::Unknown), 2);
    assert_eq!(about_it(Cause::MqueueBytes, Kind::Unknown), 1);
    assert_eq!(about_it(Cause::FileMax, Kind::Unknown), 0);
}
