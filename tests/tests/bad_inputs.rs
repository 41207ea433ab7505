//! What goes wrong at run time says what was found, where, and what was expected.

#![allow(missing_docs, clippy::panic)]

use candle_core::{DType, Module, Result, Tensor};
use hypernn::generated::TargetPlan;
use hypernn::nn::{Conv2d, Conv2dConfig, LayerNorm, Linear};
use hypernn::{ChunkPlan, GeneratedParams, HyperTarget, hypernetwork};
use hypernn_tests::{device, input, message, variable, variables};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(2, 3))]
    hidden: Linear,
    #[hyper(linear(3, 1))]
    out: Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.out.forward(&self.hidden.forward(xs)?)
    }
}

hypernetwork! {
    struct HyperNet for Net { embedding: table(4, 2), generator: linear, mode: static }
}

fn zeros(dims: &[usize]) -> Result<Tensor> {
    Tensor::zeros(dims, DType::F32, device())
}

#[test]
fn flat_vectors_of_a_wrong_length() -> Result<()> {
    assert_eq!(Net::NUM_PARAMS, 13);
    let unpacked =
        |dims: &[usize]| Ok::<_, candle_core::Error>(message(Net::unpack(&zeros(dims)?)));
    assert_eq!(
        unpacked(&[12])?,
        "the flat vector of Net has 12 values, expected 13: `out.bias` runs out of values"
    );
    assert_eq!(
        unpacked(&[7])?,
        "the flat vector of Net has 7 values, expected 13: `hidden.bias` runs out of values"
    );
    assert_eq!(
        unpacked(&[5, 6])?,
        "the flat vector of Net has 6 values, expected 13: `hidden.bias` runs out of values"
    );
    assert_eq!(
        unpacked(&[0])?,
        "the flat vector of Net has 0 values, expected 13: `hidden.weight` runs out of values"
    );
    assert_eq!(
        unpacked(&[15])?,
        "the flat vector of Net has 15 values, expected 13: the last 2 feed no parameter"
    );
    Ok(())
}

#[test]
fn flat_vectors_of_a_wrong_rank() -> Result<()> {
    for (dims, shown) in [(&[][..], "[]"), (&[1, 1, 13], "[1, 1, 13]")] {
        assert_eq!(
            message(Net::unpack(&zeros(dims)?)),
            format!(
                "the flat vector of Net has shape {shown}, expected [13], or [G, 13] for G sets"
            )
        );
    }
    Ok(())
}

#[test]
fn flat_vectors_without_a_set() -> Result<()> {
    assert_eq!(
        message(Net::unpack(&zeros(&[0, 13])?)),
        "the flat vector of Net has shape [0, 13], expected at least one set"
    );
    Ok(())
}

#[test]
fn flat_vectors_of_integers() -> Result<()> {
    for dtype in [DType::U8, DType::U32, DType::I64] {
        assert_eq!(
            message(Net::unpack(&zeros(&[13])?.to_dtype(dtype)?)),
            format!("the flat vector of Net has dtype {dtype:?}, expected a floating dtype")
        );
    }
    Ok(())
}

/// What is not finite in a generated network, by tensor.
#[test]
fn values_that_are_not_finite() -> Result<()> {
    for (bad, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let (vars, vb) = variables(0, DType::F32);
        let hyper = HyperNet::new(vb)?;
        hyper.generate_params()?.check_finite()?;
        // Value 1 of each chunk of 4: values 1 and 5 of the first weight, 9 and 13 after it.
        let bias = Tensor::new(&[0., bad, 0., 0.], device())?;
        variable(&vars, "generator.bias")?.set(&bias)?;
        assert_eq!(
            message(hyper.generate_params()?.check_finite()),
            format!(
                "generated parameter `hidden.weight` of Net: 2 of 6 values are not finite, \
                 the first at index 1 is {shown}"
            )
        );
    }
    Ok(())
}

#[test]
fn one_infinite_value_in_a_later_tensor() -> Result<()> {
    let mut values = vec![0f32; 26];
    values[13 + 12] = f32::INFINITY;
    let flat = Tensor::from_vec(values, (2, 13), device())?;
    let params = hypernn::GeneratedParams::<Net>::from_flat(&(), &flat)?;
    assert_eq!(
        message(params.check_finite()),
        "generated parameter `out.bias` of Net: 1 of 2 values are not finite, \
         the first at index 1 is inf"
    );
    Ok(())
}

#[derive(Clone)]
pub struct Sizes {
    in_dim: usize,
    layers: usize,
}

#[derive(HyperTarget)]
#[hyper(config = Sizes)]
struct Stack {
    #[hyper([linear_no_bias(config.in_dim, 3); config.layers])]
    layers: Vec<Linear>,
}

impl Module for Stack {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(xs.clone(), |xs, layer| layer.forward(&xs))
    }
}

hypernetwork! {
    struct HyperStack for Stack {
        embedding: table(7, 2),
        generator: linear,
        mode: static,
        config: Sizes,
    }
}

hypernetwork! {
    struct NoRows for Stack {
        embedding: table(0, 2),
        generator: linear,
        mode: static,
        config: Sizes,
    }
}

hypernetwork! {
    struct NoWidth for Stack {
        embedding: table(3, 0),
        generator: linear,
        mode: static,
        config: Sizes,
    }
}

hypernetwork! {
    struct NoHidden for Stack {
        embedding: table(3, 2),
        generator: mlp([4, 0], relu),
        mode: static,
        config: Sizes,
    }
}

/// What `new` of a hypernetwork says.
macro_rules! refused {
    ($hyper:ident, $sizes:expr) => {
        message($hyper::new(&$sizes, variables(0, DType::F32).1))
    };
}

#[test]
fn targets_without_parameters() -> Result<()> {
    let sizes = Sizes { in_dim: 3, layers: 0 };
    let expected = "target Stack has no parameters, so there is nothing to generate";
    assert_eq!(message(TargetPlan::<Stack>::new(&sizes)), expected);
    assert_eq!(message(GeneratedParams::<Stack>::from_flat(&sizes, &zeros(&[0])?)), expected);
    assert_eq!(refused!(HyperStack, sizes), expected);
    // Without a hypernetwork it is an ordinary network.
    let net = Stack::with_config(&sizes, variables(0, DType::F32).1)?;
    assert_eq!(net.forward(&zeros(&[2, 3])?)?.dims(), [2, 3]);
    Ok(())
}

#[test]
fn sizes_of_zero() {
    let sizes = Sizes { in_dim: 0, layers: 1 };
    let expected = "linear: in_dim is 0, expected at least 1";
    assert_eq!(message(TargetPlan::<Stack>::new(&sizes)), expected);
    assert_eq!(message(Stack::with_config(&sizes, variables(0, DType::F32).1)), expected);
    assert_eq!(refused!(HyperStack, sizes), expected);
}

#[test]
fn parts_of_size_zero() {
    let sizes = Sizes { in_dim: 3, layers: 1 };
    assert_eq!(refused!(NoRows, sizes), "table: num_embeddings is 0, expected at least 1");
    assert_eq!(refused!(NoWidth, sizes), "table: embedding_dim is 0, expected at least 1");
    assert_eq!(refused!(NoHidden, sizes), "mlp: a hidden width is 0, expected at least 1");
}

/// The plan's words are those that the compiler shows where sizes are constants.
#[test]
fn rows_that_feed_nothing() -> Result<()> {
    let found = refused!(HyperStack, Sizes { in_dim: 3, layers: 1 });
    let expected = "7 embeddings for 9 parameters: chunks of 2 fill 5 rows; rows that feed nothing: 2; \
                    nearest counts that waste none: 5 and 9";
    assert_eq!(found, expected);
    const PLAN: ChunkPlan = ChunkPlan::new(9, 7);
    assert_eq!(PLAN.check().map(|problem| problem.message().to_owned()), Some(found));
    HyperStack::new(&Sizes { in_dim: 7, layers: 1 }, variables(0, DType::F32).1)?;
    Ok(())
}

#[test]
fn inputs_of_a_wrong_width() -> Result<()> {
    let hyper = HyperNet::new(variables(0, DType::F32).1)?;
    let expected = "linear: the input has width 3 (shape [4, 3]), the layer takes 2";
    assert_eq!(message(hyper.forward(&zeros(&[4, 3])?)), expected);
    assert_eq!(message(Net::functional_forward(&zeros(&[13])?, &zeros(&[4, 3])?)), expected);
    Ok(())
}

#[test]
fn inputs_and_parameters_of_different_dtypes() -> Result<()> {
    let hyper = HyperNet::new(variables(0, DType::F32).1)?;
    let xs = zeros(&[4, 2])?.to_dtype(DType::F64)?;
    let expected = "linear: the input is F64, but the weight F32";
    assert_eq!(message(hyper.forward(&xs)), expected);
    Ok(())
}

#[test]
fn networks_of_two_dtypes() -> Result<()> {
    let hidden = Linear::new(zeros(&[3, 2])?, Some(zeros(&[3])?));
    let weight = zeros(&[1, 3])?.to_dtype(DType::F64)?;
    let net = Net { hidden, out: Linear::new(weight, Some(zeros(&[1])?)) };
    assert_eq!(message(net.pack()), "`out.weight` of Net is F64, but `hidden.weight` F32");
    Ok(())
}

#[test]
fn rows_that_are_no_multiple_of_the_sets() -> Result<()> {
    let flat = input(&[3, Net::NUM_PARAMS], 1, DType::F32)?;
    assert_eq!(
        message(Net::functional_forward(&flat, &zeros(&[7, 2])?)),
        "linear: a batch of 7 rows can't be shared out among 3 weight sets, expected a multiple"
    );
    assert_eq!(Net::functional_forward(&flat, &zeros(&[6, 2])?)?.dims(), [6, 1]);
    Ok(())
}

#[derive(HyperTarget)]
struct Conv {
    #[hyper(conv2d(2, 3, 2))]
    conv: Conv2d,
}

impl Module for Conv {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.conv.forward(xs)
    }
}

#[test]
fn images_that_a_convolution_does_not_take() -> Result<()> {
    let flat = zeros(&[Conv::NUM_PARAMS])?;
    let found = |dims: &[usize]| -> Result<String> {
        Ok(message(Conv::functional_forward(&flat, &zeros(dims)?)))
    };
    assert_eq!(
        found(&[1, 4, 5, 5])?,
        "conv2d: the input has 4 channels (shape [1, 4, 5, 5]), the layer takes 2"
    );
    let expected =
        "conv2d: the input has shape [2, 5, 5], expected [batch, channels, height, width]";
    assert_eq!(found(&[2, 5, 5])?, expected);
    let expected = "conv2d: the kernel spans 2 with dilation, the input only 1 with padding";
    assert_eq!(found(&[1, 2, 1, 5])?, expected);
    Ok(())
}

#[derive(HyperTarget)]
#[hyper(config = usize)]
struct Tied {
    #[hyper(linear_no_bias(2, *config))]
    first: Linear,
    #[hyper(linear(2, 3), tie(weight = first.weight))]
    second: Linear,
}

#[test]
fn tied_tensors_of_different_shapes() -> Result<()> {
    let expected =
        "tied weight: the layer takes shape [3, 2], the tensor it reuses has shape [4, 2]";
    assert_eq!(message(TargetPlan::<Tied>::new(&4)), expected);
    assert_eq!(message(Tied::with_config(&4, variables(0, DType::F32).1)), expected);
    let net = Tied::with_config(&3, variables(0, DType::F32).1)?;
    assert_eq!(net.first.weight().dims(), net.second.weight().dims());
    Ok(())
}

/// A generator of the user's own that says more than it gives.
mod short {
    use candle_core::{Result, Tensor};
    use candle_nn::VarBuilder;
    use hypernn::generator::{
        GeneratorInfo, GeneratorOutput, GeneratorShape, GeneratorSpec, WeightGenerator,
    };
    use hypernn::init::InitScheme;

    #[derive(Clone, Copy)]
    pub struct Short;

    impl Short {
        pub const fn info(&self, shape: GeneratorShape) -> GeneratorInfo {
            GeneratorInfo::new(shape.plan)
        }
    }

    impl std::fmt::Display for Short {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Short")
        }
    }

    impl GeneratorSpec for Short {
        fn build(
            &self,
            _: GeneratorShape,
            _: InitScheme,
            _: VarBuilder<'_>,
        ) -> Result<Box<dyn WeightGenerator>> {
            Ok(Box::new(Nothing))
        }
    }

    #[derive(Debug)]
    struct Nothing;

    impl WeightGenerator for Nothing {
        fn forward(&self, embedding: &Tensor) -> Result<GeneratorOutput> {
            Ok(embedding.clone().into())
        }
    }
}

hypernetwork! {
    struct HyperShort for Net { embedding: table(4, 2), generator: short::Short, mode: static }
}

#[test]
fn generators_that_give_too_few_values() {
    assert_eq!(
        message(HyperShort::new(variables(0, DType::F32).1).and_then(|h| h.generate_params())),
        "the generator `Short` of HyperShort gave values of shape [4, 2], expected 4 rows of 4"
    );
}

/// Parts of the user's own that give something else than they say.
mod other {
    use candle_core::{DType, Result, Tensor};
    use candle_nn::VarBuilder;
    use hypernn::embedding::{
        ConditionedEmbedding, ConditionedEmbeddingSpec, Embedded, Embedding, EmbeddingInfo,
        EmbeddingSpec, State,
    };
    use hypernn::generator::{
        GeneratorInfo, GeneratorOutput, GeneratorShape, GeneratorSpec, WeightGenerator,
    };
    use hypernn::init::InitScheme;

    /// What a part gives.
    #[derive(Clone, Copy, Debug)]
    pub struct Gives {
        pub dims: &'static [usize],
        pub dtype: DType,
    }

    pub const fn gives(dims: &'static [usize]) -> Gives {
        Gives { dims, dtype: DType::F32 }
    }

    pub const fn gives_f64(dims: &'static [usize]) -> Gives {
        Gives { dims, dtype: DType::F64 }
    }

    impl Gives {
        fn tensor(&self, like: &Tensor) -> Result<Tensor> {
            Tensor::ones(self.dims, self.dtype, like.device())
        }
    }

    impl std::fmt::Display for Gives {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Gives")
        }
    }

    /// As an embedding.
    #[derive(Clone, Copy, Debug)]
    pub struct Rows(pub Gives);

    impl Rows {
        pub const fn info(&self) -> EmbeddingInfo {
            EmbeddingInfo::new(4, 2)
        }
    }

    impl std::fmt::Display for Rows {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Rows")
        }
    }

    #[derive(Debug)]
    struct Table(Tensor);

    impl Embedding for Table {
        fn forward(&self) -> Result<Tensor> {
            Ok(self.0.clone())
        }
    }

    impl EmbeddingSpec for Rows {
        fn build(&self, _: InitScheme, vb: VarBuilder<'_>) -> Result<Box<dyn Embedding>> {
            let like = Tensor::zeros((), vb.dtype(), vb.device())?;
            Ok(Box::new(Table(self.0.tensor(&like)?)))
        }
    }

    /// As an embedding of a dynamic hypernetwork, in each of the three forms.
    #[derive(Clone, Copy, Debug)]
    pub enum Sets {
        PerSet(Gives),
        Scaled(Gives, Gives),
    }

    impl std::fmt::Display for Sets {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Sets")
        }
    }

    impl ConditionedEmbeddingSpec for Sets {
        fn build(&self, _: InitScheme, _: VarBuilder<'_>) -> Result<Box<dyn ConditionedEmbedding>> {
            Ok(Box::new(*self))
        }
    }

    impl ConditionedEmbedding for Sets {
        fn forward(&self, condition: &Tensor, state: &State) -> Result<(Embedded, State)> {
            let embedded = match self {
                Self::PerSet(gives) => Embedded::PerSet(gives.tensor(condition)?),
                Self::Scaled(table, gains) => Embedded::Scaled {
                    table: table.tensor(condition)?,
                    gains: gains.tensor(condition)?,
                },
            };
            Ok((embedded, state.clone()))
        }
    }

    /// As a generator.
    impl Gives {
        pub const fn info(&self, shape: GeneratorShape) -> GeneratorInfo {
            GeneratorInfo::new(shape.plan)
        }
    }

    impl GeneratorSpec for Gives {
        fn build(
            &self,
            _: GeneratorShape,
            _: InitScheme,
            _: VarBuilder<'_>,
        ) -> Result<Box<dyn WeightGenerator>> {
            Ok(Box::new(*self))
        }
    }

    impl WeightGenerator for Gives {
        fn forward(&self, embedding: &Tensor) -> Result<GeneratorOutput> {
            Ok(self.tensor(embedding)?.into())
        }
    }
}

/// What a static hypernetwork says whose own part is this.
macro_rules! own_part {
    (embedding: $embedding:expr, $expected:expr) => {{
        hypernetwork! {
            struct Own for Net { embedding: $embedding, generator: linear, mode: static }
        }
        assert_eq!(message(Own::new(variables(0, DType::F32).1)), $expected);
    }};
    (generator: $generator:expr, $expected:expr) => {{
        hypernetwork! {
            struct Own for Net { embedding: table(4, 2), generator: $generator, mode: static }
        }
        assert_eq!(message(Own::new(variables(0, DType::F32).1)), $expected);
    }};
}

#[test]
fn embeddings_of_the_users_own_give_what_they_say() {
    own_part!(
        embedding: other::Rows(other::gives(&[5, 2])),
        "the embedding `Rows` of Own gave embeddings of shape [5, 2], expected [4, 2]"
    );
    own_part!(
        embedding: other::Rows(other::gives(&[3, 2])),
        "the embedding `Rows` of Own gave embeddings of shape [3, 2], expected [4, 2]"
    );
    own_part!(
        embedding: other::Rows(other::gives(&[4, 3])),
        "the embedding `Rows` of Own gave embeddings of shape [4, 3], expected [4, 2]"
    );
    own_part!(
        embedding: other::Rows(other::gives(&[1, 4, 2])),
        "the embedding `Rows` of Own gave embeddings of shape [1, 4, 2], expected [4, 2]"
    );
    own_part!(
        embedding: other::Rows(other::gives_f64(&[4, 2])),
        "the embedding `Rows` of Own gave F64, but the hypernetwork is F32"
    );
}

#[test]
fn generators_of_the_users_own_give_what_they_say() -> Result<()> {
    let expected = |dims: &str| {
        format!("the generator `Gives` of Own gave values of shape {dims}, expected 4 rows of 4")
    };
    own_part!(generator: other::gives(&[5, 4]), expected("[5, 4]"));
    own_part!(generator: other::gives(&[4, 5]), expected("[4, 5]"));
    own_part!(generator: other::gives(&[3, 4]), expected("[3, 4]"));
    own_part!(generator: other::gives(&[2, 8]), expected("[2, 8]"));
    own_part!(generator: other::gives(&[13]), expected("[13]"));
    own_part!(generator: other::gives(&[2, 4, 4]), expected("[2, 4, 4]"));
    own_part!(
        generator: other::gives_f64(&[4, 4]),
        "the generator `Gives` of Own gave F64, but the hypernetwork is F32"
    );
    hypernetwork! {
        struct Flat for Net { embedding: table(4, 2), generator: other::gives(&[16]), mode: static }
    }
    let flat = Flat::new(variables(0, DType::F32).1)?.generate_params()?.flat()?;
    assert_eq!(flat.to_vec1::<f32>()?.len(), 13);
    Ok(())
}

/// A dynamic hypernetwork whose embedding is this, for two rows of a condition.
fn of_sets(
    embedding: other::Sets,
    generator: &dyn hypernn::generator::ConditionedGeneratorSpec,
) -> Result<Tensor> {
    use hypernn::Condition;
    use hypernn::generated::TargetPlan;
    use hypernn::generator::GeneratorShape;
    use hypernn::hypernetwork::{Declared, DynamicHyperNetwork};
    let plan = ChunkPlan::new(Net::NUM_PARAMS, 4);
    let shape = GeneratorShape { num_embeddings: 4, embedding_dim: 2, plan };
    let scheme = hypernn::init::InitScheme::Exact;
    let declared = Declared { name: "Own", shape, scheme };
    let conditions = (Condition::Vector(1), Condition::None);
    let (target, vb) = (TargetPlan::<Net>::new(&())?, variables(0, DType::F32).1);
    let hyper = DynamicHyperNetwork::new(target, &declared, conditions, &embedding, generator, vb)?;
    hyper.generate_params(&zeros(&[2, 1])?)?.flat()
}

#[test]
fn embeddings_of_several_sets_give_what_they_say() -> Result<()> {
    use other::{Sets, gives, gives_f64};
    let found = |embedding| of_sets(embedding, &hypernn::generator::spec::linear);
    assert_eq!(found(Sets::PerSet(gives(&[2, 4, 2])))?.dims(), [2, 13]);
    assert_eq!(found(Sets::Scaled(gives(&[4, 2]), gives(&[2, 4])))?.dims(), [2, 13]);
    for (embedding, expected) in [
        (Sets::PerSet(gives(&[3, 4, 2])), "gave embeddings of shape [3, 4, 2], expected [2, 4, 2]"),
        (Sets::PerSet(gives(&[2, 5, 2])), "gave embeddings of shape [2, 5, 2], expected [2, 4, 2]"),
        (Sets::PerSet(gives_f64(&[2, 4, 2])), "gave F64, but the hypernetwork is F32"),
        (
            Sets::Scaled(gives(&[5, 2]), gives(&[2, 5])),
            "gave embeddings of shape [5, 2], expected [4, 2]",
        ),
        (
            Sets::Scaled(gives(&[4, 2]), gives(&[1, 4])),
            "gave gains of shape [1, 4], expected [2, 4]",
        ),
    ] {
        let expected = format!("the embedding `Sets` of Own {expected}");
        assert_eq!(message(found(embedding)), expected);
    }
    let per_set = Sets::PerSet(gives(&[2, 4, 2]));
    assert_eq!(of_sets(per_set, &gives(&[8, 4]))?.dims(), [2, 13]);
    assert_eq!(of_sets(per_set, &gives(&[2, 16]))?.dims(), [2, 13]);
    assert_eq!(
        message(of_sets(per_set, &gives(&[12, 4]))),
        "the generator `Gives` of Own gave values of shape [12, 4], expected 8 rows of 4"
    );
    Ok(())
}

#[test]
fn a_builder_of_integers() -> Result<()> {
    let vb = variables(0, DType::U32).1;
    let expected = "HyperNet: the builder's dtype is U32, expected f16, bf16, f32 or f64";
    assert_eq!(message(HyperNet::new(vb)), expected);
    Ok(())
}

#[derive(HyperTarget)]
struct Candles {
    #[hyper(linear(2, 1))]
    fc: candle_nn::Linear,
}

impl Module for Candles {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.fc.forward(xs)
    }
}

/// candle's own layers do not say which side is which.
#[test]
fn an_input_of_another_dtype_over_candles_layers() -> Result<()> {
    let params = Candles::unpack(&zeros(&[3])?).and_then(|net| net.pack())?;
    let xs = zeros(&[4, 2])?.to_dtype(DType::F64)?;
    let found = message(Candles::functional_forward(&params, &xs));
    let expected = "Candles: the input is F64, but the generated parameters F32 (dtype mismatch in matmul, lhs: F64, rhs: F32";
    assert!(found.starts_with(expected), "{found}");
    Ok(())
}

/// Layers that are made of empty tensors are errors, whatever they are given.
#[test]
fn layers_of_empty_tensors() -> Result<()> {
    let of = |dims: &[usize]| input(dims, 1, DType::F32);
    let norm = LayerNorm::new(of(&[0])?, of(&[0])?, 1e-5);
    assert_eq!(
        message(norm.forward(&of(&[3, 0])?)),
        "layer_norm: the weight has no values, expected at least one"
    );
    for dims in [[2, 1, 0, 3], [2, 1, 3, 0]] {
        let conv = Conv2d::new(of(&dims)?, None, Conv2dConfig::default());
        assert_eq!(
            message(conv.forward(&of(&[1, 1, 4, 4])?)),
            "conv2d: kernel_size is 0, expected at least 1",
            "{dims:?}"
        );
    }
    Ok(())
}

/// A bias is one value for each output channel, and for each set.
#[test]
fn a_convolutions_bias_of_another_length() -> Result<()> {
    let of = |dims: &[usize]| input(dims, 1, DType::F32);
    for (weight, bias) in [(&[4, 1, 3, 3][..], &[6][..]), (&[2, 4, 1, 3, 3], &[2, 6])] {
        let conv = Conv2d::new(of(weight)?, Some(of(bias)?), Conv2dConfig::default());
        assert_eq!(
            message(conv.forward(&of(&[2, 1, 4, 4])?)),
            format!(
                "conv2d: the bias has shape {bias:?}, expected one value for each of 4 output channels"
            )
        );
    }
    Ok(())
}
