//! What the macros cost a compilation: `cargo check` of a crate with 50 targets and 50 hypernetworks, and with one of
//! each, after its file was touched; beside the same structs without macros, and structs of as many fields with the
//! derives of serde (`Serialize`, `Deserialize`) and clap (`Parser`). Then rustc's own count of the time that it spends
//! in expanding macros. At the beginning, the same of a ResNet-18 whose forward is in attributes, beside the same with
//! the derive but without that forward, and its structs without attributes; `resnet` behind the command is that alone.
//! The first run also checks candle, in a folder of its own.
//!
//! ```sh
//! cargo bench -p hypernn-benches --bench compile_cost -- resnet
//! ```

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const COUNTS: [usize; 2] = [1, 50];
const ROUNDS: usize = 7;

const MANIFEST: &str = r#"
[package]
name = "compile-cost"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
hypernn = { path = "@root@/hypernn" }
serde = { version = "1", features = ["derive"] }
clap = { version = "4", features = ["derive"] }

[profile.dev]
debug = "line-tables-only"

[profile.dev.package."*"]
opt-level = 3

[profile.dev.package.hypernn]
opt-level = 3
"#;

/// What the structs of a crate derive.
#[derive(Clone, Copy)]
enum Derives {
    Nothing,
    Hypernn,
    Serde,
    Clap,
}

impl Derives {
    const ALL: [Self; 4] = [Self::Nothing, Self::Hypernn, Self::Serde, Self::Clap];

    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "the structs alone",
            Self::Hypernn => "a target and a hypernetwork each",
            Self::Serde => "serde, Serialize and Deserialize",
            Self::Clap => "clap, Parser",
        }
    }

    /// A module with one struct of five fields.
    fn module(self, i: usize) -> String {
        let code = match self {
            Self::Nothing => target(i, false),
            Self::Hypernn => target(i, true),
            Self::Serde => fields("#[derive(serde::Serialize, serde::Deserialize)]\n", ""),
            Self::Clap => fields("#[derive(clap::Parser)]\n", "#[arg(long)] "),
        };
        format!("pub mod m{i} {{\n{code}}}\n")
    }
}

fn fields(derive: &str, attribute: &str) -> String {
    let types =
        [("a", "String"), ("norm", "u64"), ("b", "Vec<String>"), ("c", "f64"), ("d", "bool")];
    let field = |(name, ty)| format!("    {attribute}pub {name}: {ty},\n");
    format!("{derive}pub struct Net {{\n{}}}\n", types.map(field).concat())
}

/// A target of five layers, and a hypernetwork over it.
fn target(i: usize, macros: bool) -> String {
    let (width, hidden) = (8 + i, 16 + i);
    let layer = |attribute: String, field: &str| {
        let attribute = if macros { format!("#[hyper({attribute})] ") } else { String::new() };
        format!("    {attribute}pub {field},\n")
    };
    let mut code = "use hypernn::nn::{LayerNorm, Linear};\n".to_owned();
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
    code
}

/// A ResNet-18 for images of 224 by 224: each attribute is a line.
const RESNET_18: &str = "
use hypernn::nn::{BatchNorm, Conv2d, Linear};
#[derive(hypernn::HyperTarget)]
#[hyper(sequential_t)]
pub struct Downsample<const I: usize, const O: usize> {
    #[hyper(conv2d_no_bias(I, O, 1, stride = 2))]
    pub conv: Conv2d,
    #[hyper(batch_norm(O, 1e-5))]
    pub norm: BatchNorm,
}
#[derive(hypernn::HyperTarget)]
#[hyper(sequential_t = [residual([conv1, bn1, relu, conv2, bn2], skip = [downsample]), relu], input = (I, H, W))]
pub struct Block<const I: usize, const O: usize, const STRIDE: usize> {
    #[hyper(conv2d_no_bias(I, O, 3, stride = STRIDE, padding = 1))]
    pub conv1: Conv2d,
    #[hyper(batch_norm(O, 1e-5))]
    pub bn1: BatchNorm,
    #[hyper(conv2d_no_bias(O, O, 3, padding = 1))]
    pub conv2: Conv2d,
    #[hyper(batch_norm(O, 1e-5))]
    pub bn2: BatchNorm,
    #[hyper(if STRIDE > 1 { target })]
    pub downsample: Option<Downsample<I, O>>,
}
#[derive(hypernn::HyperTarget)]
#[hyper(sequential_t)]
pub struct Stage<const I: usize, const O: usize> {
    pub first: Block<I, O, 2>,
    pub second: Block<O, O, 1>,
}
#[derive(hypernn::HyperTarget)]
#[hyper(sequential_t = [conv1, bn1, relu, max_pool2d(3, stride = 2, padding = 1), repeat(layer1), layer2, layer3, layer4, global_avg_pool2d, fc], input = (3, 224, 224))]
pub struct ResNet18 {
    #[hyper(conv2d_no_bias(3, 64, 7, stride = 2, padding = 3))]
    pub conv1: Conv2d,
    #[hyper(batch_norm(64, 1e-5))]
    pub bn1: BatchNorm,
    #[hyper([target; 2])]
    pub layer1: Vec<Block<64, 64, 1>>,
    pub layer2: Stage<64, 128>,
    pub layer3: Stage<128, 256>,
    pub layer4: Stage<256, 512>,
    #[hyper(linear(512, 1000))]
    pub fc: Linear,
}
";

/// Rust without the lines that begin like this.
fn without(beginning: &str, code: &str) -> String {
    let lines = code.lines().filter(|line| !line.trim_start().starts_with(beginning));
    lines.map(|line| format!("{line}\n")).collect()
}

struct Krate {
    manifest: PathBuf,
    source: PathBuf,
    code: String,
}

impl Krate {
    fn new(folder: &Path, root: &Path, derives: Derives, count: usize) -> Result<Self> {
        Self::of(folder, root, (0..count).map(|i| derives.module(i)).collect())
    }

    fn of(folder: &Path, root: &Path, code: String) -> Result<Self> {
        fs::create_dir_all(folder.join("src"))?;
        let (manifest, source) = (folder.join("Cargo.toml"), folder.join("src/lib.rs"));
        fs::write(&manifest, MANIFEST.replace("@root@", &root.display().to_string()))?;
        fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
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

    /// The medians of the time on the clock and of the time on cores.
    fn medians(&self) -> Result<[Duration; 2]> {
        self.check(0)?;
        let (mut clock, mut cores) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            let before = time_of_children()?;
            clock.push(self.check(round)?);
            cores.push(time_of_children()?.saturating_sub(before));
        }
        Ok([clock, cores].map(median))
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

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The time on cores, for users and kernel, of all programs that this one has run: on Linux, in hundredths of a second;
/// elsewhere nothing.
fn time_of_children() -> Result<Duration> {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return Ok(Duration::ZERO) };
    // The first field behind the program's name, in parentheses, is the third; these are the 16th and 17th.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(13).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<std::result::Result<u64, _>>()?;
    Ok(Duration::from_millis(10 * ticks))
}

/// A build of its own, below the workspace's.
fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    target.join("compile-cost")
}

fn main() -> Result<()> {
    let root = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
    let folder = folder().join("crate");
    resnet_18(&folder, &root)?;
    if env::args().any(|argument| argument == "resnet") {
        return Ok(());
    }
    println!("| `cargo check` after a touch | of one, ms | of 50, ms | each of the 50, ms |");
    println!("|---|---|---|---|");
    let mut alone = Duration::ZERO;
    for derives in Derives::ALL {
        let median = |count| -> Result<Duration> {
            Ok(Krate::new(&folder, &root, derives, count)?.medians()?[0])
        };
        let [one, fifty] = [median(COUNTS[0])?, median(COUNTS[1])?];
        if let Derives::Nothing = derives {
            alone = fifty;
        }
        let each = fifty.saturating_sub(alone).as_secs_f64() * 1e3 / COUNTS[1] as f64;
        let (one, fifty) = (one.as_millis(), fifty.as_millis());
        println!("| {} | {one} | {fifty} | {each:.1} |", derives.name());
    }
    let with = Krate::new(&folder, &root, Derives::Hypernn, COUNTS[1])?;
    print!("rustc's passes of the 50 targets and hypernetworks:\n{}", with.passes()?);
    Ok(())
}

fn resnet_18(folder: &Path, root: &Path) -> Result<()> {
    let medians = |code: String| Krate::of(folder, root, code)?.medians();
    let with = medians(RESNET_18.to_owned())?;
    println!("| `cargo check` of a ResNet-18 | clock, ms | cores, ms | in attributes to this |");
    println!("|---|---|---|---|");
    let row = |what: &str, times: [Duration; 2]| {
        let [clock, cores] = times.map(|time| time.as_millis());
        let ratio = with[0].as_secs_f64() / times[0].as_secs_f64();
        println!("| {what} | {clock} | {cores} | {ratio:.2} |");
    };
    row("in attributes", with);
    let forward = "#[hyper(sequential";
    row("the derive, without the forward in attributes", medians(without(forward, RESNET_18))?);
    row("its structs alone", medians(without("#[", RESNET_18))?);
    Ok(())
}
