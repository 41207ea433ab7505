//! What a file is that is not one of tensors, and what to do with it.

use std::fs::FileType;
use std::path::Path;

/// The kinds that a few bytes at a place give away.
const MAGIC: [(usize, &[u8], &str); 26] = [
    (
        0,
        b"version https://git-lfs",
        "it is a Git LFS pointer, which stands for a file that was not downloaded: `git lfs pull` fetches the file itself",
    ),
    (0, b"GGUF", "it is a GGUF file, a model as llama.cpp has it: `Pretrained::open` reads it"),
    (0, b"lmgg", GGML),
    (0, b"fmgg", GGML),
    (0, b"tjgg", GGML),
    (0, b"\x93NUMPY", "it is an array of NumPy (`.npy`), without a name: save it as safetensors"),
    (0, b"\x1f\x8b", "it is a gzip archive: unpack it by `gunzip` first"),
    (0, b"BZh", "it is a bzip2 archive: unpack it by `bunzip2` first"),
    (0, b"\xfd7zXZ\0", "it is an xz archive: unpack it by `unxz` first"),
    (0, b"\x28\xb5\x2f\xfd", "it is a zstd archive: unpack it by `unzstd` first"),
    (0, b"\x04\x22\x4d\x18", "it is an lz4 archive: unpack it by `unlz4` first"),
    (0, b"7z\xbc\xaf\x27\x1c", "it is a 7z archive: unpack it first"),
    (0, b"Rar!\x1a\x07", "it is a RAR archive: unpack it first"),
    (257, b"ustar", "it is a tar archive: unpack it by `tar -xf` first"),
    (0, b"PK\x05\x06", "it is a zip archive with nothing in it"),
    (
        0,
        b"\x89HDF\r\n\x1a\n",
        "it is an HDF5 file, as Keras writes it: convert its weights to safetensors",
    ),
    (4, b"TFL3", "it is a model of TensorFlow Lite: convert its weights to safetensors"),
    (0, b"%PDF", "it is a PDF"),
    (0, b"\x89PNG", "it is an image (PNG)"),
    (0, b"\xff\xd8\xff", "it is an image (JPEG)"),
    (0, b"\x7fELF", "it is a program or a library (ELF)"),
    (0, b"PAR1", "it is a Parquet table"),
    (0, b"ARROW1", "it is an Arrow table"),
    (0, b"SQLite format 3", "it is an SQLite database"),
    (0, b"#!", "it is a script"),
    (0, b"\xef\xbb\xbf<", HTML),
];

const GGML: &str =
    "it is a GGML file, of quantised tensors: convert it to GGUF, which `Pretrained::open` reads";

const HTML: &str = "it is an HTML page, as for a login or an error, saved in place of the file: download the file itself";

const EXPECTED: &str = "expected safetensors, or what `torch.save(net.state_dict(), path)` writes";

/// What a file of this start is, if it is not to be read as safetensors.
pub(super) fn of(start: &[u8], path: &Path) -> Option<String> {
    if start.is_empty() {
        return Some(format!("it is empty, as after an interrupted download; {EXPECTED}"));
    }
    // A short header in JSON, behind its length in eight bytes.
    if start.len() > 8 && start[4..8] == [0; 4] && start[8] == b'{' {
        return None;
    }
    let at = |place: usize, magic: &[u8]| start.get(place..).is_some_and(|s| s.starts_with(magic));
    if let Some((_, _, what)) = MAGIC.iter().find(|(place, magic, _)| at(*place, magic)) {
        return Some(format!("{what}; {EXPECTED}"));
    }
    if is_pickle(start) {
        return Some(format!(
            "it is a pickle of Python, but not one that `torch.save` wrote; {EXPECTED}"
        ));
    }
    if is_onnx(start, path) {
        return Some(format!(
            "it is a model in ONNX: convert its weights to safetensors; {EXPECTED}"
        ));
    }
    if is_text(start) {
        return Some(format!("{}; {EXPECTED}", of_text(start, path)));
    }
    // A header whose length is not that of any file.
    (start.get(8) != Some(&b'{')).then(|| {
        let bytes: Vec<_> = start.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!(
            "it is of no kind that is known, and begins with the bytes {}; {EXPECTED}",
            bytes.join(" ")
        )
    })
}

/// A pickle of protocol 2 to 5 begins with the protocol, and then an instruction, of which none is zero, as the
/// length of a safetensors header may be there.
fn is_pickle(start: &[u8]) -> bool {
    matches!(start, [0x80, 2..=5, instruction, ..] if *instruction != 0)
}

/// The version of the format as the first field of a protocol buffer, and then the producer's name, a
/// graph or the like.
fn is_onnx(start: &[u8], path: &Path) -> bool {
    let named = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
    named || matches!(start, [0x08, 1..=32, 0x12 | 0x1a | 0x22 | 0x3a | 0x42, ..])
}

fn is_text(start: &[u8]) -> bool {
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        // A character that the start's end cuts.
        Err(err) if err.error_len().is_none() => {
            std::str::from_utf8(&start[..err.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && !text.chars().any(|c| c.is_control() && !c.is_whitespace())
}

fn of_text(start: &[u8], path: &Path) -> String {
    let text = String::from_utf8_lossy(start);
    let text = text.trim_start();
    let lower = text.to_lowercase();
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        return HTML.to_owned();
    }
    if text.starts_with('<') {
        return "it is a page in XML or HTML, as a server's error, saved in place of the file: download the file itself".to_owned();
    }
    if text.starts_with(['{', '[']) {
        return of_json(path);
    }
    let line: String = text.lines().next().unwrap_or_default().chars().take(60).collect();
    format!("it is a text that begins with `{line}`")
}

/// A file in JSON, which may be the index of a model in several files.
fn of_json(path: &Path) -> String {
    const LIMIT: u64 = 1 << 26;
    let small = std::fs::metadata(path).is_ok_and(|found| found.len() <= LIMIT);
    let text = small.then(|| std::fs::read(path).ok()).flatten().unwrap_or_default();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let Some(map) = json.get("weight_map").and_then(serde_json::Value::as_object) else {
        return "it is a text in JSON, such as a configuration".to_owned();
    };
    let mut shards: Vec<_> = map.values().filter_map(serde_json::Value::as_str).collect();
    shards.sort_unstable();
    shards.dedup();
    let first: Vec<_> = shards.iter().take(4).collect();
    format!(
        "it is the index of a model in several files, {}: `Pretrained::open` reads them",
        super::list(&first, shards.len())
    )
}

/// What a zip archive is that has no pickle of PyTorch's.
pub(super) fn of_archive(names: &[String]) -> String {
    let any = |ending: &str| names.iter().any(|name| name.ends_with(ending));
    let what = if any(".npy") {
        "it holds arrays of NumPy (`.npz`): save them as safetensors".to_owned()
    } else if any("model.weights.h5") {
        "it is a model of Keras: convert its weights to safetensors".to_owned()
    } else if names.is_empty() {
        "it is a zip archive with nothing in it".to_owned()
    } else {
        let first: Vec<_> = names.iter().take(4).collect();
        format!("it is a zip archive of {}", super::list(&first, names.len()))
    };
    format!("it holds no tensors by name: {what}; {EXPECTED}")
}

/// A directory, with the files in it that may be meant.
pub(super) fn of_directory(path: &Path) -> String {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let is_meant = |name: &String| {
        [".safetensors", ".pt", ".pth", ".bin", ".ckpt"].iter().any(|end| name.ends_with(end))
    };
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(is_meant).take(1000).collect();
    names.sort_unstable();
    let len = names.len();
    names.truncate(4);
    match len {
        0 => "it is a directory, expected a file".to_owned(),
        _ => format!("it is a directory, expected a file; in it are {}", super::list(&names, len)),
    }
}

/// What is neither a file nor a directory.
pub(super) fn of_special(kind: FileType) -> &'static str {
    if kind.is_dir() {
        return "a directory";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kinds = [
            (kind.is_fifo(), "a FIFO (a named pipe)"),
            (kind.is_socket(), "a socket"),
            (kind.is_char_device(), "a device"),
            (kind.is_block_device(), "a block device"),
        ];
        if let Some((_, name)) = kinds.into_iter().find(|(is, _)| *is) {
            return name;
        }
    }
    "no regular file"
}
