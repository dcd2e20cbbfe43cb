//! mariadbd, which keeps the files of its tables open: `table_open_cache`, `open_files_limit`.

use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
};

use super::{Folder, Service, ensure, judged};
use crate::{Setting, tracer::Tracer};

/// More tables than it may have files: each file is another one, and a growing cache looks so.
pub(super) fn opens_tables(setting: &Setting) -> Result<(), String> {
    let folder = Folder::new("mariadb")?;
    let data = folder.0.join("data");
    let socket = folder.0.join("socket").display().to_string();
    let data_argument = format!("--datadir={}", data.display());
    let installed = Command::new("mariadb-install-db")
        .args(["--no-defaults", "--user=root", &data_argument])
        .arg("--auth-root-authentication-method=normal")
        .output()
        .map_err(|error| format!("mariadb-install-db: {error}"))?;
    ensure(installed.status.success(), || format!("{installed:?}"))?;
    let tracer = Tracer::start(&setting.backend, &["-n", "mariadbd"])?;
    let socket_argument = format!("--socket={socket}");
    let mut service = Service::start(
        folder,
        "-n 300",
        &[
            "/usr/sbin/mariadbd",
            "--no-defaults",
            "--user=root",
            "--skip-networking",
            "--table-open-cache=2000",
            &data_argument,
            &socket_argument,
        ],
    )?;
    service.wait_until(|_| client(&socket, "select 1;").is_ok())?;
    let mut tables = "create database shop; use shop;\n".to_owned();
    for number in 0..400 {
        let _ = writeln!(tables, "create table t{number} (a int) engine=aria;");
        // What is only made is closed again.
        let _ = writeln!(tables, "insert into t{number} values (1);");
        // What comes within a second or two is not judged.
        let _ = writeln!(tables, "do sleep(0.05);");
    }
    // It fails where the tables do.
    let _ = client(&socket, &tables);
    let object = judged(&tracer, service.pid(), "leak")?;
    let most = &object["holders"][0];
    let evidence = object["verdict"]["evidence"].to_string();
    let below = most["folders"][0]["path"].as_str().unwrap_or_default();
    let is_right = most["kind"] == "file"
        && below == data.join("shop").display().to_string()
        && evidence.contains("a cache that still grows looks the same");
    ensure(is_right, || format!("{object:#}"))?;
    tracer.stop().map(drop)
}

/// Has statements done, the ones behind a failed one too.
fn client(socket: &str, statements: &str) -> Result<(), String> {
    let mut client = Command::new("mariadb")
        .args(["--no-defaults", "-uroot", "-f", "-S", socket])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("mariadb: {error}"))?;
    let written = client
        .stdin
        .take()
        .map(|mut stdin| stdin.write_all(statements.as_bytes()));
    let status = client.wait().map_err(|error| error.to_string())?;
    let is_done = status.success() && matches!(written, Some(Ok(())));
    ensure(is_done, || format!("mariadb: {status}, {written:?}"))
}
