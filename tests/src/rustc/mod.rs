//! rustc by itself, over the crates that a test is built with: what a source file says costs no build of candle.

pub mod message;

use std::ffi::OsString;
use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// Which compiler, by its name in the toolchain.
#[derive(Clone, Copy, PartialEq)]
pub enum Compiler {
    /// The one that cargo calls.
    Rustc,
    /// The one with clippy's lints.
    Clippy,
}

impl Compiler {
    /// A call without arguments, in the folder of this package, whose toolchain is pinned. None where it is not
    /// installed.
    ///
    /// # Errors
    /// There is no rustc.
    pub fn command(self) -> Result<Option<Command>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut rustc = Command::new("rustc");
        rustc.current_dir(root);
        if self == Self::Rustc {
            return Ok(Some(rustc));
        }
        let sysroot = text(&rustc.args(["--print", "sysroot"]).output()?.stdout);
        let driver = Path::new(sysroot.trim()).join("bin/clippy-driver");
        let mut clippy = Command::new(&driver);
        clippy.current_dir(root).env("SYSROOT", sysroot.trim());
        Ok(driver.exists().then_some(clippy))
    }
}

/// What a compiler said, as text.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The crates that this test is linked with.
pub struct Crates {
    arguments: Vec<OsString>,
}

impl Crates {
    /// hypernn as the program has it that calls this, and of what hypernn depends on these crates.
    ///
    /// # Errors
    /// They are not beside the program.
    pub fn of_this_test(dependencies: &[&str]) -> Result<Self> {
        let program = std::env::current_exe()?;
        let folder = program.parent().unwrap_or(Path::new("."));
        let builds = libraries(folder, "hypernn")?;
        let builds = builds.into_iter().filter(|build| is_of_these_sources(build)).collect();
        let hypernn = last_before(&program, builds)?;
        let mut arguments = vec!["-L".into(), format!("dependency={}", folder.display()).into()];
        arguments.extend(["--extern".into(), named("hypernn", &hypernn)]);
        // Where nothing is looked for, the library is not read.
        let content = if dependencies.is_empty() { Vec::new() } else { fs::read(&hypernn)? };
        let content = text(&content);
        for name in dependencies {
            let builds = libraries(folder, name)?;
            let build = builds.iter().find(|path| is_named_in(&content, path));
            let build = build.ok_or_else(|| missing(name, folder))?;
            arguments.extend(["--extern".into(), named(name, build)]);
        }
        Ok(Self { arguments })
    }

    /// The compiler's arguments with which a source uses them.
    #[must_use]
    pub fn arguments(&self) -> &[OsString] {
        &self.arguments
    }
}

/// The last library that was built before a program.
fn last_before(program: &Path, builds: Vec<PathBuf>) -> Result<PathBuf> {
    let built = modified(program)?;
    let builds = builds.into_iter().filter_map(|path| Some((modified(&path).ok()?, path)));
    let last = builds.filter(|(time, _)| *time <= built).max();
    last.map(|(_, path)| path).ok_or_else(|| missing("hypernn", program))
}

/// Whether a build of hypernn is of the sources beside this package, and not of a package that was made of them; cargo
/// lists sources beside each build.
fn is_of_these_sources(build: &Path) -> bool {
    let name = build.file_stem().unwrap_or_default().to_string_lossy();
    let list = build.with_file_name(format!("{}.d", name.trim_start_matches("lib")));
    let sources = fs::read_to_string(list).unwrap_or_default();
    sources.lines().any(|line| line == "hypernn/src/lib.rs:")
}

/// Whether a library's metadata name this build of another, by its hash.
fn is_named_in(content: &str, build: &Path) -> bool {
    let stem = build.file_stem().unwrap_or_default().to_string_lossy();
    stem.rsplit_once('-').is_some_and(|(_, hash)| content.contains(hash))
}

fn named(name: &str, library: &Path) -> OsString {
    format!("{name}={}", library.display()).into()
}

fn missing(name: &str, folder: &Path) -> Error {
    Error::new(ErrorKind::NotFound, format!("no library {name} beside {}", folder.display()))
}

fn modified(path: &Path) -> Result<SystemTime> {
    fs::metadata(path)?.modified()
}

/// All builds of a library that lie in a folder.
fn libraries(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let start = format!("lib{name}-");
    let files = fs::read_dir(folder)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let is_build = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&start) && file.ends_with(".rlib")
    };
    Ok(files.filter(is_build).collect())
}
