//! The rows of a summary's two tables.

use std::ops::Range;

use candle_core::Tensor;

use super::TensorSummary;
use crate::hypernetwork::core::is_trained;
use crate::plan::ChunkPlan;
use crate::structure::layout::{BufferInfo, KeptInfo, Layout, Location, ParamInfo};

/// The parameters of a target in the order of asking, then what is tied, then buffers.
pub(super) fn of_target(layout: &Layout, chunks: &ChunkPlan) -> Vec<TensorSummary> {
    let of_place = |(name, place): &(String, Location)| match *place {
        Location::Generated(index) => vec![generated(layout, index, name, chunks)],
        Location::Kept(index) => vec![kept(&layout.kept()[index], name)],
        Location::Adapted { base, down, .. } => {
            let factor = |index: usize| factor(&layout.params()[index], name, chunks);
            vec![kept(&layout.kept()[base], name), factor(down), factor(down + 1)]
        }
    };
    let mut rows: Vec<_> = layout.places().iter().flat_map(of_place).collect();
    rows.extend(tied(layout, &rows));
    rows.extend(layout.buffers().iter().map(buffer));
    with_shares(rows)
}

/// What a checkpoint holds; bases and buffers are no parameters.
pub(super) fn of_network<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a Tensor)>,
) -> Vec<TensorSummary> {
    let row = |(name, tensor): (&str, &Tensor)| {
        let role = match name {
            name if is_trained(name) => "train",
            name if name.starts_with("base.") => "base",
            _ => "buffer",
        };
        let num_params = if is_trained(name) { tensor.elem_count() } else { 0 };
        TensorSummary { role, num_params, ..row(name, name, tensor.dims()) }
    };
    with_shares(tensors.map(row).collect())
}

/// A row of this tensor, of the layer of the parameter `place`, which counts nothing yet.
fn row(name: &str, place: &str, dims: &[usize]) -> TensorSummary {
    TensorSummary {
        name: name.to_owned(),
        shape: dims.to_vec(),
        role: "",
        rows: None,
        num_params: 0,
        share: 0.,
        same_as: None,
        layer: place.rsplit_once('.').map_or(place, |(layer, _)| layer).to_owned(),
    }
}

fn rows_of(param: &ParamInfo, chunks: &ChunkPlan) -> Option<Range<usize>> {
    Some(chunks.rows_of(param.offset, param.len()))
}

/// A generated tensor under its own name, or under another that shares it.
fn generated(layout: &Layout, index: usize, name: &str, chunks: &ChunkPlan) -> TensorSummary {
    let param = &layout.params()[index];
    let (rows, empty) = (rows_of(param, chunks), row(name, name, param.shape.dims()));
    if param.name != name {
        return TensorSummary { role: "shared", rows, same_as: Some(param.name.clone()), ..empty };
    }
    TensorSummary { role: "generate", rows, num_params: param.len(), ..empty }
}

fn factor(param: &ParamInfo, place: &str, chunks: &ChunkPlan) -> TensorSummary {
    let empty = row(&param.name, place, param.shape.dims());
    TensorSummary { role: "lora", rows: rows_of(param, chunks), num_params: param.len(), ..empty }
}

fn kept(kept: &KeptInfo, place: &str) -> TensorSummary {
    let num_params = kept.shape.elem_count();
    TensorSummary {
        role: kept.role.name(),
        num_params,
        ..row(&kept.name, place, kept.shape.dims())
    }
}

fn buffer(buffer: &BufferInfo) -> TensorSummary {
    TensorSummary { role: "buffer", ..row(&buffer.name, &buffer.name, buffer.shape.dims()) }
}

/// The parameters that are another layer's, each with the shape and rows of that one.
fn tied(layout: &Layout, rows: &[TensorSummary]) -> Vec<TensorSummary> {
    let tie = |(name, first): (&str, &str)| {
        let first = rows.iter().find(|row| row.name == first)?;
        let (rows, same_as) = (first.rows.clone(), Some(first.name.clone()));
        Some(TensorSummary { role: "tied", rows, same_as, ..row(name, name, &first.shape) })
    };
    layout.ties().filter_map(tie).collect()
}

fn with_shares(mut rows: Vec<TensorSummary>) -> Vec<TensorSummary> {
    let total: usize = rows.iter().map(|row| row.num_params).sum();
    let share = |num_params: usize| if total == 0 { 0. } else { num_params as f64 / total as f64 };
    rows.iter_mut().for_each(|row| row.share = share(row.num_params));
    rows
}
