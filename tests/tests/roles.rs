//! Roles and pretrained networks: what is generated, trained, frozen or shared, and where it starts.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Module, ModuleT, Result, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder, VarMap};
use hypernn::generated::TargetPlan;
use hypernn::hypernetwork::Gradient;
use hypernn::nn::{
    BatchNorm, Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, Embedding, GRU, GroupNorm, LSTM,
    LayerNorm, Linear, PReLU, RNN, RmsNorm,
};
use hypernn::{HyperTarget, Layout, Pretrained, Role, hypernetwork};
use hypernn_tests::{
    by_name, device, gradient_error, gradients, input, message, relative_error, values, variables,
    weighted_sum,
};
use tempfile::TempDir;

#[derive(HyperTarget)]
struct Net {
    #[hyper([linear(3, 4), linear(4, 4), linear(4, 4)])]
    layers: Vec<Linear>,
    #[hyper(layer_norm(4, 1e-5))]
    norm: LayerNorm,
    #[hyper(linear(4, 2))]
    head: Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let hidden = self.layers.iter().try_fold(xs.clone(), |xs, l| l.forward(&xs)?.tanh())?;
        self.head.forward(&self.norm.forward(&hidden)?)
    }
}

/// An ordinary network, by the names of its tensors.
fn trained(seed: u64, dtype: DType) -> Result<(Net, HashMap<String, Tensor>)> {
    let (vars, vb) = variables(seed, dtype);
    let net = Net::new(vb)?;
    for (i, var) in by_name(&vars).values().enumerate() {
        var.set(&(input(var.dims(), seed + i as u64, dtype)? * 0.7)?)?;
    }
    let tensors = by_name(&vars).into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
    Ok((net, tensors.collect()))
}

fn pretrained(tensors: &HashMap<String, Tensor>, dtype: DType) -> VarBuilder<'static> {
    VarBuilder::from_tensors(tensors.clone(), dtype, device())
}

fn lines(layout: &Layout) -> Vec<String> {
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    layout.to_string().lines().map(line).collect()
}

fn place() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("net.safetensors");
    (dir, path)
}

// Only a head.
hypernetwork! {
    struct HyperHead for Net {
        embedding: table(5, 3),
        generator: linear,
        mode: static,
        roles: [("head.*", generate), ("*", freeze)],
    }
}

// Only biases and norm gains.
hypernetwork! {
    struct HyperBiases for Net {
        embedding: table(11, 3),
        generator: linear,
        mode: static,
        roles: [("*.bias", generate), ("norm.weight", generate), ("*", freeze)],
    }
}

// All roles at once.
hypernetwork! {
    struct HyperMixed for Net {
        embedding: table(5, 3),
        generator: linear,
        mode: static,
        roles: [
            ("layers.0.*", freeze),
            ("layers.*.weight", shared),
            ("layers.*.bias", train),
            ("norm.*", train),
        ],
    }
}

#[test]
fn only_a_head_in_one_line() -> Result<()> {
    let (net, tensors) = trained(1, DType::F64)?;
    let (vars, vb) = variables(2, DType::F64);
    let hyper = HyperHead::new_from(vb, pretrained(&tensors, DType::F64))?;
    assert_eq!(
        format!("{hyper:?}"),
        "HyperHead { target: Net (10 parameters in 2 tensors, freeze 64), embedding: table(5, 3), generator: linear, mode: static, chunks: 5 of 2, surplus 0, parameters: 23 (230.0% of the target's) }"
    );
    let xs = input(&[6, 3], 3, DType::F64)?;
    assert_eq!(values(&hyper.forward(&xs)?)?, values(&net.forward(&xs)?)?);
    let audit = hyper.audit(&hyper.generate_params()?, &weighted_sum(&hyper.forward(&xs)?)?)?;
    assert_eq!(audit.generated().len(), 2);
    // No variable of a frozen tensor, so that no optimiser decays it.
    assert!(by_name(&vars).keys().all(|name| !name.starts_with("target.")));
    Ok(())
}

#[test]
fn only_biases_and_gains_in_one_line() -> Result<()> {
    let (net, tensors) = trained(1, DType::F64)?;
    let (vars, vb) = variables(2, DType::F64);
    let hyper = HyperBiases::new_from(vb, pretrained(&tensors, DType::F64))?;
    let layout = hyper.layout();
    assert_eq!(
        layout.params().iter().map(|param| param.name.as_str()).collect::<Vec<_>>(),
        [
            "layers.0.bias",
            "layers.1.bias",
            "layers.2.bias",
            "norm.weight",
            "norm.bias",
            "head.bias"
        ]
    );
    assert_eq!(hyper.num_target_params(), 22);
    let xs = input(&[6, 3], 3, DType::F64)?;
    assert_eq!(values(&hyper.forward(&xs)?)?, values(&net.forward(&xs)?)?);
    let error = gradient_error(&vars, &|| weighted_sum(&hyper.forward(&xs)?))?;
    assert!(error < 1e-6, "{error:e}");
    Ok(())
}

/// A line per tensor: offset or role, name, shape, kind, or whose it is.
#[test]
fn the_layout_tells_roles() -> Result<()> {
    let plan = || TargetPlan::<Net>::new(&());
    let roles =
        [("layers.0.*", Role::Freeze), ("layers.*.weight", Role::Shared), ("norm.*", Role::Train)];
    let plain = plan()?;
    let with = plan()?.with_roles(&roles)?;
    assert_eq!(
        lines(with.layout()),
        [
            "0 layers.1.weight [4, 4] weight",
            "16 layers.1.bias [4] bias",
            "20 layers.2.bias [4] bias",
            "24 head.weight [2, 4] weight",
            "32 head.bias [2] bias",
            "freeze layers.0.weight [4, 3] weight",
            "freeze layers.0.bias [4] bias",
            "train norm.weight [4] gain",
            "train norm.bias [4] bias",
            "shared layers.2.weight layers.1.weight",
            "34 parameters"
        ]
    );
    // The hash is that of the roles too.
    let other = plan()?.with_roles(&[("layers.0.*", Role::Freeze), ("norm.*", Role::Train)])?;
    let hashes = [plain.layout().hash(), with.layout().hash(), other.layout().hash()];
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
    assert_eq!(plan()?.with_roles(&[("*", Role::Generate)])?.layout().hash(), hashes[0]);
    Ok(())
}

fn mixed(seed: u64, tensors: &HashMap<String, Tensor>) -> Result<(VarMap, HyperMixed)> {
    let (vars, vb) = variables(seed, DType::F64);
    let layers = Pretrained::from(pretrained(tensors, DType::F64)).without("layers.1.weight");
    Ok((vars, HyperMixed::new_from(vb, layers)?))
}

#[test]
fn roles_side_by_side() -> Result<()> {
    let (_, tensors) = trained(1, DType::F64)?;
    let (vars, hyper) = mixed(2, &tensors)?;
    let net = hyper.target()?;
    assert_eq!(values(net.layers[0].weight())?, values(&tensors["layers.0.weight"])?);
    assert_eq!(values(net.layers[1].weight())?, values(net.layers[2].weight())?);
    assert_eq!(values(net.layers[2].bias().unwrap())?, values(&tensors["layers.2.bias"])?);
    let names: Vec<_> = by_name(&vars).into_keys().filter(|n| n.starts_with("target.")).collect();
    assert_eq!(
        names,
        ["target.layers.1.bias", "target.layers.2.bias", "target.norm.bias", "target.norm.weight"]
    );
    // 5 × 3 embeddings, (3 + 1) × 6 of the generator, 16 of the target.
    assert_eq!(hyper.num_params(), 15 + 24 + 16);
    let xs = input(&[6, 3], 3, DType::F64)?;
    let error = gradient_error(&vars, &|| weighted_sum(&hyper.forward(&xs)?))?;
    assert!(error < 1e-6, "{error:e}");
    let params = hyper.generate_params()?;
    let audit = hyper.audit(&params, &weighted_sum(&params.forward(&xs)?)?)?;
    assert!(audit.is_complete(), "{audit}");
    assert!(audit.variables().iter().any(|(name, _)| name == "target.norm.weight"));
    Ok(())
}

/// Frozen tensors stay, trained and generated ones move.
#[test]
fn training_moves_what_it_should() -> Result<()> {
    let (_, tensors) = trained(1, DType::F64)?;
    let (vars, hyper) = mixed(2, &tensors)?;
    let before = hyper.generate_params()?;
    let params = ParamsAdamW { lr: 0.05, weight_decay: 0.1, ..Default::default() };
    let mut optimizer = AdamW::new(vars.all_vars(), params)?;
    optimizer.backward_step(&weighted_sum(&hyper.forward(&input(&[6, 3], 3, DType::F64)?)?)?)?;
    let (before, after) = (before.unpack()?, hyper.target()?);
    let moved = |a: &Tensor, b: &Tensor| Ok::<_, candle_core::Error>(values(a)? != values(b)?);
    assert!(!moved(after.layers[0].weight(), &tensors["layers.0.weight"])?);
    assert!(moved(after.layers[1].weight(), before.layers[1].weight())?);
    assert_eq!(values(after.layers[1].weight())?, values(after.layers[2].weight())?);
    assert!(moved(after.layers[1].bias().unwrap(), &tensors["layers.1.bias"])?);
    Ok(())
}

/// The exported checkpoint has every tensor under its own name.
#[test]
fn exported_roles() -> Result<()> {
    let (_, tensors) = trained(1, DType::F64)?;
    let ((_dir, path), (_vars, hyper)) = (place(), mixed(2, &tensors)?);
    hyper.export(&path)?;
    let exported = candle_core::safetensors::load(&path, device())?;
    assert_eq!(exported.len(), tensors.len());
    let net = Net::new(pretrained(&exported, DType::F64))?;
    let xs = input(&[6, 3], 3, DType::F64)?;
    assert_eq!(values(&net.forward(&xs)?)?, values(&hyper.forward(&xs)?)?);
    Ok(())
}

/// A checkpoint holds what is trained; what is frozen must be the same as when it was saved.
#[test]
fn saved_roles() -> Result<()> {
    let (_, tensors) = trained(1, DType::F64)?;
    let ((_dir, path), (_vars, hyper)) = (place(), mixed(2, &tensors)?);
    hyper.save(&path)?;
    let saved = candle_core::safetensors::load(&path, device())?;
    assert!(
        saved.contains_key("target.norm.weight") && !saved.contains_key("target.layers.0.bias")
    );
    let (_vars, other) = mixed(3, &tensors)?;
    let xs = input(&[6, 3], 3, DType::F64)?;
    assert_ne!(values(&other.forward(&xs)?)?, values(&hyper.forward(&xs)?)?);
    other.load(&path)?;
    assert_eq!(values(&other.forward(&xs)?)?, values(&hyper.forward(&xs)?)?);

    let (_, others) = trained(9, DType::F64)?;
    let found = message(mixed(3, &others)?.1.load(&path)).replace(path.to_str().unwrap(), "FILE");
    let start = "can't load FILE: it was saved over another pretrained network: SHA-256 ";
    assert!(found.starts_with(start) && found.len() == start.len() + 64 + 11 + 64, "{found}");
    Ok(())
}

/// A builder over a checkpoint's tensors says over which pretrained network they were saved, in whatever dtype.
#[test]
fn a_checkpoint_by_builder_knows_its_pretrained_network() -> Result<()> {
    let ((_, tensors), (_, others)) = (trained(1, DType::F32)?, trained(2, DType::F32)?);
    let (_dir, path) = place();
    let saved = HyperHead::new_from(variables(2, DType::F32).1, pretrained(&tensors, DType::F32))?;
    saved.save(&path)?;
    let file = candle_core::safetensors::load(&path, device())?;
    let from = |file: &HashMap<String, Tensor>, base, dtype| {
        HyperHead::new_from(pretrained(file, dtype), pretrained(base, dtype))
    };
    let xs = input(&[6, 3], 3, DType::F32)?;
    let built = from(&file, &tensors, DType::F32)?;
    assert_eq!(values(&built.forward(&xs)?)?, values(&saved.forward(&xs)?)?);
    let found = message(from(&file, &others, DType::F32));
    let start = "the builder has the tensors of a checkpoint of HyperHead: it was saved over another pretrained network: SHA-256 ";
    assert!(found.starts_with(start), "{found}");
    let start = "the builder has the tensors of a checkpoint of HyperHead: it was saved over another pretrained network: `";
    let end = "` has other values there, by more than rounding";
    for dtype in [DType::F64, DType::F16, DType::BF16] {
        from(&file, &tensors, dtype)?;
        let found = message(from(&file, &others, dtype));
        assert!(found.starts_with(start) && found.ends_with(end), "{dtype:?}: {found}");
    }
    let mut without_measures = file.clone();
    assert!(without_measures.remove("pretrained_measures").is_some());
    from(&without_measures, &others, DType::F64)?;
    // Files of before say nothing.
    let mut older = file.clone();
    older.retain(|name, _| !name.starts_with("pretrained_sha256"));
    assert_eq!(older.len() + 1, file.len());
    assert!(from(&older, &others, DType::F32).is_ok());
    // What was saved is loaded, and what is built from it saves the same.
    saved.load(&path)?;
    built.save(&path)?;
    let again = candle_core::safetensors::load(&path, device())?;
    assert_eq!(again.len(), file.len());
    let without = HyperNet::new_from(variables(2, DType::F32).1, pretrained(&tensors, DType::F32))?;
    without.save(&path)?;
    let file = candle_core::safetensors::load(&path, device())?;
    assert_eq!(
        message(HyperNet::new(pretrained(&file, DType::F32))),
        "the builder has the tensors of a checkpoint of HyperNet: it was saved over a pretrained network, but this hypernetwork has none: build it by `new_from`"
    );
    Ok(())
}

hypernetwork! {
    struct HyperNet for Net { embedding: table(37, 3), generator: linear, mode: static }
}

hypernetwork! {
    struct HyperPlain for Net {
        embedding: table(37, 3), generator: mlp([4], tanh), mode: static, init: hyper_nn,
    }
}

hypernetwork! {
    struct DynamicNet for Net { embedding: rnn(3, 37, 2), generator: linear, mode: dynamic }
}

#[test]
fn with_and_without_a_pretrained_network() -> Result<()> {
    let (_, tensors) = trained(1, DType::F32)?;
    let (_dir, path) = place();
    let from = || HyperNet::new_from(variables(2, DType::F32).1, pretrained(&tensors, DType::F32));
    let fresh = || HyperNet::new(variables(2, DType::F32).1);
    let load = |hyper: HyperNet| message(hyper.load(&path)).replace(path.to_str().unwrap(), "FILE");
    from()?.save(&path)?;
    assert_eq!(
        load(fresh()?),
        "can't load FILE: it was saved over a pretrained network, but this hypernetwork has none: build it by `new_from`"
    );
    fresh()?.save(&path)?;
    assert_eq!(
        load(from()?),
        "can't load FILE: it was saved without a pretrained network, but this hypernetwork has one: build it by `new`"
    );
    Ok(())
}

/// Every bit of it, in each scheme; and it learns the difference at once.
#[test]
fn a_static_hypernetwork_starts_as_the_pretrained_network() -> Result<()> {
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        let (net, tensors) = trained(1, dtype)?;
        let xs = input(&[6, 3], 3, dtype)?;
        let expected = values(&net.forward(&xs)?)?;
        let exact = HyperNet::new_from(variables(2, dtype).1, pretrained(&tensors, dtype))?;
        assert_eq!(values(&exact.forward(&xs)?)?, expected);
        let plain = HyperPlain::new_from(variables(2, dtype).1, pretrained(&tensors, dtype))?;
        assert_eq!(values(&plain.forward(&xs)?)?, expected);
    }
    let (_, tensors) = trained(1, DType::F64)?;
    let (vars, vb) = variables(2, DType::F64);
    let hyper = HyperNet::new_from(vb, pretrained(&tensors, DType::F64))?;
    let xs = input(&[6, 3], 3, DType::F64)?;
    let error = gradient_error(&vars, &|| weighted_sum(&hyper.forward(&xs)?))?;
    assert!(error < 1e-6, "{error:e}");
    Ok(())
}

/// Whatever the condition; the gains learn first, and then all.
#[test]
fn a_dynamic_hypernetwork_starts_as_the_pretrained_network() -> Result<()> {
    let (net, tensors) = trained(1, DType::F64)?;
    let (vars, vb) = variables(2, DType::F64);
    let hyper = DynamicNet::new_from(vb, pretrained(&tensors, DType::F64))?;
    let xs = input(&[6, 3], 3, DType::F64)?;
    assert!(relative_error(&hyper.forward(&xs)?, &net.forward(&xs)?)? < 1e-14);
    let params = hyper.generate_params(&xs)?;
    for (param, tensor) in params.tensors() {
        let start = tensors[&param.name].broadcast_as(tensor.shape())?;
        assert_eq!(values(tensor)?, values(&start)?, "{}", param.name);
    }
    assert_eq!(by_name(&vars)["gains"].dims(), [10]);
    let loss = || weighted_sum(&hyper.forward(&xs)?);
    let audit = hyper.audit(&params, &weighted_sum(&params.forward(&xs)?)?)?;
    let of = |name: &str| audit.variables().iter().find(|(at, _)| at == name).unwrap().1;
    assert_eq!((of("gains"), of("generator.weight")), (Gradient::Some, Gradient::ZeroHere));
    assert!(audit.is_complete(), "{audit}");
    AdamW::new(vars.all_vars(), ParamsAdamW { lr: 0.1, ..Default::default() })?
        .backward_step(&loss()?)?;
    let error = gradient_error(&vars, &loss)?;
    assert!(error < 1e-6, "{error:e}");
    assert!(values(&gradients(&vars, &loss()?)?["generator.weight"])?.iter().any(|v| *v != 0.));
    Ok(())
}

/// A head that is not in the file; all else must be.
#[test]
fn a_part_that_starts_afresh() -> Result<()> {
    let (_, mut tensors) = trained(1, DType::F64)?;
    tensors.remove("head.weight");
    tensors.remove("head.bias");
    let new =
        |pretrained: Pretrained<'_>| HyperNet::new_from(variables(2, DType::F64).1, pretrained);
    let vb = || Pretrained::from(pretrained(&tensors, DType::F64));
    let net = new(vb().without("head.*"))?.target()?;
    assert_eq!(values(net.layers[0].weight())?, values(&tensors["layers.0.weight"])?);
    let fresh = HyperNet::new(variables(2, DType::F64).1)?.target()?;
    assert_eq!(values(net.head.weight())?, values(fresh.head.weight())?);
    assert_eq!(
        message(new(vb())),
        "the pretrained network has no `head.weight`, expected shape [2, 4]: `without(\"head.weight\")` starts it as a fresh one"
    );
    assert_eq!(
        message(new(vb().without("head.*").without("heads.*"))),
        "without \"heads.*\": no tensor of the target has a name of this pattern; the nearest names are `head.bias`, `head.weight` and `layers.0.bias`"
    );
    Ok(())
}

/// Tensors that are to be one are one in the pretrained network.
#[test]
fn shared_tensors_of_a_pretrained_network() -> Result<()> {
    let (_, mut tensors) = trained(1, DType::F64)?;
    let shared = |tensors: &HashMap<String, Tensor>| {
        HyperMixed::new_from(variables(2, DType::F64).1, pretrained(tensors, DType::F64))
    };
    assert_eq!(
        message(shared(&tensors)),
        "`layers.2.weight` is shared with `layers.1.weight`, but the pretrained network has another tensor there: `without(\"layers.1.weight\")` starts them as a fresh one"
    );
    tensors.insert("layers.2.weight".to_owned(), tensors["layers.1.weight"].clone());
    let net = shared(&tensors)?.target()?;
    assert_eq!(values(net.layers[2].weight())?, values(&tensors["layers.1.weight"])?);
    Ok(())
}

#[test]
fn pretrained_networks_that_do_not_fit() -> Result<()> {
    let (_, mut tensors) = trained(1, DType::F32)?;
    tensors.insert("norm.bias".to_owned(), Tensor::zeros(5, DType::F32, device())?);
    let new = || HyperHead::new_from(variables(2, DType::F32).1, pretrained(&tensors, DType::F32));
    assert_eq!(
        message(new()),
        "`norm.bias` of the pretrained network, expected shape [4]: shape mismatch for norm.bias, expected: [4], got: [5]"
    );
    assert_eq!(
        message(HyperHead::new(variables(2, DType::F32).1)),
        "`layers.0.weight` has the role `freeze`, but no pretrained network to come from: `new_from` takes one"
    );
    let missing = Pretrained::open("/there/is/no/such/file").map(drop);
    assert!(message(missing).starts_with("can't read /there/is/no/such/file: "));
    Ok(())
}

/// Variables in memory, of another dtype.
#[test]
fn a_network_in_memory() -> Result<()> {
    let (vars, vb) = variables(1, DType::F32);
    let net = Net::new(vb)?;
    let vb = VarBuilder::from_varmap(&vars, DType::F32, device());
    let hyper = HyperHead::new_from(variables(2, DType::F64).1, vb)?;
    let found = hyper.target()?;
    assert_eq!(values(found.head.weight())?, values(net.head.weight())?);
    assert_eq!(values(found.layers[0].weight())?, values(net.layers[0].weight())?);
    assert_eq!(found.layers[0].weight().dtype(), DType::F64);
    Ok(())
}

/// A file of half precision serves a hypernetwork of any.
#[test]
fn a_file_of_another_dtype() -> Result<()> {
    let (net, tensors) = trained(1, DType::F16)?;
    let (_dir, path) = place();
    candle_core::safetensors::save(&tensors, &path)?;
    let hyper = HyperNet::new_from(variables(2, DType::F64).1, Pretrained::open(&path)?)?;
    let found = hyper.target()?;
    assert_eq!(found.head.weight().dtype(), DType::F64);
    assert_eq!(values(found.head.weight())?, values(net.head.weight())?);
    Ok(())
}

#[test]
fn roles_that_can_not_be() -> Result<()> {
    let with = |roles: &[(&str, Role)]| TargetPlan::<Net>::new(&())?.with_roles(roles);
    assert_eq!(
        message(with(&[("*", Role::Generate), ("head.*", Role::Freeze)])),
        "role `freeze` of \"head.*\": no tensor of the target has a name of this pattern that no pattern before it has; `head.weight` has an earlier one"
    );
    assert_eq!(
        message(with(&[("layers.*.weight", Role::Shared)])),
        "`layers.1.weight` of shape [4, 4] can't be shared with `layers.0.weight` of shape [4, 3]"
    );
    assert_eq!(
        message(with(&[("*", Role::Train)])),
        "no tensor of target Net has the role `generate`; `layers.0.weight`, the first, has `train`"
    );
    Ok(())
}

/// Roles of fields.
#[derive(HyperTarget)]
struct Parts {
    #[hyper([linear(3, 4), linear(4, 4)], role = freeze)]
    trunk: [Linear; 2],
    #[hyper(batch_norm(4), role = train)]
    norm: BatchNorm,
    #[hyper(linear(4, 2))]
    head: Linear,
    #[hyper(linear(4, 2), tie(weight = head.weight), role = train)]
    other: Linear,
}

impl ModuleT for Parts {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        let xs = self.trunk.iter().try_fold(xs.clone(), |xs, layer| layer.forward(&xs)?.tanh())?;
        let xs = self.norm.forward_t(&xs, train)?;
        self.head.forward(&xs)? + self.other.forward(&xs)?
    }
}

/// A target in a target brings its roles.
#[derive(HyperTarget)]
struct Outer {
    parts: Parts,
    #[hyper(linear(2, 1))]
    last: Linear,
}

impl ModuleT for Outer {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.last.forward(&self.parts.forward_t(xs, train)?)
    }
}

hypernetwork! {
    struct HyperOuter for Outer { embedding: table(13, 3), generator: linear, mode: static }
}

hypernetwork! {
    struct DynamicOuter for Outer { embedding: encoder(3, [4], tanh, 13, 3), generator: linear, mode: dynamic }
}

hypernetwork! {
    struct ThawedOuter for Outer {
        embedding: table(9, 3), generator: linear, mode: static, roles: [("parts.trunk.*", generate)],
    }
}

fn outer() -> Result<VarBuilder<'static>> {
    let (vars, vb) = variables(1, DType::F64);
    Outer::new(vb)?;
    let tensors = by_name(&vars).into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
    Ok(VarBuilder::from_tensors(tensors.collect(), DType::F64, device()))
}

#[test]
fn roles_of_fields() -> Result<()> {
    assert_eq!((Parts::NUM_PARAMS, Outer::NUM_PARAMS, HyperOuter::NUM_TARGET_PARAMS), (10, 13, 13));
    assert_eq!(
        lines(&Outer::layout()?),
        [
            "0 parts.head.weight [2, 4] weight",
            "8 parts.head.bias [2] bias",
            "10 last.weight [1, 2] weight",
            "12 last.bias [1] bias",
            "freeze parts.trunk.0.weight [4, 3] weight",
            "freeze parts.trunk.0.bias [4] bias",
            "freeze parts.trunk.1.weight [4, 4] weight",
            "freeze parts.trunk.1.bias [4] bias",
            "train parts.norm.weight [4] gain",
            "train parts.norm.bias [4] bias",
            "train parts.other.bias [2] bias",
            "13 parameters"
        ]
    );
    let (vars, vb) = variables(2, DType::F64);
    let hyper = HyperOuter::new_from(vb, outer()?)?;
    let xs = input(&[6, 3], 3, DType::F64)?;
    let net = Outer::new(outer()?)?;
    assert_eq!(values(&hyper.forward_t(&xs, false)?)?, values(&net.forward_t(&xs, false)?)?);
    let error = gradient_error(&vars, &|| weighted_sum(&hyper.forward_t(&xs, false)?))?;
    assert!(error < 1e-6, "{error:e}");
    // A pattern has the last word.
    let thawed = ThawedOuter::new_from(variables(2, DType::F64).1, outer()?)?;
    assert_eq!(thawed.num_target_params(), 13 + 36);
    Ok(())
}

/// A field that is a target, with a configuration or in a list, has one role for all that is below.
#[derive(HyperTarget)]
struct Above {
    #[hyper(role = train)]
    parts: Parts,
    #[hyper([target, target], role = freeze)]
    more: Vec<Parts>,
    #[hyper(target(3), role = freeze)]
    sized: Sized,
    #[hyper([target(3), target(4)], role = freeze)]
    list: Vec<Sized>,
    #[hyper(linear(2, 1))]
    last: Linear,
}

#[derive(HyperTarget)]
#[hyper(config = usize)]
struct Sized {
    #[hyper(linear(*config, 3))]
    fc: Linear,
}

#[test]
fn a_role_holds_for_all_that_is_below() -> Result<()> {
    assert_eq!(Above::NUM_PARAMS, 3);
    let layout = Above::layout()?;
    assert_eq!(
        layout.params().iter().map(|param| param.name.as_str()).collect::<Vec<_>>(),
        ["last.weight", "last.bias"]
    );
    // Also for a field with another role: `trunk` is frozen in `Parts`.
    for kept in layout.kept() {
        let role = if kept.name.starts_with("parts.") { Role::Train } else { Role::Freeze };
        assert_eq!(kept.role, role, "{}", kept.name);
    }
    assert_eq!(layout.kept().len(), 3 * 9 + 3 * 2);
    // A pattern has the last word here too.
    let roles = [("more.0.trunk.*", Role::Generate)];
    assert_eq!(TargetPlan::<Above>::new(&())?.with_roles(&roles)?.num_params(), 3 + 36);
    Ok(())
}

/// Sets of generated tensors beside tensors that all sets have in common.
#[test]
fn several_sets_with_kept_tensors() -> Result<()> {
    let (vars, vb) = variables(2, DType::F64);
    let hyper = DynamicOuter::new_from(vb, outer()?)?;
    by_name(&vars)["gains"].set(&Tensor::full(0.5, 4, device())?)?;
    let xs = input(&[6, 3], 3, DType::F64)?;
    let params = hyper.generate_params(&xs)?;
    let whole = params.forward_t(&xs, false)?;
    let rows = (0..6).map(|i| params.set(i)?.unpack()?.forward_t(&xs.narrow(0, i, 1)?, false));
    let rows = Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)?;
    let error = relative_error(&whole, &rows)?;
    assert!(error < 1e-12, "{error:e}");
    let error = gradient_error(&vars, &|| weighted_sum(&hyper.forward_t(&xs, false)?))?;
    assert!(error < 1e-6, "{error:e}");
    Ok(())
}

/// One of each layer.
#[derive(HyperTarget)]
struct Each {
    #[hyper(embedding(5, 6))]
    table: Embedding,
    #[hyper(conv1d(6, 6, 1))]
    conv1d: Conv1d,
    #[hyper(conv_transpose1d(6, 6, 1))]
    conv_transpose1d: ConvTranspose1d,
    #[hyper(group_norm(2, 6, 1e-5))]
    group_norm: GroupNorm,
    #[hyper(batch_norm(6))]
    batch_norm: BatchNorm,
    #[hyper(prelu(Some(6)))]
    prelu: PReLU,
    #[hyper(conv2d(6, 6, 1))]
    conv2d: Conv2d,
    #[hyper(conv_transpose2d(6, 6, 1))]
    conv_transpose2d: ConvTranspose2d,
    #[hyper(lstm(6, 6))]
    lstm: LSTM,
    #[hyper(gru(6, 6))]
    gru: GRU,
    #[hyper(layer_norm(6, 1e-5))]
    layer_norm: LayerNorm,
    #[hyper(rms_norm(6, 1e-5))]
    rms_norm: RmsNorm,
    #[hyper(linear(6, 2))]
    linear: Linear,
}

impl Each {
    fn forward(&self, letters: &Tensor) -> Result<Tensor> {
        let xs = self.table.forward(letters)?.transpose(1, 2)?;
        let xs = self.conv_transpose1d.forward(&self.conv1d.forward(&xs)?)?;
        let xs = self.batch_norm.forward_t(&self.group_norm.forward(&xs)?, false)?;
        let xs = self.prelu.forward(&xs)?.unsqueeze(3)?;
        let xs = self.conv_transpose2d.forward(&self.conv2d.forward(&xs)?)?.squeeze(3)?;
        let xs = self.lstm.states_to_tensor(&self.lstm.seq(&xs.transpose(1, 2)?)?)?;
        let states: Vec<_> = self.gru.seq(&xs)?.into_iter().map(|state| state.h).collect();
        let xs = Tensor::stack(&states, 1)?;
        self.linear.forward(&self.rms_norm.forward(&self.layer_norm.forward(&xs)?)?)
    }
}

impl Module for Each {
    fn forward(&self, letters: &Tensor) -> Result<Tensor> {
        Self::forward(self, letters)
    }
}

hypernetwork! {
    struct FewOfEach for Each {
        embedding: encoder(3, [4], tanh, 6, 3), generator: linear, mode: dynamic,
        roles: [("*bias*", generate), ("*", train)],
    }
}

hypernetwork! {
    struct MostOfEach for Each {
        embedding: encoder(3, [4], tanh, 6, 3), generator: linear, mode: dynamic,
        roles: [("*bias*", train), ("*.weight_hh*", train), ("table.weight", train)],
    }
}

/// Every layer takes sets of one tensor beside another that all sets have in common.
#[test]
fn each_layer_mixes_sets_and_kept_tensors() -> Result<()> {
    let (condition, letters) = (input(&[3, 3], 3, DType::F64)?, letters()?);
    let check = |params: hypernn::GeneratedParams<Each>| {
        let whole = params.unpack()?.forward(&letters)?;
        let rows =
            (0..3).map(|i| params.set(i)?.unpack()?.forward(&letters.narrow(0, 2 * i, 2)?));
        let error = relative_error(&whole, &Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)?)?;
        assert!(error < 1e-12, "{error:e}");
        Ok::<_, candle_core::Error>(params.layout().params().len())
    };
    let (vars, vb) = variables(2, DType::F64);
    let few = FewOfEach::new(vb)?;
    assert_eq!(check(few.generate_params(&condition)?)?, 12);
    let loss = || weighted_sum(&few.generate_params(&condition)?.forward(&letters)?);
    let error = gradient_error(&vars, &loss)?;
    assert!(error < 1e-5, "{error:e}");
    let (vars, vb) = variables(2, DType::F64);
    let most = MostOfEach::new(vb)?;
    assert_eq!(check(most.generate_params(&condition)?)?, 12);
    let loss = || weighted_sum(&most.generate_params(&condition)?.forward(&letters)?);
    let error = gradient_error(&vars, &loss)?;
    assert!(error < 1e-5, "{error:e}");
    Ok(())
}

fn letters() -> Result<Tensor> {
    Tensor::from_vec((0..24u32).map(|i| i * i % 5).collect(), (6, 4), device())
}

/// A flat vector holds what is generated.
#[test]
fn flat_vectors_of_a_target_with_roles() -> Result<()> {
    let net = Outer::new(outer()?)?;
    let flat = net.pack()?;
    let expected = [
        values(net.parts.head.weight())?,
        values(net.parts.head.bias().unwrap())?,
        values(net.last.weight())?,
        values(net.last.bias().unwrap())?,
    ];
    assert_eq!(values(&flat)?, expected.concat());
    assert_eq!(
        message(Outer::unpack(&flat)),
        "`parts.trunk.0.weight` is not generated: a hypernetwork keeps it, and a flat vector does not hold it; the hypernetwork's `params_from_flat` adds it"
    );
    Ok(())
}

/// By constructor, in its own names.
#[test]
fn roles_of_a_constructor() -> Result<()> {
    let (_, tensors) = trained(1, DType::F64)?;
    let vb = pretrained(&tensors, DType::F64);
    let hyper = HyperBuilt::new_from(variables(2, DType::F64).1, vb.pp("layers"), |vb| {
        Ok((candle_nn::linear(3, 4, vb.pp(0))?, candle_nn::linear(4, 4, vb.pp(1))?))
    })?;
    let (first, second) = hyper.target()?;
    assert_eq!(values(first.weight())?, values(&tensors["layers.0.weight"])?);
    assert_eq!(values(second.weight())?, values(&tensors["layers.1.weight"])?);
    assert_eq!(hyper.num_target_params(), 20);
    Ok(())
}

hypernetwork! {
    struct HyperBuilt for (candle_nn::Linear, candle_nn::Linear) {
        target: constructor,
        embedding: table(5, 3),
        generator: linear,
        mode: static,
        roles: [("1.*", generate), ("*", freeze)],
    }
}

#[test]
fn detached_parameters_keep_nothing_that_learns() -> Result<()> {
    let (vars, vb) = variables(2, DType::F64);
    let hyper = HyperOuter::new_from(vb, outer()?)?;
    let params = hyper.generate_params()?.detach();
    let xs = candle_core::Var::from_tensor(&input(&[6, 3], 3, DType::F64)?)?;
    let loss = weighted_sum(&params.forward_t(&xs, false)?)?;
    for (name, grad) in gradients(&vars, &loss)? {
        assert!(values(&grad)?.iter().all(|value| *value == 0.), "{name}");
    }
    Ok(())
}
