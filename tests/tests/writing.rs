//! How files are written: whole or not at all, through symbolic links, with the mode that they had,
//! and nothing is left of writes that were cut short.

#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Device, Result, Tensor};
use hypernn::continual::OutputRegularizer;
use hypernn::nn::{AdamW, Linear, Optimizer};
use hypernn::{HyperTarget, hypernetwork};
use hypernn_tests::{input, message, variables, weighted_sum};
use tempfile::TempDir;

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    #[hyper(linear(3, 4))]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net { embedding: table(4, 3), generator: linear, mode: static }
}

hypernetwork! {
    struct TaskNet for Net { embedding: tasks(2, 4, 3), generator: linear, mode: dynamic }
}

type Write = Box<dyn Fn(&Path) -> Result<()>>;

/// All that writes files.
fn writers() -> Result<Vec<(&'static str, Write)>> {
    let hyper = || HyperNet::new(variables(1, DType::F32).1);
    let (saved, exported) = (hyper()?, hyper()?);
    let tasks = TaskNet::new(variables(1, DType::F32).1)?;
    let mut old = OutputRegularizer::new(1.)?;
    old.remember(&tasks, &Tensor::new(0u32, &Device::Cpu)?)?;
    let task = Tensor::new(1u32, &Device::Cpu)?;
    let params = hyper()?.generate_params()?;
    let vars = variables(1, DType::F32).0;
    let optimizer = AdamW::new_lr(vars.all_vars(), 0.1)?;
    let exported_tasks = TaskNet::new(variables(1, DType::F32).1)?;
    Ok(vec![
        ("save", Box::new(move |path| saved.save(path))),
        ("export", Box::new(move |path| exported.export(path))),
        ("dynamic save", Box::new(move |path| tasks.save(path))),
        ("dynamic export", Box::new(move |path| exported_tasks.export(&task, path))),
        ("continual", Box::new(move |path| old.save(path))),
        ("parameters", Box::new(move |path| params.save(path))),
        ("optimiser", Box::new(move |path| optimizer.save(&vars, path))),
    ])
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

fn is_safetensors(path: &Path) -> bool {
    candle_core::safetensors::load(path, &Device::Cpu).is_ok()
}

/// The link stays, and what it leads to is written: a file, nothing yet, and over several links, absolute
/// and relative ones.
#[test]
fn symbolic_links_are_followed() -> Result<()> {
    for (name, write) in writers()? {
        let dir = TempDir::new().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir(at("store")).unwrap();
        fs::write(at("store/old"), "old").unwrap();
        symlink("store/old", at("link")).unwrap();
        symlink(at("store/new"), at("dangling")).unwrap();
        symlink("dangling", at("second")).unwrap();
        write(&at("link"))?;
        write(&at("second"))?;
        for link in ["link", "dangling", "second"] {
            assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{name}: {link}");
        }
        for file in ["store/old", "store/new"] {
            assert!(fs::symlink_metadata(at(file)).unwrap().is_file(), "{name}: {file}");
            assert!(is_safetensors(&at(file)), "{name}: {file}");
        }
        assert_eq!(names(&at("store")), ["new", "old"], "{name}");
        assert_eq!(names(dir.path()), ["dangling", "link", "second", "store"], "{name}");
    }
    Ok(())
}

#[test]
fn links_in_a_circle() -> Result<()> {
    let dir = TempDir::new().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    symlink(&a, &b).unwrap();
    symlink(&b, &a).unwrap();
    let hyper = HyperNet::new(variables(1, DType::F32).1)?;
    let found = message(hyper.save(&a));
    assert!(found.ends_with("more than 40 symbolic links lead from one to the next"), "{found}");
    Ok(())
}

/// What is no file stays what it is, also behind a link, and the error says what it is.
#[test]
fn what_is_no_file_stays() -> Result<()> {
    for (name, write) in writers()? {
        let dir = TempDir::new().unwrap();
        let at = |path: &str| dir.path().join(path);
        assert!(Command::new("mkfifo").arg(at("fifo")).status()?.success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket"))?;
        fs::create_dir(at("directory")).unwrap();
        for kind in ["fifo", "socket", "directory"] {
            symlink(kind, at(&format!("link to {kind}"))).unwrap();
        }
        let before = names(dir.path());
        let said =
            |path: &str| message(write(&at(path))).replace(dir.path().to_str().unwrap(), "DIR");
        for (kind, what) in [
            ("fifo", "a FIFO (a named pipe)"),
            ("socket", "a socket"),
            ("directory", "a directory"),
        ] {
            for path in [kind.to_owned(), format!("link to {kind}")] {
                let expected =
                    format!("can't write DIR/{path}: it is {what}, expected a file or nothing");
                assert_eq!(said(&path), expected, "{name}");
            }
        }
        assert!(fs::metadata(at("fifo")).unwrap().file_type().is_fifo());
        assert!(fs::metadata(at("socket")).unwrap().file_type().is_socket());
        assert_eq!(names(dir.path()), before, "{name}");
    }
    Ok(())
}

/// Links whose own names are those of directories, and one of the system's to a file that is gone.
#[test]
fn links_that_lead_to_no_file() -> Result<()> {
    let dir = TempDir::new().unwrap();
    let at = |path: &str| dir.path().join(path);
    fs::write(at("file"), "old").unwrap();
    fs::create_dir(at("store")).unwrap();
    symlink("file/", at("to file")).unwrap();
    symlink("store/new/", at("to new")).unwrap();
    symlink("store/.", at("to store")).unwrap();
    let before = names(dir.path());
    for (name, write) in writers()? {
        let said =
            |path: &str| message(write(&at(path))).replace(dir.path().to_str().unwrap(), "DIR");
        for (link, leads) in [("to file", "file/"), ("to new", "store/new/")] {
            let expected = format!(
                "can't write DIR/{link}: it leads to `DIR/{leads}`, which names a directory, expected a file"
            );
            assert_eq!(said(link), expected, "{name}");
        }
        assert!(said("to store").contains("it is a directory"), "{name}");
        for path in ["file/.", "new/."] {
            assert!(said(path).ends_with("it names a directory, expected a file"), "{name}");
        }
        assert_eq!(names(dir.path()), before, "{name}");
    }
    Ok(())
}

/// The system's link to an open file that was removed leads to a name that the file does not have.
#[cfg(target_os = "linux")]
#[test]
fn an_open_file_without_a_name() -> Result<()> {
    use std::os::fd::AsRawFd;

    let dir = TempDir::new().unwrap();
    let file = File::create(dir.path().join("gone"))?;
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let hyper = HyperNet::new(variables(1, DType::F32).1)?;
    hyper.save(&link)?;
    assert!(is_safetensors(&dir.path().join("gone")));
    // What the link leads to was replaced.
    let expected = format!("can't write {link}: it leads to a file that has no name any more");
    assert_eq!(message(hyper.save(&link)), expected);
    assert_eq!(names(dir.path()), ["gone"]);
    Ok(())
}

/// A new file has the mode that any new file has, an old one the mode that it had.
#[test]
fn modes() -> Result<()> {
    for (name, write) in writers()? {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("net");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        File::create(dir.path().join("any")).unwrap();
        write(&path)?;
        assert_eq!(mode(&path), mode(&dir.path().join("any")), "{name}");
        for kept in [0o600, 0o640, 0o664, 0o444] {
            fs::set_permissions(&path, Permissions::from_mode(kept)).unwrap();
            write(&path)?;
            assert_eq!(mode(&path), kept, "{name}");
        }
    }
    Ok(())
}

#[test]
fn paths_that_name_no_file() -> Result<()> {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    for (name, write) in writers()? {
        let said = |path: &str| {
            message(write(Path::new(path))).replace(dir.path().to_str().unwrap(), "DIR")
        };
        let inside = |path: &str| format!("{}/{path}", dir.path().display());
        assert_eq!(said(""), "can't write : the path is empty", "{name}");
        assert_eq!(said("/"), "can't write /: it names no file", "{name}");
        assert_eq!(said(&inside("..")), "can't write DIR/..: it names no file", "{name}");
        assert_eq!(
            said(&inside("new/")),
            "can't write DIR/new/: it names a directory, expected a file",
            "{name}"
        );
        assert_eq!(
            said(&inside("missing/net")),
            "can't write DIR/missing/net: there is no directory `DIR/missing`",
            "{name}"
        );
        let found = said(&inside("file/net"));
        assert!(found.starts_with("can't write DIR/file/net: "), "{name}: {found}");
        assert_eq!(names(dir.path()), ["file"]);
    }
    Ok(())
}

/// A path without a directory is in the working directory, and a name may be as long as names can be.
#[test]
fn unusual_names() -> Result<()> {
    let dir = TempDir::new().unwrap();
    let hyper = HyperNet::new(variables(1, DType::F32).1)?;
    for name in ["x".repeat(255), "ü".repeat(120), "a b\n*?".to_owned(), "-".to_owned()] {
        let path = dir.path().join(&name);
        hyper.save(&path)?;
        hyper.save(&path)?;
        hyper.load(&path)?;
        fs::remove_file(&path).unwrap();
        assert_eq!(names(dir.path()), [""; 0], "{name}");
    }
    Ok(())
}

/// What killed processes left is removed by the next write to the same place, and nothing else is.
#[test]
fn what_killed_writes_left_is_removed() -> Result<()> {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let left = ["net.partial-4000001-0", "net.partial-1-7", "net.partial-4000002-12"];
    let others = [
        "net.partial-",
        "net.partial-1",
        "net.partial-a-1",
        "net.partial-1-2-3",
        "other.partial-1-1",
    ];
    for name in left.iter().chain(&others) {
        fs::write(at(name), "half").unwrap();
    }
    // Another process writes this one.
    let locked = File::create(at("net.partial-4000003-0"))?;
    locked.lock()?;
    HyperNet::new(variables(1, DType::F32).1)?.save(at("net"))?;
    let mut expected: Vec<_> = others.into_iter().chain(["net", "net.partial-4000003-0"]).collect();
    expected.sort_unstable();
    assert_eq!(names(dir.path()), expected);
    drop(locked);
    HyperNet::new(variables(1, DType::F32).1)?.save(at("net"))?;
    assert!(!at("net.partial-4000003-0").exists());
    Ok(())
}

/// Not a test, but the process that the next one kills.
#[test]
#[ignore = "runs until it is killed"]
fn writes_for_ever() -> Result<()> {
    let path = std::env::var("HYPERNN_WRITES_TO").unwrap_or_default();
    let hyper = Large::new(variables(1, DType::F32).1)?;
    loop {
        hyper.save(&path)?;
    }
}

#[derive(HyperTarget)]
#[hyper(sequential)]
struct LargeNet {
    #[hyper(linear(400, 400))]
    fc: Linear,
}

hypernetwork! {
    struct Large for LargeNet { embedding: table(400, 8), generator: linear, mode: static }
}

/// Processes that are killed while they write leave at most what one of them was writing, and the file is
/// whole.
#[test]
fn killed_processes() -> Result<()> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("net");
    for wait in [150, 161, 172, 183, 194] {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--ignored", "--exact", "writes_for_ever"])
            .env("HYPERNN_WRITES_TO", &path)
            .stdout(std::process::Stdio::null())
            .spawn()?;
        std::thread::sleep(std::time::Duration::from_millis(wait));
        child.kill()?;
        child.wait()?;
        assert!(names(dir.path()).len() <= 2, "{:?}", names(dir.path()));
    }
    let hyper = Large::new(variables(2, DType::F32).1)?;
    if path.exists() {
        hyper.load(&path)?;
    }
    hyper.save(&path)?;
    assert_eq!(names(dir.path()), ["net"]);
    Ok(())
}

/// Not a test, but the process that the next one gives too small a disk.
#[test]
#[ignore = "runs where files have a limit"]
fn writes_once() -> Result<()> {
    let path = std::env::var("HYPERNN_WRITES_TO").unwrap_or_default();
    let said = message(Large::new(variables(1, DType::F32).1)?.save(&path));
    fs::write(Path::new(&path).with_extension("said"), said)?;
    Ok(())
}

/// A file that does not fit is an error in the system's words; what was there before is there still, and nothing
/// else. The limit on the size of files stands for a full disk: the write fails half-way.
#[test]
fn a_full_disk() -> Result<()> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("net");
    fs::write(&path, "old")?;
    // The signal that a too large file sends is ignored, so that the write itself fails.
    let limited = "trap '' XFSZ; ulimit -f 4; exec \"$0\" --ignored --exact writes_once";
    let status = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe()?)
        .env("HYPERNN_WRITES_TO", &path)
        .stdout(std::process::Stdio::null())
        .status()?;
    assert!(status.success());
    assert_eq!(names(dir.path()), ["net", "net.said"]);
    assert_eq!(fs::read_to_string(&path)?, "old");
    let said = fs::read_to_string(path.with_extension("said"))?;
    let expected = format!("can't write {}: File too large (os error ", path.display());
    assert!(said.starts_with(&expected), "{said}");
    Ok(())
}

/// Several threads write the same file: each write is whole, and none fails for another's.
#[test]
fn several_writers_of_one_file() -> Result<()> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("net");
    let hyper = HyperNet::new(variables(1, DType::F32).1)?;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..50).try_for_each(|_| hyper.save(&path)))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap())
    })?;
    hyper.load(&path)?;
    assert_eq!(names(dir.path()), ["net"]);
    Ok(())
}

/// What is saved while another thread trains is whole: hash and values are of one moment.
#[test]
fn saving_beside_training() -> Result<()> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("net");
    let (vars, vb) = variables(1, DType::F32);
    let hyper = Large::new(vb)?;
    let other = Large::new(variables(2, DType::F32).1)?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let training = scope.spawn(|| -> Result<()> {
            let mut optimizer = AdamW::new_lr(vars.all_vars(), 0.01)?;
            let loss = weighted_sum(&hyper.forward(&input(&[2, 400], 1, DType::F32)?)?)?;
            let grads = loss.backward()?;
            while !done.load(Ordering::Relaxed) {
                optimizer.step(&grads)?;
            }
            Ok(())
        });
        let saved = (0..60).try_for_each(|_| {
            hyper.save(&path)?;
            other.load(&path)
        });
        done.store(true, Ordering::Relaxed);
        training.join().unwrap()?;
        saved
    })
}
