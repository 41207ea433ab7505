//! A target of ten layers derived, and the same by hand: the yardstick for the size of what the
//! derive emits (`hypernn-macros/src/snapshots.rs`) does the same work.

#![allow(clippy::panic)]

use candle_core::{DType, Result, Tensor};
use hypernn::check::Problem;
use hypernn::nn::{
    Conv2d, Conv2dSpec, GroupNorm, GroupNormSpec, LayerNorm, LayerNormSpec, Linear, LinearSpec,
    VarMap, spec,
};
use hypernn::target::NestedSpec;
use hypernn::target::layer::Visitor;
use hypernn::target::source::{ParamSource, scoped};
use hypernn::{FixedTarget, HyperLayer, HyperTarget, Parameters, seeded};
use hypernn_tests::device;

struct ByHand {
    conv1: Conv2d,
    norm1: GroupNorm,
    conv2: Conv2d,
    norm2: GroupNorm,
    conv3: Conv2d,
    norm3: GroupNorm,
    fc1: Linear,
    norm4: LayerNorm,
    fc2: Linear,
    fc3: Linear,
}

include!("../../hypernn-macros/src/by_hand/ten_layers.rs");
include!("../../hypernn-macros/src/by_hand/derived.rs");

fn packed<T: HyperTarget<Config = ()>>() -> Result<Vec<f32>> {
    let vb = seeded::var_builder(&VarMap::new(), 0, DType::F32, device());
    T::new(vb)?.pack()?.to_vec1()
}

#[test]
fn both_are_the_same_target() -> Result<()> {
    assert_eq!(Derived::NUM_PARAMS, <ByHand as FixedTarget>::NUM_PARAMS);
    assert_eq!(Derived::layout()?.hash(), ByHand::layout()?.hash());
    assert_eq!(packed::<Derived>()?, packed::<ByHand>()?);
    let flat = Tensor::zeros(Derived::NUM_PARAMS, DType::F32, device())?;
    let (derived, by_hand) = (Derived::unpack(&flat)?, ByHand::unpack(&flat)?);
    assert_eq!(derived.fc3.weight().dims(), by_hand.fc3.weight().dims());
    Ok(())
}
