//! Kernels, an emulator and Pythons from Debian's archive, by apt in a state of its own: the signatures are checked, and the
//! machine's own lists and packages stay as they are.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::apt;
use crate::{
    command, emulator,
    kernel::Kernel,
    pythons::{self, Python},
    workspace,
};

/// Holds the keys of all releases, the development one included.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Depends on the newest kernel of its release.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// What the machine does after it has updated its own lists has nothing to do with these. And a
/// mirror that cannot be reached is an error, which apt needs to be told.
const SETTINGS: &str = "#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Update::Error-Mode \"any\";
APT::Architecture \"amd64\";
Dir::Etc::sourceparts \"/dev/null\";
Dir::Etc::preferences \"/dev/null\";
Dir::Etc::preferencesparts \"/dev/null\";
";

/// Puts the newest kernel of a release where [`Kernel::image`] looks for it.
pub(super) fn fetch(kernel: Kernel) -> Result<()> {
    let work = Folder::create(&kernel.to_string())?;
    let state = State::create(&work.0, kernel.suite())?;
    command::output(state.apt("apt-get").args(["-qq", "update"]))?;
    let package = state.package()?;
    eprintln!(
        "xtask: kernel {kernel} is {package} from Debian {}",
        kernel.suite()
    );
    state.download(&[&package], &work.0)?;
    let archive = only_child(&work.0, |name| name.starts_with("linux-"))?;
    let tree = work.0.join("tree");
    command::run(Command::new("dpkg").arg("-x").arg(&archive).arg(&tree))?;
    install(kernel, &image(&tree)?, &archive)
}

/// Puts the backported emulator where [`emulator::folder`] says, whole or not at all.
pub(super) fn fetch_emulator() -> Result<()> {
    let (_, suite) = emulator::BACKPORTS;
    let packages = emulator::PACKAGES.map(str::to_owned);
    let folder = emulator::folder()?;
    unpack("emulator", suite, &packages, &folder, |_| Ok(()))
}

/// Puts a Python where [`Python::root`] says, whole or not at all.
pub(super) fn fetch_python(python: Python) -> Result<()> {
    let name = python.to_string().replace(' ', "-");
    let folder = python.root()?;
    let lay = |tree: &Path| {
        // Whose programs are in /usr alone lead there by links (base-files).
        for name in ["bin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), tree.join(name))
                .with_context(|| format!("cannot lay {} out", tree.display()))?;
        }
        Ok(())
    };
    unpack(&name, pythons::SUITE, &python.packages(), &folder, lay)
}

/// Unpacks packages of a release into a folder, which is there when they are whole and laid out.
fn unpack(
    what: &str,
    suite: &str,
    packages: &[String],
    folder: &Path,
    lay: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let work = Folder::create(what)?;
    let state = State::create(&work.0, suite)?;
    command::output(state.apt("apt-get").args(["-qq", "update"]))?;
    let (archives, tree) = (work.0.join("archives"), work.0.join("tree"));
    fs::create_dir_all(&archives)
        .with_context(|| format!("cannot create {}", archives.display()))?;
    let names: Vec<&str> = packages.iter().map(String::as_str).collect();
    state.download(&names, &archives)?;
    let entries = fs::read_dir(&archives);
    for entry in entries.with_context(|| format!("cannot list {}", archives.display()))? {
        let archive = entry.context("cannot list what apt has brought")?.path();
        command::run(Command::new("dpkg").arg("-x").arg(archive).arg(&tree))?;
    }
    lay(&tree)?;
    // One that does not run is in the way of this one.
    let _ = fs::remove_dir_all(folder);
    let parent = folder.parent().unwrap_or(folder);
    fs::create_dir_all(parent)
        .and_then(|()| fs::rename(&tree, folder))
        .with_context(|| format!("cannot keep {what} in {}", folder.display()))
}

/// The image last, by renaming: what is there is whole.
fn install(kernel: Kernel, image: &Path, archive: &Path) -> Result<()> {
    let folder = kernel.folder()?;
    let origin = archive
        .file_stem()
        .context("the package has no name")?
        .to_string_lossy();
    let partial = folder.join("vmlinuz.part");
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(folder.join("package"), format!("{origin}\n")))
        .and_then(|()| fs::copy(image, &partial))
        .and_then(|_| fs::rename(&partial, folder.join("vmlinuz")))
        .with_context(|| format!("cannot keep the kernel in {}", folder.display()))
}

/// Where the package has its image: the older ones in /boot, the newer ones beside the modules.
fn image(tree: &Path) -> Result<PathBuf> {
    if tree.join("boot").exists() {
        return only_child(&tree.join("boot"), |name| name.starts_with("vmlinuz-"));
    }
    Ok(only_child(&tree.join("usr/lib/modules"), |_| true)?.join("vmlinuz"))
}

fn only_child(folder: &Path, is_it: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(folder);
    let entries = entries.with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries.flatten().map(|entry| entry.path()).filter(|path| {
        path.file_name()
            .is_some_and(|name| is_it(&name.to_string_lossy()))
    });
    match (paths.next(), paths.next()) {
        (Some(path), None) => Ok(path),
        _ => bail!("{} does not look like a kernel's package", folder.display()),
    }
}

/// Apt's files for one release of Debian.
struct State {
    settings: PathBuf,
}

impl State {
    fn create(folder: &Path, suite: &str) -> Result<Self> {
        let state = folder.join("apt");
        let (settings, sources) = (state.join("apt.conf"), state.join("sources.list"));
        let mirror = mirror()?;
        let options = "arch=amd64 target=Packages lang=none";
        let source = format!("deb [{options} signed-by={KEYRING}] {mirror} {suite} main\n");
        fs::create_dir_all(state.join("lists/partial"))
            .and_then(|()| fs::create_dir_all(state.join("cache/archives/partial")))
            .and_then(|()| fs::write(state.join("status"), ""))
            .and_then(|()| fs::write(&sources, source))
            .and_then(|()| fs::write(&settings, Self::settings(&state, apt::is_root())))
            .with_context(|| format!("cannot prepare {}", state.display()))?;
        Ok(Self { settings })
    }

    fn settings(state: &Path, is_root: bool) -> String {
        let mut settings = SETTINGS.to_owned();
        let places = [
            ("State", ""),
            ("State::lists", "lists"),
            ("State::status", "status"),
            ("Cache", "cache"),
            ("Etc::sourcelist", "sources.list"),
        ];
        for (name, place) in places {
            let _ = writeln!(settings, "Dir::{name} \"{}\";", state.join(place).display());
        }
        if is_root {
            // The user apt would download as cannot enter the home of root.
            settings.push_str("APT::Sandbox::User \"root\";\n");
        }
        settings
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(&self.settings);
        command
    }

    /// Brings packages into a folder.
    fn download(&self, packages: &[&str], folder: &Path) -> Result<()> {
        command::run(
            self.apt("apt-get")
                .args(["-qq", "download"])
                .args(packages)
                .current_dir(folder),
        )
    }

    /// The package with the image: a part of what the meta package asks for, in newer releases.
    fn package(&self) -> Result<String> {
        let depends = command::output(self.apt("apt-cache").args(["depends", META_PACKAGE]))?;
        let names = depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "));
        let image = names
            .into_iter()
            .find(|name| name.starts_with("linux-image-"));
        let image = image.with_context(|| format!("{META_PACKAGE} depends on no kernel"))?;
        let binary = image.replace("linux-image-", "linux-binary-");
        let known = command::output(self.apt("apt-cache").args(["pkgnames", &binary]))?;
        Ok(if known.lines().any(|name| name == binary) {
            binary
        } else {
            image.to_owned()
        })
    }
}

/// The mirror this machine's apt gets Debian from, as apt itself understands its sources.
pub(crate) fn mirror() -> Result<String> {
    if let Some(mirror) = known_mirror()? {
        return Ok(mirror);
    }
    // Apt only knows where lists are from once it has them.
    apt::update()?;
    known_mirror()?.context("apt's sources name no mirror of Debian's main archive: add one")
}

fn known_mirror() -> Result<Option<String>> {
    let format = "$(ORIGIN) $(LABEL) $(COMPONENT) $(REPO_URI)";
    let mut targets = Command::new("apt-get");
    let targets = command::output(targets.args(["indextargets", "--format", format]))?;
    // The security archive has another label, and only fixes.
    let mirror = targets
        .lines()
        .find_map(|line| line.strip_prefix("Debian Debian main "));
    Ok(mirror.map(|mirror| mirror.trim_end_matches('/').to_owned()))
}

/// A folder beside what is kept for the time of a download.
struct Folder(PathBuf);

impl Folder {
    fn create(what: &str) -> Result<Self> {
        let name = format!("{what}-{}", std::process::id());
        let path = workspace::cache()?.join("downloads").join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A left-over is in nobody's way: the next one has another name.
        let _ = fs::remove_dir_all(&self.0);
    }
}
