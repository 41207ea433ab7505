//! Files are written as a whole or not at all.
//!
//! A file is written beside its place under another name, and then renamed. What a process leaves that
//! is killed in between is removed by the next write to the same place: a file that is being written is
//! locked, and a lock ends with its process.

use std::fs::{File, Metadata, TryLockError};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Result;

use super::{can_not, kind};
use crate::error::io;

/// The most links that are followed, as on Linux.
const MAX_LINKS: usize = 40;

/// What is in the name of a file that is being written, between that of its place and numbers.
const PARTIAL: &str = ".partial-";

/// Writes a file, with `fill` for its content: a new one, or in place of a regular file, whose mode it
/// keeps. Symbolic links are followed, and stay.
///
/// # Errors
/// `fill`'s own; `path` names something else than a file, or one that can't be written. What was there
/// before is there still.
pub(crate) fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    write_to(path, fill).map_err(|err| can_not("write", path, &err))
}

fn write_to(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let before = what_is_there(path)?;
    let place = place(path)?;
    check_place(path, &place, before.is_some())?;
    let name = partial_name(&place);
    let directory = directory(&place)?;
    remove_abandoned(directory, &name);
    let partial = Partial::create(directory, &name)?;
    let mut file = BufWriter::with_capacity(1 << 20, &partial.file);
    fill(&mut file)?;
    file.flush()?;
    drop(file);
    partial.put(&place, before.as_ref())
}

/// The regular file at this path, behind symbolic links, if there is one.
fn what_is_there(path: &Path) -> Result<Option<Metadata>> {
    if path.as_os_str().is_empty() {
        return Err(io(ErrorKind::InvalidInput, "the path is empty"));
    }
    if path.file_name().is_none() {
        return Err(io(ErrorKind::InvalidInput, "it names no file"));
    }
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(Some(found)),
        Ok(found) => {
            let what = kind::of_special(found.file_type());
            Err(io(ErrorKind::InvalidInput, format!("it is {what}, expected a file or nothing")))
        }
        Err(_) if names_directory(path) => {
            Err(io(ErrorKind::IsADirectory, "it names a directory, expected a file"))
        }
        // The path may lead nowhere yet.
        Err(_) => Ok(None),
    }
}

/// The path behind all symbolic links, also where the last leads to nothing.
fn place(path: &Path) -> Result<PathBuf> {
    let mut place = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&place) {
            // A link's own path is seen from its directory, if it is not absolute.
            Ok(to) => place = place.parent().unwrap_or(Path::new("")).join(to),
            Err(_) => return Ok(place),
        }
    }
    let what = format!("more than {MAX_LINKS} symbolic links lead from one to the next");
    Err(io(ErrorKind::InvalidInput, what))
}

/// Links lead to the name of a file, and to the one that was found, if there was one: the system's own, as
/// that to an open file, may lead to one that has lost its name.
fn check_place(path: &Path, place: &Path, was_there: bool) -> Result<()> {
    if names_directory(place) {
        let to = place.display();
        let what = format!("it leads to `{to}`, which names a directory, expected a file");
        return Err(io(ErrorKind::IsADirectory, what));
    }
    if was_there && place != path && !place.exists() {
        return Err(io(ErrorKind::NotFound, "it leads to a file that has no name any more"));
    }
    Ok(())
}

/// Whether a path ends as one of a directory does, whatever is there.
fn names_directory(path: &Path) -> bool {
    let path = path.as_os_str().to_string_lossy();
    let name = path.rsplit(std::path::is_separator).next().unwrap_or_default();
    name.is_empty() || name == "."
}

fn directory(place: &Path) -> Result<&Path> {
    let directory = match place.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let shown = directory.display();
    match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() => Ok(directory),
        Ok(_) => Err(io(ErrorKind::NotADirectory, format!("`{shown}` is not a directory"))),
        Err(err) if err.kind() == ErrorKind::NotFound => {
            Err(io(err.kind(), format!("there is no directory `{shown}`")))
        }
        Err(err) => Err(io(err.kind(), format!("the directory `{shown}`: {err}"))),
    }
}

/// What the names of files begin with that are written for this place. A name's length has a limit,
/// which is 255 bytes on most systems.
fn partial_name(place: &Path) -> String {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let cut = name.char_indices().map(|(at, _)| at).take_while(|at| *at <= 180).last();
    let name = if name.len() > 180 { &name[..cut.unwrap_or(0)] } else { &name };
    format!("{name}{PARTIAL}")
}

/// Removes what processes left that are no more. Nothing here is an error: others may do the same.
fn remove_abandoned(directory: &Path, name: &str) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let numbers = found.to_str().and_then(|found| found.strip_prefix(name));
        let is_partial = numbers.is_some_and(|numbers| {
            numbers.split('-').count() == 2
                && numbers.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit())
        });
        if is_partial && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            remove_unlocked(&entry.path());
        }
    }
}

fn remove_unlocked(path: &Path) {
    let Ok(file) = File::open(path) else { return };
    match file.try_lock() {
        Ok(()) => drop(std::fs::remove_file(path)),
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
    }
}

/// A file that is being written. It is gone when this is, unless it was put in its place.
struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    fn create(directory: &Path, name: &str) -> Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!("{name}{}-{count}", std::process::id()));
            let file = match File::create_new(&path) {
                Ok(file) => file,
                Err(err) if err.kind() == ErrorKind::AlreadyExists => continue,
                Err(err) => {
                    let shown = directory.display();
                    let what = format!("can't make a file beside it, in `{shown}`: {err}");
                    return Err(io(err.kind(), what));
                }
            };
            // Where there are no locks, nobody removes what was abandoned.
            let _ = file.lock();
            // Before it was locked, it was abandoned to all appearance.
            if is_at(&file, &path) {
                return Ok(Self { path, file });
            }
        }
    }

    /// Renames it, with the mode of the file that was there before.
    fn put(self, place: &Path, before: Option<&Metadata>) -> Result<()> {
        if let Some(before) = before
            && self.file.metadata()?.permissions() != before.permissions()
        {
            self.file.set_permissions(before.permissions())?;
        }
        Ok(std::fs::rename(&self.path, place)?)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After the renaming there is none.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether this file is still the one at this path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |found: Metadata| (found.dev(), found.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(file), Ok(at)) => id(file) == id(at),
        _ => false,
    }
}

/// Whether there is still a file at this path: its name is of no other.
#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}
