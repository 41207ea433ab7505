//! What the macros cost a compilation: `cargo check` of a crate with 50 targets and 50
//! hypernetworks, beside the same structs without them, and rustc's own count of the time that it
//! spends in expanding macros. The first run also checks candle, in a folder of its own.
//!
//! ```sh
//! cargo bench -p hypernn-benches --bench compile_cost
//! ```

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const COUNT: usize = 50;
const ROUNDS: usize = 7;

const MANIFEST: &str = r#"
[package]
name = "compile-cost"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
hypernn = { path = "@root@/hypernn" }

[profile.dev]
debug = "line-tables-only"

[profile.dev.package."*"]
opt-level = 3

[profile.dev.package.hypernn]
opt-level = 3
"#;

/// A module with one target of five layers, and a hypernetwork over it.
fn module(i: usize, macros: bool) -> String {
    let (width, hidden) = (8 + i, 16 + i);
    let layer = |attribute: String, field: &str| {
        let attribute = if macros { format!("#[hyper({attribute})] ") } else { String::new() };
        format!("    {attribute}pub {field},\n")
    };
    let mut code = format!("pub mod m{i} {{\nuse hypernn::nn::{{LayerNorm, Linear}};\n");
    if macros {
        code += "#[derive(hypernn::HyperTarget)]\n";
        code += "#[hyper(sequential = [a, relu, norm, b, relu, c, d])]\n";
    }
    code += "pub struct Net {\n";
    code += &layer(format!("linear({width}, {hidden})"), "a: Linear");
    code += &layer(format!("layer_norm({hidden}, 1e-5)"), "norm: LayerNorm");
    code += &layer(format!("linear({hidden}, {hidden})"), "b: Linear");
    code += &layer(format!("linear({hidden}, {width})"), "c: Linear");
    code += &layer(format!("linear({width}, 1)"), "d: Linear");
    code += "}\n";
    if macros {
        code += "hypernn::hypernetwork! { pub struct HyperNet for Net {\n";
        code += "embedding: table(1, 4), generator: linear, mode: static } }\n";
    }
    code + "}\n"
}

struct Krate {
    manifest: PathBuf,
    source: PathBuf,
    code: String,
}

impl Krate {
    fn new(folder: &Path, root: &Path, macros: bool) -> Result<Self> {
        fs::create_dir_all(folder.join("src"))?;
        let (manifest, source) = (folder.join("Cargo.toml"), folder.join("src/lib.rs"));
        fs::write(&manifest, MANIFEST.replace("@root@", &root.display().to_string()))?;
        fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
        let code = (0..COUNT).map(|i| module(i, macros)).collect();
        Ok(Self { manifest, source, code })
    }

    /// Checks the crate anew; what it depends on is checked before.
    fn check(&self, round: usize) -> Result<Duration> {
        fs::write(&self.source, format!("{}// {round}\n", self.code))?;
        let start = Instant::now();
        let mut command = self.cargo("check");
        if !command.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success() {
            return Err("`cargo check` failed".into());
        }
        Ok(start.elapsed())
    }

    fn cargo(&self, command: &str) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.arg(command).arg("--manifest-path").arg(&self.manifest);
        // What has not changed since the last time must not be left out.
        cargo.env("CARGO_TARGET_DIR", folder().join("target")).env("CARGO_INCREMENTAL", "0");
        // For `-Ztime-passes`; everywhere, for a build that differs in it starts from nothing.
        cargo.env("RUSTC_BOOTSTRAP", "1");
        cargo
    }

    fn median(&self) -> Result<Duration> {
        self.check(0)?;
        let times: Result<Vec<_>> = (1..=ROUNDS).map(|round| self.check(round)).collect();
        let mut times = times?;
        times.sort();
        Ok(times[ROUNDS / 2])
    }

    /// The lines of `-Ztime-passes` about macros and the whole, which a stable rustc prints where it
    /// is told to behave as if it were not one.
    fn passes(&self) -> Result<String> {
        fs::write(&self.source, format!("{}// passes\n", self.code))?;
        let mut cargo = self.cargo("rustc");
        cargo.args(["--profile", "check", "--", "-Ztime-passes"]);
        let output = cargo.output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        let mut lines = String::new();
        for pass in ["macro_expand_crate", "total"] {
            let line = text.lines().find(|line| line.ends_with(&format!("\t{pass}")));
            writeln!(lines, "{}", line.unwrap_or("-Ztime-passes is not at hand"))?;
        }
        Ok(lines)
    }
}

/// A build of its own, below the workspace's.
fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    target.join("compile-cost")
}

fn main() -> Result<()> {
    let root = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
    let with = Krate::new(&folder().join("with"), &root, true)?;
    let without = Krate::new(&folder().join("without"), &root, false)?;
    let (with_time, without_time) = (with.median()?, without.median()?);
    let each = with_time.saturating_sub(without_time) / COUNT as u32;
    println!("cargo check of {COUNT} targets of five layers, {COUNT} hypernetworks over them");
    println!("with the macros {with_time:.0?}, the structs alone {without_time:.0?}");
    println!("a target and its hypernetwork: {each:.1?}");
    print!("rustc's passes:\n{}", with.passes()?);
    Ok(())
}
