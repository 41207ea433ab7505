//! The target over a flat vector that something else makes: `unpack`, `pack`, `layout` and `functional_forward` of the
//! targets of `static_small` and `static_deep`, and the same by hand.

use std::rc::Rc;

use candle_core::{Result, Tensor};
use candle_nn::Init;
use candle_nn::Linear;
use hypernn::HyperTarget;
use hypernn::nn::{Module, VarBuilder};

use super::by_hand::{self, Target, cut};
use super::{Network, Step, Who};

/// What the vector is cut for: shapes in flat order, the target by hand, and its input.
pub(super) struct Sizes {
    pub(super) shapes: Vec<Vec<usize>>,
    pub(super) target: Target,
    pub(super) xs: Tensor,
    /// The standard deviation of the values.
    pub(super) stdev: f64,
}

pub(super) fn network<T>(who: Who, sizes: Sizes, vb: &VarBuilder<'_>) -> Result<Option<Network>>
where
    T: HyperTarget<Config = ()> + Module + 'static,
{
    let Sizes { shapes, target, xs, stdev } = sizes;
    let init = Init::Randn { mean: 0., stdev };
    let flat = vb.get_with_hints(by_hand::num_params(&shapes), "flat", init)?;
    match who {
        Who::Hypernn => derived::<T>(flat, xs).map(Some),
        Who::ByHand => narrowed(flat, shapes, target, xs).map(Some),
        _ => Ok(None),
    }
}

fn derived<T>(flat: Tensor, xs: Tensor) -> Result<Network>
where
    T: HyperTarget<Config = ()> + Module + 'static,
{
    let (net, vector) = (T::unpack(&flat)?, flat.clone());
    let network = Network::new(move || T::functional_forward(&flat, &xs));
    Ok(network
        .with(Step::Unpack, move || T::unpack(&vector))
        .with(Step::Pack, move || net.pack())
        .with(Step::Layout, T::layout))
}

/// Layers of candle over views, as a forward by hand would make them.
struct Layers(Vec<Linear>);

impl Layers {
    fn of(tensors: &[Tensor]) -> Self {
        let layer = |pair: &[Tensor]| Linear::new(pair[0].clone(), Some(pair[1].clone()));
        Self(tensors.chunks_exact(2).map(layer).collect())
    }

    fn pack(&self) -> Result<Tensor> {
        let tensors = self.0.iter().flat_map(|layer| [Some(layer.weight()), layer.bias()]);
        let rows = tensors.flatten().map(Tensor::flatten_all);
        Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
    }
}

fn narrowed(flat: Tensor, shapes: Vec<Vec<usize>>, target: Target, xs: Tensor) -> Result<Network> {
    let (vector, shapes) = (flat.clone(), Rc::new(shapes));
    let (net, of_forward) = (Layers::of(&cut(&flat, &shapes)?), shapes.clone());
    let network = Network::new(move || target(&cut(&flat, &of_forward)?, &xs));
    Ok(network
        .with(Step::Unpack, move || cut(&vector, &shapes).map(|tensors| Layers::of(&tensors)))
        .with(Step::Pack, move || net.pack()))
}
