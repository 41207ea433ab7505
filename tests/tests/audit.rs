//! The gradient audit: what a loss teaches, by name.

#![allow(missing_docs, clippy::panic, clippy::unwrap_used)]

use candle_core::{D, DType, Module, ModuleT, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{bert, modernbert, vit};
use hypernn::generator::{
    GeneratorInfo, GeneratorOutput, GeneratorShape, GeneratorSpec, WeightGenerator,
};
use hypernn::hypernetwork::{Audit, Derivative, ExactAudit, Gradient};
use hypernn::init::InitScheme;
use hypernn::nn::{BatchNorm, Conv2d, Dropout, Embedding, LayerNorm, Linear, ops};
use hypernn::{GeneratedParams, HyperTarget, hypernetwork};
use hypernn_tests::{by_name, device, gradients, input, message, values, variables, weighted_sum};

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
    assert_eq!(of("first.weight"), Gradient::ZeroHere);
    assert_eq!(of("norm.weight"), Gradient::Parts { zero: 3, of: 4 });
    assert_eq!(of("norm.bias"), Gradient::None);
    assert_eq!(of("last"), Gradient::NotFinite { bad: 8, of: 8 });
    assert_eq!(
        audit.to_string().lines().nth(1).unwrap(),
        "generated tensor `first.weight` gets one that is multiplied by zero here"
    );
    assert!(
        audit.to_string().contains("\ngenerated tensor `norm.weight` gets zero in rows 1..4 of 4")
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

/// The first step's state is zero, so that what the cell's own weight gets is multiplied by zero.
#[test]
fn several_sets() -> Result<()> {
    let hyper = HyperTurns::new(variables(3, DType::F32).1)?;
    let xs = input(&[6, 3], 1, DType::F32)?;
    let params = hyper.generate_params(&xs)?;
    let audit = hyper.audit(&params, &weighted_sum(&params.forward(&xs)?)?)?;
    assert_eq!(
        audit.to_string(),
        "HyperTurns over Turns: 2 of 4 generated tensors and 7 of 7 variables get a gradient
generated tensor `unused.weight` gets none
generated tensor `unused.bias` gets none
variable `embedding.cell.weight_hh` gets one that is multiplied by zero here"
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
        target: constructor, embedding: table(8, 4), generator: linear, mode: static,
    }
}

hypernetwork! {
    struct HyperMaskedBert for bert::BertForMaskedLM {
        target: constructor, embedding: table(8, 4), generator: linear, mode: static,
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
        target: constructor, embedding: table(8, 4), generator: linear, mode: static,
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

hypernetwork! {
    struct HyperModernBert for modernbert::ModernBertForMaskedLM {
        target: constructor, embedding: table(8, 4), generator: linear, mode: static,
    }
}

fn modern_bert(vb: VarBuilder<'_>) -> Result<modernbert::ModernBertForMaskedLM> {
    let config = modernbert::Config {
        vocab_size: 11,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 12,
        max_position_embeddings: 6,
        layer_norm_eps: 1e-5,
        pad_token_id: 0,
        global_attn_every_n_layers: 2,
        global_rope_theta: 1e4,
        local_attention: 4,
        local_rope_theta: 1e4,
        classifier_config: None,
    };
    modernbert::ModernBertForMaskedLM::load(vb, &config)
}

/// The loss of a ModernBERT over two sentences.
fn modern_loss(params: &GeneratedParams<modernbert::ModernBertForMaskedLM>) -> Result<Tensor> {
    let ids = Tensor::new(&[[0u32, 3, 1, 4], [2, 2, 0, 1]], device())?;
    let mask = ids.ones_like()?.to_dtype(params.dtype())?;
    weighted_sum(&params.unpack()?.forward(&ids, &mask)?)
}

/// The rotary embedding cuts off queries and keys, which share a matrix with the values. Rows of the table
/// that were not looked up are no such part.
#[test]
fn parts_that_are_cut_off() -> Result<()> {
    let hyper = HyperModernBert::new(variables(6, DType::F32).1, modern_bert)?;
    let params = hyper.generate_params()?;
    let audit = hyper.audit(&params, &modern_loss(&params)?)?;
    assert!(!audit.is_complete());
    let all = params.layout().params().len();
    assert_eq!(
        audit.to_string(),
        format!(
            "HyperModernBert over ModernBertForMaskedLM: {all} of {all} generated tensors and 3 of 3 variables get a gradient
generated tensor `model.layers.0.attn.Wqkv.weight` gets zero in rows 0..32 of 48
generated tensor `model.layers.1.attn.Wqkv.weight` gets zero in rows 0..32 of 48"
        )
    );
    assert!(audit.parts().all(|(_, part)| part.indices == std::slice::from_ref(&(0..32))));
    assert_eq!(audit.parts().count(), 2);
    Ok(())
}

/// The same parts, by differences of the loss, and all that lies before.
#[test]
fn parts_that_are_cut_off_by_differences() -> Result<()> {
    if !device().is_cpu() {
        // So many losses take a minute on the stand-in for a card.
        return Ok(());
    }
    let hyper = HyperModernBert::new(variables(6, DType::F32).1, modern_bert)?;
    let audit = hyper.audit_exact(modern_loss)?;
    // Whatever lies before the last rotary embedding lacks what goes through it.
    let before = |name: &str| {
        !name.starts_with("head.")
            && !name.starts_with("decoder.")
            && !name.contains("final_norm")
            && !name.contains("layers.1.mlp")
            && !name.contains("layers.1.attn.Wo")
    };
    for (name, derivative) in audit.generated() {
        assert_eq!(derivative.is_right(), !before(name), "{name}: {audit}");
    }
    let text = audit.to_string();
    assert!(
        text.contains("Wqkv.weight` gets a wrong gradient in rows 0..32 of 48: along"),
        "{text}"
    );
    assert!(text.contains("\nno backward in candle 0.11: `softmax_last_dim`"), "{text}");
    assert!(text.contains(", `rope`, "), "{text}");
    // candle's ModernBERT has a mask of f32.
    assert_eq!(audit.dtype(), DType::F32);
    Ok(())
}

/// The names of generated tensors with a wrong gradient.
fn wrong(audit: &ExactAudit) -> Vec<&str> {
    let wrong = audit.generated().iter().filter(|(_, derivative)| !derivative.is_right());
    wrong.map(|(name, _)| name.as_str()).collect()
}

/// A table of which three rows are looked up, units that are off for every row, and an input that is always
/// zero.
#[derive(HyperTarget)]
struct Sparse {
    #[hyper(embedding(9, 3))]
    table: Embedding,
    #[hyper(linear(3, 16))]
    hidden: Linear,
    #[hyper(linear(17, 2))]
    out: Linear,
}

impl Sparse {
    fn forward(&self, ids: &Tensor, relu: fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let hidden = relu(&self.hidden.forward(&self.table.forward(ids)?)?)?;
        self.out.forward(&hidden.pad_with_zeros(1, 1, 0)?)
    }
}

hypernetwork! {
    struct HyperSparse for Sparse { embedding: table(11, 3), generator: linear, mode: static }
}

hypernetwork! {
    struct BySparseConstructor for Sparse {
        target: constructor, embedding: table(11, 3), generator: linear, mode: static,
    }
}

/// Zeros by right: no false alarm, by either ReLU, in either dtype.
#[test]
fn zeros_by_right() -> Result<()> {
    let ids = Tensor::new(&[2u32, 7, 2, 0], device())?;
    let rectifiers: [fn(&Tensor) -> Result<Tensor>; 2] =
        [Tensor::relu, |xs| xs.apply(&hypernn::nn::step::relu)];
    for (seed, dtype) in [(1, DType::F32), (2, DType::F64), (3, DType::F32), (4, DType::F64)] {
        for relu in rectifiers {
            let hyper = HyperSparse::new(variables(seed, dtype).1)?;
            let loss = |params: &GeneratedParams<Sparse>| {
                weighted_sum(&params.unpack()?.forward(&ids, relu)?)
            };
            let params = hyper.generate_params()?;
            let audit = hyper.audit(&params, &loss(&params)?)?;
            assert!(audit.is_complete(), "{audit}");
            assert_eq!(audit.to_string().lines().count(), 1, "{audit}");
            let audit = hyper.audit_exact(loss)?;
            assert!(audit.is_right(), "{audit}");
            let all = audit.generated().iter().chain(audit.variables());
            assert!(all.clone().all(|(_, at)| *at == Derivative::Right), "{audit}");
        }
    }
    let hyper = BySparseConstructor::new(variables(1, DType::F32).1, |vb| Sparse::new(vb))?;
    let params = hyper.generate_params()?;
    let loss = weighted_sum(&params.unpack()?.forward(&ids, Tensor::relu)?)?;
    let audit = hyper.audit(&params, &loss)?;
    assert!(audit.is_complete(), "{audit}");
    Ok(())
}

/// A part that a model leaves out on purpose: the audit can't know, differences tell.
#[test]
fn a_part_that_is_left_out() -> Result<()> {
    let hyper = net()?;
    let loss = |params: &GeneratedParams<Net>| {
        let net = params.unpack()?;
        // On CUDA, candle multiplies by no slice.
        let half = net.last.narrow(1, 0, 1)?.contiguous()?;
        let xs = net.first.forward(&input(&[6, 3], 1, params.dtype())?)?;
        weighted_sum(&net.norm.forward(&xs)?.matmul(&half)?)
    };
    let params = hyper.generate_params()?;
    let audit = hyper.audit(&params, &loss(&params)?)?;
    assert_eq!(
        audit.to_string().lines().nth(1).unwrap(),
        "generated tensor `last` gets zero in columns 1 of 2"
    );
    let audit = hyper.audit_exact(loss)?;
    assert!(audit.is_right(), "{audit}");
    Ok(())
}

/// Operations of candle's that give wrong gradients, by bare tensors.
#[derive(HyperTarget)]
struct Wrong {
    #[hyper(tensor([3, 2, 3]))]
    kernel: Tensor,
    #[hyper(conv2d(1, 3, 3))]
    conv: Conv2d,
    #[hyper(linear(4, 4))]
    cut: Linear,
    #[hyper(linear(4, 3))]
    right: Linear,
}

hypernetwork! {
    struct HyperWrong for Wrong { embedding: table(7, 3), generator: linear, mode: static }
}

fn wrong_loss(params: &GeneratedParams<Wrong>) -> Result<Tensor> {
    let (net, dtype) = (params.unpack()?, params.dtype());
    let conv1d = input(&[2, 2, 8], 1, dtype)?.conv1d(&net.kernel, 0, 1, 1, 1)?;
    let pooled = net.conv.forward(&input(&[2, 1, 6, 6], 2, dtype)?)?.max_pool2d(2)?;
    let cut = ops::softmax_last_dim(&net.cut.forward(&input(&[5, 4], 3, dtype)?)?)?;
    let right = net.right.forward(&cut)?;
    weighted_sum(&conv1d)? + weighted_sum(&pooled)? + weighted_sum(&right)?
}

/// A gradient arrives everywhere but before the softmax; by differences, others are off too.
#[test]
fn gradients_that_are_wrong() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let hyper = HyperWrong::new(variables(7, dtype).1)?;
        let params = hyper.generate_params()?;
        let audit = hyper.audit(&params, &wrong_loss(&params)?)?;
        assert_eq!(cut(&audit), ["cut.weight", "cut.bias"]);
        let audit = hyper.audit_exact(wrong_loss)?;
        assert_eq!(wrong(&audit), ["kernel", "conv.weight", "conv.bias", "cut.weight", "cut.bias"]);
        let of = |name: &str| &audit.generated().iter().find(|(at, _)| at == name).unwrap().1;
        // Over the size of a window.
        let Derivative::Wrong { found, expected, part: None } = of("conv.bias") else {
            panic!("{audit}");
        };
        assert!((found * 4. / expected - 1.).abs() < 1e-3, "{audit}");
        let Derivative::Wrong { found: 0., part: None, .. } = of("cut.weight") else {
            panic!("{audit}");
        };
        assert_eq!(
            (of("right.weight"), of("right.bias")),
            (&Derivative::Right, &Derivative::Right)
        );
        assert!(
            audit.to_string().contains("\na wrong backward in candle 0.11: `Tensor::conv1d`")
                || audit.to_string().contains("`conv1d`, `max_pool2d`"),
            "{audit}"
        );
        assert!(!audit.is_right());
    }
    Ok(())
}

hypernetwork! {
    struct HyperAdapted for Net {
        roles: [("first.weight", lora(2, 4.)), ("last", lora(1, 2.)), ("*", freeze)],
        embedding: table(5, 3), generator: linear, mode: static,
    }
}

hypernetwork! {
    struct DynamicAdapted for Net {
        roles: [("first.weight", lora(2, 4.)), ("norm.weight", train), ("*", freeze)],
        embedding: encoder(3, [5], tanh, 5, 3), generator: linear, mode: dynamic,
    }
}

hypernetwork! {
    struct DynamicNet for Net {
        embedding: rnn(3, 8, 3), generator: linear, mode: dynamic,
    }
}

fn pretrained() -> Result<VarBuilder<'static>> {
    let (_, vb) = variables(9, DType::F32);
    Net::new(vb.clone())?;
    Ok(vb)
}

fn loss_of(xs: &Tensor) -> impl Fn(&GeneratedParams<Net>) -> Result<Tensor> {
    move |params| weighted_sum(&params.forward(&xs.to_dtype(params.dtype())?)?)
}

/// Each start at a pretrained network, where gradients are multiplied by zero and all learns.
#[test]
fn zero_starts() -> Result<()> {
    let xs = input(&[6, 3], 1, DType::F32)?;
    let loss = loss_of(&xs);
    let hyper = HyperAdapted::new_from(variables(1, DType::F32).1, pretrained()?)?;
    let params = hyper.generate_params()?;
    let audit = hyper.audit(&params, &loss(&params)?)?;
    assert_eq!(
        audit.to_string(),
        "HyperAdapted over Net: 4 of 4 generated tensors and 3 of 3 variables get a gradient
generated tensor `first.weight.lora_a` gets one that is multiplied by zero here
generated tensor `last.lora_a` gets one that is multiplied by zero here"
    );
    assert!(audit.is_complete());
    let audit = hyper.audit_exact(&loss)?;
    assert!(audit.is_right(), "{audit}");
    let found: Vec<_> =
        audit.generated().iter().map(|(_, derivative)| derivative.clone()).collect();
    let (here, right) = (Derivative::ZeroHere, Derivative::Right);
    assert_eq!(found, [here.clone(), right.clone(), here, right]);

    let hyper = DynamicAdapted::new_from(variables(2, DType::F32).1, pretrained()?)?;
    let params = hyper.generate_params(&xs)?;
    let audit = hyper.audit(&params, &loss(&params)?)?;
    assert!(audit.is_complete(), "{audit}");
    let audit = hyper.audit_exact(&xs, &loss)?;
    assert!(audit.is_right(), "{audit}");
    assert!(audit.variables().iter().any(|(name, _)| name == "target.norm.weight"));

    let hyper = DynamicNet::new_from(variables(3, DType::F32).1, pretrained()?)?;
    let params = hyper.generate_params(&xs)?;
    let audit = hyper.audit(&params, &loss(&params)?)?;
    assert!(audit.is_complete(), "{audit}");
    let audit = hyper.audit_exact(&xs, &loss)?;
    assert!(audit.is_right(), "{audit}");
    let of = |name: &str| &audit.variables().iter().find(|(at, _)| at == name).unwrap().1;
    assert_eq!((of("gains"), of("generator.weight")), (&Derivative::Right, &Derivative::ZeroHere));
    Ok(())
}

/// A cut behind a zero start is told from it.
#[test]
fn a_zero_start_that_is_cut_off() -> Result<()> {
    let xs = input(&[6, 3], 1, DType::F32)?;
    let loss = |params: &GeneratedParams<Net>| {
        let net = params.unpack()?;
        let first = net.first.forward(&xs.to_dtype(params.dtype())?)?;
        weighted_sum(&ops::softmax_last_dim(&first)?.matmul(&net.last)?)
    };
    let hyper = HyperAdapted::new_from(variables(1, DType::F32).1, pretrained()?)?;
    let params = hyper.generate_params()?;
    let audit = hyper.audit(&params, &loss(&params)?)?;
    assert_eq!(cut(&audit), ["first.weight.lora_a", "first.weight.lora_b"]);
    let audit = hyper.audit_exact(loss)?;
    assert_eq!(wrong(&audit), ["first.weight.lora_a", "first.weight.lora_b"], "{audit}");
    Ok(())
}

/// Several sets, at once and in turns.
#[test]
fn several_sets_by_differences() -> Result<()> {
    let xs = input(&[6, 3], 1, DType::F32)?;
    let hyper = DynamicNet::new(variables(3, DType::F32).1)?;
    let audit = hyper.audit_exact(&xs.narrow(0, 0, 3)?, loss_of(&xs))?;
    assert!(audit.is_right(), "{audit}");
    let hyper = HyperTurns::new(variables(3, DType::F64).1)?;
    let xs = input(&[6, 3], 1, DType::F64)?;
    let audit = hyper.audit_exact(&xs, |params| weighted_sum(&params.forward(&xs)?))?;
    assert!(audit.is_right(), "{audit}");
    assert_eq!(
        audit.to_string(),
        "HyperTurns over Turns, in F64: 4 of 4 generated tensors and 7 of 7 variables get the right gradient
generated tensor `unused.weight` gets zero, as it should: the loss does not depend on it
generated tensor `unused.bias` gets zero, as it should: the loss does not depend on it
variable `embedding.cell.weight_hh` gets zero, as it should: the loss does not depend on it"
    );
    Ok(())
}

/// What a loss leaves out on purpose looks like a cut to one backward pass; differences tell them apart.
#[test]
fn a_part_that_is_left_out_on_purpose() -> Result<()> {
    let hyper = net()?;
    let xs = input(&[6, 3], 1, DType::F64)?;
    let loss = |params: &GeneratedParams<Net>| {
        weighted_sum(&params.unpack()?.first.forward(&xs)?.narrow(1, 0, 2)?)
    };
    let params = hyper.generate_params()?;
    let audit = hyper.audit(&params, &loss(&params)?)?;
    let found: Vec<_> = audit.generated().iter().map(|(_, gradient)| *gradient).collect();
    let parts = |zero, of| Gradient::Parts { zero, of };
    assert_eq!(found[..2], [parts(6, 12), parts(2, 4)], "{audit}");
    assert_eq!(found[2..], [Gradient::None; 3], "{audit}");
    assert!(!audit.is_complete());
    let exact = hyper.audit_exact(loss)?;
    let found: Vec<_> = exact.generated().iter().map(|(_, at)| at.clone()).collect();
    assert_eq!(found[..2], [Derivative::Right, Derivative::Right], "{exact}");
    assert_eq!(found[2..], [Derivative::Unused, Derivative::Unused, Derivative::Unused], "{exact}");
    assert!(exact.is_right());
    Ok(())
}

/// Rectified at zero exactly, where there is no derivative.
#[test]
fn kinks_are_no_alarm() -> Result<()> {
    let hyper = net()?;
    let audit = hyper.audit_exact(|params| {
        let net = params.unpack()?;
        let kink = (&net.last - net.last.detach())?.relu()?.sum_all()?;
        let rows = net.first.forward(&input(&[6, 3], 1, params.dtype())?)?.relu()?;
        (kink + weighted_sum(&net.norm.forward(&rows)?)?)? + net.last.abs()?.sum_all()?
    })?;
    let unclear = |name: &str| name == "last";
    for (name, derivative) in audit.generated().iter().filter(|(name, _)| !unclear(name)) {
        assert!(derivative.is_right(), "{name}: {audit}");
    }
    Ok(())
}

/// A generator of one's own, which cuts off its own weight.
#[derive(Clone, Copy)]
struct Cut;

impl Cut {
    const fn info(&self, shape: GeneratorShape) -> GeneratorInfo {
        GeneratorInfo::new(shape.plan).params(shape.embedding_dim * shape.plan.chunk())
    }
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cut")
    }
}

#[derive(Debug)]
struct CutGenerator(Tensor);

impl GeneratorSpec for Cut {
    fn build(
        &self,
        shape: GeneratorShape,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn WeightGenerator>> {
        let dims = (shape.embedding_dim, shape.plan.chunk());
        let weight = vb.get_with_hints(dims, "weight", scheme.weight(shape.embedding_dim, 1.))?;
        Ok(Box::new(CutGenerator(weight)))
    }
}

impl WeightGenerator for CutGenerator {
    fn forward(&self, embedding: &Tensor) -> Result<GeneratorOutput> {
        let (kept, cut) = (self.0.narrow(1, 0, 2)?, self.0.narrow(1, 2, self.0.dim(1)? - 2)?);
        let weight =
            Tensor::cat(&[&kept.contiguous()?, &ops::softmax_last_dim(&cut.contiguous()?)?], 1)?;
        Ok(embedding.matmul(&weight)?.into())
    }
}

hypernetwork! {
    struct HyperCut for Net { embedding: table(8, 3), generator: Cut, mode: static }
}

#[test]
fn a_generator_that_cuts() -> Result<()> {
    let hyper = HyperCut::new(variables(1, DType::F32).1)?;
    let xs = input(&[6, 3], 1, DType::F32)?;
    let loss = loss_of(&xs);
    let params = hyper.generate_params()?;
    let audit = hyper.audit(&params, &loss(&params)?)?;
    assert!(!audit.is_complete());
    let line = "variable `generator.weight` gets zero in columns 2..4 of 4";
    assert!(audit.to_string().contains(line), "{audit}");
    let audit = hyper.audit_exact(loss)?;
    assert_eq!(wrong(&audit), [""; 0], "{audit}");
    let variables: Vec<_> = audit.variables().iter().map(|(_, at)| at.is_right()).collect();
    assert_eq!(variables, [true, false], "{audit}");
    Ok(())
}

#[derive(HyperTarget)]
struct Normed {
    #[hyper(linear(3, 4))]
    first: Linear,
    #[hyper(batch_norm(4))]
    norm: BatchNorm,
    #[hyper(value = Dropout::new(0.5))]
    dropout: Dropout,
}

impl ModuleT for Normed {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.norm.forward_t(&self.first.forward(xs)?, train)
    }
}

hypernetwork! {
    struct HyperNormed for Normed { embedding: table(8, 3), generator: linear, mode: static }
}

/// Variables and running statistics are the same bits afterwards, also where the loss fails half-way.
#[test]
fn an_exact_audit_changes_nothing() -> Result<()> {
    let (vars, vb) = variables(2, DType::F32);
    let hyper = HyperNormed::new(vb)?;
    let state =
        || -> Result<Vec<_>> { by_name(&vars).values().map(|var| values(&var.copy()?)).collect() };
    let before = state()?;
    let xs = input(&[6, 3], 1, DType::F32)?;
    let loss = |params: &GeneratedParams<Normed>| {
        weighted_sum(&params.forward_t(&xs.to_dtype(params.dtype())?, true)?)
    };
    let audit = hyper.audit_exact(loss)?;
    assert!(audit.is_right(), "{audit}");
    assert_eq!(state()?, before);
    for calls in [5, 40, 120, 160] {
        let mut left = calls;
        let failing = hyper.audit_exact(|params| {
            left -= 1;
            if left == 0 { candle_core::bail!("enough") } else { loss(params) }
        });
        assert!(failing.is_err() || left > 0);
        assert_eq!(state()?, before, "{calls}");
    }
    Ok(())
}

#[test]
fn losses_that_can_not_be_audited() -> Result<()> {
    let hyper = HyperNormed::new(variables(2, DType::F32).1)?;
    let xs = input(&[6, 3], 1, DType::F32)?;
    let found = message(hyper.audit_exact(|params| {
        let net = params.unpack()?;
        weighted_sum(
            &net.dropout.forward(&net.first.forward(&xs.to_dtype(params.dtype())?)?, true)?,
        )
    }));
    assert!(
        found.contains("for the same parameters: an exact audit needs one without random numbers"),
        "{found}"
    );
    let found =
        message(hyper.audit_exact(|params| params.unpack()?.first.weight().sum_all()? * f64::NAN));
    assert_eq!(found, "the loss is NaN, so no differences can be taken");
    // In its own dtype, where there is no other.
    let audit = hyper.audit_exact(|params| weighted_sum(&params.unpack()?.first.forward(&xs)?))?;
    assert_eq!(audit.dtype(), DType::F32);
    assert!(audit.is_right(), "{audit}");
    Ok(())
}
