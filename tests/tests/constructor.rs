//! Targets without annotation: models that know nothing of hypernn, by their constructors.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Mutex;

use candle_core::{D, DType, Module, ModuleT, Result, Tensor};
use candle_nn::{BatchNorm, Embedding, Init, LSTM, Linear, RNN, VarBuilder, VarMap};
use candle_transformers::models::{bert, modernbert, vit};
use hypernn::generated::TargetPlan;
use hypernn::{GeneratedParams, hypernetwork};
use hypernn_tests::{
    by_name, device, gradient_error, gradients, input, message, relative_error, values, variable,
    variables, weighted_sum,
};
use tempfile::TempDir;

/// A model of candle's layers: an LSTM whose outputs are compared with the table of its inputs.
struct Letters {
    table: Embedding,
    lstm: LSTM,
    tied: Linear,
}

impl Letters {
    fn new(vb: VarBuilder<'_>) -> Result<Self> {
        let table = candle_nn::embedding(5, 3, vb.pp("table"))?;
        let lstm = candle_nn::lstm(3, 3, Default::default(), vb.pp("lstm"))?;
        let tied = candle_nn::linear_no_bias(3, 5, vb.pp("table"))?;
        Ok(Self { table, lstm, tied })
    }
}

impl Module for Letters {
    fn forward(&self, letters: &Tensor) -> Result<Tensor> {
        let states = self.lstm.seq(&self.table.forward(letters)?)?;
        self.tied.forward(&self.lstm.states_to_tensor(&states)?)
    }
}

hypernetwork! {
    struct HyperLetters for Letters {
        target: constructor,
        embedding: table(7, 3),
        generator: linear,
        mode: static,
    }
}

/// The network that a checkpoint of ordinary weights gives.
fn exported<T>(
    export: impl FnOnce(&std::path::Path) -> Result<()>,
    constructor: impl FnOnce(VarBuilder<'_>) -> Result<T>,
    dtype: DType,
) -> Result<T> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("net.safetensors");
    export(&path)?;
    let tensors = candle_core::safetensors::load(&path, device())?;
    constructor(VarBuilder::from_tensors(tensors, dtype, device()))
}

/// Whether the hypernetwork's variables get what candle gives the tensors of the same model with weights
/// of its own, chained by hand through what was generated. The number of tensors that candle reaches.
fn assert_the_models_own_gradients<T: 'static>(
    (vars, params): (&VarMap, &GeneratedParams<T>),
    new: impl Fn(VarBuilder<'_>) -> Result<T>,
    loss: impl Fn(&T) -> Result<Tensor>,
) -> Result<usize> {
    let own_vars = VarMap::new();
    let own = new(VarBuilder::from_varmap(&own_vars, DType::F32, device()))?;
    for (param, tensor) in params.tensors() {
        variable(&own_vars, &param.name)?.set(&tensor.detach())?;
    }
    let own_grads = loss(&own)?.backward()?;
    let (mut chained, mut reached) = (Tensor::new(0f32, device())?, 0);
    for (param, tensor) in params.tensors() {
        let Some(grad) = own_grads.get(variable(&own_vars, &param.name)?.as_tensor()) else {
            continue;
        };
        chained = (chained + (tensor * grad.detach())?.sum_all()?)?;
        reached += 1;
    }
    let expected = gradients(vars, &chained)?;
    for (name, found) in gradients(vars, &loss(&params.unpack()?)?)? {
        assert!(values(&expected[&name])?.iter().any(|value| *value != 0.), "{name}");
        let error = relative_error(&found, &expected[&name])?;
        assert!(error < 1e-4, "{name}: {error:e}");
    }
    Ok(reached)
}

fn letters() -> Result<Tensor> {
    Tensor::new(&[[0u32, 3, 1, 4], [2, 2, 0, 1]], device())
}

fn lines(layout: &hypernn::Layout) -> Vec<String> {
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    layout.to_string().lines().map(line).collect()
}

/// In the order of asking; what is asked for twice counts once.
#[test]
fn the_layout_is_what_is_asked_for() -> Result<()> {
    let plan = TargetPlan::from_constructor(Letters::new)?;
    assert_eq!(
        lines(plan.layout()),
        [
            "0 table.weight [5, 3] tensor",
            "15 lstm.weight_ih_l0 [12, 3] tensor",
            "51 lstm.weight_hh_l0 [12, 3] tensor",
            "87 lstm.bias_ih_l0 [12] tensor",
            "99 lstm.bias_hh_l0 [12] tensor",
            "111 parameters"
        ]
    );
    assert!(plan.layout().buffers().is_empty());
    Ok(())
}

#[test]
fn an_lstm_is_that_of_its_exported_checkpoint() -> Result<()> {
    let (_vars, vb) = variables(1, DType::F64);
    let hyper = HyperLetters::new(vb, Letters::new)?;
    let ordinary = exported(|path| hyper.export(path), Letters::new, DType::F64)?;
    let ys = hyper.forward(&letters()?)?;
    assert_eq!(ys.dims(), [2, 4, 5]);
    assert_eq!(values(&ys)?, values(&ordinary.forward(&letters()?)?)?);
    Ok(())
}

/// The table's gradient comes from both of its uses.
#[test]
fn gradients_of_an_lstm_are_its_slopes() -> Result<()> {
    let (vars, vb) = variables(2, DType::F64);
    let hyper = HyperLetters::new(vb, Letters::new)?;
    let error = gradient_error(&vars, &|| weighted_sum(&hyper.forward(&letters()?)?))?;
    assert!(error < 1e-6, "{error:e}");
    Ok(())
}

#[test]
fn what_is_saved_comes_back() -> Result<()> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("hyper.safetensors");
    let hyper = |seed| HyperLetters::new(variables(seed, DType::F32).1, Letters::new);
    let (saved, loaded) = (hyper(3)?, hyper(4)?);
    saved.save(&path)?;
    loaded.load(&path)?;
    assert_eq!(values(&saved.forward(&letters()?)?)?, values(&loaded.forward(&letters()?)?)?);
    Ok(())
}

fn bert_config() -> bert::Config {
    bert::Config {
        vocab_size: 11,
        hidden_size: 8,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 12,
        max_position_embeddings: 6,
        ..Default::default()
    }
}

hypernetwork! {
    struct HyperBert for bert::BertModel {
        target: constructor,
        embedding: table(62, 4),
        generator: linear,
        mode: static,
    }
}

#[test]
fn bert_is_that_of_its_exported_checkpoint() -> Result<()> {
    let new = |vb: VarBuilder<'_>| bert::BertModel::load(vb, &bert_config());
    let (_vars, vb) = variables(5, DType::F32);
    let hyper = HyperBert::new(vb, new)?;
    let params = hyper.generate_params()?;
    let layout = params.layout();
    assert_eq!((layout.params().len(), layout.num_params()), (37, 1232));
    assert_eq!(layout.params()[5].name, "encoder.layer.0.attention.self.query.weight");
    let (ids, types) = (letters()?, letters()?.zeros_like()?);
    let ys = params.unpack()?.forward(&ids, &types, None)?;
    let ordinary = exported(|path| hyper.export(path), new, DType::F32)?;
    assert_eq!(values(&ys)?, values(&ordinary.forward(&ids, &types, None)?)?);
    Ok(())
}

hypernetwork! {
    struct HyperMaskedBert for bert::BertForMaskedLM {
        target: constructor,
        embedding: table(62, 4),
        generator: linear,
        mode: static,
    }
}

/// candle's fused layer norm has no backward, so no gradient passes the last one: the decoder behind
/// it learns.
#[test]
fn the_head_of_a_bert_learns() -> Result<()> {
    let (vars, vb) = variables(6, DType::F32);
    let hyper = HyperMaskedBert::new(vb, |vb| bert::BertForMaskedLM::load(vb, &bert_config()))?;
    let (ids, types) = (letters()?, letters()?.zeros_like()?);
    let loss = weighted_sum(&hyper.target()?.forward(&ids, &types, None)?)?;
    for (name, grad) in gradients(&vars, &loss)? {
        assert!(values(&grad.abs()?.sum_all()?)?[0] > 0., "{name}");
    }
    Ok(())
}

/// What candle's layer norm keeps from a BERT it keeps from one that is generated, and no more.
#[test]
fn gradients_of_a_bert_are_its_own() -> Result<()> {
    let new = |vb: VarBuilder<'_>| bert::BertForMaskedLM::load(vb, &bert_config());
    let (vars, vb) = variables(6, DType::F32);
    let params = HyperMaskedBert::new(vb, new)?.generate_params()?;
    let (ids, types) = (letters()?, letters()?.zeros_like()?);
    let loss = |bert: &bert::BertForMaskedLM| weighted_sum(&bert.forward(&ids, &types, None)?);
    let reached = assert_the_models_own_gradients((&vars, &params), new, loss)?;
    assert_eq!(reached, 2);
    Ok(())
}

hypernetwork! {
    struct HyperModernBert for modernbert::ModernBertForMaskedLM {
        target: constructor,
        embedding: table(10, 4),
        generator: linear,
        mode: static,
    }
}

fn modern_config() -> modernbert::Config {
    modernbert::Config {
        vocab_size: 11,
        hidden_size: 8,
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
    }
}

/// The layer norms of ModernBERT have no bias, and a backward: every tensor learns.
#[test]
fn every_tensor_of_a_modern_bert_learns() -> Result<()> {
    let new = |vb: VarBuilder<'_>| modernbert::ModernBertForMaskedLM::load(vb, &modern_config());
    let (vars, vb) = variables(8, DType::F32);
    let hyper = HyperModernBert::new(vb, new)?;
    let params = hyper.generate_params()?;
    let ids = letters()?;
    let mask = ids.ones_like()?.to_dtype(DType::F32)?;
    let loss = |bert: &modernbert::ModernBertForMaskedLM| weighted_sum(&bert.forward(&ids, &mask)?);
    let reached = assert_the_models_own_gradients((&vars, &params), new, loss)?;
    assert_eq!(reached, params.layout().params().len());
    Ok(())
}

struct Vit(vit::Model);

impl Vit {
    fn new(vb: VarBuilder<'_>) -> Result<Self> {
        let config = vit::Config {
            hidden_size: 8,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            intermediate_size: 12,
            image_size: 6,
            patch_size: 3,
            ..vit::Config::vit_base_patch16_224()
        };
        Ok(Self(vit::Model::new(&config, 4, vb)?))
    }
}

impl Module for Vit {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.0.forward(xs)
    }
}

hypernetwork! {
    struct HyperVit for Vit {
        target: constructor,
        embedding: table(32, 4),
        generator: mlp([16], tanh),
        mode: static,
    }
}

#[test]
fn a_vision_transformer_is_that_of_its_exported_checkpoint() -> Result<()> {
    let (vars, vb) = variables(7, DType::F32);
    let hyper = HyperVit::new(vb, Vit::new)?;
    let xs = input(&[3, 3, 6, 6], 1, DType::F32)?;
    let ys = hyper.forward(&xs)?;
    let ordinary = exported(|path| hyper.export(path), Vit::new, DType::F32)?;
    assert_eq!(values(&ys)?, values(&ordinary.forward(&xs)?)?);
    let params = hyper.generate_params()?;
    let loss = |vit: &Vit| weighted_sum(&vit.forward(&xs)?);
    assert_the_models_own_gradients((&vars, &params), Vit::new, loss)?;
    Ok(())
}

/// A model with running statistics, and tensors of any init.
struct Normed {
    bare: Tensor,
    scale: Tensor,
    norm: BatchNorm,
}

impl Normed {
    fn new(vb: VarBuilder<'_>) -> Result<Self> {
        let bare = vb.get((3, 4), "bare")?;
        let scale = vb.get_with_hints(3, "scale", Init::Uniform { lo: 1., up: 3. })?;
        Ok(Self { bare, scale, norm: candle_nn::batch_norm(3, 1e-5, vb.pp("norm"))? })
    }
}

impl ModuleT for Normed {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let xs = xs.broadcast_mul(&self.scale)?;
        self.norm.forward_t(&xs, train)?.matmul(&self.bare)
    }
}

hypernetwork! {
    struct HyperNormed for Normed {
        target: constructor,
        embedding: table(7, 3),
        generator: linear,
        mode: static,
    }
}

/// `get` without an init is the constant 0, as in candle.
#[test]
fn each_tensor_starts_as_it_is_asked_for() -> Result<()> {
    let (_vars, vb) = variables(8, DType::F64);
    let params = HyperNormed::new(vb, Normed::new)?.generate_params()?;
    let start = |name: &str| {
        let found = params.tensors().find(|(param, _)| param.name == name);
        values(found.unwrap().1)
    };
    assert_eq!(start("bare")?, [0.; 12]);
    assert_eq!(start("norm.weight")?, [1.; 3]);
    assert_eq!(start("norm.bias")?, [0.; 3]);
    assert!(start("scale")?.iter().all(|value| (0. ..4.).contains(value) && *value != 2.));
    Ok(())
}

/// Running statistics are kept by the hypernetwork, change in training, and go into its files.
#[test]
fn running_statistics_are_buffers() -> Result<()> {
    let (vars, vb) = variables(9, DType::F64);
    let hyper = HyperNormed::new(vb, Normed::new)?;
    let names: Vec<_> = hyper.layout().buffers().iter().map(|b| &b.name).collect();
    assert_eq!(names, ["norm.running_mean", "norm.running_var"]);
    let xs = input(&[6, 3], 2, DType::F64)?;
    hyper.forward_t(&xs, true)?;
    let mean = values(&by_name(&vars)["buffers.norm.running_mean"])?;
    assert!(mean.iter().all(|value| *value != 0.), "{mean:?}");
    let ordinary = exported(|path| hyper.export(path), Normed::new, DType::F64)?;
    assert_eq!(values(ordinary.norm.running_mean())?, mean);
    assert_eq!(values(&hyper.forward_t(&xs, false)?)?, values(&ordinary.forward_t(&xs, false)?)?);
    Ok(())
}

struct Mlp(Linear, Linear);

impl Mlp {
    fn new(width: usize, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self(
            candle_nn::linear(3, width, vb.pp("first"))?,
            candle_nn::linear(width, 2, vb.pp("second"))?,
        ))
    }
}

impl Module for Mlp {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.1.forward(&self.0.forward(xs)?.tanh()?)
    }
}

hypernetwork! {
    struct DynamicMlp for Mlp {
        target: constructor,
        embedding: encoder(3, [8], tanh, 13, 4),
        generator: linear,
        mode: dynamic,
    }
}

/// candle's layers take one set at a time, so the sets take their turns.
#[test]
fn several_sets_take_their_turns() -> Result<()> {
    let (vars, vb) = variables(10, DType::F64);
    let hyper = DynamicMlp::new(vb, |vb| Mlp::new(4, vb))?;
    let xs = input(&[6, 3], 3, DType::F64)?;
    let params = hyper.generate_params(&xs.narrow(0, 0, 3)?)?;
    let whole = params.forward(&xs)?;
    let rows = (0..3).map(|i| params.set(i)?.unpack()?.forward(&xs.narrow(0, 2 * i, 2)?));
    let rows = Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)?;
    assert!(relative_error(&whole, &rows)? < 1e-12);
    let error = gradient_error(&vars, &|| weighted_sum(&hyper.forward(&xs)?))?;
    assert!(error < 1e-6, "{error:e}");
    assert_eq!(
        message(params.unpack()),
        "Mlp is built by its constructor, for one set of weights at a time, but these are 3: unpack `params.set(i)?` for each"
    );
    Ok(())
}

/// The same words as at compile time.
#[test]
fn sizes_are_checked_in_new() {
    let new = |width| DynamicMlp::new(variables(0, DType::F32).1, move |vb| Mlp::new(width, vb));
    assert!(new(4).is_ok());
    assert_eq!(
        message(new(1)),
        "13 embeddings for 8 parameters: chunks of 1 fill 8 rows; rows that feed nothing: 5; nearest counts that waste none: 8"
    );
}

fn plan<T: 'static>(
    constructor: impl Fn(VarBuilder<'static>) -> Result<T> + Send + Sync + 'static,
) -> Result<TargetPlan<T>> {
    TargetPlan::from_constructor(constructor)
}

#[test]
fn what_a_constructor_can_not_ask_for() {
    assert_eq!(
        message(plan(|vb| vb.pp("a").get_unchecked("b"))),
        "the constructor asks for `a.b` without a shape, so its size is not known"
    );
    assert_eq!(
        message(plan(|vb| Ok((vb.get(2, "a")?, vb.get((2, 1), "a")?)))),
        "the constructor asks for `a` with shape [2] and with shape [2, 1]"
    );
    assert_eq!(
        message(plan(|vb| vb.get_with_hints_dtype(2, "a", Init::Const(0.), DType::U32))),
        "the constructor asks for `a` as U32, expected a floating dtype"
    );
    assert_eq!(
        message(plan(|vb| vb.get((2, 0), "a"))),
        "target Tensor has no parameters, so there is nothing to generate"
    );
    assert_eq!(
        message(plan(|vb| vb.get(2, "norm.running_mean"))),
        "target Tensor has no parameters, so there is nothing to generate"
    );
    assert_eq!(message(plan::<()>(|_| candle_core::bail!("no such file"))), "no such file");
}

hypernetwork! {
    struct Fickle for Tensor {
        target: constructor,
        embedding: table(2, 3),
        generator: linear,
        mode: static,
    }
}

/// A constructor that changes its mind.
#[test]
fn a_request_that_was_not_recorded() -> Result<()> {
    let width = std::sync::Arc::new(Mutex::new(2));
    let (_vars, vb) = variables(0, DType::F32);
    let asked = width.clone();
    let hyper = Fickle::new(vb, move |vb| vb.pp("a").get(*asked.lock().unwrap(), "b"))?;
    assert_eq!(hyper.target()?.dims(), [2]);
    *width.lock().unwrap() = 3;
    assert_eq!(
        message(hyper.target()),
        "the constructor asks for `a.b` of shape [3], which it did not when its layout was taken"
    );
    Ok(())
}

/// A constructor that computes in one dtype alone runs where the hypernetwork has it.
#[test]
fn a_constructor_sees_the_dtype_of_the_hypernetwork() -> Result<()> {
    let new = |vb: VarBuilder<'_>| vb.get(2, "a")? + Tensor::ones(2, DType::F64, vb.device())?;
    let hyper = Fickle::new(variables(0, DType::F64).1, new)?;
    assert_eq!(hyper.target()?.dtype(), DType::F64);
    assert!(Fickle::new(variables(0, DType::F32).1, new).is_err());
    let pretrained =
        std::collections::HashMap::from([("a".to_owned(), Tensor::new(&[3f32, 4.], device())?)]);
    let pretrained = VarBuilder::from_tensors(pretrained, DType::F32, device());
    let hyper = Fickle::new_from(variables(0, DType::F64).1, pretrained, new)?;
    assert_eq!(values(&hyper.target()?)?, [4., 5.]);
    Ok(())
}

/// Random features.
struct Drawing(Tensor, Linear);

impl Drawing {
    fn new(features: Tensor, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self(features, candle_nn::linear(3, 2, vb)?))
    }
}

impl Module for Drawing {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.1.forward(&xs.matmul(&self.0)?)
    }
}

hypernetwork! {
    struct HyperDrawing for Drawing {
        target: constructor,
        embedding: table(4, 3),
        generator: linear,
        mode: static,
    }
}

/// What a constructor draws by itself is another in each model: an error of the first forward.
#[test]
fn a_constructor_that_draws_is_refused() -> Result<()> {
    let draw = || Tensor::randn(0f64, 1., (3, 3), device());
    let (_vars, vb) = variables(0, DType::F64);
    let hyper = HyperDrawing::new(vb, move |vb| Drawing::new(draw()?, vb))?;
    let found = message(hyper.forward(&input(&[4, 3], 1, DType::F64)?));
    let start = "the constructor of Drawing draws values by itself, others each time that a model is built: outputs of the same parameters differ by ";
    assert!(found.starts_with(start), "{found}");
    let (features, (_vars, vb)) = (draw()?, variables(0, DType::F64));
    let hyper = HyperDrawing::new(vb, move |vb| Drawing::new(features.clone(), vb))?;
    let xs = input(&[4, 3], 1, DType::F64)?;
    assert_eq!(values(&hyper.forward(&xs)?)?, values(&hyper.forward(&xs)?)?);
    Ok(())
}

/// A model whose forward draws is what it is.
struct Noisy(Drawing);

impl Module for Noisy {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.0.forward(&(xs + xs.randn_like(0., 1.)?)?)
    }
}

hypernetwork! {
    struct HyperNoisy for Noisy {
        target: constructor,
        embedding: table(4, 3),
        generator: linear,
        mode: static,
    }
}

#[test]
fn a_forward_may_draw() -> Result<()> {
    let (features, (_vars, vb)) = (input(&[3, 3], 2, DType::F64)?, variables(0, DType::F64));
    let new = move |vb: VarBuilder<'_>| Ok(Noisy(Drawing::new(features.clone(), vb)?));
    let hyper = HyperNoisy::new(vb, new)?;
    hyper.forward(&input(&[4, 3], 1, DType::F64)?).map(drop)
}

/// A model in half precision, and a part of it in another.
#[test]
fn dtypes_are_those_that_are_asked_for() -> Result<()> {
    let (_vars, vb) = variables(0, DType::F32);
    let hyper = Fickle::new(vb, |vb| vb.to_dtype(DType::F64).get(2, "a"))?;
    assert_eq!(hyper.target()?.dtype(), DType::F64);
    let (_vars, vb) = variables(0, DType::BF16);
    assert_eq!(Fickle::new(vb, |vb| vb.get(2, "a"))?.target()?.dtype(), DType::BF16);
    Ok(())
}

#[test]
fn parameters_are_cloned_and_shown() -> Result<()> {
    let (_vars, vb) = variables(0, DType::F32);
    let params: GeneratedParams<Tensor> =
        Fickle::new(vb, |vb| vb.get(2, "a"))?.generate_params()?;
    assert_eq!(
        format!("{:?}", params.clone()),
        "GeneratedParams { target: Tensor, sets: None, parameters: 2 }"
    );
    assert_eq!(params.flat()?.dim(D::Minus1)?, 2);
    Ok(())
}
