use std::os::unix::fs::symlink;

use super::*;

/// Version 1 of the format, a single type of local time two hours east of UTC, called `TST`.
const TWO_EAST: &[u8] = b"TZif\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x04\0\0\x1c\x20\0\0TST\0";

/// A root folder with some zones, removed when dropped.
struct Root(PathBuf);

impl Root {
    fn new(test: &str) -> Self {
        let root = env::temp_dir().join(format!("fdtrace-zone-{}-{test}", std::process::id()));
        fs::create_dir_all(root.join("usr/share/zoneinfo/Area")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("usr/share/zoneinfo/Area/Town"), TWO_EAST).unwrap();
        Self(root)
    }

    /// The zone's name, the hour of 10:00 UTC in it, and whether there was a problem.
    fn hour(&self, tz: Option<&str>) -> (Option<String>, i8, bool) {
        let zone = find(tz.map(OsStr::new), None, &self.0);
        let time: Timestamp = "2026-07-01T10:00:00Z".parse().unwrap();
        let hour = time.to_zoned(zone.rules).hour();
        (zone.name, hour, zone.problem.is_some())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn named(name: &str, hour: i8) -> (Option<String>, i8, bool) {
    (Some(name.to_owned()), hour, false)
}

#[test]
fn tz_names_a_zone_a_file_or_a_rule() {
    let root = Root::new("names");
    assert_eq!(root.hour(Some("Area/Town")), named("Area/Town", 12));
    assert_eq!(root.hour(Some(":Area/Town")), named("Area/Town", 12));
    let file = root.0.join("usr/share/zoneinfo/Area/Town");
    let file = file.to_str().unwrap();
    assert_eq!(root.hour(Some(file)), named(file, 12));
    let rule = "CET-1CEST,M3.5.0,M10.5.0/3";
    assert_eq!(root.hour(Some(rule)), named(rule, 12));
    assert_eq!(root.hour(Some("UTC")), named("UTC", 10));
    assert_eq!(root.hour(Some("")), named("UTC", 10));
}

#[test]
fn a_zone_that_is_not_there_is_a_problem_and_utc() {
    let root = Root::new("absent");
    for wrong in [
        "Area/Nowhere",
        "../zoneinfo/Area/Town",
        "Area",
        "/dev/zero",
        "/dev/tty",
    ] {
        let expected = (Some("UTC".to_owned()), 10, true);
        assert_eq!(root.hour(Some(wrong)), expected, "{wrong}");
    }
}

#[test]
fn without_tz_it_is_the_machines() {
    let root = Root::new("machine");
    assert_eq!(root.hour(None), named("UTC", 10), "no /etc/localtime");
    let localtime = root.0.join("etc/localtime");
    symlink("../usr/share/zoneinfo/Area/Town", &localtime).unwrap();
    assert_eq!(root.hour(None), named("Area/Town", 12));
    fs::remove_file(&localtime).unwrap();
    fs::write(&localtime, TWO_EAST).unwrap();
    assert_eq!(root.hour(None), (None, 12, false), "a copy has no name");
}

#[test]
fn a_file_that_is_damaged_or_too_long_is_no_zone() {
    let root = Root::new("damaged");
    let file = root.0.join("zone");
    let name = file.to_str().unwrap();
    for length in 0..TWO_EAST.len() {
        fs::write(&file, &TWO_EAST[..length]).unwrap();
        assert!(root.hour(Some(name)).2, "{length} bytes");
    }
    let long = [TWO_EAST, &vec![0; usize::try_from(SIZE_MAX).unwrap()]].concat();
    fs::write(&file, long).unwrap();
    assert!(root.hour(Some(name)).2, "a long one");
    let fifo = root.0.join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(root.hour(fifo.to_str()).2, "a FIFO that nobody writes to");
}
