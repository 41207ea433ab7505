//! Low-rank adapters: a frozen network and a generated difference.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;

use candle_core::{DType, Module, ModuleT, Result, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder};
use candle_transformers::models::bert;
use hypernn::generated::TargetPlan;
use hypernn::nn::{
    BatchNorm, Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, Embedding, GRU, LSTM, LayerNorm,
    Linear,
};
use hypernn::{GeneratedParams, HyperTarget, Parameters, Role, hypernetwork};
use hypernn_tests::{
    by_name, device, gradient_error, input, message, relative_error, values, variable, variables,
    weighted_sum,
};
use tempfile::TempDir;

#[derive(HyperTarget)]
struct Net {
    #[hyper(conv2d(1, 6, 3))]
    conv: Conv2d,
    #[hyper(linear(6 * 4, 5))]
    hidden: Linear,
    #[hyper(linear(5, 2))]
    out: Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let xs = self.conv.forward(xs)?.tanh()?.flatten_from(1)?;
        self.out.forward(&self.hidden.forward(&xs)?.tanh()?)
    }
}

hypernetwork! {
    struct HyperNet for Net {
        embedding: table(13, 3),
        generator: linear,
        mode: static,
        roles: [("*.weight", lora(2, 6.)), ("out.bias", generate), ("*", freeze)],
    }
}

hypernetwork! {
    struct DynamicNet for Net {
        embedding: encoder(4, [5], tanh, 13, 3),
        generator: linear,
        mode: dynamic,
        roles: [("*.weight", lora(2, 6.)), ("out.bias", generate), ("*", freeze)],
    }
}

fn trained() -> Result<HashMap<String, Tensor>> {
    let (vars, vb) = variables(1, DType::F64);
    Net::new(vb)?;
    let tensors = by_name(&vars).into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
    Ok(tensors.collect())
}

fn pretrained() -> Result<VarBuilder<'static>> {
    Ok(VarBuilder::from_tensors(trained()?, DType::F64, device()))
}

fn pictures(count: usize) -> Result<Tensor> {
    input(&[count, 1, 4, 4], 3, DType::F64)
}

fn lines(plan: &TargetPlan<Net>) -> Vec<String> {
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    plan.layout().to_string().lines().map(line).collect()
}

const ROLES: [(&str, Role); 3] = [
    ("conv.weight", Role::Lora { rank: 2, alpha: 6., dropout: 0. }),
    ("hidden.weight", Role::Lora { rank: 3, alpha: 3., dropout: 0. }),
    ("*", Role::Freeze),
];

#[test]
fn factors_are_what_is_generated() -> Result<()> {
    let plan = || TargetPlan::<Net>::new(&());
    assert_eq!(
        lines(&plan()?.with_roles(&ROLES)?),
        [
            "0 conv.weight.lora_a [2, 9] down",
            "18 conv.weight.lora_b [6, 2] up",
            "30 hidden.weight.lora_a [3, 24] down",
            "102 hidden.weight.lora_b [5, 3] up",
            "freeze conv.weight [6, 1, 3, 3] weight",
            "freeze conv.bias [6] bias",
            "freeze hidden.weight [5, 24] weight",
            "freeze hidden.bias [5] bias",
            "freeze out.weight [2, 5] weight",
            "freeze out.bias [2] bias",
            "lora conv.weight scale 3",
            "lora hidden.weight scale 1",
            "117 parameters"
        ]
    );
    let mut others = ROLES;
    others[0].1 = Role::Lora { rank: 2, alpha: 7., dropout: 0. };
    let hash = |roles: &[_]| {
        Ok::<_, candle_core::Error>(plan()?.with_roles(roles)?.layout().hash().to_owned())
    };
    assert_ne!(hash(&ROLES)?, hash(&others)?);
    Ok(())
}

/// Nothing is added at the start; afterwards what is added has the rank.
#[test]
fn a_static_adapter() -> Result<()> {
    let (vars, vb) = variables(2, DType::F64);
    let hyper = HyperNet::new_from(vb, pretrained()?)?;
    let (net, xs) = (Net::new(pretrained()?)?, pictures(3)?);
    assert_eq!(values(&hyper.forward(&xs)?)?, values(&net.forward(&xs)?)?);
    let mut optimizer = AdamW::new(vars.all_vars(), ParamsAdamW { lr: 0.1, ..Default::default() })?;
    for _ in 0..2 {
        optimizer.backward_step(&weighted_sum(&hyper.forward(&xs)?)?)?;
    }
    let loss = || weighted_sum(&hyper.forward(&xs)?);
    let error = gradient_error(&vars, &loss)?;
    assert!(error < 1e-6, "{error:e}");
    let params = hyper.generate_params()?;
    let audit = hyper.audit(&params, &weighted_sum(&params.forward(&xs)?)?)?;
    assert!(audit.is_complete(), "{audit}");
    Ok(())
}

fn tensor<'a, T>(params: &'a GeneratedParams<T>, name: &str) -> &'a Tensor {
    params.tensors().find(|(param, _)| param.name == name).unwrap().1
}

/// A dynamic hypernetwork whose gains are open, so that its adapters are not zero.
fn dynamic() -> Result<(candle_nn::VarMap, DynamicNet)> {
    let (vars, vb) = variables(2, DType::F64);
    let hyper = DynamicNet::new_from(vb, pretrained()?)?;
    let gains = variable(&vars, "gains")?;
    gains.set(&Tensor::full(2., gains.shape(), device())?)?;
    Ok((vars, hyper))
}

/// Each sample has an adapter of its own: as if the weights had been merged first.
#[test]
fn an_adapter_for_each_sample() -> Result<()> {
    let (vars, hyper) = dynamic()?;
    let (condition, xs) = (input(&[3, 4], 5, DType::F64)?, pictures(6)?);
    let params = hyper.generate_params(&condition)?;
    let tensors = trained()?;
    let merged = |name: &str, set: usize| {
        let factor = |which: &str| tensor(&params, &format!("{name}.weight.{which}")).get(set);
        let base = &tensors[&format!("{name}.weight")];
        let product = (factor("lora_b")?.matmul(&factor("lora_a")?)? * 3.)?;
        base + product.reshape(base.shape())?
    };
    let rows = (0..3).map(|set| {
        let rows = xs.narrow(0, 2 * set, 2)?;
        let conv = Conv2d::new(
            merged("conv", set)?,
            Some(tensors["conv.bias"].clone()),
            Default::default(),
        );
        let hidden = Linear::new(merged("hidden", set)?, Some(tensors["hidden.bias"].clone()));
        let out = Linear::new(merged("out", set)?, Some(tensor(&params, "out.bias").get(set)?));
        Net { conv, hidden, out }.forward(&rows)
    });
    let expected = Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)?;
    let plain = Net::new(pretrained()?)?.forward(&xs)?;
    assert!(relative_error(&plain, &expected)? > 0.01);
    assert!(relative_error(&params.forward(&xs)?, &expected)? < 1e-12);
    // Linear layers and convolutions have one weight for all samples, and factors for each.
    let (net, mut ranks) = (params.unpack()?, Vec::new());
    net.visit(&mut |name, tensor| {
        ranks.extend((name == "weight").then(|| tensor.rank()));
        Ok(())
    })?;
    assert_eq!(ranks, [4, 2, 2]);
    // Whoever asks for a weight gets what it is adapted to, of each sample.
    assert_eq!(net.hidden.weight().dims(), [3, 5, 24]);
    let shown = net.conv.weight().get(2)?;
    assert!(relative_error(&shown, &merged("conv", 2)?)? < 1e-12);
    let loss = || weighted_sum(&hyper.generate_params(&condition)?.forward(&xs)?);
    let error = gradient_error(&vars, &loss)?;
    assert!(error < 1e-6, "{error:e}");
    Ok(())
}

/// A layer that reuses an adapted weight.
#[derive(HyperTarget)]
struct Tied {
    #[hyper(linear(4, 3))]
    first: Linear,
    #[hyper(linear_no_bias(4, 3), tie(weight = first.weight))]
    again: Linear,
}

impl Module for Tied {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.first.forward(xs)?.tanh()? + self.again.forward(xs)?
    }
}

hypernetwork! {
    struct HyperTied for Tied {
        embedding: encoder(4, [5], tanh, 7, 3),
        generator: linear,
        mode: dynamic,
        roles: [("first.weight", lora(2, 6.)), ("*", freeze)],
    }
}

#[test]
fn a_tied_weight_is_the_adapted_one() -> Result<()> {
    let (_trained, pretrained) = variables(1, DType::F64);
    let base = Tied::new(pretrained.clone())?;
    let (vars, vb) = variables(2, DType::F64);
    let hyper = HyperTied::new_from(vb, pretrained)?;
    let gains = variable(&vars, "gains")?;
    gains.set(&Tensor::full(2., gains.shape(), device())?)?;
    let (condition, xs) = (input(&[3, 4], 5, DType::F64)?, input(&[6, 4], 6, DType::F64)?);
    let params = hyper.generate_params(&condition)?;
    let rows = (0..3).map(|set| {
        let factor = |which: &str| tensor(&params, &format!("first.weight.{which}")).get(set);
        let difference = (factor("lora_b")?.matmul(&factor("lora_a")?)? * 3.)?;
        let weight = (base.first.weight() + difference)?;
        let first = Linear::new(weight.clone(), base.first.bias().cloned());
        Tied { first, again: Linear::new(weight, None) }.forward(&xs.narrow(0, 2 * set, 2)?)
    });
    let expected = Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)?;
    assert!(relative_error(&base.forward(&xs)?, &expected)? > 0.01);
    assert!(relative_error(&params.forward(&xs)?, &expected)? < 1e-12);
    let loss = || weighted_sum(&hyper.generate_params(&condition)?.forward(&xs)?);
    let error = gradient_error(&vars, &loss)?;
    assert!(error < 1e-6, "{error:e}");
    Ok(())
}

#[test]
fn a_dynamic_adapter_adds_nothing_at_the_start() -> Result<()> {
    let hyper = DynamicNet::new_from(variables(2, DType::F64).1, pretrained()?)?;
    let (condition, xs) = (input(&[3, 4], 5, DType::F64)?, pictures(6)?);
    let params = hyper.generate_params(&condition)?;
    for name in ["conv", "hidden", "out"] {
        let up = values(tensor(&params, &format!("{name}.weight.lora_b")))?;
        assert!(up.iter().all(|value| *value == 0.), "{name}");
        assert!(
            values(tensor(&params, &format!("{name}.weight.lora_a")))?.iter().any(|v| *v != 0.)
        );
    }
    let plain = Net::new(pretrained()?)?.forward(&xs)?;
    assert!(relative_error(&params.forward(&xs)?, &plain)? < 1e-14);
    Ok(())
}

/// Strides, padding and dilation; one of two groups, whose adapter is merged; and a batch norm that a
/// convolution absorbs.
#[derive(HyperTarget)]
struct Convolutions {
    #[hyper(conv2d(2, 4, 3, stride = 2, padding = 1, dilation = 2))]
    wide: Conv2d,
    #[hyper(conv2d(4, 6, 2, groups = 2))]
    grouped: Conv2d,
    #[hyper(batch_norm(4))]
    norm: BatchNorm,
}

impl ModuleT for Convolutions {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Result<Tensor> {
        self.grouped.forward(&self.wide.absorb_bn(&self.norm)?.forward(xs)?)
    }
}

hypernetwork! {
    struct HyperConvolutions for Convolutions {
        embedding: encoder(4, [5], tanh, 9, 3),
        generator: linear,
        mode: dynamic,
        roles: [("*.weight", lora(2, 1.)), ("*", freeze)],
    }
}

#[test]
fn convolutions_with_adapters() -> Result<()> {
    let (trained, vb) = variables(1, DType::F64);
    Convolutions::new(vb.clone())?;
    let roles = [("wide.weight", Role::Lora { rank: 2, alpha: 1., dropout: 0. })];
    assert!(TargetPlan::<Convolutions>::new(&())?.with_roles(&roles).is_ok());
    assert_eq!(
        message(HyperConvolutions::new_from(variables(2, DType::F64).1, vb.clone())),
        "`norm.weight` of shape [4] can't have a low-rank adapter, expected a matrix or a kernel"
    );
    let (vars, hyper_vb) = variables(2, DType::F64);
    let hyper = AdaptedConvolutions::new_from(hyper_vb, vb)?;
    let gains = variable(&vars, "gains")?;
    gains.set(&Tensor::full(2., gains.shape(), device())?)?;
    let (condition, xs) = (input(&[3, 4], 5, DType::F64)?, input(&[6, 2, 9, 9], 6, DType::F64)?);
    let params = hyper.generate_params(&condition)?;
    let whole = params.forward_t(&xs, false)?;
    let net = params.unpack()?;
    let apart = net.grouped.forward(&net.norm.forward_t(&net.wide.forward(&xs)?, false)?)?;
    assert!(relative_error(&whole, &apart)? < 1e-12);
    // Merged into candle's own layers, set by set.
    let rows = (0..3).map(|set| {
        let params = params.set(set)?;
        let rows = xs.narrow(0, 2 * set, 2)?;
        let factor = |name: &str| {
            let found = params.tensors().find(|(param, _)| param.name == name);
            found.unwrap().1.clone()
        };
        let merged = |name: &str| {
            let base = by_name(&trained)[&format!("{name}.weight")].as_detached_tensor();
            let up = factor(&format!("{name}.weight.lora_b"));
            let product = (up.matmul(&factor(&format!("{name}.weight.lora_a")))? * 0.5)?;
            base.clone() + product.reshape(base.shape())?
        };
        let bias = |name: &str| by_name(&trained)[&format!("{name}.bias")].as_detached_tensor();
        let net = params.unpack()?;
        let wide = candle_nn::Conv2d::new(merged("wide")?, Some(bias("wide")), *net.wide.config());
        let grouped = candle_nn::Conv2d::new(
            merged("grouped")?,
            Some(bias("grouped")),
            *net.grouped.config(),
        );
        grouped.forward(&net.norm.forward_t(&wide.forward(&rows)?, false)?)
    });
    let expected = Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)?;
    let error = relative_error(&whole, &expected)?;
    assert!(error < 1e-12, "{error:e}");
    let loss = || weighted_sum(&hyper.generate_params(&condition)?.forward_t(&xs, false)?);
    let error = gradient_error(&vars, &loss)?;
    assert!(error < 1e-6, "{error:e}");
    Ok(())
}

hypernetwork! {
    struct AdaptedConvolutions for Convolutions {
        embedding: encoder(4, [5], tanh, 9, 3),
        generator: linear,
        mode: dynamic,
        roles: [
            ("wide.weight", lora(2, 1.)),
            ("grouped.weight", lora(2, 1.)),
            ("*", freeze),
        ],
    }
}

/// An exported checkpoint knows nothing of adapters.
#[test]
fn export_merges() -> Result<()> {
    let (_vars, hyper) = dynamic()?;
    let (condition, xs) = (input(&[4], 5, DType::F64)?, pictures(2)?);
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("net.safetensors");
    hyper.export(&condition, &path)?;
    let exported = candle_core::safetensors::load(&path, device())?;
    assert_eq!(exported.len(), 6);
    let net = Net::new(VarBuilder::from_tensors(exported, DType::F64, device()))?;
    let ys = hyper.generate_params(&condition)?.forward(&xs)?;
    assert!(relative_error(&net.forward(&xs)?, &ys)? < 1e-12);
    Ok(())
}

#[test]
fn adapters_that_can_not_be() -> Result<()> {
    let with = |roles: &[(&str, Role)]| TargetPlan::<Net>::new(&())?.with_roles(roles);
    let lora = |rank| Role::Lora { rank, alpha: 1., dropout: 0. };
    assert_eq!(
        message(with(&[("*.bias", lora(1))])),
        "`conv.bias` of shape [6] can't have a low-rank adapter, expected a matrix or a kernel"
    );
    assert_eq!(
        message(with(&[("out.weight", lora(3))])),
        "`out.weight`: the rank of the adapter is 3, expected 1 to 2: the weight is 2 × 5"
    );
    assert_eq!(
        message(with(&[("conv.weight", lora(0))])),
        "`conv.weight`: the rank of the adapter is 0, expected 1 to 6: the weight is 6 × 9"
    );
    assert_eq!(
        message(HyperNet::new(variables(0, DType::F32).1)),
        "`conv.weight` has the role `freeze`, but no pretrained network to come from: `new_from` takes one"
    );
    Ok(())
}

/// Adapters of fields: the number of their values is a constant.
#[derive(HyperTarget)]
struct Fields {
    #[hyper(conv2d(1, 6, 3), role = lora(RANK, 4.))]
    conv: Conv2d,
    #[hyper([linear(24, 24), linear_no_bias(24, 8)], role = lora_dropout(3, 3., 0.5))]
    hidden: Vec<Linear>,
    #[hyper(linear(8, 2))]
    out: Linear,
}

const RANK: usize = 2;

impl Module for Fields {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let xs = self.conv.forward(xs)?.tanh()?.flatten_from(1)?;
        let xs = self.hidden.iter().try_fold(xs, |xs, layer| layer.forward(&xs)?.tanh())?;
        self.out.forward(&xs)
    }
}

hypernetwork! {
    struct HyperFields for Fields { embedding: table(24, 3), generator: linear, mode: static }
}

fn fields() -> Result<(Fields, VarBuilder<'static>)> {
    let (vars, vb) = variables(1, DType::F64);
    let net = Fields::new(vb)?;
    let tensors = by_name(&vars).into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
    Ok((net, VarBuilder::from_tensors(tensors.collect(), DType::F64, device())))
}

#[test]
fn adapters_of_fields() -> Result<()> {
    let layout = Fields::layout()?;
    assert_eq!(Fields::NUM_PARAMS, 2 * (6 + 9) + 3 * (24 + 24) + 3 * (8 + 24) + 18);
    assert_eq!(HyperFields::NUM_TARGET_PARAMS, layout.num_params());
    let kept: Vec<_> = layout.kept().iter().map(|kept| kept.name.as_str()).collect();
    let weights = ["conv.weight", "conv.bias", "hidden.0.weight", "hidden.0.bias"];
    assert_eq!(kept, [&weights[..], &["hidden.1.weight"]].concat());
    assert!(
        layout.to_string().contains("hidden.1.weight         scale 1 dropout 0.5\n"),
        "{layout}"
    );
    let (net, vb) = fields()?;
    let (vars, hyper_vb) = variables(2, DType::F64);
    let hyper = HyperFields::new_from(hyper_vb, vb)?;
    let xs = pictures(3)?;
    assert_eq!(values(&hyper.forward(&xs)?)?, values(&net.forward(&xs)?)?);
    let error = gradient_error(&vars, &|| weighted_sum(&hyper.forward(&xs)?))?;
    assert!(error < 1e-6, "{error:e}");
    Ok(())
}

/// A layer that applies its adapter, alone: what is dropped and what is not can be told apart.
#[derive(HyperTarget)]
struct One {
    #[hyper(linear_no_bias(64, 1), role = lora_dropout(1, 1., 0.25))]
    fc: Linear,
}

impl Module for One {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.fc.forward(xs)
    }
}

hypernetwork! {
    struct HyperOne for One { embedding: tasks(2, 13, 3), generator: linear, mode: dynamic }
}

/// Each row lets one value in: it is dropped, or counts 4 / 3 for those that are.
#[test]
fn dropout_in_training_alone() -> Result<()> {
    let base = Tensor::zeros((1, 64), DType::F64, device())?;
    let base = HashMap::from([("fc.weight".to_owned(), base)]);
    let (vars, vb) = variables(2, DType::F64);
    let hyper = HyperOne::new_from(vb, VarBuilder::from_tensors(base, DType::F64, device()))?;
    let gains = variable(&vars, "gains")?;
    gains.set(&Tensor::full(2., gains.shape(), device())?)?;
    let params = hyper.generate_params(&Tensor::new(0u32, device())?)?;
    let xs = Tensor::eye(64, DType::F64, device())?;
    let all = values(&params.forward(&xs)?)?;
    assert!(all.iter().all(|value| value.abs() > 1e-9));
    let same = |ys: Tensor| Ok::<_, candle_core::Error>(values(&ys)? == all);
    assert!(same(params.forward_t(&xs, false)?)? && same(params.unpack()?.forward(&xs)?)?);
    for ys in [params.forward_t(&xs, true)?, params.unpack_t(true)?.forward(&xs)?] {
        let ys = values(&ys)?;
        let dropped = ys.iter().filter(|value| **value == 0.).count();
        assert!((1..64).contains(&dropped), "{dropped}");
        for (y, whole) in ys.iter().zip(&all).filter(|(y, _)| **y != 0.) {
            assert!((y / whole - 4. / 3.).abs() < 1e-12, "{y} {whole}");
        }
    }
    let audit = hyper.audit(&params, &weighted_sum(&params.forward_t(&xs, true)?)?)?;
    assert_eq!(audit.generated().len(), 2);
    // What is exported is what counts outside of training.
    assert!(same(hyper.generate_params(&Tensor::new(0u32, device())?)?.forward(&xs)?)?);
    Ok(())
}

/// A convolution's adapter sees the same: a kernel of one place.
#[derive(HyperTarget)]
struct Pictures {
    #[hyper(conv2d_no_bias(1, 1, 1), role = lora_dropout(1, 1., 0.25))]
    conv: Conv2d,
}

impl Module for Pictures {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.conv.forward(xs)
    }
}

#[test]
fn dropout_of_a_convolution() -> Result<()> {
    hypernetwork! {
        struct HyperPictures for Pictures {
            embedding: tasks(2, 2, 3), generator: linear, mode: dynamic,
        }
    }
    let base = Tensor::zeros((1, 1, 1, 1), DType::F64, device())?;
    let base = HashMap::from([("conv.weight".to_owned(), base)]);
    let (vars, vb) = variables(2, DType::F64);
    let hyper = HyperPictures::new_from(vb, VarBuilder::from_tensors(base, DType::F64, device()))?;
    let gains = variable(&vars, "gains")?;
    gains.set(&Tensor::full(2., gains.shape(), device())?)?;
    let params = hyper.generate_params(&Tensor::new(1u32, device())?)?;
    let xs = Tensor::ones((1, 1, 16, 16), DType::F64, device())?;
    let whole = values(&params.forward(&xs)?)?[0];
    let ys = values(&params.forward_t(&xs, true)?)?;
    let dropped = ys.iter().filter(|value| **value == 0.).count();
    assert!(whole != 0. && (1..256).contains(&dropped), "{dropped}");
    assert!(ys.iter().all(|y| *y == 0. || (y / whole - 4. / 3.).abs() < 1e-12));
    Ok(())
}

/// Sizes that are known at run time, and a layer without a matrix.
#[derive(HyperTarget)]
#[hyper(config = usize)]
struct Normed {
    #[hyper(layer_norm(*config, 1e-5), role = lora(*config, 1.))]
    norm: LayerNorm,
    #[hyper(linear(*config, 2))]
    out: Linear,
}

#[test]
fn dropouts_and_fields_that_can_not_be() -> Result<()> {
    let with = |pattern: &str, dropout| {
        let role = hypernn::target::role::spec::lora_dropout(1, 1., dropout);
        TargetPlan::<Convolutions>::new(&())?.with_roles(&[(pattern, role)])
    };
    assert_eq!(
        message(with("wide.weight", 1.)),
        "`wide.weight`: the dropout of its adapter is 1, expected at least 0 and less than 1"
    );
    assert_eq!(
        message(with("wide.weight", -0.5)),
        "`wide.weight`: the dropout of its adapter is -0.5, expected at least 0 and less than 1"
    );
    assert_eq!(
        message(with("grouped.weight", 0.1)),
        "`grouped.weight`: its adapter has a dropout, but its layer takes base and adapter as one weight, so that no input can be dropped: `Linear`, and `Conv2d` of one group, of `hypernn::nn` apply theirs"
    );
    assert!(with("wide.weight", 0.1).is_ok());
    assert_eq!(
        message(TargetPlan::<Normed>::new(&4)),
        "field `norm` has the role `lora`, but no matrix or kernel of its own to adapt"
    );
    Ok(())
}

/// The number that the compiler knows is the layout's, for each layer that can be adapted.
#[derive(HyperTarget)]
struct Each {
    #[hyper(embedding(5, 6), role = lora(2, 1.))]
    table: Embedding,
    #[hyper(conv1d(6, 4, 3, groups = 2), role = lora(2, 1.))]
    conv1d: Conv1d,
    #[hyper(conv_transpose1d(6, 4, 3), role = lora(2, 1.))]
    conv_transpose1d: ConvTranspose1d,
    #[hyper(conv2d(6, 4, 3, groups = 2), role = lora(2, 1.))]
    conv2d: Conv2d,
    #[hyper(conv_transpose2d(6, 4, 3), role = lora(2, 1.))]
    conv_transpose2d: ConvTranspose2d,
    #[hyper(lstm(6, 7), role = lora(2, 1.))]
    lstm: LSTM,
    #[hyper(gru(6, 7), role = lora(2, 1.))]
    gru: GRU,
    #[hyper(tensor([3, 4, 5]), role = lora(2, 1.))]
    tensor: Tensor,
    #[hyper([linear(6, 2); 2], role = lora(2, 1.))]
    linear: [Linear; 2],
    #[hyper(if true { linear(3, 2) }, role = lora(1, 1.))]
    option: Option<Linear>,
}

#[test]
fn the_compiler_counts_adapters() -> Result<()> {
    let layout = Each::layout()?;
    assert_eq!(Each::NUM_PARAMS, layout.num_params());
    assert!(layout.params().iter().all(|param| param.name.contains(".lora_")));
    assert_eq!(layout.params().len(), 2 * 13);
    Ok(())
}

hypernetwork! {
    struct AdaptedBert for bert::BertModel {
        target: constructor,
        roles: [("*.query.weight", lora(2, 2.)), ("*.value.weight", lora(2, 2.)), ("*", freeze)],
        embedding: tasks(2, 8, 3),
        generator: linear,
        mode: dynamic,
    }
}

/// Chosen layers of a model that knows nothing of adapters.
#[test]
fn a_model_by_constructor() -> Result<()> {
    let config = bert::Config {
        vocab_size: 11,
        hidden_size: 8,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 12,
        max_position_embeddings: 6,
        ..Default::default()
    };
    let load = move |vb: VarBuilder<'_>| bert::BertModel::load(vb, &config);
    let (vars, vb) = variables(1, DType::F32);
    let plain = load(vb.clone())?;
    let (own, hyper_vb) = variables(2, DType::F32);
    let hyper = AdaptedBert::new_from(hyper_vb, vb, load)?;
    assert_eq!(hyper.num_target_params(), 2 * 2 * 2 * (8 + 8));
    assert!(by_name(&vars).len() == 37 && by_name(&own).len() < 10);
    let ids = Tensor::new(&[[0u32, 3, 1, 4], [2, 2, 0, 1]], device())?;
    let types = ids.zeros_like()?;
    let expected = plain.forward(&ids, &types, None)?;
    let task = Tensor::new(1u32, device())?;
    let forward = || hyper.generate_params(&task)?.unpack()?.forward(&ids, &types, None);
    assert!(relative_error(&forward()?, &expected)? < 1e-6);
    let gains = variable(&own, "gains")?;
    gains.set(&gains.ones_like()?)?;
    assert!(relative_error(&forward()?, &expected)? > 1e-4);
    Ok(())
}
