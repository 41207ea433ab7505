//! The gradient audit: what a loss teaches, by name.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{D, DType, Module, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{bert, vit};
use hypernn::hypernetwork::{Audit, Gradient};
use hypernn::nn::{LayerNorm, Linear, ops};
use hypernn::{HyperTarget, hypernetwork};
use hypernn_tests::{device, gradients, input, message, values, variables, weighted_sum};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(3, 4))]
    first: Linear,
    #[hyper(layer_norm(4, 1e-5))]
    norm: LayerNorm,
    #[hyper(tensor([4, 2]))]
    last: Tensor,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.norm.forward(&self.first.forward(xs)?)?.broadcast_matmul(&self.last)
    }
}

hypernetwork! {
    struct HyperNet for Net { embedding: table(8, 3), generator: heads, mode: static }
}

fn net() -> Result<HyperNet> {
    HyperNet::new(variables(1, DType::F64).1)
}

/// Audits a loss of the parameters and of an input of six rows.
fn audit(loss: impl FnOnce(&Net, &Tensor) -> Result<Tensor>) -> Result<Audit> {
    let hyper = net()?;
    let params = hyper.generate_params()?;
    let loss = loss(&params.unpack()?, &input(&[6, 3], 1, DType::F64)?)?;
    hyper.audit(&params, &loss)
}

#[test]
fn a_loss_that_reaches_all() -> Result<()> {
    let audit = audit(|net, xs| weighted_sum(&net.forward(xs)?))?;
    assert!(audit.is_complete(), "{audit}");
    assert_eq!(
        audit.to_string(),
        "HyperNet over Net: 5 of 5 generated tensors and 3 of 3 variables get a gradient"
    );
    Ok(())
}

/// A tensor that a loss takes from its layer is seen as any other, also where it is a view of one vector, as in
/// half precision and on devices; asked for twice, it is one tensor.
#[test]
fn tensors_taken_from_their_layers() -> Result<()> {
    for dtype in [DType::F64, DType::F32, DType::BF16] {
        let hyper = net()?.with_target_dtype(dtype)?;
        let params = hyper.generate_params()?;
        let net = params.unpack()?;
        let of_layer = [net.first.weight(), net.first.bias().unwrap(), net.norm.weight()];
        assert_eq!(net.first.weight().id(), of_layer[0].id());
        let sums = of_layer.map(|tensor| tensor.to_dtype(DType::F64)?.sum_all());
        let [weight, bias, gain] = sums;
        let loss = ((weight? + bias?)? + gain?)?;
        let audit = hyper.audit(&params, &loss)?;
        let found: Vec<_> = audit.generated().iter().map(|(_, gradient)| *gradient).collect();
        let (some, none) = (Gradient::Some, Gradient::None);
        assert_eq!(found, [some, some, some, none, none], "{dtype:?}");
    }
    Ok(())
}

/// All tensors come from the same variables, which get what the others give them.
#[test]
fn tensors_that_are_not_used() -> Result<()> {
    let audit = audit(|net, xs| net.first.forward(xs)?.sqr()?.sum_all())?;
    assert!(!audit.is_complete());
    assert_eq!(
        audit.to_string(),
        "HyperNet over Net: 2 of 5 generated tensors and 3 of 3 variables get a gradient
generated tensor `norm.weight` gets none
generated tensor `norm.bias` gets none
generated tensor `last` gets none"
    );
    Ok(())
}

#[test]
fn an_operation_without_a_backward() -> Result<()> {
    let audit = audit(|net, xs| {
        let cut = ops::softmax_last_dim(&net.first.forward(xs)?)?;
        weighted_sum(&net.norm.forward(&cut)?.matmul(&net.last)?)
    })?;
    let lines = audit.to_string();
    assert_eq!(
        lines.lines().skip(1).take(2).collect::<Vec<_>>(),
        ["generated tensor `first.weight` gets none", "generated tensor `first.bias` gets none"]
    );
    Ok(())
}

#[test]
fn nothing_at_all() -> Result<()> {
    let audit = audit(|net, xs| ops::softmax_last_dim(&net.forward(xs)?)?.sum_all())?;
    let all = audit.generated().iter().chain(audit.variables());
    assert!(all.clone().count() == 8 && all.clone().all(|(_, g)| *g == Gradient::None), "{audit}");
    Ok(())
}

#[test]
fn zeros_and_values_that_are_not_finite() -> Result<()> {
    let audit = audit(|net, xs| {
        // A unit that is off for every row, and a root at zero.
        let dead = (net.first.forward(xs)? - 1e6)?.relu()?.sum_all()?;
        let root = (&net.last - net.last.detach())?.sqrt()?.sum_all()?;
        let gain = net.norm.weight().narrow(0, 0, 1)?.sum_all()?;
        dead + root + gain
    })?;
    let of = |name: &str| audit.generated().iter().find(|(at, _)| at == name).unwrap().1;
    assert_eq!(of("first.weight"), Gradient::Zero);
    assert_eq!(of("norm.weight"), Gradient::Some);
    assert_eq!(of("norm.bias"), Gradient::None);
    assert_eq!(of("last"), Gradient::NotFinite { bad: 8, of: 8 });
    assert_eq!(
        audit.to_string().lines().nth(1).unwrap(),
        "generated tensor `first.weight` gets zero in every value"
    );
    assert!(audit.to_string().contains("\ngenerated tensor `last` gets 8 of 8 values not finite"));
    Ok(())
}

/// It looks at what `backward` does anyway.
#[test]
fn an_audit_changes_nothing() -> Result<()> {
    let (vars, vb) = variables(2, DType::F64);
    let hyper = HyperNet::new(vb)?;
    let params = hyper.generate_params()?;
    let loss = weighted_sum(&params.forward(&input(&[6, 3], 1, DType::F64)?)?)?;
    let before = gradients(&vars, &loss)?;
    hyper.audit(&params, &loss)?;
    for (name, grad) in gradients(&vars, &loss)? {
        assert_eq!(values(&grad)?, values(&before[&name])?, "{name}");
    }
    Ok(())
}

/// Parameters that are cut off get nothing, and neither does the hypernetwork.
#[test]
fn detached_parameters() -> Result<()> {
    let hyper = net()?;
    let params = hyper.generate_params()?.detach();
    let xs = candle_core::Var::from_tensor(&input(&[6, 3], 1, DType::F64)?)?;
    let audit = hyper.audit(&params, &params.forward(&xs)?.sum_all()?)?;
    assert!(audit.generated().iter().all(|(_, gradient)| *gradient == Gradient::None));
    assert!(audit.variables().iter().all(|(_, gradient)| *gradient == Gradient::None));
    Ok(())
}

/// A backward pass that fails leaves nothing for the next.
#[test]
fn a_failed_pass() -> Result<()> {
    let hyper = net()?;
    let params = hyper.generate_params()?;
    let net = params.unpack()?;
    // candle has no backward for this factor.
    let failing = net.last.reshape((1, 1, 4, 2))?.interpolate2d(6, 6)?.sum_all()?;
    let reached = net.first.weight().sum_all()?;
    assert_eq!(
        message(hyper.audit(&params, &(&reached + &failing)?)),
        "backward not supported for non integer upscaling factors"
    );
    let audit = hyper.audit(&params, &reached)?;
    let found: Vec<_> = audit.generated().iter().map(|(_, gradient)| *gradient).collect();
    assert_eq!(found[0], Gradient::Some);
    assert_eq!(found[1..], [Gradient::None; 4]);
    Ok(())
}

/// A target of candle's layers, for which the sets take their turns.
#[derive(HyperTarget)]
struct Turns {
    #[hyper(linear(3, 4))]
    first: candle_nn::Linear,
    #[hyper(linear(3, 4))]
    unused: candle_nn::Linear,
}

impl Module for Turns {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.first.forward(xs)
    }
}

hypernetwork! {
    struct HyperTurns for Turns { embedding: rnn(3, 16, 2), generator: linear, mode: dynamic }
}

/// The first step's state is zero, so that the cell's own weight gets zero.
#[test]
fn several_sets() -> Result<()> {
    let hyper = HyperTurns::new(variables(3, DType::F32).1)?;
    let xs = input(&[6, 3], 1, DType::F32)?;
    let params = hyper.generate_params(&xs)?;
    let audit = hyper.audit(&params, &weighted_sum(&params.forward(&xs)?)?)?;
    assert_eq!(
        audit.to_string(),
        "HyperTurns over Turns: 2 of 4 generated tensors and 6 of 7 variables get a gradient
generated tensor `unused.weight` gets none
generated tensor `unused.bias` gets none
variable `embedding.cell.weight_hh` gets zero in every value"
    );
    Ok(())
}

fn bert_config() -> bert::Config {
    bert::Config {
        vocab_size: 11,
        hidden_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 12,
        max_position_embeddings: 6,
        ..Default::default()
    }
}

hypernetwork! {
    struct HyperBert for bert::BertModel {
        target: by constructor, embedding: table(8, 4), generator: linear, mode: static,
    }
}

hypernetwork! {
    struct HyperMaskedBert for bert::BertForMaskedLM {
        target: by constructor, embedding: table(8, 4), generator: linear, mode: static,
    }
}

/// The names of what gets no gradient.
fn cut(audit: &Audit) -> Vec<&str> {
    let none = audit.generated().iter().filter(|(_, gradient)| *gradient == Gradient::None);
    none.map(|(name, _)| name.as_str()).collect()
}

/// Each block of candle's BERT ends in a fused layer norm.
#[test]
fn a_bert_learns_behind_its_last_layer_norm() -> Result<()> {
    let ids = Tensor::new(&[[0u32, 3, 1, 4], [2, 2, 0, 1]], device())?;
    let types = ids.zeros_like()?;
    let load = |vb: VarBuilder<'_>| bert::BertModel::load(vb, &bert_config());
    let hyper = HyperBert::new(variables(4, DType::F32).1, load)?;
    let params = hyper.generate_params()?;
    let ys = params.unpack()?.forward(&ids, &types, None)?;
    let audit = hyper.audit(&params, &weighted_sum(&ys)?)?;
    assert_eq!(cut(&audit).len(), params.layout().params().len());

    let load = |vb: VarBuilder<'_>| bert::BertForMaskedLM::load(vb, &bert_config());
    let hyper = HyperMaskedBert::new(variables(4, DType::F32).1, load)?;
    let params = hyper.generate_params()?;
    let ys = params.unpack()?.forward(&ids, &types, None)?;
    let audit = hyper.audit(&params, &weighted_sum(&ys)?)?;
    let reached = params.layout().params().iter().filter(|p| !cut(&audit).contains(&&*p.name));
    let reached: Vec<_> = reached.map(|param| param.name.as_str()).collect();
    assert_eq!(reached, ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias"]);
    Ok(())
}

hypernetwork! {
    struct HyperVit for vit::Model {
        target: by constructor, embedding: table(8, 4), generator: linear, mode: static,
    }
}

/// Gradients take the residual way around the layer norms; the last norm is over a view, for which
/// candle takes a differentiable way.
#[test]
fn a_vision_transformer_learns_in_most_of_its_tensors() -> Result<()> {
    let hyper = HyperVit::new(variables(5, DType::F32).1, |vb| {
        let config = vit::Config {
            hidden_size: 8,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            intermediate_size: 12,
            image_size: 6,
            patch_size: 3,
            ..vit::Config::vit_base_patch16_224()
        };
        vit::Model::new(&config, 4, vb)
    })?;
    let params = hyper.generate_params()?;
    let ys = params.unpack()?.forward(&input(&[3, 3, 6, 6], 1, DType::F32)?)?;
    assert_eq!(ys.dim(D::Minus1)?, 4);
    let audit = hyper.audit(&params, &weighted_sum(&ys)?)?;
    assert_eq!(
        cut(&audit),
        [
            "vit.encoder.layer.0.attention.attention.query.weight",
            "vit.encoder.layer.0.attention.attention.query.bias",
            "vit.encoder.layer.0.attention.attention.key.weight",
            "vit.encoder.layer.0.attention.attention.key.bias",
            "vit.encoder.layer.0.layernorm_before.weight",
            "vit.encoder.layer.0.layernorm_before.bias",
            "vit.encoder.layer.0.layernorm_after.weight",
            "vit.encoder.layer.0.layernorm_after.bias",
        ]
    );
    Ok(())
}
