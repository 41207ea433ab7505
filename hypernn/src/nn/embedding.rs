//! The embedding: a table whose rows are looked up.

use candle_core::{DType, Error, Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::flow::{Given, SampleShape};
use crate::info::LayerInfo;
use crate::ops::lookup::lookup;
use crate::param::{Param, sets};
use crate::structure::layer::{HyperLayer, Parameters, Visitor};
use crate::structure::source::{ParamKind, ParamSource, ParamSpec, VarBuilderSource};

/// What an embedding is made of: `embedding(in_size, out_size)` in an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddingSpec {
    in_size: usize,
    out_size: usize,
}

impl EmbeddingSpec {
    /// The layer's table, and what is wrong with its sizes, if anything; it takes indices of any shape.
    pub const fn info(&self) -> LayerInfo {
        LayerInfo::new("embedding")
            .size("in_size", self.in_size)
            .size("out_size", self.out_size)
            .tensor("weight", &[self.in_size, self.out_size])
    }

    /// The shape of the output of one sample: that of the input with one more dimension, `out_size`.
    pub const fn gives(&self, input: &SampleShape) -> Given {
        Given::Shape(input.push(self.out_size))
    }

    /// The table `[in, out]`, standard normal.
    fn table(&self, source: &mut dyn ParamSource) -> Result<Param> {
        crate::check::ensure(self.info().problem)?;
        let spec = ParamSpec {
            name: "weight",
            dims: &[self.in_size, self.out_size],
            kind: ParamKind::Table,
            init: Init::Randn { mean: 0., stdev: 1. },
        };
        let table = source.param(&spec)?;
        table.ensure_one_weight()?;
        table.into_merged()
    }
}

/// The attribute's constructors.
pub mod spec {
    use super::EmbeddingSpec;

    /// `#[hyper(embedding(in_size, out_size))]`.
    pub const fn embedding(in_size: usize, out_size: usize) -> EmbeddingSpec {
        EmbeddingSpec { in_size, out_size }
    }
}

/// A table whose rows are looked up, as `candle_nn::Embedding`.
///
/// The table is `[in, out]`, or `[G, in, out]` for `G` sets.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use hypernn::nn::{Embedding, Module};
///
/// # fn main() -> candle_core::Result<()> {
/// // Two tables of two rows, two rows of indices: each looks into its own table.
/// let table = Tensor::new(&[[[1f32], [2.]], [[10.], [20.]]], &Device::Cpu)?;
/// let indices = Tensor::new(&[[0u32, 1], [0, 1]], &Device::Cpu)?;
/// let ys = Embedding::new(table, 1).forward(&indices)?;
/// assert_eq!(ys.flatten_all()?.to_vec1::<f32>()?, [1., 2., 10., 20.]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Embedding {
    embeddings: Param,
    hidden_size: usize,
}

impl Embedding {
    /// A layer over an existing table, whose rows hold `hidden_size` values.
    pub fn new(embeddings: Tensor, hidden_size: usize) -> Self {
        Self { embeddings: embeddings.into(), hidden_size }
    }

    /// The table, `[in_size, out_size]`, or `[G, in_size, out_size]` for `G` sets.
    pub fn embeddings(&self) -> &Tensor {
        self.embeddings.shown(2)
    }

    /// The number of values in a row of the table.
    pub fn hidden_size(&self) -> usize {
        self.hidden_size
    }
}

impl Module for Embedding {
    /// Indices `[…]` of dtype u8, u32 or i64 to `[…, out]`. As in candle, `u32::MAX` and `i64::MAX` are no
    /// row, and give zeros; with several sets they are out of range.
    ///
    /// # Errors
    /// An index is not below `in` (found on the CPU only), the indices have another dtype, or the first
    /// dimension is not a multiple of the number of sets.
    fn forward(&self, indexes: &Tensor) -> Result<Tensor> {
        if !matches!(indexes.dtype(), DType::U8 | DType::U32 | DType::I64) {
            crate::error::bail!(
                dtype,
                "embedding: the indices are {:?}, expected u8, u32 or i64",
                indexes.dtype()
            );
        }
        let mut dims = indexes.dims().to_vec();
        dims.push(self.hidden_size);
        // On CUDA, candle looks up in contiguous tables alone.
        let table = match self.embeddings.blocks() {
            Some(_) => self.embeddings.clone(),
            None => self.embeddings.contiguous()?,
        };
        let (table, indexes) = match sets::count("embedding", "table", table.outline(), 2)? {
            None => (table, countable(&indexes.flatten_all()?)?),
            Some(sets) => {
                let (_, rows, _) = table.outline().dims3()?;
                (table.reshaped(|table| table.flatten_to(1))?, in_one_table(indexes, sets, rows)?)
            }
        };
        let rows = lookup(&table, &indexes);
        rows.or_else(|err| Err(named(err, &indexes, table.outline().dim(0)?)))?.reshape(dims)
    }
}

/// Indices that can count the rows of any table. candle takes the largest of each dtype for no row, which
/// in u8 is an ordinary one.
fn countable(indexes: &Tensor) -> Result<Tensor> {
    if indexes.dtype() == DType::U8 { indexes.to_dtype(DType::U32) } else { Ok(indexes.clone()) }
}

/// candle's error, or, where an index is out of range, one that names the index and the table. It is looked
/// for where candle has found one: a look-up costs little more than the search.
fn named(err: Error, indexes: &Tensor, rows: usize) -> Error {
    if !indexes.device().is_cpu() {
        return err;
    }
    check_range(indexes, rows).err().unwrap_or(err)
}

/// Indices into the tables of all sets, one after the other.
fn in_one_table(indexes: &Tensor, sets: usize, rows: usize) -> Result<Tensor> {
    let batch = indexes.dims().first().copied().unwrap_or(1);
    sets::rows_per_set("embedding", batch, sets)?;
    if indexes.device().is_cpu() {
        check_range(indexes, rows)?;
    }
    let (indexes, device) = (countable(indexes)?, indexes.device());
    let dtype = indexes.dtype();
    let by_set = indexes.reshape((sets, indexes.elem_count() / sets))?;
    let end = (sets * rows) as u32;
    let starts = Tensor::arange_step(0u32, end, rows as u32, device)?.to_dtype(dtype)?;
    let shifted = by_set.broadcast_add(&starts.unsqueeze(1)?)?;
    // What is out of range must not fall into the next set's table.
    let outside = Tensor::new(end, device)?.to_dtype(dtype)?.broadcast_as(shifted.shape())?;
    by_set.lt(rows as u32)?.where_cond(&shifted, &outside)?.flatten_all()
}

fn check_range(indexes: &Tensor, rows: usize) -> Result<()> {
    let indexes = indexes.flatten_all()?.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    match indexes.iter().find(|index| !(0..rows as i64).contains(index)) {
        None => Ok(()),
        Some(index) => {
            crate::error::bail!(
                shape,
                "embedding: index {index} is out of range, the table has {rows} rows"
            )
        }
    }
}

impl HyperLayer<EmbeddingSpec> for Embedding {
    const TAKES_SETS: bool = true;

    fn build(spec: &EmbeddingSpec, source: &mut dyn ParamSource) -> Result<Self> {
        Ok(Self { embeddings: spec.table(source)?, hidden_size: spec.out_size })
    }
}

impl Parameters for Embedding {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        visitor("weight", self.embeddings.visited())
    }

    fn reused(&self, name: &str) -> Result<Option<Param>> {
        self.embeddings.reused(name)
    }
}

impl HyperLayer<EmbeddingSpec> for candle_nn::Embedding {
    fn build(spec: &EmbeddingSpec, source: &mut dyn ParamSource) -> Result<Self> {
        Ok(Self::new(spec.table(source)?.collected()?, spec.out_size))
    }
}

impl Parameters for candle_nn::Embedding {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        visitor("weight", self.embeddings())
    }
}

/// An embedding; variable `weight`.
///
/// # Errors
/// A size is zero, or the builder's tensor has another shape.
pub fn embedding(in_size: usize, out_size: usize, vb: VarBuilder<'_>) -> Result<Embedding> {
    Embedding::build(&EmbeddingSpec { in_size, out_size }, &mut VarBuilderSource::new(vb))
}
