//! Fields without parameters are made once for each network, and what they hold of tensors is in its
//! files; bare tensors, and weights that a forward looks at, take their turns set by set.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Module, ModuleT, Result, Tensor};
use candle_nn::RNN;
use candle_nn::{Dropout, VarBuilder, VarMap};
use hypernn::nn::{self, BatchNorm, Embedding, Linear, PReLU};
use hypernn::target::layer::Visitor;
use hypernn::target::source::{ParamSource, scoped};
use hypernn::{
    FixedTarget, GeneratedParams, HyperLayer, HyperTarget, Parameters, Pretrained, hypernetwork,
};
use hypernn_tests::{
    by_name, device, gradient_error, input, message, relative_error, values, variables,
    weighted_sum,
};

fn random(dims: &[usize]) -> Tensor {
    Tensor::randn(0f64, 1., dims, device()).unwrap()
}

/// A nested target with features of its own.
#[derive(HyperTarget)]
struct Block {
    #[hyper(value = random(&[4, 4]))]
    mix: Tensor,
    #[hyper(linear(4, 4))]
    fc: Linear,
}

/// Values of every kind, most of them drawn at random.
#[derive(HyperTarget)]
struct Net {
    #[hyper(value = random(&[3, 4]))]
    features: Tensor,
    #[hyper(value = (0..2).map(|_| random(&[4])).collect())]
    shifts: Vec<Tensor>,
    #[hyper(value = Some(random(&[4])))]
    scale: Option<Tensor>,
    #[hyper(value = None)]
    none: Option<Tensor>,
    #[hyper(value = (random(&[4]), [random(&[4]), random(&[4])]))]
    pair: (Tensor, [Tensor; 2]),
    #[hyper(value = Linear::new(random(&[4, 4]), Some(random(&[4]))))]
    projection: Linear,
    #[hyper(value = Tensor::new(&[2u32, 0, 1, 3], device()).unwrap())]
    order: Tensor,
    #[hyper(value = Dropout::new(0.5))]
    #[allow(dead_code)]
    dropout: Dropout,
    #[hyper([target; 2])]
    blocks: Vec<Block>,
    #[hyper(linear(4, 2))]
    out: Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let mut ys = xs.matmul(&self.features)?.cos()?.index_select(&self.order, 1)?;
        let (first, [second, third]) = &self.pair;
        let all = self.shifts.iter().chain(&self.scale).chain(&self.none);
        for by in all.chain([first, second, third]) {
            ys = ys.broadcast_add(by)?;
        }
        ys = self.projection.forward(&ys)?.tanh()?;
        for block in &self.blocks {
            ys = block.fc.forward(&ys.matmul(&block.mix)?)?.tanh()?;
        }
        self.out.forward(&ys)
    }
}

hypernetwork! {
    struct HyperNet for Net { embedding: table(10, 3), generator: linear, mode: static }
}

hypernetwork! {
    struct ByTask for Net { embedding: tasks(3, 10, 4), generator: linear, mode: dynamic }
}

fn hyper(seed: u64) -> Result<(VarMap, HyperNet)> {
    let (vars, vb) = variables(seed, DType::F64);
    Ok((vars, HyperNet::new(vb)?))
}

fn file() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("values.safetensors");
    (dir, path)
}

#[test]
fn values_are_made_once_for_each_network() -> Result<()> {
    let xs = input(&[5, 3], 1, DType::F64)?;
    let (_vars, first) = hyper(0)?;
    let ys = values(&first.forward(&xs)?)?;
    assert_eq!(values(&first.forward(&xs)?)?, ys);
    let params = first.generate_params()?;
    assert_eq!(values(&params.forward(&xs)?)?, ys);
    assert_eq!(values(&params.unpack()?.forward(&xs)?)?, ys);
    assert_eq!(values(&first.params_from_flat(&params.flat()?)?.forward(&xs)?)?, ys);
    // Another network, of the same variables, draws its own.
    assert_ne!(values(&hyper(0)?.1.forward(&xs)?)?, ys);
    Ok(())
}

#[test]
fn a_network_that_is_read_again_has_the_same_values() -> Result<()> {
    let (_dir, path) = file();
    let xs = input(&[5, 3], 1, DType::F64)?;
    let (vars, first) = hyper(0)?;
    let ys = values(&first.forward(&xs)?)?;
    first.save(&path)?;
    let (_others, second) = hyper(1)?;
    second.load(&path)?;
    assert_eq!(values(&second.forward(&xs)?)?, ys);
    // Built over the file's tensors, and over the `VarMap`.
    let tensors = candle_core::safetensors::load(&path, device())?;
    let vb = VarBuilder::from_tensors(tensors, DType::F64, device());
    assert_eq!(values(&HyperNet::new(vb)?.forward(&xs)?)?, ys);
    let vb = VarBuilder::from_varmap(&vars, DType::F64, device());
    assert_eq!(values(&HyperNet::new(vb)?.forward(&xs)?)?, ys);
    // What is written for programs that know nothing of hypernetworks.
    first.export(&path)?;
    let tensors = candle_core::safetensors::load(&path, device())?;
    let net = Net::new(VarBuilder::from_tensors(tensors, DType::F64, device()))?;
    assert_eq!(values(&net.forward(&xs)?)?, ys);
    // Values are nobody's to train.
    assert!(first.trainable().len() < vars.all_vars().len());
    let names: Vec<_> =
        by_name(&vars).into_keys().filter(|name| name.contains("hyper_value")).collect();
    assert!(names.contains(&"buffers.blocks.1.mix.hyper_value".to_owned()), "{names:?}");
    assert!(names.contains(&"buffers.pair.1.0.hyper_value".to_owned()), "{names:?}");
    assert_eq!(first.num_params(), HyperNet::NUM_PARAMS);
    Ok(())
}

/// A file of version 0.1 has none of the values: the network keeps its own.
#[test]
fn a_checkpoint_without_values_loads() -> Result<()> {
    let (_dir, path) = file();
    let (_vars, first) = hyper(0)?;
    first.save(&path)?;
    let bytes = std::fs::read(&path)?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    let tensors = candle_core::safetensors::load(&path, device())?;
    let kept: Vec<_> =
        tensors.into_iter().filter(|(name, _)| !name.contains("hyper_value")).collect();
    // The hash of what is left, as the error says it.
    let write = |metadata| {
        safetensors::tensor::serialize_to_file(
            kept.iter().map(|(name, tensor)| (name, tensor)),
            Some(metadata),
            &path,
        )
        .unwrap();
    };
    write(metadata.clone());
    let (_others, second) = hyper(1)?;
    let text = message(second.load(&path));
    let found = text.split("SHA-256 ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    let mut old = metadata;
    old.insert("hypernn.tensors_sha256".to_owned(), found);
    write(old);
    let xs = input(&[5, 3], 1, DType::F64)?;
    let before = values(&second.target()?.features)?;
    second.load(&path)?;
    assert_eq!(values(&second.target()?.features)?, before);
    assert!(second.forward(&xs)?.dims() == [5, 2]);
    Ok(())
}

/// An ordinary network keeps them in its `VarMap`, and a hypernetwork over it has them.
#[test]
fn an_ordinary_network_and_one_that_starts_from_it() -> Result<()> {
    let (vars, vb) = variables(0, DType::F64);
    let xs = input(&[5, 3], 1, DType::F64)?;
    let net = Net::new(vb)?;
    let ys = net.forward(&xs)?;
    let again = Net::new(VarBuilder::from_varmap(&vars, DType::F64, device()))?;
    assert_eq!(values(&again.forward(&xs)?)?, values(&ys)?);
    // No gradient flows into them.
    let grads = weighted_sum(&ys)?.backward()?;
    for (name, var) in by_name(&vars) {
        assert_eq!(grads.get(&var).is_some(), !name.contains("hyper_value"), "{name}");
    }
    let pretrained = VarBuilder::from_varmap(&vars, DType::F64, device());
    let hyper = HyperNet::new_from(variables(1, DType::F64).1, pretrained.clone())?;
    assert!(relative_error(&hyper.forward(&xs)?, &ys)? < 1e-12);
    let afresh = Pretrained::from(pretrained).without("*");
    let afresh = HyperNet::new_from(variables(1, DType::F64).1, afresh)?;
    assert_ne!(values(&afresh.target()?.features)?, values(&net.features)?);
    Ok(())
}

/// Adapters of one network serve one batch; those of two have other features.
#[test]
fn values_of_parameters_that_are_put_together() -> Result<()> {
    let (_dir, path) = file();
    let (first, second) =
        (ByTask::new(variables(0, DType::F64).1)?, ByTask::new(variables(0, DType::F64).1)?);
    let task = |hyper: &ByTask, task: u32| hyper.generate_params(&Tensor::new(task, device())?);
    let xs = input(&[4, 3], 1, DType::F64)?;
    let stacked = GeneratedParams::stack(&[task(&first, 0)?, task(&first, 1)?])?;
    let alone = task(&first, 1)?.forward(&xs.narrow(0, 2, 2)?)?;
    assert!(relative_error(&stacked.forward(&xs)?.narrow(0, 2, 2)?, &alone)? < 1e-12);
    assert_eq!(
        message(GeneratedParams::stack(&[task(&first, 0)?, task(&second, 1)?])),
        "can't stack parameters 0 and 1: they lie over other values of `features.hyper_value`, which is not generated"
    );
    stacked.save(&path)?;
    assert!(message(second.load_params(&path)).contains("other values of `features.hyper_value`"));
    assert_eq!(values(&first.load_params(&path)?.forward(&xs)?)?, values(&stacked.forward(&xs)?)?);
    Ok(())
}

static MADE: AtomicUsize = AtomicUsize::new(0);

#[derive(Clone)]
struct Counted(#[allow(dead_code)] usize);

struct NotCloned;

#[derive(HyperTarget)]
struct Counting<'a> {
    #[hyper(value = Counted(MADE.fetch_add(1, Ordering::Relaxed)))]
    #[allow(dead_code)]
    counted: Counted,
    #[hyper(value = NotCloned)]
    #[allow(dead_code)]
    not_cloned: NotCloned,
    #[hyper(value = "text")]
    #[allow(dead_code)]
    text: &'a str,
    #[hyper(linear(2, 1))]
    fc: Linear,
}

hypernetwork! {
    struct HyperCounting for Counting<'static> {
        embedding: table(3, 2), generator: linear, mode: static,
    }
}

/// What is no tensor is made once too, where it can be cloned.
#[test]
fn a_value_that_can_be_cloned() -> Result<()> {
    let hyper = HyperCounting::new(variables(0, DType::F64).1)?;
    let made = MADE.load(Ordering::Relaxed);
    for _ in 0..3 {
        hyper.target()?;
    }
    assert_eq!(MADE.load(Ordering::Relaxed), made);
    // The layout of a type is recorded once, and what was made with it serves flat vectors.
    Counting::layout()?;
    let made = MADE.load(Ordering::Relaxed);
    let flat = input(&[Counting::NUM_PARAMS], 1, DType::F64)?;
    assert_eq!(Counting::layout()?.hash(), hyper.layout().hash());
    assert_eq!(values(&Counting::unpack(&flat)?.pack()?)?, values(&flat)?);
    assert_eq!(MADE.load(Ordering::Relaxed), made);
    Ok(())
}

/// A layer that can't be cloned, drawn at random.
#[derive(HyperTarget)]
#[hyper(sequential)]
struct Drawn {
    #[hyper(value = candle_nn::seq().add(Linear::new(random(&[3, 3]), None)))]
    drawn: candle_nn::Sequential,
    #[hyper(linear(3, 2))]
    fc: Linear,
}

hypernetwork! {
    struct HyperDrawn for Drawn { embedding: table(4, 2), generator: linear, mode: static }
}

hypernetwork! {
    struct DynamicDrawn for Drawn {
        embedding: encoder(3, [5], tanh, 4, 3), generator: linear, mode: dynamic,
    }
}

/// Its first step is of any type.
#[derive(HyperTarget)]
struct AnyFirst<A: Default + Module> {
    #[hyper(value = A::default())]
    first: A,
    #[hyper(linear(3, 2))]
    fc: Linear,
}

impl<A: Default + Module> Module for AnyFirst<A> {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.fc.forward(&self.first.forward(xs)?)
    }
}

struct Features(Tensor);

impl Default for Features {
    fn default() -> Self {
        Self(random(&[3, 3]))
    }
}

impl Module for Features {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        xs.matmul(&self.0)
    }
}

struct Doubled(f64);

impl Default for Doubled {
    fn default() -> Self {
        Self(2.)
    }
}

impl Module for Doubled {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        xs * self.0
    }
}

hypernetwork! {
    struct AnyFeatures for AnyFirst<Features> { embedding: table(4, 2), generator: linear, mode: static }
}

hypernetwork! {
    struct AnyDoubled for AnyFirst<Doubled> { embedding: table(4, 2), generator: linear, mode: static }
}

/// What can't be made once is made in each build, and must be the same each time.
#[test]
fn a_value_that_is_another_in_each_build_is_an_error() -> Result<()> {
    let xs = input(&[3, 3], 1, DType::F64)?;
    let vb = || variables(0, DType::F64).1;
    let refused = |name: &str, found: String| {
        let start = format!(
            "{name} is made anew each time that the target is built, and is another each time: outputs of the same parameters differ by "
        );
        assert!(found.starts_with(&start), "{found}");
    };
    refused("`drawn` of Drawn", message(HyperDrawn::new(vb())?.forward(&xs)));
    refused("`drawn` of Drawn", message(DynamicDrawn::new(vb())?.forward(&xs)));
    refused("`first` of AnyFirst", message(AnyFeatures::new(vb())?.forward(&xs)));
    let hyper = AnyDoubled::new(vb())?;
    assert_eq!(values(&hyper.forward(&xs)?)?, values(&hyper.forward(&xs)?)?);
    Ok(())
}

/// Fixed tensors below keys, and fixed filters.
#[derive(HyperTarget)]
struct Tables {
    #[hyper(value = [2, 0, 1].map(|key| (key, random(&[3, 3]))).into_iter().collect())]
    by_number: HashMap<u32, Tensor>,
    #[hyper(value = ["b", "a"].map(|key| (key.to_owned(), random(&[3]))).into_iter().collect())]
    by_name: BTreeMap<String, Tensor>,
    #[hyper(value = candle_nn::Conv1d::new(random(&[3, 3, 1]), Some(random(&[3])), Default::default()))]
    filter: candle_nn::Conv1d,
    #[hyper(linear(3, 2))]
    out: Linear,
}

impl Module for Tables {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let mut ys = xs.clone();
        for key in 0..3 {
            ys = ys.matmul(&self.by_number[&key])?;
        }
        ys = (ys.broadcast_mul(&self.by_name["a"])?).broadcast_add(&self.by_name["b"])?;
        self.out.forward(&self.filter.forward(&ys.unsqueeze(2)?)?.squeeze(2)?)
    }
}

hypernetwork! {
    struct HyperTables for Tables { embedding: table(4, 2), generator: linear, mode: static }
}

#[test]
fn tables_and_filters_are_in_the_file() -> Result<()> {
    let (_dir, path) = file();
    let (vars, vb) = variables(0, DType::F64);
    let (first, second) = (HyperTables::new(vb)?, HyperTables::new(variables(1, DType::F64).1)?);
    let xs = input(&[5, 3], 1, DType::F64)?;
    let ys = values(&first.forward(&xs)?)?;
    assert_eq!(values(&first.forward(&xs)?)?, ys);
    first.save(&path)?;
    second.load(&path)?;
    assert_eq!(values(&second.forward(&xs)?)?, ys);
    let names: Vec<_> =
        by_name(&vars).into_keys().filter(|name| name.ends_with("hyper_value")).collect();
    assert_eq!(
        names,
        [
            "by_name.a",
            "by_name.b",
            "by_number.0",
            "by_number.1",
            "by_number.2",
            "filter.bias",
            "filter.weight"
        ]
        .map(|name| format!("buffers.{name}.hyper_value"))
    );
    Ok(())
}

/// The checks below: several sets give what each gives by itself, with its gradients.
macro_rules! sets_are_alone {
    ($Target:ty, $params:expr, $rows:expr) => {{
        let (params, xs): (GeneratedParams<$Target>, Tensor) = ($params, $rows);
        let sets = params.num_sets().unwrap();
        let rows = xs.dim(0)? / sets;
        let each = (0..sets)
            .map(|set| params.set(set)?.forward_t(&xs.narrow(0, set * rows, rows)?, false));
        let expected = Tensor::cat(&each.collect::<Result<Vec<_>>>()?, 0)?;
        for _ in 0..2 {
            assert!(relative_error(&params.forward_t(&xs, false)?, &expected)? < 1e-12);
        }
    }};
}

/// Rows that are as many as the tensor's values: broadcasting would not fail.
#[derive(HyperTarget)]
struct Bare {
    #[hyper(linear(3, 3))]
    fc: Linear,
    #[hyper(tensor([]))]
    by: Tensor,
    #[hyper(tensor([3]))]
    scale: Tensor,
    #[hyper([tensor([3]); 2])]
    list: Vec<Tensor>,
    #[hyper(if true { tensor([3, 3]) })]
    some: Option<Tensor>,
    #[hyper(prelu(None))]
    slope: PReLU,
}

impl Module for Bare {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let mut ys = self.fc.forward(xs)?.broadcast_mul(&self.by)?.broadcast_mul(&self.scale)?;
        for by in &self.list {
            ys = ys.broadcast_add(by)?;
        }
        if let Some(by) = &self.some {
            ys = ys.matmul(by)?;
        }
        self.slope.forward(&ys)
    }
}

hypernetwork! {
    struct HyperBare for Bare {
        embedding: encoder(4, [5], tanh, 4, 3), generator: linear, mode: dynamic,
    }
}

/// Only its bare tensor is not generated.
#[derive(HyperTarget)]
struct Kept {
    #[hyper(linear(3, 3))]
    fc: Linear,
    #[hyper(tensor([3]), role = train)]
    scale: Tensor,
}

impl Module for Kept {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.fc.forward(xs)?.broadcast_mul(&self.scale)
    }
}

hypernetwork! {
    struct HyperKept for Kept {
        embedding: encoder(4, [5], tanh, 4, 3), generator: linear, mode: dynamic,
    }
}

#[test]
fn bare_tensors_take_their_turns() -> Result<()> {
    let hyper = HyperBare::new(variables(0, DType::F64).1)?;
    assert_eq!(hyper.layout().one_set_layer(), Some("by"));
    for sets in [1, 3] {
        let params = hyper.generate_params(&input(&[sets, 4], 1, DType::F64)?)?;
        for rows in [1, 3] {
            sets_are_alone!(Bare, params.clone(), input(&[sets * rows, 3], 2, DType::F64)?);
        }
    }
    assert_eq!(
        message(hyper.generate_params(&input(&[3, 4], 1, DType::F64)?)?.unpack()),
        "`by` of Bare is a bare tensor, which is that of one set of weights, but these are 3: unpack `params.set(i)?` for each, or write `tensor(…, sets = true)` where the forward takes `[G, …]`"
    );
    let hyper = HyperKept::new(variables(0, DType::F64).1)?;
    assert_eq!(hyper.layout().one_set_layer(), None);
    let params = hyper.generate_params(&input(&[3, 4], 1, DType::F64)?)?;
    sets_are_alone!(Kept, params, input(&[6, 3], 2, DType::F64)?);
    Ok(())
}

/// Its last layer is its first's table, by hand, and its norm is moved in training.
#[derive(HyperTarget)]
struct Tied {
    #[hyper(embedding(3, 3))]
    embed: Embedding,
    #[hyper(batch_norm(3))]
    norm: BatchNorm,
    #[hyper(linear(3, 3))]
    fc: Linear,
}

impl ModuleT for Tied {
    fn forward_t(&self, ids: &Tensor, train: bool) -> Result<Tensor> {
        let ys = self.fc.forward(&self.embed.forward(ids)?)?;
        self.norm.forward_t(&ys, train)?.broadcast_matmul(&self.embed.embeddings().t()?)
    }
}

hypernetwork! {
    struct HyperTied for Tied {
        embedding: encoder(4, [5], tanh, 9, 3), generator: linear, mode: dynamic,
    }
}

#[test]
fn weights_that_a_forward_looks_at() -> Result<()> {
    let (vars, vb) = variables(0, DType::F64);
    let hyper = HyperTied::new(vb)?;
    let ids = Tensor::new(&[0u32, 1, 2, 2, 1, 0, 1, 1, 2], device())?;
    let params = hyper.generate_params(&input(&[3, 4], 1, DType::F64)?)?;
    sets_are_alone!(Tied, params.clone(), ids.clone());
    // The forward that found it out did not move the running statistics a further time.
    let statistics = || {
        let all = by_name(&vars).into_iter().filter(|(name, _)| name.starts_with("buffers."));
        all.map(|(_, var)| values(&var)).collect::<Result<Vec<_>>>()
    };
    let before = statistics()?;
    let (other_vars, vb) = variables(0, DType::F64);
    let other = HyperTied::new(vb)?;
    let params = other.generate_params(&input(&[3, 4], 1, DType::F64)?)?;
    for set in 0..3 {
        params.set(set)?.forward_t(&ids.narrow(0, 3 * set, 3)?, true)?;
    }
    let expected =
        by_name(&other_vars).into_iter().filter(|(name, _)| name.starts_with("buffers."));
    let expected = expected.map(|(_, var)| values(&var)).collect::<Result<Vec<_>>>()?;
    let (first_vars, vb) = variables(0, DType::F64);
    let first = HyperTied::new(vb)?;
    first.generate_params(&input(&[3, 4], 1, DType::F64)?)?.forward_t(&ids, true)?;
    let found = by_name(&first_vars).into_iter().filter(|(name, _)| name.starts_with("buffers."));
    let found = found.map(|(_, var)| values(&var)).collect::<Result<Vec<_>>>()?;
    assert_eq!(found, expected);
    assert_ne!(found, before);
    Ok(())
}

/// It looks at a weight in training alone.
#[derive(HyperTarget)]
struct Trained {
    #[hyper(batch_norm(3))]
    norm: BatchNorm,
    #[hyper(linear_no_bias(3, 3))]
    fc: Linear,
}

impl ModuleT for Trained {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let xs = self.norm.forward_t(xs, train)?;
        if train { xs.broadcast_matmul(&self.fc.weight().t()?) } else { self.fc.forward(&xs) }
    }
}

hypernetwork! {
    struct HyperTrained for Trained {
        embedding: encoder(4, [5], tanh, 5, 3), generator: linear, mode: dynamic,
    }
}

/// A forward in evaluation says nothing about one in training.
#[test]
fn statistics_where_training_alone_looks_at_weights() -> Result<()> {
    let xs = (input(&[9, 3], 2, DType::F64)? + 3.)?;
    let moved = |evaluated_before: bool| -> Result<Vec<f64>> {
        let (vars, vb) = variables(0, DType::F64);
        let params = HyperTrained::new(vb)?.generate_params(&input(&[3, 4], 1, DType::F64)?)?;
        if evaluated_before {
            params.forward_t(&xs, false)?;
        }
        params.forward_t(&xs, true)?;
        values(&by_name(&vars)["buffers.norm.running_mean"])
    };
    assert_eq!(moved(true)?, moved(false)?);
    Ok(())
}

static FORWARDS: AtomicUsize = AtomicUsize::new(0);

/// Every layer of `hypernn::nn`, none of whose weights its forward asks for.
#[derive(HyperTarget)]
struct Every {
    #[hyper(embedding(3, 4))]
    embed: Embedding,
    #[hyper(linear(4, 4))]
    fc: Linear,
    #[hyper(linear(4, 4), role = lora(1, 2.))]
    adapted: Linear,
    #[hyper(layer_norm(4))]
    layer_norm: nn::LayerNorm,
    #[hyper(rms_norm(4, 1e-5))]
    rms_norm: nn::RmsNorm,
    #[hyper(conv1d(4, 4, 1))]
    conv1d: nn::Conv1d,
    #[hyper(conv_transpose1d(4, 4, 1))]
    conv_transpose1d: nn::ConvTranspose1d,
    #[hyper(group_norm(2, 4, 1e-5))]
    group_norm: nn::GroupNorm,
    #[hyper(batch_norm(4))]
    batch_norm: BatchNorm,
    #[hyper(prelu(Some(4)))]
    prelu: PReLU,
    #[hyper(conv2d(4, 4, 1))]
    conv2d: nn::Conv2d,
    #[hyper(conv_transpose2d(4, 4, 1))]
    conv_transpose2d: nn::ConvTranspose2d,
    #[hyper(lstm(4, 4))]
    lstm: nn::LSTM,
    #[hyper(gru(4, 4))]
    gru: nn::GRU,
}

impl ModuleT for Every {
    fn forward_t(&self, ids: &Tensor, train: bool) -> Result<Tensor> {
        FORWARDS.fetch_add(1, Ordering::Relaxed);
        let ys = self.adapted.forward(&self.fc.forward(&self.embed.forward(ids)?)?)?;
        let ys = self.rms_norm.forward(&self.layer_norm.forward(&ys)?)?.unsqueeze(2)?;
        let ys = self.conv_transpose1d.forward(&self.conv1d.forward(&ys)?)?;
        let ys = self.batch_norm.forward_t(&self.group_norm.forward(&ys)?, train)?;
        let ys = self.prelu.forward(&ys)?.unsqueeze(3)?;
        let ys = self.conv_transpose2d.forward(&self.conv2d.forward(&ys)?)?;
        let ys = ys.flatten_from(1)?.unsqueeze(1)?;
        let ys = self.lstm.seq(&ys)?[0].h().unsqueeze(1)?;
        Ok(self.gru.seq(&ys)?[0].h.clone())
    }
}

hypernetwork! {
    struct HyperEvery for Every {
        embedding: encoder(4, [5], tanh, 1, 3), generator: linear, mode: dynamic,
    }
}

/// A layer that looks at its own weights does not make the sets take their turns.
#[test]
fn all_sets_go_through_every_layer_at_once() -> Result<()> {
    let (base, vb) = variables(5, DType::F64);
    Every::new(vb)?;
    let base = VarBuilder::from_varmap(&base, DType::F64, device());
    let hyper = HyperEvery::new_from(variables(0, DType::F64).1, base)?;
    let params = hyper.generate_params(&input(&[3, 4], 1, DType::F64)?)?;
    let ids = Tensor::new(&[0u32, 1, 2, 2, 1, 0], device())?;
    for train in [false, true, false] {
        let before = FORWARDS.load(Ordering::Relaxed);
        params.forward_t(&ids, train)?;
        assert_eq!(FORWARDS.load(Ordering::Relaxed), before + 1);
    }
    sets_are_alone!(Every, params, ids);
    Ok(())
}

/// Its first layer has an adapter, and is applied by hand.
#[derive(HyperTarget)]
struct Looks {
    #[hyper(linear_no_bias(3, 3), role = lora(1, 2.))]
    fc: Linear,
    #[hyper(linear(3, 2))]
    out: Linear,
}

impl Module for Looks {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.out.forward(&xs.matmul(&self.fc.weight().t()?)?)
    }
}

hypernetwork! {
    struct HyperLooks for Looks {
        embedding: encoder(4, [5], tanh, 7, 3), generator: linear, mode: dynamic,
    }
}

#[test]
fn an_adapted_weight_that_a_forward_looks_at() -> Result<()> {
    let (base, vb) = variables(5, DType::F64);
    Looks::new(vb)?;
    let base = VarBuilder::from_varmap(&base, DType::F64, device());
    let (vars, vb) = variables(0, DType::F64);
    let hyper = HyperLooks::new_from(vb, base)?;
    for var in hyper.trainable() {
        var.set(&(var.as_tensor() + 0.1)?)?;
    }
    let (_dir, path) = file();
    let (condition, xs) = (input(&[4], 1, DType::F64)?, input(&[6, 3], 2, DType::F64)?);
    hyper.export(&condition, &path)?;
    let tensors = candle_core::safetensors::load(&path, device())?;
    let exported = Looks::new(VarBuilder::from_tensors(tensors, DType::F64, device()))?;
    let params = hyper.generate_params(&condition)?;
    assert!(relative_error(&params.forward(&xs)?, &exported.forward(&xs)?)? < 1e-12);
    let loss = || weighted_sum(&hyper.generate_params(&condition)?.forward(&xs)?);
    assert!(gradient_error(&vars, &loss)? < 1e-6);
    let params = hyper.generate_params(&input(&[3, 4], 1, DType::F64)?)?;
    sets_are_alone!(Looks, params, xs);
    Ok(())
}

/// A target by hand that says nothing of sets.
struct ByHand {
    fc: Linear,
    scale: Tensor,
}

impl HyperTarget for ByHand {
    type Config = ();

    const NAME: &'static str = "ByHand";

    fn build(_: &(), source: &mut dyn ParamSource) -> Result<Self> {
        let fc =
            scoped(source, "fc", |source| Linear::build(&hypernn::nn::spec::linear(3, 3), source))?;
        let scale = scoped(source, "scale", |source| {
            Tensor::build(&hypernn::target::tensor::tensor([3]).sets(true), source)
        })?;
        Ok(Self { fc, scale })
    }
}

impl Parameters for ByHand {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.fc.visit(visitor)?;
        self.scale.visit(visitor)
    }
}

impl FixedTarget for ByHand {
    const NUM_PARAMS: usize = 15;
}

impl Module for ByHand {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.fc.forward(xs)?.broadcast_mul(&self.scale)
    }
}

hypernetwork! {
    struct HyperByHand for ByHand {
        embedding: encoder(4, [5], tanh, 3, 3), generator: linear, mode: dynamic,
    }
}

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Around {
    inner: ByHand,
    #[hyper(linear(3, 2))]
    out: Linear,
}

hypernetwork! {
    struct HyperAround for Around {
        embedding: encoder(4, [5], tanh, 4, 3), generator: linear, mode: dynamic,
    }
}

#[test]
fn a_target_by_hand_takes_one_set_unless_it_says_more() -> Result<()> {
    let condition = input(&[3, 4], 1, DType::F64)?;
    let params = HyperByHand::new(variables(0, DType::F64).1)?.generate_params(&condition)?;
    assert_eq!(
        message(params.unpack()),
        "ByHand is a target by hand, which takes one set of weights at a time, but these are 3: unpack `params.set(i)?` for each"
    );
    sets_are_alone!(ByHand, params, input(&[9, 3], 2, DType::F64)?);
    let hyper = HyperAround::new(variables(0, DType::F64).1)?;
    assert_eq!(hyper.layout().one_set_layer(), Some("inner"));
    let params = hyper.generate_params(&condition)?;
    sets_are_alone!(Around, params, input(&[9, 3], 2, DType::F64)?);
    Ok(())
}

/// A value has the dtype in which it is made; where that does not go with the target's, the field is named.
#[test]
fn a_value_of_another_dtype_is_named() -> Result<()> {
    let (_vars, hyper) = hyper(0)?;
    let hyper = hyper.with_target_dtype(DType::F32)?;
    let found = message(hyper.forward(&input(&[5, 3], 1, DType::F32)?));
    let says = "Net: the value of the field `features` is F64, but the generated parameters F32 (dtype mismatch in matmul, lhs: F32, rhs: F64";
    assert!(found.starts_with(says), "{found}");
    Ok(())
}
