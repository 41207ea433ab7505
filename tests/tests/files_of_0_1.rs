//! Checkpoints that version 0.1 wrote load, and give what they gave there.

#![allow(missing_docs)]

use std::path::Path;

use candle_core::{DType, Module, ModuleT, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use hypernn::HyperTarget;
use hypernn::nn::Linear;
use hypernn_tests::dynamic::{Embedding, Generator, Sizes, network};
use hypernn_tests::{by_name, device, input, message, relative_error, variables};

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(3, 4))]
    hidden: Linear,
    #[hyper(linear(4, 2))]
    out: Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.out.forward(&self.hidden.forward(xs)?.tanh()?)
    }
}

/// Each embedding, and each way in which a generator takes a condition.
const KINDS: [(Embedding, Generator); 7] = [
    (Embedding::Rnn, Generator::LinearConditioned),
    (Embedding::Gru, Generator::Mlp),
    (Embedding::Lstm, Generator::Linear),
    (Embedding::Encoder, Generator::Linear),
    (Embedding::EncoderCosSin, Generator::LowRankConditioned),
    (Embedding::Table, Generator::HeadsConditioned),
    (Embedding::Table, Generator::LinearCosSin),
];

/// Zeros, small and large numbers.
fn conditions() -> Result<Tensor> {
    let xs = input(&[4, 2], 5, DType::F32)?;
    xs.broadcast_mul(&Tensor::new(&[[0f32], [1e-3], [1.], [50.]], device())?)
}

fn sizes() -> Sizes {
    Sizes { width: 2, num_embeddings: 6, embedding_dim: 3 }
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/version_0_1")
}

#[test]
fn files_give_what_they_gave() -> Result<()> {
    let flats = candle_core::safetensors::load(folder().join("generated.safetensors"), device())?;
    for (kinds, number) in KINDS.into_iter().zip(0..) {
        let hyper = network::<Net>(kinds, sizes(), variables(100, DType::F32).1)?;
        let name = format!("{number}");
        hyper.load(folder().join(format!("{name}.safetensors")))?;
        let found = hyper.generate_params(&conditions()?)?.flat()?;
        let error = relative_error(&found, &flats[&name])?;
        assert!(error < 1e-5, "{kinds:?}: {error}");
    }
    Ok(())
}

/// A network of a convolution, running statistics and linear layers, derived and built by its constructor: the same
/// tensors of the same names.
mod derived {
    use hypernn::nn::{BatchNorm, Conv2d, Linear};
    use hypernn::{HyperTarget, hypernetwork};

    #[derive(HyperTarget)]
    pub struct Net {
        #[hyper(conv2d(1, 2, 3))]
        pub conv: Conv2d,
        #[hyper(batch_norm(2, 1e-4))]
        pub norm: BatchNorm,
        #[hyper(linear(8, 4))]
        pub hidden: Linear,
        #[hyper(linear(4, 2))]
        pub out: Linear,
    }

    hypernetwork! {
        pub struct HyperNet for Net { embedding: table(7, 3), generator: linear, mode: static }
    }

    hypernetwork! {
        pub struct HyperLora for Net {
            embedding: encoder(2, [4], tanh, 4, 3),
            generator: linear,
            mode: dynamic,
            roles: [
                ("hidden.weight", lora(2, 4.)),
                ("out.bias", train),
                ("out.weight", generate),
                ("*", freeze),
            ],
        }
    }
}

mod constructed {
    use candle_core::Result;
    use candle_nn::{BatchNorm, Conv2d, Linear, VarBuilder};
    use hypernn::hypernetwork;

    pub struct Net {
        pub conv: Conv2d,
        pub norm: BatchNorm,
        pub hidden: Linear,
        pub out: Linear,
    }

    impl Net {
        pub fn new(vb: VarBuilder<'_>) -> Result<Self> {
            Ok(Self {
                conv: candle_nn::conv2d(1, 2, 3, Default::default(), vb.pp("conv"))?,
                norm: candle_nn::batch_norm(2, 1e-4, vb.pp("norm"))?,
                hidden: candle_nn::linear(8, 4, vb.pp("hidden"))?,
                out: candle_nn::linear(4, 2, vb.pp("out"))?,
            })
        }
    }

    hypernetwork! {
        pub struct HyperNet for Net {
            target: constructor, embedding: table(7, 3), generator: linear, mode: static,
        }
    }

    hypernetwork! {
        pub struct HyperLora for Net {
            target: constructor,
            embedding: encoder(2, [4], tanh, 4, 3),
            generator: linear,
            mode: dynamic,
            roles: [
                ("hidden.weight", lora(2, 4.)),
                ("out.bias", train),
                ("out.weight", generate),
                ("*", freeze),
            ],
        }
    }
}

macro_rules! forward {
    ($($net:ty),*) => {$(
        impl Module for $net {
            fn forward(&self, xs: &Tensor) -> Result<Tensor> {
                let xs = self.norm.forward_t(&self.conv.forward(xs)?, false)?;
                self.out.forward(&self.hidden.forward(&xs.tanh()?.flatten_from(1)?)?.tanh()?)
            }
        }
    )*};
}

forward!(derived::Net, constructed::Net);

/// The ordinary network whose weights are adapted.
fn pretrained() -> Result<VarBuilder<'static>> {
    let (vars, vb) = variables(5, DType::F32);
    constructed::Net::new(vb)?;
    moved(&vars, 50)?;
    let tensors = by_name(&vars).into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
    Ok(VarBuilder::from_tensors(tensors.collect(), DType::F32, device()))
}

/// Moves all variables, running statistics with them, as training would.
fn moved(vars: &VarMap, seed: u64) -> Result<()> {
    for ((_, var), number) in by_name(vars).into_iter().zip(seed..) {
        let by = input(var.dims(), number, var.dtype())?;
        var.set(&(var.as_tensor() + (by * 0.1)?)?)?;
    }
    Ok(())
}

fn pictures() -> Result<Tensor> {
    input(&[4, 1, 4, 4], 6, DType::F32)
}

fn two_conditions() -> Result<Tensor> {
    input(&[2, 2], 7, DType::F32)
}

macro_rules! networks {
    ($target:ident, $vars:expr $(, $new:expr)?) => {{
        let net = $target::HyperNet::new($vars(21) $(, $new)?)?;
        let lora = $target::HyperLora::new_from($vars(22), pretrained()? $(, $new)?)?;
        (net, lora)
    }};
}

macro_rules! written {
    ($folder:expr, $target:ident $(, $new:expr)?) => {{
        let vars = [VarMap::new(), VarMap::new()];
        let builder = |seed: u64| {
            hypernn::seeded::var_builder(&vars[seed as usize - 21], seed, DType::F32, device())
        };
        let (net, lora) = networks!($target, builder $(, $new)?);
        moved(&vars[0], 30)?;
        moved(&vars[1], 40)?;
        let path = |what: &str| {
            $folder.join(format!("{}_{what}.safetensors", stringify!($target)))
        };
        net.save(path("net"))?;
        lora.save(path("lora"))?;
        let params = lora.generate_params(&two_conditions()?)?;
        params.save(path("params"))?;
        let outputs = [
            ("net".to_owned(), net.forward(&pictures()?)?),
            ("lora".to_owned(), params.forward(&pictures()?)?),
        ];
        candle_core::safetensors::save(&outputs.into(), path("outputs"))?;
    }};
}

/// Writes the files that [`files_of_derived_and_constructed_targets`] reads. It ran with version 0.1; what a later
/// version writes is no test of reading files of 0.1.
#[test]
#[ignore = "writes the files of version 0.1, which must stay as they are"]
fn write_the_files() -> Result<()> {
    written!(folder(), derived);
    written!(folder(), constructed, constructed::Net::new);
    Ok(())
}

macro_rules! read {
    ($folder:expr, $of:expr, $target:ident $(, $new:expr)?) => {{
        let builder = |seed: u64| variables(seed + 100, DType::F32).1;
        let (net, lora) = networks!($target, builder $(, $new)?);
        let path = |what: &str| $folder.join(format!("{}_{what}.safetensors", $of));
        net.load(path("net"))?;
        lora.load(path("lora"))?;
        let expected = candle_core::safetensors::load(path("outputs"), device())?;
        let params = lora.generate_params(&two_conditions()?)?;
        let loaded = lora.load_params(path("params"))?;
        for (what, found) in [
            ("net", net.forward(&pictures()?)?),
            ("lora", params.forward(&pictures()?)?),
            ("lora", loaded.forward(&pictures()?)?),
        ] {
            let error = relative_error(&found, &expected[what])?;
            assert!(error < 1e-5, "{what}: {error}");
        }
    }};
}

#[test]
fn files_of_derived_and_constructed_targets() -> Result<()> {
    read!(folder(), "derived", derived);
    read!(folder(), "constructed", constructed, constructed::Net::new);
    Ok(())
}

/// A model that is switched from its constructor to the derive keeps its files, and back.
#[test]
fn files_of_the_other_kind_of_target() -> Result<()> {
    read!(folder(), "constructed", derived);
    read!(folder(), "derived", constructed, constructed::Net::new);
    let now = tempfile::tempdir()?;
    written!(now.path(), derived);
    written!(now.path(), constructed, constructed::Net::new);
    for of in ["derived", "constructed"] {
        read!(now.path(), of, derived);
        read!(now.path(), of, constructed, constructed::Net::new);
    }
    Ok(())
}

/// The same names and roles, with one shape that is another.
mod wider {
    use hypernn::nn::{BatchNorm, Conv2d, Linear};
    use hypernn::{HyperTarget, hypernetwork};

    #[derive(HyperTarget)]
    pub struct Wider {
        #[hyper(conv2d(1, 2, 3))]
        pub conv: Conv2d,
        #[hyper(batch_norm(2, 1e-4))]
        pub norm: BatchNorm,
        #[hyper(linear(8, 6))]
        pub hidden: Linear,
        #[hyper(linear(6, 2))]
        pub out: Linear,
    }

    hypernetwork! {
        pub struct HyperWider for Wider { embedding: table(7, 3), generator: linear, mode: static }
    }
}

#[test]
fn another_layout_is_refused_as_before() -> Result<()> {
    let hyper = wider::HyperWider::new(variables(1, DType::F32).1)?;
    for (of, kind) in [("derived", "weight"), ("constructed", "tensor")] {
        let path = folder().join(format!("{of}_net.safetensors"));
        assert_eq!(
            message(hyper.load(&path)),
            format!(
                "can't load {}: it is a checkpoint for target Net; the first difference in layout: the file has `24 hidden.weight [4, 8] {kind}`, Wider has `24 hidden.weight [6, 8] weight`",
                path.display()
            )
        );
    }
    Ok(())
}

/// Targets whose tensors have the same names and shapes, and are others.
mod alike {
    use candle_core::{Result, Tensor};
    use candle_nn::VarBuilder;
    use hypernn::nn::{Embedding, Linear};
    use hypernn::{HyperTarget, hypernetwork};

    #[derive(HyperTarget)]
    pub struct Rows {
        #[hyper(embedding(5, 3))]
        pub x: Embedding,
    }

    #[derive(HyperTarget)]
    pub struct Matrix {
        #[hyper(linear_no_bias(3, 5))]
        pub x: Linear,
    }

    /// It asks for its matrix without saying how it starts.
    pub struct Plain(pub Tensor);

    impl Plain {
        pub fn new(vb: VarBuilder<'_>) -> Result<Self> {
            Ok(Self(vb.pp("x").get((5, 3), "weight")?))
        }
    }

    impl candle_core::Module for Plain {
        fn forward(&self, xs: &Tensor) -> Result<Tensor> {
            xs.matmul(&self.0.t()?)
        }
    }

    hypernetwork! {
        pub struct HyperRows for Rows { embedding: encoder(2, [4], tanh, 5, 3), generator: linear, mode: dynamic }

        pub struct HyperMatrix for Matrix {
            embedding: encoder(2, [4], tanh, 5, 3), generator: linear, mode: dynamic,
        }

        pub struct HyperPlain for Plain {
            target: constructor, embedding: encoder(2, [4], tanh, 5, 3), generator: linear, mode: dynamic,
        }
    }

    pub fn plain(vb: VarBuilder<'_>) -> Result<HyperPlain> {
        HyperPlain::new(vb, Plain::new)
    }
}

/// Tensors of another kind, and tensors that start otherwise, by which what is generated is scaled.
#[test]
fn tensors_that_are_others() -> Result<()> {
    let vb = |seed| variables(seed, DType::F32).1;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("rows.safetensors");
    alike::HyperRows::new(vb(1))?.save(&path)?;
    let refused = message(alike::HyperMatrix::new(vb(2))?.load(&path));
    let expected = "it is a checkpoint for target Rows; the first difference in layout: the file has `0 x.weight [5, 3] table`, Matrix has `0 x.weight [5, 3] weight`";
    assert!(refused.ends_with(expected), "{refused}");

    let path = folder.path().join("plain.safetensors");
    alike::plain(vb(1))?.save(&path)?;
    let refused = message(alike::HyperMatrix::new(vb(2))?.load(&path));
    let expected = "its tensors start otherwise (mean, deviation): the file has `x.weight: 0 0`, Matrix has `x.weight: 0 0.8164965809277261`";
    assert!(refused.ends_with(expected), "{refused}");
    Ok(())
}

/// Parameters that another network generated, of another layout, are no checkpoint of this target.
#[test]
fn parameters_of_another_layout_are_not_exported() -> Result<()> {
    let path = folder().join("never_written.safetensors");
    let hyper = derived::HyperNet::new(variables(1, DType::F32).1)?;
    let (_vars, pretrained) = variables(3, DType::F32);
    derived::Net::new(pretrained.clone())?;
    let lora = derived::HyperLora::new_from(variables(2, DType::F32).1, pretrained)?;
    let params = lora.generate_params(&input(&[2], 1, DType::F32)?)?;
    let refused = message(hyper.export_params(&params, &path));
    assert!(refused.starts_with("the parameters are of another layout: they have"), "{refused}");
    assert!(!path.exists());
    Ok(())
}
