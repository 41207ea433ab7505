//! Sets that become one: adapters concatenated along their rank, and means, against the same by hand.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, IndexOp, Module, ModuleT, Result, Tensor, Var};
use candle_nn::VarMap;
use hypernn::nn::{BatchNorm, Conv2d, Linear};
use hypernn::{GeneratedParams, HyperTarget, Sequences, hypernetwork};
use hypernn_tests::{
    gradient_error, gradients, input, message, numbers, relative_error, values, variables,
    weighted_sum,
};
use tempfile::TempDir;

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv2d(2, 3, 2))]
    conv: Conv2d,
    #[hyper(linear(12, 5))]
    first: Linear,
    #[hyper(linear(5, 4))]
    second: Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let xs = self.conv.forward(xs)?.tanh()?.flatten_from(1)?;
        self.second.forward(&self.first.forward(&xs)?.tanh()?)
    }
}

hypernetwork! {
    struct Adapters for Net {
        roles: [("*.weight", lora(2, 3.)), ("*", freeze)],
        embedding: perceiver(6, 2, 8, 1, 2),
        generator: per_module(5, [7], tanh),
        mode: dynamic,
    }

    struct AdaptersAndMore for Net {
        roles: [("conv.weight", lora(2, 3.)), ("second.bias", generate), ("*", freeze)],
        embedding: pooled(6, [4], tanh, 1, 5),
        generator: per_module(5, [7], tanh),
        mode: dynamic,
    }
}

/// A hypernetwork over a pretrained network, whose second factors are not zero.
fn adapters(dtype: DType) -> Result<(VarMap, Adapters)> {
    let (_, base) = variables(1, dtype);
    Net::new(base.clone())?;
    let (vars, vb) = variables(2, dtype);
    let hyper = Adapters::new_from(vb, base)?;
    for (seed, (name, var)) in hypernn_tests::by_name(&vars).into_iter().enumerate() {
        if name.contains("head.up") {
            let found = numbers(var.elem_count(), seed as u64);
            let found = Tensor::from_vec(found, var.shape(), var.device())?;
            var.set(&found.to_dtype(dtype)?)?;
        }
    }
    Ok((vars, hyper))
}

/// Three chunks of a document.
fn chunks(dtype: DType) -> Result<Tensor> {
    input(&[3, 4, 6], 5, dtype)
}

fn tensor(params: &GeneratedParams<Net>, name: &str) -> Tensor {
    params.tensors().find(|(info, _)| info.name == name).unwrap().1.clone()
}

const WEIGHTS: [&str; 3] = ["conv.weight", "first.weight", "second.weight"];

#[test]
fn factors_are_those_of_the_sets_side_by_side() -> Result<()> {
    let (_, hyper) = adapters(DType::F64)?;
    let params = hyper.generate_params(&chunks(DType::F64)?)?;
    let joined = params.concat_rank()?;
    assert_eq!(joined.num_sets(), None);
    assert_eq!(joined.layout().num_params(), 3 * params.layout().num_params());
    for name in WEIGHTS {
        let (down, up) = (format!("{name}.lora_a"), format!("{name}.lora_b"));
        let of_set = |set: usize, name: &str| tensor(&params, name).get(set);
        let sets = |name: &str| (0..3).map(|set| of_set(set, name)).collect::<Result<Vec<_>>>();
        let expected = Tensor::cat(&sets(&down)?, 0)?;
        assert_eq!(values(&tensor(&joined, &down))?, values(&expected)?, "{down}");
        let expected = Tensor::cat(&sets(&up)?, 1)?;
        assert_eq!(values(&tensor(&joined, &up))?, values(&expected)?, "{up}");
    }
    // Offsets are those of the wider tensors.
    let flat = values(&joined.flat()?)?;
    for (info, tensor) in joined.tensors() {
        assert_eq!(flat[info.offset..info.offset + info.len()], values(tensor)?);
    }
    Ok(())
}

/// The merged weights, and the forward, are those of the sum of all differences.
#[test]
fn the_difference_is_the_sum_of_differences() -> Result<()> {
    for (dtype, within) in [(DType::F64, 1e-13), (DType::F32, 1e-5)] {
        let (_, hyper) = adapters(dtype)?;
        let params = hyper.generate_params(&chunks(dtype)?)?;
        let joined = params.concat_rank()?.unpack()?;
        let base = {
            let (_, base) = variables(1, dtype);
            Net::new(base)?
        };
        let of_sets = (0..3).map(|set| params.set(set)?.unpack()).collect::<Result<Vec<_>>>()?;
        let weights = |net: &Net| {
            [net.conv.weight(), net.first.weight(), net.second.weight()].map(Tensor::clone)
        };
        let sum = |at: usize| -> Result<Tensor> {
            let base = weights(&base)[at].clone();
            of_sets.iter().try_fold(base.clone(), |sum, net| sum + (&weights(net)[at] - &base)?)
        };
        for (at, (found, name)) in weights(&joined).iter().zip(WEIGHTS).enumerate() {
            let error = relative_error(found, &sum(at)?)?;
            assert!(error < within, "{dtype:?} {name}: {error}");
        }
        let by_hand = Net {
            conv: Conv2d::new(sum(0)?, base.conv.bias().cloned(), Default::default()),
            first: Linear::new(sum(1)?, base.first.bias().cloned()),
            second: Linear::new(sum(2)?, base.second.bias().cloned()),
        };
        let xs = input(&[3, 2, 3, 3], 7, dtype)?;
        let error = relative_error(&joined.forward(&xs)?, &by_hand.forward(&xs)?)?;
        assert!(error < within, "{dtype:?}: {error}");
    }
    Ok(())
}

/// Documents of several numbers of chunks in one batch.
#[test]
fn groups_of_sets() -> Result<()> {
    let (_, hyper) = adapters(DType::F64)?;
    let params = hyper.generate_params(&chunks(DType::F64)?)?;
    let xs = input(&[4, 2, 3, 3], 7, DType::F64)?;
    let joined = params.concat_rank_by(&[2, 1])?;
    assert_eq!(joined.num_sets(), Some(2));
    let expected = [
        params.select(&[0, 1])?.concat_rank()?.forward(&xs.narrow(0, 0, 2)?)?,
        params.set(2)?.concat_rank()?.forward(&xs.narrow(0, 2, 2)?)?,
    ];
    let found = joined.forward(&xs)?;
    assert!(relative_error(&found, &Tensor::cat(&expected, 0)?)? < 1e-12);
    // Joined adapters are parameters as others: selected, stacked, detached, joined once more.
    let second = joined.select(&[1])?.forward(&xs.narrow(0, 2, 2)?)?;
    assert!(relative_error(&second, &expected[1])? < 1e-12);
    let stacked = GeneratedParams::stack(&[&joined.set(0)?.detach(), &joined.set(1)?])?;
    assert!(relative_error(&stacked.forward(&xs)?, &found)? < 1e-12);
    let all = joined.concat_rank()?.forward(&xs)?;
    assert!(relative_error(&all, &params.concat_rank()?.forward(&xs)?)? < 1e-12);

    let means = params.mean_by(&[2, 1])?;
    for (index, (info, mean)) in means.tensors().enumerate() {
        let sets = params.tensors().nth(index).unwrap().1;
        let expected = sets.i(0..2)?.mean(0)?;
        assert!(relative_error(&mean.get(0)?, &expected)? < 1e-14, "{}", info.name);
        assert!(relative_error(&mean.get(1)?, &sets.get(2)?)? < 1e-14, "{}", info.name);
    }
    Ok(())
}

#[test]
fn means_are_those_of_all_tensors() -> Result<()> {
    let (_, hyper) = adapters(DType::F64)?;
    let params = hyper.generate_params(&chunks(DType::F64)?)?;
    let mean = params.mean()?;
    assert_eq!((mean.num_sets(), mean.layout().hash()), (None, params.layout().hash()));
    assert!(relative_error(&mean.flat()?, &params.flat()?.mean(0)?)? < 1e-14);
    // One set is its own mean, and its own sum.
    let one = hyper.generate_params(&chunks(DType::F64)?.get(0)?)?;
    assert_eq!(values(&one.mean()?.flat()?)?, values(&one.flat()?)?);
    assert_eq!(values(&one.concat_rank()?.flat()?)?, values(&one.flat()?)?);
    Ok(())
}

#[test]
fn gradients_reach_every_set() -> Result<()> {
    let (vars, hyper) = adapters(DType::F64)?;
    let condition = Var::from_tensor(&chunks(DType::F64)?)?;
    vars.data().lock().unwrap().insert("condition".to_owned(), condition.clone());
    let xs = input(&[2, 2, 3, 3], 7, DType::F64)?;
    type Join = fn(&GeneratedParams<Net>) -> Result<GeneratedParams<Net>>;
    let joins: [Join; 4] = [
        GeneratedParams::concat_rank,
        GeneratedParams::mean,
        |params| params.concat_rank_by(&[1, 2]),
        |params| params.mean_by(&[1, 2]),
    ];
    for join in joins {
        let loss =
            || weighted_sum(&join(&hyper.generate_params(condition.as_tensor())?)?.forward(&xs)?);
        let error = gradient_error(&vars, &loss)?;
        assert!(error < 1e-6, "{error}");
        let grad = &gradients(&vars, &loss()?)?["condition"];
        assert!(
            (0..3).all(|set| values(&grad.get(set).unwrap()).unwrap().iter().any(|x| *x != 0.))
        );
        let params = hyper.generate_params(condition.as_tensor())?;
        let joined = join(&params)?;
        let audit = hyper.audit(&joined, &weighted_sum(&joined.forward(&xs)?)?)?;
        assert!(audit.is_complete(), "{audit}");
    }
    Ok(())
}

/// PEFT's folder has the rank of the whole.
#[test]
fn files_of_joined_adapters() -> Result<()> {
    hypernetwork! {
        struct OfLinear for Net {
            roles: [("first.weight", lora(2, 3.)), ("second.weight", lora(2, 3.)), ("*", freeze)],
            embedding: pooled(6, [4], tanh, 1, 5),
            generator: per_module(5, [7], tanh),
            mode: dynamic,
        }
        struct OfRankFour for Net {
            roles: [("first.weight", lora(4, 6.)), ("second.weight", lora(4, 6.)), ("*", freeze)],
            embedding: pooled(6, [4], tanh, 1, 5),
            generator: per_module(5, [7], tanh),
            mode: dynamic,
        }
    }
    let (_, base) = variables(1, DType::F32);
    Net::new(base.clone())?;
    let hyper = OfLinear::new_from(variables(2, DType::F32).1, base.clone())?;
    let params = hyper.generate_params(&chunks(DType::F32)?.i(0..2)?)?;
    let joined = params.concat_rank()?;
    let folder = TempDir::new().unwrap();
    joined.save_peft(folder.path())?;
    let config = std::fs::read_to_string(folder.path().join("adapter_config.json")).unwrap();
    assert!(config.contains("\"r\": 4") && config.contains("\"lora_alpha\": 6"), "{config}");
    let wide = OfRankFour::new_from(variables(2, DType::F32).1, base)?;
    let loaded = wide.load_peft(folder.path())?;
    assert_eq!(values(&loaded.flat()?)?, values(&joined.flat()?)?);

    let path = folder.path().join("params.safetensors");
    assert_eq!(
        message(joined.save(&path)).split(" (").next().unwrap(),
        "adapters that were put together have other ranks than the network, which could not load them: save the sets that they were put together of, or the adapter by `save_peft`"
    );
    params.mean()?.save(&path)?;
    assert_eq!(values(&hyper.load_params(&path)?.flat()?)?, values(&params.mean()?.flat()?)?);
    // Merged weights have no rank.
    let merged = folder.path().join("net.safetensors");
    hyper.export_params(&joined, &merged)?;
    let tensors = candle_core::safetensors::load(&merged, hypernn_tests::device())?;
    let weight = joined.unpack()?.first.weight().clone();
    assert_eq!(values(&tensors["first.weight"])?, values(&weight)?);
    Ok(())
}

#[test]
fn what_has_no_rank_is_refused() -> Result<()> {
    let (_, base) = variables(1, DType::F32);
    Net::new(base.clone())?;
    let hyper = AdaptersAndMore::new_from(variables(2, DType::F32).1, base)?;
    let params = hyper.generate_params(&chunks(DType::F32)?)?;
    assert_eq!(
        message(params.concat_rank()),
        "`second.bias` is generated whole, and has no rank: `mean` takes it"
    );
    assert_eq!(params.mean()?.num_sets(), None);
    for (groups, expected) in [
        (&[2, 2][..], "groups of [2, 2] sets of Net are 4, but there are 3"),
        (&[], "groups of [] sets of Net are 0, but there are 3"),
        (&[3, 0], "group 1 of sets of Net is empty"),
    ] {
        assert_eq!(message(params.mean_by(groups)), expected);
        assert_eq!(message(params.concat_rank_by(groups)), expected);
    }
    Ok(())
}

#[derive(HyperTarget)]
struct Normed {
    #[hyper(linear(3, 4))]
    fc: Linear,
    #[hyper(batch_norm(4, 1e-5))]
    norm: BatchNorm,
}

impl ModuleT for Normed {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.norm.forward_t(&self.fc.forward(xs)?, train)
    }
}

#[test]
fn running_statistics_of_each_set_do_not_become_one() -> Result<()> {
    hypernetwork! {
        struct HyperNormed for Normed {
            embedding: pooled(6, [4], tanh, 3, 5), generator: linear, mode: dynamic,
        }
    }
    let (_, vb) = variables(1, DType::F32);
    let hyper = HyperNormed::new(vb.clone())?;
    let documents = Sequences::new(&chunks(DType::F32)?)?;
    let params = hyper.generate_params(&documents)?;
    assert_eq!(params.mean()?.num_sets(), None);
    let params = params.with_buffers(&hyper.buffers(3, vb.pp("own"))?)?;
    assert_eq!(
        message(params.mean()),
        "each set of Normed has running statistics of its own, which do not become one"
    );
    Ok(())
}
