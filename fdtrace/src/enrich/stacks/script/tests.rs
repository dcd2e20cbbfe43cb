use super::*;

/// What runs, given a command line; a `~` stands for a space in a word.
fn script(line: &str) -> Option<String> {
    let mut words = line.split(' ').map(|word| word.replace('~', " "));
    let program = words.next().unwrap();
    let words: Vec<_> = words.collect();
    Interpreter::named(program.as_ref())?.script(words.iter().map(String::as_bytes))
}

#[test]
fn each_interpreter_names_what_it_runs() {
    for (line, wanted) in [
        (
            "java -cp /srv/a.jar:/srv/b.jar org.example.Main --port 80",
            "org.example.Main",
        ),
        ("java -classpath /srv/lib/* -Xmx1g Main", "Main"),
        ("java --class-path /srv/a.jar -ea Main", "Main"),
        ("java --class-path=/srv/a.jar Main", "Main"),
        ("java -Dname=value -jar /srv/web.jar -cp x", "/srv/web.jar"),
        (
            "java -p /srv/mods -m com.greet/com.greet.Main x",
            "-m com.greet/com.greet.Main",
        ),
        (
            "java --module-path /srv/mods --module=com.greet",
            "--module com.greet",
        ),
        (
            "java --add-opens java.base/java.lang=ALL-UNNAMED Main",
            "Main",
        ),
        (
            "java -XX:+UseG1GC @/etc/jvm.options org.example.Main",
            "org.example.Main",
        ),
        ("java @/srv/launch", "@/srv/launch"),
        ("java --source 21 Leak.java", "Leak.java"),
        ("python3 /srv/app.py --debug", "/srv/app.py"),
        ("python3.11 -u -W ignore -X dev /srv/app.py", "/srv/app.py"),
        ("python3 -Wignore -Xdev /srv/app.py", "/srv/app.py"),
        ("python3 -m http.server 8000", "-m http.server"),
        ("python3 -Bm http.server", "-m http.server"),
        ("python3 -mhttp.server", "-m http.server"),
        ("python3 -c import~os secret", "-c"),
        ("python3 -Bc import~os", "-c"),
        ("python3.11~(deleted) app.py", "app.py"),
        ("pypy3 app.py", "app.py"),
        ("node --require ./trace.js server.js", "server.js"),
        ("node -r ./trace.js --import=./a.js server.js", "server.js"),
        ("node --max-old-space-size=4096 server.js -r x", "server.js"),
        ("nodejs --inspect server.js", "server.js"),
        ("node -pe 1+1 server.js", "-pe"),
        ("node --eval 1 x", "--eval"),
        ("node --run test", "--run test"),
        ("ruby -I lib -r json /srv/app.rb", "/srv/app.rb"),
        ("ruby3.1 -Ilib -rjson -W:no-deprecated app.rb", "app.rb"),
        ("ruby -S bundle exec puma", "bundle"),
        ("ruby -ne puts", "-e"),
        ("ruby --encoding utf-8 app.rb", "app.rb"),
        ("perl -w -T -I lib /srv/app.pl", "/srv/app.pl"),
        ("perl -MCarp=verbose app.pl", "app.pl"),
        ("perl -lane print file", "-e"),
        ("perl -i.bak -pe s/a/b/ file", "-e"),
        ("perl -E say x", "-E"),
        ("perl5.36-x86_64-linux-gnu app.pl", "app.pl"),
        ("php -f /srv/job.php -- x", "/srv/job.php"),
        ("php -d memory_limit=1G /srv/job.php", "/srv/job.php"),
        ("php8.2 --define a=b --file=/srv/job.php", "/srv/job.php"),
        ("php -S localhost:80 -t /srv router.php", "router.php"),
        ("php -r sleep(9);", "-r"),
        ("bash -c exec~sleep~9 name", "-c"),
        ("bash -lc exec~sleep~9", "-c"),
        ("bash -eo pipefail /srv/job.sh x", "/srv/job.sh"),
        ("bash -euo pipefail -c true", "-c"),
        ("bash +x -O extglob /srv/job.sh", "/srv/job.sh"),
        ("bash --rcfile /etc/rc /srv/job.sh", "/srv/job.sh"),
        ("dash -e /srv/job.sh", "/srv/job.sh"),
        ("bash -- /srv/job.sh", "/srv/job.sh"),
    ] {
        assert_eq!(script(line).as_deref(), Some(wanted), "{line}");
    }
}

#[test]
fn what_runs_no_script_names_none() {
    for line in [
        "java -version",
        "java -cp /srv/a.jar",
        "java",
        "javac -cp x Main.java",
        "python3",
        "python3 -",
        "python3 -m",
        "python3 -i -W",
        "bash -il",
        "bash -",
        "php-fpm: pool",
        "perl ",
        "nginx -c /etc/nginx.conf",
        "pythonize x",
    ] {
        assert_eq!(script(line), None, "{line}");
    }
}

#[test]
fn a_command_line_is_what_a_process_makes_it() {
    let interpreter = Interpreter::named("python3".as_ref()).unwrap();
    let long = [b'a'; 4 * NAME_MAX];
    let script = interpreter.script([&long[..]].into_iter()).unwrap();
    assert_eq!(script.len(), NAME_MAX);
    let odd = [&b"-\xff\xfec"[..], b"app.py"];
    assert_eq!(interpreter.script(odd.into_iter()).as_deref(), Some("-c"));
    let cut = ["-W", "ä", "-é", "app.py"].map(str::as_bytes);
    assert_eq!(
        interpreter.script(cut.into_iter()).as_deref(),
        Some("app.py")
    );
}

#[test]
fn a_process_is_asked_by_its_folder() {
    let folder = std::env::temp_dir().join(format!("fdtrace-script-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let link = folder.join("exe");
    std::os::unix::fs::symlink("/opt/jdk/bin/java", &link).unwrap();
    std::fs::write(folder.join("cmdline"), "java\0-cp\0/srv/a.jar\0Main\0x\0").unwrap();
    let script = of_process(&folder);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(script.as_deref(), Some("Main"));
}
