//! Which models of candle-transformers 0.11 learn through what, as targets by constructor.
//!
//! Each is built in a tiny configuration, and audited over one sample and over two: several operations of
//! candle have a backward for a view and none for contiguous tensors, which samples by one are.
//! `--names` also prints what the audits say of each tensor, and a name as argument takes that model alone.

mod configs;
mod models;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use comfy_table::Table;
use hypernn::embedding::spec::table;
use hypernn::generated::TargetPlan;
use hypernn::generator::GeneratorShape;
use hypernn::generator::spec::linear;
use hypernn::hypernetwork::{Declared, Derivative, Gradient, StaticHyperNetwork};
use hypernn::init::InitScheme;
use hypernn::{ChunkPlan, GeneratedParams, seeded};

/// What the audits say of one model over so many samples.
struct Row {
    model: &'static str,
    batch: usize,
    cells: Vec<String>,
    text: String,
}

/// How much is measured of a model.
#[derive(Clone, Copy, PartialEq)]
enum Measure {
    /// Also differences of the loss, which compute it some hundred times.
    All,
    /// What takes one pass.
    Audit,
}

/// Measures a model over one sample and over two: what builds it, and what runs it over a batch in a dtype.
fn measure<T: 'static>(
    (rows, name, measure): (&mut Vec<Row>, &'static str, Measure),
    constructor: impl Fn(VarBuilder<'_>) -> candle_core::Result<T> + Copy + Send + Sync + 'static,
    forward: impl Fn(&mut T, usize, DType) -> candle_core::Result<Tensor>,
) -> Result<()> {
    let mut only = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).peekable();
    if only.peek().is_some() && !only.any(|only| only == name) {
        return Ok(());
    }
    for batch in [1, 2] {
        let plan = TargetPlan::from_constructor(constructor)?;
        let loss = |params: &GeneratedParams<T>| {
            weighted_sum(&forward(&mut params.unpack()?, batch, params.dtype())?)
        };
        let found = look(&hypernetwork(plan)?, measure, loss);
        let (cells, text) = found.unwrap_or_else(|err| (vec![first_line(&err)], String::new()));
        rows.push(Row { model: name, batch, cells, text });
    }
    Ok(())
}

/// The cells of a row, and what the audits say.
fn look<T: 'static>(
    hyper: &StaticHyperNetwork<T>,
    measure: Measure,
    loss: impl Fn(&GeneratedParams<T>) -> candle_core::Result<Tensor>,
) -> Result<(Vec<String>, String)> {
    let params = hyper.generate_params()?;
    let audit = hyper.audit(&params, &loss(&params)?)?;
    let count = |is: fn(&Gradient) -> bool| {
        audit.generated().iter().filter(|(_, gradient)| is(gradient)).count()
    };
    let none = count(|gradient| matches!(gradient, Gradient::None | Gradient::Zero));
    let part = count(|gradient| matches!(gradient, Gradient::Parts { .. }));
    let all = audit.generated().len();
    let mut cells = [all, all - none - part, part, none].map(|n| n.to_string()).to_vec();
    if measure == Measure::Audit {
        return Ok((cells, audit.to_string()));
    }
    let exact = hyper.audit_exact(loss)?;
    let right = |at: &Derivative| at.is_right() && *at != Derivative::Unused;
    let right = exact.generated().iter().filter(|(_, at)| right(at)).count();
    cells.push(right.to_string());
    Ok((cells, format!("{audit}\n{exact}")))
}

fn hypernetwork<T: 'static>(plan: TargetPlan<T>) -> candle_core::Result<StaticHyperNetwork<T>> {
    let chunks = ChunkPlan::new(plan.num_params(), 4);
    let shape = GeneratorShape { num_embeddings: 4, embedding_dim: 6, plan: chunks };
    let declared = Declared { name: "HyperNet", shape, scheme: InitScheme::Exact };
    let vb = seeded::var_builder(&VarMap::new(), 1, DType::F32, &Device::Cpu);
    StaticHyperNetwork::new(plan, &declared, (&table(4, 6), &linear), vb)
}

/// A sum with factors of either sign.
fn weighted_sum(ys: &Tensor) -> candle_core::Result<Tensor> {
    let ys = ys.flatten_all()?;
    let factors = (0..ys.elem_count()).map(|at| (1.7 * at as f64 + 0.3).sin());
    let factors = Tensor::from_iter(factors, ys.device())?.to_dtype(ys.dtype())?;
    (ys * factors)?.sum_all()
}

fn first_line(err: &anyhow::Error) -> String {
    err.to_string().lines().next().unwrap_or_default().to_owned()
}

fn main() -> Result<()> {
    let mut rows = Vec::new();
    models::all(&mut rows)?;
    let mut printed = Table::new();
    printed.load_style(comfy_table::presets::ASCII_MARKDOWN);
    printed.set_header([
        "model",
        "batch",
        "tensors",
        "get a gradient",
        "in part",
        "none",
        "the right one",
    ]);
    for row in &rows {
        let start = [row.model.to_owned(), row.batch.to_string()];
        printed.add_row(start.into_iter().chain(row.cells.clone()));
    }
    println!("{printed}");
    if std::env::args().any(|arg| arg == "--names") {
        rows.iter().for_each(|row| println!("\n{}, batch {}: {}", row.model, row.batch, row.text));
    }
    Ok(())
}
