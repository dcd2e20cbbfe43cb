//! Whose a function of Python or JavaScript is, by the file that it comes from.

use super::Frame;

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// Somebody has written it for this program.
    Own,
    /// It is of a package that was installed.
    Package,
    /// It is of the standard library.
    Library,
}

/// Which of these frames is the innermost that somebody has written for this program: one outside the standard library
/// and installed packages, else one outside the standard library, else one of the language at all. `None` where no frame
/// is.
pub(super) fn caller(frames: &[Frame]) -> Option<usize> {
    let find = |is_wanted: fn(Origin) -> bool| {
        let is_wanted = |frame: &Frame| frame.is_interpreted && is_wanted(origin(frame));
        frames.iter().position(is_wanted)
    };
    let own = find(|origin| origin == Origin::Own);
    let outside = || find(|origin| origin != Origin::Library);
    own.or_else(outside).or_else(|| find(|_| true))
}

/// Is it of the standard library, or of a package that was installed?
pub(super) fn is_of_library(frame: &Frame) -> bool {
    origin(frame) != Origin::Own
}

/// Folders of packages that were installed.
const PACKAGES: [&str; 3] = ["site-packages", "dist-packages", "node_modules"];

fn origin(frame: &Frame) -> Origin {
    let Some(file) = frame.file.as_deref() else {
        return Origin::Own;
    };
    let mut folders = file.split('/');
    if folders.any(|folder| PACKAGES.contains(&folder)) {
        return Origin::Package;
    }
    // `<frozen importlib._bootstrap>`; `/usr/lib/python3.11/socket.py`.
    let folders: Vec<&str> = file.split('/').collect();
    let is_library = |pair: &[&str]| {
        let [lib, python] = pair else { return false };
        let version = python.strip_prefix("python3.").unwrap_or_default();
        let version = version.trim_end_matches('t');
        lib.starts_with("lib")
            && !version.is_empty()
            && version.bytes().all(|it| it.is_ascii_digit())
    };
    if file.starts_with("<frozen ")
        || file.starts_with("node:")
        || folders.windows(2).any(is_library)
    {
        return Origin::Library;
    }
    Origin::Own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller_of(files: &[&str]) -> Option<usize> {
        let frame = |file: &&str| Frame {
            function: Some("open".to_owned()),
            file: file.ends_with(['y', '>']).then(|| (*file).to_owned()),
            module: file.ends_with("so").then(|| (*file).to_owned()),
            is_interpreted: !file.ends_with("so"),
            ..Frame::default()
        };
        caller(&files.iter().map(frame).collect::<Vec<_>>())
    }

    #[test]
    fn the_caller_is_outside_the_library_and_packages() {
        let library = "/usr/lib/python3.11/socket.py";
        let package = "/srv/venv/lib/python3.11/site-packages/requests/api.py";
        let debian = "/usr/lib/python3/dist-packages/urllib3/util.py";
        let frozen = "<frozen importlib._bootstrap>";
        assert_eq!(
            caller_of(&["libc.so", library, debian, "app.py", "/a.py"]),
            Some(3)
        );
        assert_eq!(caller_of(&["/lib/x.so", library, package, frozen]), Some(2));
        assert_eq!(caller_of(&["/lib/x.so", library, frozen]), Some(1));
        assert_eq!(caller_of(&[frozen, "<string>"]), Some(1));
        // A function that nobody knows may be the program's own.
        assert_eq!(caller_of(&["libc.so", "gone", "app.py"]), Some(1));
        assert_eq!(
            caller_of(&["node:fs.py", "/a/node_modules/x/y.py", "/srv/app.py"]),
            Some(2)
        );
        assert_eq!(caller_of(&["libc.so"]), None);
        assert_eq!(caller_of(&["/srv/python3.d/app.py", "/a.py"]), Some(0));
    }
}
