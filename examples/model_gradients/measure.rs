//! What the audits say of a model, over one sample and over two.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use hypernn::embedding::spec::table;
use hypernn::generated::TargetPlan;
use hypernn::generator::GeneratorShape;
use hypernn::generator::spec::linear;
use hypernn::hypernetwork::{Declared, Derivative, ExactAudit, Gradient, StaticHyperNetwork};
use hypernn::init::InitScheme;
use hypernn::{ChunkPlan, GeneratedParams, seeded};

/// What the audits say of one model over so many samples.
pub(crate) struct Row {
    pub(crate) model: &'static str,
    pub(crate) batch: usize,
    cells: Vec<String>,
    pub(crate) text: String,
}

/// How much is measured of a model.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(crate) enum Measure {
    /// What takes one pass.
    Audit,
    /// Also differences of the loss, which compute it some hundred times.
    All,
}

/// The rows so far, and the most that is measured of a model.
pub(crate) struct Rows {
    pub(crate) rows: Vec<Row>,
    pub(crate) most: Measure,
}

/// Measures a model over one sample and over two: what builds it, and what runs it over a batch in a dtype.
pub(crate) fn measure<T: 'static>(
    (rows, name, how): (&mut Rows, &'static str, Measure),
    constructor: impl Fn(VarBuilder<'static>) -> Result<T> + Copy + Send + Sync + 'static,
    forward: impl Fn(&mut T, usize, DType) -> Result<Tensor>,
) -> Result<()> {
    let how = if how < rows.most { how } else { rows.most };
    for batch in [1, 2] {
        let loss = |params: &GeneratedParams<T>| {
            weighted_sum(&forward(&mut params.unpack()?, batch, params.dtype())?)
        };
        let hyper = TargetPlan::from_constructor(constructor).and_then(hypernetwork);
        let found = hyper.and_then(|hyper| look(&hyper, how, loss));
        let (cells, text) = found.unwrap_or_else(|err| (vec![first_line(&err)], String::new()));
        rows.rows.push(Row { model: name, batch, cells, text });
    }
    Ok(())
}

/// The cells of a row, and what the audits say.
fn look<T: 'static>(
    hyper: &StaticHyperNetwork<T>,
    how: Measure,
    loss: impl Fn(&GeneratedParams<T>) -> Result<Tensor>,
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
    let (right, text) = match how {
        Measure::Audit => ("–".to_owned(), String::new()),
        Measure::All => right(hyper.audit_exact(loss)),
    };
    cells.push(right);
    Ok((cells, format!("{audit}\n{text}")))
}

/// How many tensors get the right gradient, and what the exact audit says; or why there is none.
fn right(exact: Result<ExactAudit>) -> (String, String) {
    let exact = match exact {
        Ok(exact) => exact,
        Err(err) => return ("–".to_owned(), first_line(&err)),
    };
    let is_right = |at: &Derivative| at.is_right() && *at != Derivative::Unused;
    let right = exact.generated().iter().filter(|(_, at)| is_right(at)).count();
    (right.to_string(), exact.to_string())
}

fn hypernetwork<T: 'static>(plan: TargetPlan<T>) -> Result<StaticHyperNetwork<T>> {
    let chunks = ChunkPlan::new(plan.num_params(), 4);
    let shape = GeneratorShape { num_embeddings: 4, embedding_dim: 6, plan: chunks };
    let declared = Declared { name: "HyperNet", shape, scheme: InitScheme::Exact };
    let vb = seeded::var_builder(&VarMap::new(), 1, DType::F32, &Device::Cpu);
    StaticHyperNetwork::new(plan, &declared, &table(4, 6), &linear, vb)
}

/// A sum with factors of either sign.
fn weighted_sum(ys: &Tensor) -> Result<Tensor> {
    let ys = ys.flatten_all()?;
    let factors = (0..ys.elem_count()).map(|at| (1.7 * at as f64 + 0.3).sin());
    let factors = Tensor::from_iter(factors, ys.device())?.to_dtype(ys.dtype())?;
    (ys * factors)?.sum_all()
}

fn first_line(err: &candle_core::Error) -> String {
    err.to_string().lines().next().unwrap_or_default().to_owned()
}

/// The cells of a row, in the order of [`HEADER`].
fn cells(row: &Row) -> Vec<String> {
    let mut cells = vec![row.model.to_owned(), row.batch.to_string()];
    cells.extend(row.cells.iter().cloned());
    cells.resize(HEADER.len(), "–".to_owned());
    cells
}

const HEADER: [&str; 7] =
    ["model", "samples", "tensors", "get a gradient", "in part", "none", "the right one"];

/// The table in Markdown.
pub(crate) fn table_of(rows: &[Row]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(HEADER.map(str::to_owned).to_vec()) + "|---|---|---|---|---|---|---|\n";
    rows.iter().for_each(|row| text += &line(cells(row)));
    text
}
