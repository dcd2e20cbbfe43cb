use std::fs;

use super::*;
use crate::ground::place;

const ID: &str = "3f4c0e1b9a7d52f86e3b4c0e1b9a7d52f86e3b4c0e1b9a7d52f86e3b4c0e1b9a";
const POD: &str = "0a1b2c3d-1111-2222-3333-444455556666";

/// A root folder of its own, removed at the end.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("fdtrace-names-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn named(&self, cgroup: &str) -> Named {
        Names::below(self.0.clone()).of(&place::parse(cgroup.as_bytes()))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn each_runtime_tells_its_containers_names() {
    let root = Root::new("runtimes");
    root.file(
        &format!("var/lib/docker/containers/{ID}/config.v2.json"),
        r#"{"ID":"x","Name":"/web-1","State":{}}"#,
    );
    root.file(
        "var/lib/containers/storage/overlay-containers/containers.json",
        &format!(r#"[{{"id":"other"}},{{"id":"{ID}","names":["db"]}}]"#),
    );
    root.file(
        &format!("run/containerd/io.containerd.runtime.v2.task/default/{ID}/config.json"),
        r#"{"ociVersion":"1","annotations":{"nerdctl/name":"queue"}}"#,
    );
    for (cgroup, wanted) in [
        (format!("/docker/{ID}"), Some("web-1")),
        (format!("/system.slice/docker-{ID}.scope"), Some("web-1")),
        (format!("/machine.slice/libpod-{ID}.scope"), Some("db")),
        (format!("/system.slice/nerdctl-{ID}.scope"), Some("queue")),
        ("/lxc.payload.mail".to_owned(), Some("mail")),
        (format!("/docker/{}", ID.replace('3', "4")), None),
        ("/system.slice/web.service".to_owned(), None),
    ] {
        assert_eq!(root.named(&cgroup).container.as_deref(), wanted, "{cgroup}");
    }
}

#[test]
fn the_kubelets_logs_tell_of_pods() {
    let root = Root::new("pods");
    root.file(&format!("var/log/pods/shop_web-5d9c_{POD}/web/0.log"), "");
    root.file(
        &format!("var/log/containers/web-5d9c_shop_nginx-side-{ID}.log"),
        "",
    );
    let named = root.named(&format!("/kubepods/burstable/pod{POD}/{ID}"));
    let wanted = Named {
        container: Some("nginx-side".to_owned()),
        pod: Some("web-5d9c".to_owned()),
        namespace: Some("shop".to_owned()),
    };
    assert_eq!(named, wanted);
}

#[test]
fn what_is_no_such_file_is_no_answer() {
    let root = Root::new("wrong");
    let path = format!("var/lib/docker/containers/{ID}/config.v2.json");
    let cgroup = format!("/docker/{ID}");
    for text in ["", "[]", "{\"Name\":7}", "{\"Name\":\"\"}"] {
        root.file(&path, text);
        assert_eq!(root.named(&cgroup), Named::default(), "{text}");
    }
    root.file(&path, &format!("{{\"Name\":\"{}\"}}", "a".repeat(5 << 20)));
    assert_eq!(root.named(&cgroup), Named::default());
    fs::remove_file(root.0.join(&path)).unwrap();
    // Opening it to read would wait for whoever writes, which is nobody.
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, root.0.join(&path), fifo, 0o600.into(), 0).unwrap();
    assert_eq!(root.named(&cgroup), Named::default());
}

#[test]
fn answers_are_kept_and_there_is_an_end_to_it() {
    let root = Root::new("cache");
    let mut names = Names::below(root.0.clone());
    let place = place::parse(format!("/docker/{ID}").as_bytes());
    assert_eq!(names.of(&place), Named::default());
    // It was not there a moment ago: that answer is kept too.
    let path = format!("var/lib/docker/containers/{ID}/config.v2.json");
    root.file(&path, r#"{"Name":"/web"}"#);
    assert_eq!(names.of(&place), Named::default());
    for number in 0..2 * KEPT {
        let other = place::parse(format!("/docker/{number:064x}").as_bytes());
        names.of(&other);
    }
    assert_eq!((names.known.len(), names.order.len()), (KEPT, KEPT));
    assert_eq!(names.of(&place).container.as_deref(), Some("web"));
    fs::remove_file(root.0.join(path)).unwrap();
    assert_eq!(names.of(&place).container.as_deref(), Some("web"));
}
