//! Conditions that are sequences and sets: padding, order, gradients, files, and what is refused.

#![allow(missing_docs, clippy::unwrap_used)]

use std::ops::Deref;

use candle_core::{D, DType, Module, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use hypernn::embedding::spec::{cos_sin, perceiver, pooled, rotary, tanh, transformer, unordered};
use hypernn::embedding::{
    ConditionedEmbedding, ConditionedEmbeddingSpec, Embedded, EmbeddingInfo, State,
};
use hypernn::generated::TargetPlan;
use hypernn::generator::spec::linear;
use hypernn::generator::{
    ConditionedGenerator, ConditionedGeneratorSpec, GeneratorInfo, GeneratorOutput, GeneratorShape,
};
use hypernn::hypernetwork::{Declared, DynamicHyperNetwork};
use hypernn::init::InitScheme;
use hypernn::nn::{AttentionMask, Linear, attention};
use hypernn::{Condition, HyperTarget, Hypernetwork, Sequences, hypernetwork};
use hypernn_tests::{
    device, gradient_error, gradients, input, message, numbers, relative_error, values, variables,
    weighted_sum,
};
use proptest::prelude::*;
use tempfile::TempDir;

const WIDTH: usize = 5;

#[derive(HyperTarget)]
#[hyper(sequential = [first, tanh, second])]
struct Net {
    #[hyper(linear(3, 6))]
    first: Linear,
    #[hyper(linear(6, 2))]
    second: Linear,
}

/// The embeddings of sequences and sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Perceiver,
    PerceiverInOrder,
    Transformer,
    TransformerOfSets,
    Pooled,
    PooledCosSin,
}

const KINDS: [Kind; 6] = [
    Kind::Perceiver,
    Kind::PerceiverInOrder,
    Kind::Transformer,
    Kind::TransformerOfSets,
    Kind::Pooled,
    Kind::PooledCosSin,
];

impl Kind {
    fn is_set(self) -> bool {
        !matches!(self, Self::PerceiverInOrder | Self::Transformer)
    }

    fn spec(self) -> (Box<dyn ConditionedEmbeddingSpec>, EmbeddingInfo) {
        macro_rules! of {
            ($spec:expr) => {{
                let spec = $spec;
                (Box::new(spec), spec.info())
            }};
        }
        match self {
            Self::Perceiver => of!(perceiver(WIDTH, 4, 8, 2, 2)),
            Self::PerceiverInOrder => of!(perceiver(WIDTH, 4, 8, 1, 2).positions(rotary)),
            Self::Transformer => of!(transformer(WIDTH, 4, 8, 2, 2)),
            Self::TransformerOfSets => of!(transformer(WIDTH, 4, 8, 1, 4).positions(unordered)),
            Self::Pooled => of!(pooled(WIDTH, [7, 6], tanh, 4, 3)),
            Self::PooledCosSin => of!(pooled(WIDTH, [6], tanh, 4, 3).encoding(cos_sin)),
        }
    }

    fn network(self, scheme: InitScheme, vb: VarBuilder<'_>) -> Result<DynamicHyperNetwork<Net>> {
        let (embedding, info) = self.spec();
        let shape = GeneratorShape::new(info.num_embeddings, info.embedding_dim, Net::NUM_PARAMS);
        let plan = linear.info(shape).plan;
        let declared = Declared { name: "Hyper", shape: GeneratorShape { plan, ..shape }, scheme };
        let conditions = (info.condition, Condition::None);
        DynamicHyperNetwork::new(
            TargetPlan::new(&())?,
            &declared,
            conditions,
            &*embedding,
            &linear,
            vb,
        )
    }

    fn exact(self, seed: u64, dtype: DType) -> Result<(VarMap, DynamicHyperNetwork<Net>)> {
        let (vars, vb) = variables(seed, dtype);
        Ok((vars, self.network(InitScheme::Exact, vb)?))
    }
}

#[test]
fn variables_are_counted_and_conditions_named() -> Result<()> {
    for kind in KINDS {
        let (_, info) = kind.spec();
        let (_, hyper) = kind.exact(0, DType::F32)?;
        let of_generator = (info.embedding_dim + 1) * Net::NUM_PARAMS.div_ceil(4);
        assert_eq!(hyper.num_params(), info.num_params + of_generator, "{kind:?}");
        let expected =
            if kind.is_set() { Condition::Set(WIDTH) } else { Condition::Sequence(WIDTH) };
        assert_eq!(hyper.condition(), expected, "{kind:?}");
    }
    Ok(())
}

/// A batch with padding: sequences alone, and all in one tensor with a mask.
#[derive(Debug)]
struct Batch {
    alone: Vec<Tensor>,
    padded: Tensor,
    mask: Tensor,
}

impl Batch {
    /// `marks` has, for each sequence and position, whether a vector lies there.
    fn new(marks: &[Vec<bool>], padding: &[f64], seed: u64, dtype: DType) -> Result<Self> {
        let longest = marks.iter().map(Vec::len).max().unwrap();
        let mut alone = Vec::new();
        let mut rows = Vec::new();
        let mut mask = Vec::new();
        for (number, marks) in marks.iter().enumerate() {
            let count = marks.iter().filter(|mark| **mark).count();
            let vectors = numbers(count * WIDTH, seed * 31 + number as u64);
            let mut each = vectors.chunks(WIDTH);
            for at in 0..longest {
                let is_vector = marks.get(at) == Some(&true);
                mask.push(u8::from(is_vector));
                match is_vector.then(|| each.next()).flatten() {
                    Some(vector) => rows.extend_from_slice(vector),
                    None => rows.extend((0..WIDTH).map(|i| padding[(at + i) % padding.len()])),
                }
            }
            let vectors = Tensor::from_vec(vectors, (count, WIDTH), device())?;
            alone.push(vectors.to_dtype(dtype)?);
        }
        let shape = (marks.len(), longest);
        let padded = Tensor::from_vec(rows, (shape.0, shape.1, WIDTH), device())?;
        let mask = Tensor::from_vec(mask, shape, device())?;
        Ok(Self { alone, padded: padded.to_dtype(dtype)?, mask })
    }
}

/// Marks of one to four sequences of up to seven positions, each with at least one vector.
fn marks() -> impl Strategy<Value = Vec<Vec<bool>>> {
    let one = prop::collection::vec(any::<bool>(), 1..7).prop_map(|mut marks| {
        if !marks.contains(&true) {
            marks[0] = true;
        }
        marks
    });
    prop::collection::vec(one, 1..4)
}

/// What may lie in padding.
fn padding() -> impl Strategy<Value = Vec<f64>> {
    let value = prop_oneof![
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(0.),
        -1e30..1e30f64
    ];
    prop::collection::vec(value, 1..4)
}

fn alone_and_padded(kind: Kind, batch: &Batch, dtype: DType, within: f64) -> Result<()> {
    let (_, hyper) = kind.exact(1, dtype)?;
    let found = hyper.generate_params((&batch.padded, &batch.mask))?.flat()?;
    for (number, alone) in batch.alone.iter().enumerate() {
        let expected = hyper.generate_params(alone)?.flat()?;
        let error = relative_error(&found.get(number)?, &expected)?;
        assert!(error < within, "{kind:?} {dtype:?}, sequence {number}: {error}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn padding_changes_nothing(marks in marks(), padding in padding(), seed in 0..1000u64) {
        for (dtype, within) in [(DType::F64, 1e-12), (DType::F32, 1e-6)] {
            let batch = Batch::new(&marks, &padding, seed, dtype).unwrap();
            for kind in KINDS {
                alone_and_padded(kind, &batch, dtype, within).unwrap();
            }
        }
    }

    #[test]
    fn a_set_has_no_order(
        order in Just((0..6u32).collect::<Vec<_>>()).prop_shuffle(),
        seed in 0..1000u64,
    ) {
        for (dtype, within) in [(DType::F64, 1e-12), (DType::F32, 1e-6)] {
            let condition = input(&[6, WIDTH], seed, dtype).unwrap();
            let order = Tensor::new(order.as_slice(), device()).unwrap();
            let shuffled = condition.index_select(&order, 0).unwrap();
            for kind in KINDS.into_iter().filter(|kind| kind.is_set()) {
                let (_, hyper) = kind.exact(1, dtype).unwrap();
                let flat = |condition: &Tensor| hyper.generate_params(condition)?.flat();
                let error =
                    relative_error(&flat(&shuffled).unwrap(), &flat(&condition).unwrap()).unwrap();
                prop_assert!(error < within, "{kind:?} {dtype:?}: {error}");
            }
        }
    }
}

#[test]
fn a_sequence_has_an_order() -> Result<()> {
    let condition = input(&[6, WIDTH], 3, DType::F64)?;
    let backwards = Tensor::new(&[5u32, 4, 3, 2, 1, 0], device())?;
    let backwards = condition.index_select(&backwards, 0)?;
    for kind in [Kind::PerceiverInOrder, Kind::Transformer] {
        let (_, hyper) = kind.exact(1, DType::F64)?;
        let flat = |condition: &Tensor| hyper.generate_params(condition)?.flat();
        assert!(relative_error(&flat(&backwards)?, &flat(&condition)?)? > 1e-3, "{kind:?}");
    }
    Ok(())
}

/// Every way to say the same gives the same, bit for bit.
#[test]
fn masks_lengths_and_sequences() -> Result<()> {
    let marks = [vec![true; 6], vec![true, true, false, false, false, false]];
    let batch = Batch::new(&marks, &[f64::NAN], 2, DType::F64)?;
    let lengths = Tensor::new(&[6i64, 2], device())?;
    for kind in KINDS {
        let (_, hyper) = kind.exact(2, DType::F64)?;
        let expected = hyper.generate_params((&batch.padded, &batch.mask))?;
        assert_eq!(expected.num_sets(), Some(2));
        let expected = values(&expected.flat()?)?;
        let mask = batch.mask.to_dtype(DType::U32)?;
        for found in [
            hyper.generate_params((&batch.padded, &lengths))?,
            hyper.generate_params((&batch.padded, &mask))?,
            hyper.generate_params(&Sequences::pad(&batch.alone)?)?,
            hyper.generate_params(&Sequences::padded(&batch.padded, &lengths)?)?,
        ] {
            assert_eq!(values(&found.flat()?)?, expected, "{kind:?}");
        }
        // One sequence, with its own mask and its length.
        let (one, mask) = (batch.padded.get(1)?, batch.mask.get(1)?);
        let by_mask = hyper.generate_params((&one, &mask))?;
        assert_eq!(by_mask.num_sets(), None);
        let by_length = hyper.generate_params((&one, &lengths.get(1)?))?;
        let alone = hyper.generate_params(&batch.alone[1])?;
        assert_eq!(values(&by_mask.flat()?)?, values(&alone.flat()?)?, "{kind:?}");
        assert_eq!(values(&by_length.flat()?)?, values(&alone.flat()?)?, "{kind:?}");
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let (_, hyper) = Kind::Perceiver.exact(0, DType::F32)?;
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, device());
    let of = |condition: &Tensor| message(hyper.generate_params(condition));
    let form = "expected [G, T, 5], or [T, 5] for one set";
    assert_eq!(of(&zeros(&[0, 5])?), format!("the condition has no rows, {form}"));
    assert_eq!(of(&zeros(&[2, 0, 5])?), format!("the condition has no rows, {form}"));
    assert_eq!(of(&zeros(&[0, 3, 5])?), format!("the condition has no rows, {form}"));
    assert_eq!(of(&zeros(&[5])?), format!("the condition has shape [5], {form}"));
    assert_eq!(of(&zeros(&[3, 4])?), "the condition has width 4, expected 5");
    let half = zeros(&[3, 5])?.to_dtype(DType::F16)?;
    assert_eq!(of(&half), "the condition is F16, but the hypernetwork F32");

    let two = zeros(&[2, 3, 5])?;
    let with = |mask: &Tensor| message(hyper.generate_params((&two, mask)));
    let tensor = |mask: &[[u32; 3]; 2]| Tensor::new(mask, device());
    assert_eq!(with(&tensor(&[[1, 0, 1], [0, 0, 0]])?), "sequence 1 of the condition is empty");
    assert_eq!(
        with(&tensor(&[[1, 0, 1], [0, 2, 0]])?),
        "the mask of the condition has a value of 2, expected 0 or 1"
    );
    assert_eq!(
        with(&zeros(&[2, 3])?),
        "the mask or lengths of the condition are F32, expected integers"
    );
    assert_eq!(
        with(&Tensor::new(&[1u8, 1, 1], device())?),
        "the mask or lengths of the condition have shape [3], expected a mask [2, 3] or lengths [2]"
    );
    assert_eq!(with(&Tensor::new(&[3u32, 0], device())?), "sequence 1 of the condition is empty");
    assert_eq!(
        with(&Tensor::new(&[4i64, 1], device())?),
        "sequence 0 of the condition has length 4, expected 1 to 3"
    );
    assert_eq!(
        with(&Tensor::new(&[3i64, -1], device())?),
        "sequence 1 of the condition has length -1, expected 1 to 3"
    );
    Ok(())
}

#[test]
fn sequences_that_are_none_are_refused() -> Result<()> {
    let zeros = |dims: &[usize], dtype| Tensor::zeros(dims, dtype, device());
    assert_eq!(message(Sequences::pad(&[])), "no sequences to pad, expected at least one");
    let other =
        |second: Tensor| Ok(message(Sequences::pad(&[zeros(&[2, 4], DType::F32)?, second])));
    let other = |second: Tensor| -> Result<String> { other(second) };
    assert_eq!(
        other(zeros(&[2, 3], DType::F32)?)?,
        "sequence 1 has shape [2, 3], expected [T, 4] of at least one vector"
    );
    assert_eq!(
        other(zeros(&[0, 4], DType::F32)?)?,
        "sequence 1 has shape [0, 4], expected [T, 4] of at least one vector"
    );
    assert_eq!(other(zeros(&[4], DType::F32)?)?, "sequence 1 has shape [4], expected [T, width]");
    assert_eq!(
        other(zeros(&[1, 4], DType::F64)?)?,
        "sequence 1: the dtype is F64, but that of the first F32"
    );
    assert_eq!(
        message(Sequences::new(&zeros(&[2, 4], DType::F32)?)),
        "sequences of shape [2, 4], expected [G, T, width] of at least one vector"
    );
    let sequences = Sequences::new(&zeros(&[2, 3, 4], DType::F32)?)?;
    assert_eq!(
        message(sequences.mean(&zeros(&[2, 4, 4], DType::F32)?)),
        "the mean over sequences of shape [2, 4, 4], expected [2, 3, W]"
    );
    Ok(())
}

hypernetwork! {
    struct OfVectors for Net { embedding: encoder(5, [4], tanh, 4, 3), generator: linear, mode: dynamic }

    struct OfDocuments for Net { embedding: perceiver(5, 4, 8, 2, 2), generator: linear, mode: dynamic }

    struct InOrder for Net {
        embedding: perceiver(5, 4, 8, 2, 2).positions(rotary),
        generator: linear,
        mode: dynamic,
    }

    struct OfSamples for Net { embedding: pooled(5, [8], relu, 4, 3), generator: mlp([6], tanh), mode: dynamic }
}

/// A vector has no mask; an input is no sequence.
#[test]
fn other_conditions_have_no_padding() -> Result<()> {
    let hyper = OfVectors::new(variables(0, DType::F32).1)?;
    let vector = Tensor::zeros((2, 5), DType::F32, device())?;
    let mask = Tensor::new(&[1u8, 1], device())?;
    assert_eq!(
        message(hyper.generate_params((&vector, &mask))),
        "the condition is a vector, which has neither a mask nor lengths"
    );
    let (_, hyper) = Kind::Perceiver.exact(0, DType::F32)?;
    assert_eq!(
        message(hyper.forward(&Tensor::zeros((2, 3), DType::F32, device())?)),
        "the input can't be its own condition, which is a sequence or a set: use `generate_params(&sequences)`, then `params.forward(&xs)`"
    );
    Ok(())
}

/// Of all variables, and of the condition, in whose padding nothing has one.
#[test]
fn gradients_are_those_of_finite_differences() -> Result<()> {
    let marks = [vec![true; 4], vec![false, true, false, true]];
    let batch = Batch::new(&marks, &[0.5, -0.25], 4, DType::F64)?;
    let xs = input(&[4, 3], 5, DType::F64)?;
    for kind in KINDS {
        for scheme in [InitScheme::Exact, InitScheme::HyperNn] {
            let (vars, vb) = variables(6, DType::F64);
            let hyper = kind.network(scheme, vb)?;
            let condition = Var::from_tensor(&batch.padded)?;
            vars.data().lock().unwrap().insert("condition".to_owned(), condition.clone());
            let loss = || {
                let params = hyper.generate_params((condition.as_tensor(), &batch.mask))?;
                weighted_sum(&params.forward(&xs)?)
            };
            let error = gradient_error(&vars, &loss)?;
            assert!(error < 1e-6, "{kind:?} {scheme:?}: {error}");
            let grad = gradients(&vars, &loss()?)?["condition"].get(1)?;
            let of_padding = grad.index_select(&Tensor::new(&[0u32, 2], device())?, 0)?;
            assert_eq!(values(&of_padding)?, [0.; 2 * WIDTH], "{kind:?}");
        }
    }
    Ok(())
}

/// NaN in the padding reaches no gradient.
#[test]
fn gradients_beside_padding_of_nan() -> Result<()> {
    let marks = [vec![true; 3], vec![false, true, false]];
    for kind in KINDS {
        let of = |padding: f64| {
            let batch = Batch::new(&marks, &[padding], 4, DType::F64)?;
            let (vars, hyper) = kind.exact(6, DType::F64)?;
            let params = hyper.generate_params((&batch.padded, &batch.mask))?;
            gradients(&vars, &weighted_sum(&params.flat()?)?)
        };
        let (expected, found) = (of(0.)?, of(f64::NAN)?);
        for (name, expected) in expected {
            assert_eq!(values(&found[&name])?, values(&expected)?, "{kind:?} {name}");
        }
    }
    Ok(())
}

#[test]
fn every_gradient_is_audited() -> Result<()> {
    let marks = [vec![true; 3], vec![false, true, true]];
    let batch = Batch::new(&marks, &[f64::NAN], 4, DType::F64)?;
    let xs = input(&[4, 3], 5, DType::F64)?;
    for kind in KINDS {
        let (_, hyper) = kind.exact(6, DType::F64)?;
        let audit = hyper.audit_exact((&batch.padded, &batch.mask), |params| {
            weighted_sum(&params.forward(&xs)?)
        })?;
        assert!(audit.is_right(), "{kind:?}: {audit}");
    }
    Ok(())
}

/// Whatever the condition's scale and length, the target starts at the scale of candle's own init.
#[test]
fn any_sequence_starts_at_candles_scale() -> Result<()> {
    #[derive(HyperTarget)]
    #[hyper(sequential)]
    struct Wide {
        #[hyper(linear_no_bias(24, 32))]
        fc: Linear,
    }
    hypernetwork! {
        struct A for Wide { embedding: perceiver(5, 32, 16, 2, 4), generator: linear, mode: dynamic }
        struct B for Wide { embedding: transformer(5, 32, 16, 2, 4), generator: linear, mode: dynamic }
        struct C for Wide { embedding: pooled(5, [16], tanh, 32, 16), generator: linear, mode: dynamic }
    }
    let check = |hyper: &dyn Deref<Target = DynamicHyperNetwork<Wide>>, name: &str| -> Result<()> {
        for length in [1, 3, 100] {
            for scale in [0., 1e-3, 1., 1e3] {
                let condition = (input(&[length, 5], 8, DType::F64)? * scale)?;
                let flat = values(&hyper.generate_params(&condition)?.flat()?)?;
                let squares = flat.iter().map(|x| x * x).sum::<f64>() / flat.len() as f64;
                let found = squares / (2. / 24.);
                assert!(found > 0.6 && found < 1.6, "{name}, {length} of {scale}: {found}");
            }
        }
        Ok(())
    };
    for seed in 0..3 {
        check(&A::new(variables(seed, DType::F64).1)?, "perceiver")?;
        check(&B::new(variables(seed, DType::F64).1)?, "transformer")?;
        check(&C::new(variables(seed, DType::F64).1)?, "pooled")?;
    }
    Ok(())
}

#[test]
fn half_precision() -> Result<()> {
    let marks = [vec![true; 3], vec![false, true, false]];
    for dtype in [DType::F16, DType::BF16] {
        let batch = Batch::new(&marks, &[f64::NAN], 4, dtype)?;
        for kind in KINDS {
            let (_, hyper) = kind.exact(6, dtype)?;
            let found = hyper.generate_params((&batch.padded, &batch.mask))?.flat()?;
            assert_eq!(found.dtype(), dtype);
            let (_, exact) = kind.exact(6, DType::F64)?;
            let padded = batch.padded.to_dtype(DType::F64)?;
            let expected = exact.generate_params((&padded, &batch.mask))?.flat()?;
            // Seeded variables are those of f64, rounded.
            let error = relative_error(&found.to_dtype(DType::F64)?, &expected)?;
            assert!(error < 0.15, "{kind:?} {dtype:?}: {error}");
        }
    }
    Ok(())
}

/// All sequences at once give what one after the other does, in a forward of the target too.
#[test]
fn each_sequence_has_its_weights() -> Result<()> {
    let hyper = OfSamples::new(variables(3, DType::F64).1)?;
    let sequences: Vec<_> = [4, 1, 6]
        .into_iter()
        .map(|length| input(&[length, WIDTH], length as u64, DType::F64))
        .collect::<Result<_>>()?;
    let xs = input(&[6, 3], 9, DType::F64)?;
    let found = hyper.generate_params(&Sequences::pad(&sequences)?)?.forward(&xs)?;
    for (number, sequence) in sequences.iter().enumerate() {
        let rows = xs.narrow(0, 2 * number, 2)?;
        let expected = hyper.generate_params(sequence)?.forward(&rows)?;
        assert!(relative_error(&found.narrow(0, 2 * number, 2)?, &expected)? < 1e-12);
    }
    // Generic code has sequences of one length as tensors.
    let condition = input(&[2, 4, WIDTH], 1, DType::F64)?;
    assert_eq!(Hypernetwork::generate(&hyper, &condition)?.num_sets(), Some(2));
    Ok(())
}

#[test]
fn files_hold_them() -> Result<()> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("documents.safetensors");
    let hyper = OfDocuments::new(variables(3, DType::F32).1)?;
    hyper.save(&path)?;
    let other = OfDocuments::new(variables(4, DType::F32).1)?;
    other.load(&path)?;
    let document = input(&[7, WIDTH], 1, DType::F32)?;
    let flat = |hyper: &OfDocuments| values(&hyper.generate_params(&document)?.flat()?);
    assert_eq!(flat(&other)?, flat(&hyper)?);
    // A builder over the file.
    let tensors = candle_core::safetensors::load(&path, device())?;
    let vb = VarBuilder::from_tensors(tensors, DType::F32, device());
    assert_eq!(flat(&OfDocuments::new(vb)?)?, flat(&hyper)?);

    let in_order = InOrder::new(variables(4, DType::F32).1)?;
    let refused = message(in_order.load(&path));
    let expected = "it was saved with another embedding: the file has `perceiver(5, 4, 8, 2, 2)`, InOrder has `perceiver(5, 4, 8, 2, 2).positions(rotary)`";
    assert!(refused.ends_with(expected), "{refused}");

    // The weights for one document are an ordinary checkpoint.
    let exported = folder.path().join("net.safetensors");
    hyper.export(&document, &exported)?;
    let tensors = candle_core::safetensors::load(&exported, device())?;
    let net = Net::new(VarBuilder::from_tensors(tensors, DType::F32, device()))?;
    let xs = input(&[2, 3], 5, DType::F32)?;
    let expected = hyper.generate_params(&document)?.forward(&xs)?;
    assert!(relative_error(&net.forward(&xs)?, &expected)? < 1e-6);
    Ok(())
}

/// An embedding of one's own: each learned query's attention to the vectors.
#[derive(Clone, Copy, Debug)]
struct Attends;

impl Attends {
    const fn info(&self) -> EmbeddingInfo {
        EmbeddingInfo::new(4, WIDTH).params(4 * WIDTH).condition(Condition::Set(WIDTH))
    }
}

impl std::fmt::Display for Attends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attends")
    }
}

impl ConditionedEmbeddingSpec for Attends {
    fn build(
        &self,
        scheme: InitScheme,
        vb: VarBuilder<'_>,
    ) -> Result<Box<dyn ConditionedEmbedding>> {
        let queries = vb.get_with_hints((1, 1, 4, WIDTH), "queries", scheme.weight(1, 1.))?;
        Ok(Box::new(Attending(queries)))
    }
}

#[derive(Debug)]
struct Attending(Tensor);

impl ConditionedEmbedding for Attending {
    fn forward(&self, condition: &Tensor, state: &State) -> Result<(Embedded, State)> {
        self.forward_sequences(&Sequences::new(condition)?, state)
    }

    fn forward_sequences(&self, sequences: &Sequences, state: &State) -> Result<(Embedded, State)> {
        let vectors = sequences.values().unsqueeze(1)?;
        let queries = self.0.repeat((sequences.count(), 1, 1, 1))?;
        let mask = match sequences.mask()? {
            Some(mask) => AttentionMask::none().with_keys(&mask),
            None => AttentionMask::none(),
        };
        let rows = attention(&queries, &vectors, &vectors, &mask, 1.)?.squeeze(1)?;
        Ok((Embedded::PerSet(rows), state.clone()))
    }
}

/// An embedding of one's own that knows nothing of padding: the largest value over the vectors.
#[derive(Clone, Copy, Debug)]
struct Largest;

impl Largest {
    const fn info(&self) -> EmbeddingInfo {
        EmbeddingInfo::new(1, WIDTH).condition(Condition::Set(WIDTH))
    }
}

impl std::fmt::Display for Largest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Largest")
    }
}

impl ConditionedEmbeddingSpec for Largest {
    fn build(&self, _: InitScheme, _: VarBuilder<'_>) -> Result<Box<dyn ConditionedEmbedding>> {
        Ok(Box::new(Self))
    }
}

impl ConditionedEmbedding for Largest {
    fn forward(&self, condition: &Tensor, state: &State) -> Result<(Embedded, State)> {
        Ok((Embedded::PerSet(condition.max_keepdim(1)?), state.clone()))
    }
}

/// A generator of one's own, of one set's flat vector: the mean of its sequence, as often as needed.
#[derive(Clone, Copy, Debug)]
struct Repeats;

impl Repeats {
    const fn info(&self, shape: GeneratorShape) -> GeneratorInfo {
        GeneratorInfo::new(shape.plan).condition(Condition::Set(WIDTH))
    }
}

impl std::fmt::Display for Repeats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Repeats")
    }
}

impl ConditionedGeneratorSpec for Repeats {
    fn build(
        &self,
        shape: GeneratorShape,
        _: InitScheme,
        _: VarBuilder<'_>,
    ) -> Result<Box<dyn ConditionedGenerator>> {
        Ok(Box::new(Repeating(shape.plan.num_values())))
    }
}

#[derive(Debug)]
struct Repeating(usize);

impl ConditionedGenerator for Repeating {
    fn forward(&self, embedded: &Embedded, condition: &Tensor) -> Result<GeneratorOutput> {
        self.forward_sequences(embedded, &Sequences::new(condition)?)
    }

    fn forward_sequences(&self, _: &Embedded, sequences: &Sequences) -> Result<GeneratorOutput> {
        let mean = sequences.mean(sequences.values())?.mean_keepdim(D::Minus1)?;
        Ok(mean.broadcast_as((sequences.count(), self.0))?.contiguous()?.into())
    }
}

#[test]
fn parts_of_ones_own() -> Result<()> {
    hypernetwork! {
        struct Own for Net { embedding: Attends, generator: linear, mode: dynamic }
        struct Unpadded for Net { embedding: Largest, generator: linear, mode: dynamic }
        struct ByGenerator for Net {
            embedding: table(4, 3), generator: Repeats, mode: dynamic, init: hyper_nn,
        }
    }
    let marks = [vec![true; 3], vec![false, true, true]];
    let batch = Batch::new(&marks, &[f64::NAN], 4, DType::F64)?;
    let (vars, vb) = variables(6, DType::F64);
    let hyper = Own::new(vb)?;
    assert_eq!(hyper.num_params(), Own::NUM_PARAMS);
    let loss = || weighted_sum(&hyper.generate_params((&batch.padded, &batch.mask))?.flat()?);
    assert!(gradient_error(&vars, &loss)? < 1e-7);
    let found = hyper.generate_params((&batch.padded, &batch.mask))?.flat()?.get(1)?;
    let alone = hyper.generate_params(&batch.alone[1])?.flat()?;
    assert!(relative_error(&found, &alone)? < 1e-12);

    let unpadded = Unpadded::new(variables(6, DType::F64).1)?;
    assert_eq!(unpadded.generate_params(&batch.alone[0])?.num_sets(), None);
    assert_eq!(
        message(unpadded.generate_params((&batch.padded, &batch.mask))),
        "the embedding takes sequences of one length, but these have the lengths [3, 2]: `forward_sequences` would take them"
    );

    let of_generator = ByGenerator::new(variables(6, DType::F64).1)?;
    let found = of_generator.generate_params((&batch.padded, &batch.mask))?.flat()?;
    let mean = values(&batch.alone[1])?.iter().sum::<f64>() / (2 * WIDTH) as f64;
    assert!(values(&found.get(1)?)?.iter().all(|value| (value - mean).abs() < 1e-12));
    Ok(())
}

/// A network that is built at run time says the same as the compiler.
#[test]
fn sizes_that_do_not_fit() {
    let problem = |info: EmbeddingInfo| info.problem.unwrap().message().to_owned();
    assert_eq!(
        problem(perceiver(5, 4, 9, 1, 2).info()),
        "perceiver: embedding_dim is 9, expected a multiple of the 2 heads"
    );
    assert_eq!(
        problem(transformer(5, 4, 6, 1, 2).info()),
        "transformer: embedding_dim is 6, expected a multiple of twice the 2 heads: positions turn pairs of values"
    );
    assert!(transformer(5, 4, 6, 1, 2).positions(unordered).info().problem.is_none());
    for (info, expected) in [
        (perceiver(0, 4, 8, 1, 2).info(), "perceiver: width is 0, expected at least 1"),
        (perceiver(5, 0, 8, 1, 2).info(), "perceiver: num_embeddings is 0, expected at least 1"),
        (perceiver(5, 4, 0, 1, 2).info(), "perceiver: embedding_dim is 0, expected at least 1"),
        (perceiver(5, 4, 8, 0, 2).info(), "perceiver: depth is 0, expected at least 1"),
        (perceiver(5, 4, 8, 1, 0).info(), "perceiver: heads is 0, expected at least 1"),
        (pooled(5, [], tanh, 4, 8).info(), "pooled: no hidden widths, expected at least 1"),
        (pooled(5, [3, 0], tanh, 4, 8).info(), "pooled: a hidden width is 0, expected at least 1"),
        (pooled(0, [3], tanh, 4, 8).info(), "pooled: width is 0, expected at least 1"),
    ] {
        assert_eq!(problem(info), expected);
    }
}

#[test]
fn parts_that_take_other_conditions() {
    let problem = |a, b| Condition::check(a, b).map(|problem| problem.message().to_owned());
    use Condition::{None, Sequence, Set, Task, Vector};
    for (embedding, generator, expected) in [
        (Set(3), Vector(3), "one part takes a vector, but the other a set"),
        (Vector(3), Sequence(3), "one part takes a vector, but the other a sequence"),
        (Sequence(3), Set(3), "one part takes a sequence, but the other a set"),
        (Task, Sequence(3), "one part takes a task, but the other a sequence"),
        (
            Set(3),
            Set(4),
            "the embedding takes a condition of width 3, but the generator one of width 4",
        ),
    ] {
        assert_eq!(problem(embedding, generator).as_deref(), Some(expected));
    }
    assert_eq!(problem(Set(3), Set(3)), Option::None);
    assert_eq!(problem(Set(3), None), Option::None);
    assert_eq!(problem(None, Sequence(3)), Option::None);
}

/// The embeddings of one sequence by plain operations, from the variables by name.
struct ByHand(std::collections::BTreeMap<String, Var>);

impl ByHand {
    fn get(&self, name: &str) -> Tensor {
        self.0[name].as_detached_tensor()
    }

    fn linear(&self, xs: &Tensor, name: &str) -> Result<Tensor> {
        let ys = xs.matmul(&self.get(&format!("{name}.weight")).t()?)?;
        match self.0.get(&format!("{name}.bias")) {
            Some(bias) => ys.broadcast_add(bias),
            None => Ok(ys),
        }
    }

    fn norm(&self, xs: &Tensor, name: &str) -> Result<Tensor> {
        let square = (xs.sqr()?.mean_keepdim(1)? + 1e-6)?;
        xs.broadcast_div(&square.sqrt()?)?.broadcast_mul(&self.get(&format!("{name}.weight")))
    }

    /// Attention of `[N, E]` to `[T, K]`, head by head, each at its positions or at none.
    fn attention(
        &self,
        stream: &Tensor,
        vectors: Option<&Tensor>,
        name: &str,
        (heads, turn_queries, turn_keys): (usize, bool, bool),
    ) -> Result<Tensor> {
        let normed = self.norm(stream, &format!("{name}.norm"))?;
        let vectors = vectors.unwrap_or(&normed);
        let queries = self.linear(&normed, &format!("{name}.query"))?;
        let keys = self.linear(vectors, &format!("{name}.key"))?;
        let values = self.linear(vectors, &format!("{name}.value"))?;
        let width = queries.dim(1)? / heads;
        let head = |at: usize| {
            let of_head = |xs: &Tensor, turn: bool| {
                // Products of slices are refused on CUDA.
                let xs = xs.narrow(1, at * width, width)?.contiguous()?;
                if turn { turned(&xs) } else { Ok(xs) }
            };
            let (queries, keys) = (of_head(&queries, turn_queries)?, of_head(&keys, turn_keys)?);
            let scores = (queries.matmul(&keys.t()?.contiguous()?)? / (width as f64).sqrt())?;
            let weights = candle_nn::ops::softmax(&scores, 1)?;
            weights.matmul(&of_head(&values, false)?)
        };
        let found = (0..heads).map(head).collect::<Result<Vec<_>>>()?;
        stream + self.linear(&Tensor::cat(&found, 1)?, &format!("{name}.out"))?
    }

    fn perceptron(&self, stream: &Tensor, name: &str) -> Result<Tensor> {
        let hidden = self.norm(stream, &format!("{name}.norm"))?;
        let hidden = self.linear(&hidden, &format!("{name}.hidden"))?.gelu_erf()?;
        stream + self.linear(&hidden, &format!("{name}.out"))?
    }
}

/// Rows `[T, D]` turned by their positions, value `i` of the first half with value `i` of the second.
fn turned(xs: &Tensor) -> Result<Tensor> {
    let (length, width) = xs.dims2()?;
    let angle =
        |at: usize, pair: usize| at as f64 * 10_000f64.powf(-2. * pair as f64 / width as f64);
    let angles = (0..length).flat_map(|at| (0..width / 2).map(move |pair| angle(at, pair)));
    let angles = Tensor::from_vec(angles.collect::<Vec<_>>(), (length, width / 2), device())?;
    let (first, second) = (xs.narrow(1, 0, width / 2)?, xs.narrow(1, width / 2, width / 2)?);
    let (cos, sin) = (angles.cos()?, angles.sin()?);
    let one = ((&first * &cos)? - (&second * &sin)?)?;
    let other = ((&second * &cos)? + (&first * &sin)?)?;
    Tensor::cat(&[one, other], 1)
}

/// The embeddings of a spec for one sequence, and its variables.
fn embedded(kind: Kind, xs: &Tensor) -> Result<(Tensor, ByHand)> {
    let (vars, vb) = variables(9, DType::F64);
    let embedding = kind.spec().0.build(InitScheme::Exact, vb)?;
    // Norms start at one, which says nothing.
    for (seed, var) in hypernn_tests::by_name(&vars).into_values().enumerate() {
        if var.rank() == 1 {
            let moved = (input(var.dims(), seed as u64, DType::F64)? * 0.3)?;
            var.set(&(var.as_tensor() + moved)?)?;
        }
    }
    let sequences = Sequences::new(&xs.unsqueeze(0)?)?;
    let (embedded, _) = embedding.forward_sequences(&sequences, &State::default())?;
    Ok((embedded.per_set(1)?.squeeze(0)?, ByHand(hypernn_tests::by_name(&vars))))
}

#[test]
fn a_perceiver_is_what_is_computed_by_hand() -> Result<()> {
    let xs = input(&[6, WIDTH], 3, DType::F64)?;
    for (kind, depth, in_order) in [(Kind::Perceiver, 2, false), (Kind::PerceiverInOrder, 1, true)]
    {
        let (found, vars) = embedded(kind, &xs)?;
        let vectors = vars.norm(&xs, "norm")?;
        let mut stream = vars.get("queries.weight");
        for at in 0..depth {
            let cross = format!("{at}.cross");
            stream = vars.attention(&stream, Some(&vectors), &cross, (2, false, in_order))?;
            stream = vars.attention(&stream, None, &format!("{at}.among"), (2, false, false))?;
            stream = vars.perceptron(&stream, &format!("{at}.mlp"))?;
        }
        let error = relative_error(&found, &vars.norm(&stream, "out")?)?;
        assert!(error < 1e-12, "{kind:?}: {error}");
    }
    Ok(())
}

#[test]
fn a_transformer_is_what_is_computed_by_hand() -> Result<()> {
    let xs = input(&[6, WIDTH], 3, DType::F64)?;
    for (kind, depth, heads, in_order) in
        [(Kind::Transformer, 2, 2, true), (Kind::TransformerOfSets, 1, 4, false)]
    {
        let (found, vars) = embedded(kind, &xs)?;
        let mut stream = vars.linear(&vars.norm(&xs, "norm")?, "in")?;
        for at in 0..depth {
            let among = format!("{at}.among");
            stream = vars.attention(&stream, None, &among, (heads, in_order, in_order))?;
            stream = vars.perceptron(&stream, &format!("{at}.mlp"))?;
        }
        let encoded = vars.norm(&stream, "encoded")?;
        let queries = vars.get("queries.weight");
        let read = vars.attention(&queries, Some(&encoded), "read.cross", (heads, false, false))?;
        let read = vars.perceptron(&read, "read.mlp")?;
        let error = relative_error(&found, &vars.norm(&read, "out")?)?;
        assert!(error < 1e-12, "{kind:?}: {error}");
    }
    Ok(())
}

#[test]
fn a_mean_is_what_is_computed_by_hand() -> Result<()> {
    let xs = input(&[6, WIDTH], 3, DType::F64)?;
    let (found, vars) = embedded(Kind::Pooled, &xs)?;
    let unit = |row: Tensor| {
        let square = (row.sqr()?.mean_keepdim(1)? + 1e-8)?;
        row.broadcast_div(&square.sqrt()?)
    };
    let each = vars.linear(&xs, "each.0")?.tanh()?;
    let each = vars.linear(&vars.linear(&each, "each.1")?.tanh()?, "each.2")?;
    let mean = unit(each.mean_keepdim(0)?)?;
    let flat = unit(vars.linear(&vars.linear(&mean, "all.0")?.tanh()?, "all.1")?)?;
    let error = relative_error(&found, &flat.reshape(found.shape())?)?;
    assert!(error < 1e-12, "{error}");
    Ok(())
}
