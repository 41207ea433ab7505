//! Architectures that people use, written in attributes alone: each gives, bit for bit, what its forward written by
//! hand gives; those that candle-transformers has give what its models give, from the same names and weights.

#![allow(clippy::unwrap_used)]

use candle_core::{D, DType, Result, Tensor};
use candle_transformers::models::{resnet, vit};
use hypernn::nn::{
    self, Activation, AttentionMask, BatchNorm, Conv2d, ConvTranspose2d, Embedding, GroupNorm,
    LayerNorm, Linear, Module, ModuleT, RmsNorm, Rotary, RotaryConfig, VarBuilder, VarMap,
};
use hypernn::{HyperTarget, ShapedTarget, hypernetwork};
use hypernn_tests::{by_name, device};

fn new<T: HyperTarget<Config = ()>>() -> Result<T> {
    T::new(hypernn::seeded::var_builder(&VarMap::new(), 0, DType::F32, device()))
}

fn randn(shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1., shape, device())
}

/// Equal in every bit.
fn same(a: &Tensor, b: &Tensor) -> Result<bool> {
    let bits = |xs: &Tensor| -> Result<Vec<u32>> {
        Ok(xs.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
    };
    Ok(a.dims() == b.dims() && bits(a)? == bits(b)?)
}

/// Other values for all variables, none of which is what a layer starts with.
fn draw_anew(vars: &VarMap) -> Result<()> {
    for (name, var) in by_name(vars) {
        let drawn = (var.randn_like(0., 1.)? * 0.3)?;
        let positive = name.ends_with("running_var");
        var.set(&if positive { (drawn.abs()? + 0.5)? } else { drawn })?;
    }
    Ok(())
}

fn assert_close(a: &Tensor, b: &Tensor) -> Result<()> {
    let (scale, difference) = (b.abs()?.max_all()?, (a - b)?.abs()?.max_all()?);
    let (scale, difference) = (scale.to_scalar::<f32>()?, difference.to_scalar::<f32>()?);
    assert!(difference < 1e-4 * scale, "{difference} beside {scale}");
    Ok(())
}

/// ResNet-18 (He et al. 2016), by the names of candle-transformers.
mod resnet_18 {
    use super::*;

    #[derive(HyperTarget)]
    #[hyper(sequential_t)]
    struct Downsample<const I: usize, const O: usize> {
        #[hyper(conv2d_no_bias(I, O, 1, stride = 2), name = "0")]
        conv: Conv2d,
        #[hyper(batch_norm(O, 1e-5), name = "1")]
        norm: BatchNorm,
    }

    #[derive(HyperTarget)]
    #[hyper(
        sequential_t = [residual([conv1, bn1, relu, conv2, bn2], skip = [downsample]), relu],
        input = (I, H, W),
    )]
    struct Block<const I: usize, const O: usize, const STRIDE: usize> {
        #[hyper(conv2d_no_bias(I, O, 3, stride = STRIDE, padding = 1))]
        conv1: Conv2d,
        #[hyper(batch_norm(O, 1e-5))]
        bn1: BatchNorm,
        #[hyper(conv2d_no_bias(O, O, 3, padding = 1))]
        conv2: Conv2d,
        #[hyper(batch_norm(O, 1e-5))]
        bn2: BatchNorm,
        #[hyper(if STRIDE > 1 { target })]
        downsample: Option<Downsample<I, O>>,
    }

    #[derive(HyperTarget)]
    #[hyper(sequential_t)]
    struct Stage<const I: usize, const O: usize> {
        #[hyper(target, name = "0")]
        first: Block<I, O, 2>,
        #[hyper(target, name = "1")]
        second: Block<O, O, 1>,
    }

    #[derive(HyperTarget)]
    #[hyper(
        sequential_t = [
            conv1,
            bn1,
            relu,
            max_pool2d(3, stride = 2, padding = 1),
            repeat(layer1),
            layer2,
            layer3,
            layer4,
            global_avg_pool2d,
            fc,
        ],
        input = (3, 64, 64),
    )]
    struct ResNet18 {
        #[hyper(conv2d_no_bias(3, 64, 7, stride = 2, padding = 3))]
        conv1: Conv2d,
        #[hyper(batch_norm(64, 1e-5))]
        bn1: BatchNorm,
        #[hyper([target; 2])]
        layer1: Vec<Block<64, 64, 1>>,
        layer2: Stage<64, 128>,
        layer3: Stage<128, 256>,
        layer4: Stage<256, 512>,
        #[hyper(linear(512, 10))]
        fc: Linear,
    }

    fn block<const I: usize, const O: usize, const STRIDE: usize>(
        block: &Block<I, O, STRIDE>,
        xs: &Tensor,
    ) -> Result<Tensor> {
        let ys = block.bn1.forward_t(&block.conv1.forward(xs)?, false)?.relu()?;
        let ys = block.bn2.forward_t(&block.conv2.forward(&ys)?, false)?;
        let skip = match &block.downsample {
            Some(down) => down.norm.forward_t(&down.conv.forward(xs)?, false)?,
            None => xs.clone(),
        };
        (ys + skip)?.relu()
    }

    fn stage<const I: usize, const O: usize>(stage: &Stage<I, O>, xs: &Tensor) -> Result<Tensor> {
        block(&stage.second, &block(&stage.first, xs)?)
    }

    fn by_hand(net: &ResNet18, xs: &Tensor) -> Result<Tensor> {
        let xs = net.bn1.forward_t(&net.conv1.forward(xs)?, false)?.relu()?;
        let xs = xs.pad_with_same(D::Minus1, 1, 1)?.pad_with_same(D::Minus2, 1, 1)?;
        let xs = xs.max_pool2d_with_stride(3, 2)?;
        let xs = block(&net.layer1[1], &block(&net.layer1[0], &xs)?)?;
        let xs = stage(&net.layer4, &stage(&net.layer3, &stage(&net.layer2, &xs)?)?)?;
        net.fc.forward(&nn::global_avg_pool2d(&xs)?)
    }

    #[test]
    fn as_by_hand_and_as_candle_s() -> Result<()> {
        let vars = VarMap::new();
        let candle = resnet::resnet18(10, seeded_builder(&vars))?;
        draw_anew(&vars)?;
        let count = vars.all_vars().len();
        let net = ResNet18::new(VarBuilder::from_varmap(&vars, DType::F32, device()))?;
        assert_eq!(vars.all_vars().len(), count, "a name that candle's model has not");
        let xs = randn(&[2, 3, 64, 64])?;
        let ys = net.forward_t(&xs, false)?;
        assert!(same(&ys, &by_hand(&net, &xs)?)?);
        assert_close(&ys, &candle.forward(&xs)?)?;
        assert!(ResNet18::OUTPUT_SHAPE.is(&[10]));
        assert_eq!(Block::<8, 16, 1>::INPUT_SHAPE.to_string(), "[8, H, W]");
        Ok(())
    }
}

fn seeded_builder(vars: &VarMap) -> VarBuilder<'static> {
    hypernn::seeded::var_builder(vars, 0, DType::F32, device())
}

/// A U-Net (Ronneberger et al. 2015) of two levels.
mod u_net {
    use super::*;

    #[derive(HyperTarget)]
    #[hyper(sequential = [conv1, norm1, relu, conv2, norm2, relu], input = (I, H, W))]
    struct Double<const I: usize, const O: usize> {
        #[hyper(conv2d(I, O, 3, padding = 1))]
        conv1: Conv2d,
        #[hyper(group_norm(4, O, 1e-5))]
        norm1: GroupNorm,
        #[hyper(conv2d(O, O, 3, padding = 1))]
        conv2: Conv2d,
        #[hyper(group_norm(4, O, 1e-5))]
        norm2: GroupNorm,
    }

    #[derive(HyperTarget)]
    #[hyper(
        sequential = [
            skip1 = down1,
            max_pool2d(2),
            skip2 = down2,
            max_pool2d(2),
            bottom,
            up2,
            concat(0, skip2),
            merge2,
            upsample2d(2),
            shrink,
            concat(0, skip1),
            merge1,
            out,
        ],
        input = (1, 16, 24),
    )]
    struct UNet {
        down1: Double<1, 8>,
        down2: Double<8, 16>,
        bottom: Double<16, 32>,
        #[hyper(conv_transpose2d(32, 16, 2, stride = 2))]
        up2: ConvTranspose2d,
        merge2: Double<32, 16>,
        #[hyper(conv2d(16, 8, 1))]
        shrink: Conv2d,
        merge1: Double<16, 8>,
        #[hyper(conv2d(8, 2, 1))]
        out: Conv2d,
    }

    fn by_hand(net: &UNet, xs: &Tensor) -> Result<Tensor> {
        let skip1 = net.down1.forward(xs)?;
        let skip2 = net.down2.forward(&nn::max_pool2d(&skip1, 2)?)?;
        let ys = net.up2.forward(&net.bottom.forward(&nn::max_pool2d(&skip2, 2)?)?)?;
        let ys = net.merge2.forward(&Tensor::cat(&[&ys, &skip2], 1)?)?;
        let (_, _, height, width) = ys.dims4()?;
        let ys = net.shrink.forward(&ys.upsample_nearest2d(2 * height, 2 * width)?)?;
        net.out.forward(&net.merge1.forward(&Tensor::cat(&[&ys, &skip1], 1)?)?)
    }

    hypernetwork! {
        struct HyperUNet for UNet {
            embedding: tasks(2, 32, 4),
            generator: linear,
            mode: dynamic,
        }
    }

    #[test]
    fn as_by_hand() -> Result<()> {
        let (net, xs) = (new::<UNet>()?, randn(&[2, 1, 16, 24])?);
        assert!(same(&net.forward(&xs)?, &by_hand(&net, &xs)?)?);
        assert!(UNet::OUTPUT_SHAPE.is(&[2, 16, 24]));
        Ok(())
    }

    /// One set of generated weights for each run of samples, and gradients for all of them.
    #[test]
    fn generated() -> Result<()> {
        let hyper = HyperUNet::new(seeded_builder(&VarMap::new()))?;
        let xs = randn(&[4, 1, 16, 24])?;
        let params = hyper.generate_params(&Tensor::new(&[0u32, 1], device())?)?;
        let ys = params.forward(&xs)?;
        assert_close(
            &ys.narrow(0, 2, 2)?,
            &by_hand(&params.set(1)?.unpack()?, &xs.narrow(0, 2, 2)?)?,
        )?;
        let audit = hyper.audit(&params, &ys.sqr()?.mean_all()?)?;
        assert!(audit.is_complete(), "{audit}");
        Ok(())
    }
}

/// A vision transformer (Dosovitskiy et al. 2021), by the names of candle-transformers.
mod vision_transformer {
    use super::*;

    const WIDTH: usize = 32;
    const HEADS: usize = 4;

    #[derive(HyperTarget)]
    #[hyper(
        sequential = [
            residual([
                before,
                attention(
                    [query, split_heads(HEADS)],
                    [key, split_heads(HEADS)],
                    [value, split_heads(HEADS)],
                ),
                merge_heads,
                output,
            ]),
            residual([after, up, gelu, down]),
        ],
        input = (T, WIDTH),
    )]
    struct Layer {
        #[hyper(layer_norm(WIDTH, 1e-12), name = "layernorm_before")]
        before: LayerNorm,
        #[hyper(linear(WIDTH, WIDTH), name = "attention.attention.query")]
        query: Linear,
        #[hyper(linear(WIDTH, WIDTH), name = "attention.attention.key")]
        key: Linear,
        #[hyper(linear(WIDTH, WIDTH), name = "attention.attention.value")]
        value: Linear,
        #[hyper(linear(WIDTH, WIDTH), name = "attention.output.dense")]
        output: Linear,
        #[hyper(layer_norm(WIDTH, 1e-12), name = "layernorm_after")]
        after: LayerNorm,
        #[hyper(linear(WIDTH, 64), name = "intermediate.dense")]
        up: Linear,
        #[hyper(linear(64, WIDTH), name = "output.dense")]
        down: Linear,
    }

    #[derive(HyperTarget)]
    #[hyper(
        sequential = [
            patches,
            flatten_from(1),
            permute([1, 0]),
            concat(0, [class, take(0)], []),
            add([positions, take(0)], []),
            repeat(layers),
            take(0),
            norm,
            classifier,
        ],
        input = (3, 16, 16),
    )]
    struct ViT {
        #[hyper(tensor([1, 1, WIDTH]), name = "vit.embeddings.cls_token")]
        class: Tensor,
        #[hyper(tensor([1, 17, WIDTH]), name = "vit.embeddings.position_embeddings")]
        positions: Tensor,
        #[hyper(
            conv2d(3, WIDTH, 4, stride = 4),
            name = "vit.embeddings.patch_embeddings.projection"
        )]
        patches: Conv2d,
        #[hyper([target; 2], name = "vit.encoder.layer")]
        layers: Vec<Layer>,
        #[hyper(layer_norm(WIDTH, 1e-12), name = "vit.layernorm")]
        norm: LayerNorm,
        #[hyper(linear(WIDTH, 10))]
        classifier: Linear,
    }

    fn heads(xs: &Tensor) -> Result<Tensor> {
        let (batch, positions, width) = xs.dims3()?;
        xs.reshape((batch, positions, HEADS, width / HEADS))?.transpose(1, 2)
    }

    fn layer(layer: &Layer, xs: &Tensor) -> Result<Tensor> {
        let ys = layer.before.forward(xs)?;
        let q = heads(&layer.query.forward(&ys)?)?;
        let (k, v) = (heads(&layer.key.forward(&ys)?)?, heads(&layer.value.forward(&ys)?)?);
        let scale = 1. / ((WIDTH / HEADS) as f64).sqrt();
        let ys = nn::attention(&q, &k, &v, &AttentionMask::none(), scale)?;
        let xs = (layer.output.forward(&ys.transpose(1, 2)?.flatten_from(2)?)? + xs)?;
        let ys = layer.up.forward(&layer.after.forward(&xs)?)?.gelu_erf()?;
        layer.down.forward(&ys)? + xs
    }

    fn by_hand(net: &ViT, xs: &Tensor) -> Result<Tensor> {
        let xs = net.patches.forward(xs)?.flatten_from(2)?.transpose(1, 2)?;
        let class = net.class.broadcast_as((xs.dim(0)?, 1, WIDTH))?;
        let mut xs = Tensor::cat(&[&class, &xs], 1)?.broadcast_add(&net.positions)?;
        for each in &net.layers {
            xs = layer(each, &xs)?;
        }
        net.classifier.forward(&net.norm.forward(&xs.narrow(1, 0, 1)?.squeeze(1)?)?)
    }

    #[test]
    fn as_by_hand_and_as_candle_s() -> Result<()> {
        let config = vit::Config {
            hidden_size: WIDTH,
            num_hidden_layers: 2,
            num_attention_heads: HEADS,
            intermediate_size: 64,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-12,
            image_size: 16,
            patch_size: 4,
            num_channels: 3,
            qkv_bias: true,
        };
        let vars = VarMap::new();
        let candle = vit::Model::new(&config, 10, seeded_builder(&vars))?;
        draw_anew(&vars)?;
        let count = vars.all_vars().len();
        let net = ViT::new(VarBuilder::from_varmap(&vars, DType::F32, device()))?;
        assert_eq!(vars.all_vars().len(), count, "a name that candle's model has not");
        let xs = randn(&[2, 3, 16, 16])?;
        let ys = net.forward(&xs)?;
        assert!(same(&ys, &by_hand(&net, &xs)?)?);
        assert_close(&ys, &candle.forward(&xs)?)?;
        assert!(ViT::OUTPUT_SHAPE.is(&[10]));
        assert_eq!(Layer::OUTPUT_SHAPE.to_string(), "[T, 32]");
        Ok(())
    }
}

/// A block of a Llama with grouped queries and rotary embeddings (Touvron et al. 2023, Ainslie et al. 2023).
mod llama {
    use super::*;

    const WIDTH: usize = 32;
    const HEADS: usize = 4;
    const KEY_HEADS: usize = 2;
    const HEAD: usize = WIDTH / HEADS;

    #[derive(HyperTarget)]
    #[hyper(
        sequential = [
            residual([
                norm1,
                attention(
                    [q, split_heads(HEADS), rotary(1e4)],
                    [k, split_heads(KEY_HEADS), rotary(1e4)],
                    [v, split_heads(KEY_HEADS)],
                    causal = true,
                ),
                merge_heads,
                o,
            ]),
            residual([norm2, mul([gate, silu], [up]), down]),
        ],
        input = (T, WIDTH),
    )]
    struct Block {
        #[hyper(rms_norm(WIDTH, 1e-5))]
        norm1: RmsNorm,
        #[hyper(linear_no_bias(WIDTH, WIDTH))]
        q: Linear,
        #[hyper(linear_no_bias(WIDTH, KEY_HEADS * HEAD))]
        k: Linear,
        #[hyper(linear_no_bias(WIDTH, KEY_HEADS * HEAD))]
        v: Linear,
        #[hyper(linear_no_bias(WIDTH, WIDTH))]
        o: Linear,
        #[hyper(rms_norm(WIDTH, 1e-5))]
        norm2: RmsNorm,
        #[hyper(linear_no_bias(WIDTH, 48))]
        gate: Linear,
        #[hyper(linear_no_bias(WIDTH, 48))]
        up: Linear,
        #[hyper(linear_no_bias(48, WIDTH))]
        down: Linear,
    }

    #[derive(HyperTarget)]
    #[hyper(sequential = [tokens, blocks, norm, head], input = (T))]
    struct Llama {
        #[hyper(embedding(50, WIDTH))]
        tokens: Embedding,
        #[hyper([target; 3])]
        blocks: Vec<Block>,
        #[hyper(rms_norm(WIDTH, 1e-5))]
        norm: RmsNorm,
        #[hyper(linear_no_bias(WIDTH, 50), tie(weight = tokens.weight))]
        head: Linear,
    }

    fn heads(xs: &Tensor, heads: usize) -> Result<Tensor> {
        let (batch, positions, _) = xs.dims3()?;
        xs.reshape((batch, positions, heads, HEAD))?.transpose(1, 2)
    }

    fn block(block: &Block, xs: &Tensor, rotary: &Rotary) -> Result<Tensor> {
        let ys = block.norm1.forward(xs)?;
        let q = rotary.apply(&heads(&block.q.forward(&ys)?, HEADS)?, 0)?;
        let k = rotary.apply(&heads(&block.k.forward(&ys)?, KEY_HEADS)?, 0)?;
        let v = heads(&block.v.forward(&ys)?, KEY_HEADS)?;
        let scale = 1. / (HEAD as f64).sqrt();
        let ys = nn::attention(&q, &k, &v, &AttentionMask::causal(), scale)?;
        let xs = (block.o.forward(&ys.transpose(1, 2)?.flatten_from(2)?)? + xs)?;
        let ys = block.norm2.forward(&xs)?;
        let ys = (block.gate.forward(&ys)?.silu()? * block.up.forward(&ys)?)?;
        block.down.forward(&ys)? + xs
    }

    hypernetwork! {
        struct HyperLlama for Llama { embedding: table(64, 8), generator: linear, mode: static }
    }

    #[test]
    fn as_by_hand() -> Result<()> {
        let net = new::<Llama>()?;
        let ids = Tensor::rand(0f32, 50., (2, 7), device())?.to_dtype(DType::U32)?;
        let rotary = Rotary::new(
            &RotaryConfig {
                head_dim: HEAD,
                max_positions: 16,
                theta: 1e4,
                scaling: Default::default(),
                convention: Default::default(),
            },
            DType::F32,
            device(),
        )?;
        let mut xs = net.tokens.forward(&ids)?;
        for each in &net.blocks {
            xs = block(each, &xs, &rotary)?;
        }
        let ys = net.head.forward(&net.norm.forward(&xs)?)?;
        assert!(same(&net.forward(&ids)?, &ys)?);
        assert_eq!(Llama::OUTPUT_SHAPE.to_string(), "[T, 50]");
        Ok(())
    }

    #[test]
    fn every_parameter_gets_a_gradient() -> Result<()> {
        let hyper = HyperLlama::new(seeded_builder(&VarMap::new()))?;
        let ids = Tensor::arange(0u32, 7, device())?.unsqueeze(0)?;
        let params = hyper.generate_params()?;
        let audit = hyper.audit(&params, &params.forward(&ids)?.sqr()?.mean_all()?)?;
        assert!(audit.is_complete(), "{audit}");
        Ok(())
    }
}

/// An MLP-Mixer (Tolstikhin et al. 2021).
mod mixer {
    use super::*;

    #[derive(HyperTarget)]
    #[hyper(
        sequential = [
            residual([norm1, permute([1, 0]), up1, gelu, down1, permute([1, 0])]),
            residual([norm2, up2, gelu, down2]),
        ],
        input = (16, 24),
    )]
    struct Block {
        #[hyper(layer_norm(24, 1e-5))]
        norm1: LayerNorm,
        #[hyper(linear(16, 32))]
        up1: Linear,
        #[hyper(linear(32, 16))]
        down1: Linear,
        #[hyper(layer_norm(24, 1e-5))]
        norm2: LayerNorm,
        #[hyper(linear(24, 64))]
        up2: Linear,
        #[hyper(linear(64, 24))]
        down2: Linear,
    }

    #[derive(HyperTarget)]
    #[hyper(
        sequential = [patches, flatten_from(1), permute([1, 0]), blocks, norm, mean(0), fc],
        input = (3, 16, 16),
    )]
    struct Mixer {
        #[hyper(conv2d(3, 24, 4, stride = 4))]
        patches: Conv2d,
        #[hyper([target; 2])]
        blocks: [Block; 2],
        #[hyper(layer_norm(24, 1e-5))]
        norm: LayerNorm,
        #[hyper(linear(24, 10))]
        fc: Linear,
    }

    fn block(block: &Block, xs: &Tensor) -> Result<Tensor> {
        let ys = block.norm1.forward(xs)?.transpose(1, 2)?.contiguous()?;
        let ys = block.down1.forward(&block.up1.forward(&ys)?.gelu_erf()?)?;
        let xs = (ys.transpose(1, 2)?.contiguous()? + xs)?;
        let ys = block.up2.forward(&block.norm2.forward(&xs)?)?.gelu_erf()?;
        block.down2.forward(&ys)? + xs
    }

    #[test]
    fn as_by_hand() -> Result<()> {
        let (net, xs) = (new::<Mixer>()?, randn(&[2, 3, 16, 16])?);
        let ys = net.patches.forward(&xs)?.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let ys = block(&net.blocks[1], &block(&net.blocks[0], &ys)?)?;
        let ys = net.fc.forward(&net.norm.forward(&ys)?.mean(1)?)?;
        assert!(same(&net.forward(&xs)?, &ys)?);
        assert!(Mixer::OUTPUT_SHAPE.is(&[10]));
        Ok(())
    }
}

/// An encoder and a decoder with attention to what the encoder gave (Vaswani et al. 2017).
mod encoder_decoder {
    use super::*;

    const WIDTH: usize = 16;
    const HEADS: usize = 2;

    /// Each position of one sequence attends to those of another.
    #[derive(HyperTarget)]
    #[hyper(
        sequential = [
            attention(
                [q, split_heads(HEADS)],
                [context, k, split_heads(HEADS)],
                [context, v, split_heads(HEADS)],
            ),
            merge_heads,
            o,
        ],
        input = (x: (T, WIDTH), context: (S, WIDTH)),
    )]
    struct CrossAttention {
        #[hyper(linear(WIDTH, WIDTH))]
        q: Linear,
        #[hyper(linear(WIDTH, WIDTH))]
        k: Linear,
        #[hyper(linear(WIDTH, WIDTH))]
        v: Linear,
        #[hyper(linear(WIDTH, WIDTH))]
        o: Linear,
    }

    #[derive(HyperTarget)]
    #[hyper(sequential = [up, relu, down], input = (T, WIDTH))]
    struct Mlp {
        #[hyper(linear(WIDTH, 32))]
        up: Linear,
        #[hyper(linear(32, WIDTH))]
        down: Linear,
    }

    #[derive(HyperTarget)]
    #[hyper(
        sequential = [
            residual([normed = norm1, itself(normed)]),
            residual([norm2, mlp]),
        ],
        input = (T, WIDTH),
    )]
    struct Encoder {
        #[hyper(layer_norm(WIDTH, 1e-5))]
        norm1: LayerNorm,
        itself: CrossAttention,
        #[hyper(layer_norm(WIDTH, 1e-5))]
        norm2: LayerNorm,
        mlp: Mlp,
    }

    #[derive(HyperTarget)]
    #[hyper(
        sequential = [
            residual([normed = norm1, itself(normed)]),
            residual([norm2, cross(context)]),
            residual([norm3, mlp]),
        ],
        input = (x: (T, WIDTH), context: (S, WIDTH)),
    )]
    struct Decoder {
        #[hyper(layer_norm(WIDTH, 1e-5))]
        norm1: LayerNorm,
        itself: CrossAttention,
        #[hyper(layer_norm(WIDTH, 1e-5))]
        norm2: LayerNorm,
        cross: CrossAttention,
        #[hyper(layer_norm(WIDTH, 1e-5))]
        norm3: LayerNorm,
        mlp: Mlp,
    }

    #[derive(HyperTarget)]
    #[hyper(
        sequential = [words, decoders([source, words, encoders]), out],
        input = (target: (T), source: (S)),
    )]
    struct Translator {
        #[hyper(embedding(30, WIDTH))]
        words: Embedding,
        #[hyper([target; 2])]
        encoders: Vec<Encoder>,
        #[hyper([target; 2])]
        decoders: Vec<Decoder>,
        #[hyper(linear(WIDTH, 30))]
        out: Linear,
    }

    fn heads(xs: &Tensor) -> Result<Tensor> {
        let (batch, positions, width) = xs.dims3()?;
        xs.reshape((batch, positions, HEADS, width / HEADS))?.transpose(1, 2)
    }

    fn attends(layer: &CrossAttention, xs: &Tensor, context: &Tensor) -> Result<Tensor> {
        let q = heads(&layer.q.forward(xs)?)?;
        let (k, v) = (heads(&layer.k.forward(context)?)?, heads(&layer.v.forward(context)?)?);
        let scale = 1. / ((WIDTH / HEADS) as f64).sqrt();
        let ys = nn::attention(&q, &k, &v, &AttentionMask::none(), scale)?;
        layer.o.forward(&ys.transpose(1, 2)?.flatten_from(2)?)
    }

    fn mlp(layer: &Mlp, xs: &Tensor) -> Result<Tensor> {
        layer.down.forward(&layer.up.forward(xs)?.relu()?)
    }

    fn encoder(layer: &Encoder, xs: &Tensor) -> Result<Tensor> {
        let normed = layer.norm1.forward(xs)?;
        let xs = (attends(&layer.itself, &normed, &normed)? + xs)?;
        mlp(&layer.mlp, &layer.norm2.forward(&xs)?)? + xs
    }

    fn decoder(layer: &Decoder, xs: &Tensor, context: &Tensor) -> Result<Tensor> {
        let normed = layer.norm1.forward(xs)?;
        let xs = (attends(&layer.itself, &normed, &normed)? + xs)?;
        let xs = (attends(&layer.cross, &layer.norm2.forward(&xs)?, context)? + xs)?;
        mlp(&layer.mlp, &layer.norm3.forward(&xs)?)? + xs
    }

    #[test]
    fn as_by_hand() -> Result<()> {
        let net = new::<Translator>()?;
        let target = Tensor::arange(0u32, 10, device())?.reshape((2, 5))?;
        let source = Tensor::arange(10u32, 24, device())?.reshape((2, 7))?;
        let mut context = net.words.forward(&source)?;
        for layer in &net.encoders {
            context = encoder(layer, &context)?;
        }
        let mut xs = net.words.forward(&target)?;
        for layer in &net.decoders {
            xs = decoder(layer, &xs, &context)?;
        }
        assert!(same(&net.forward(&target, &source)?, &net.out.forward(&xs)?)?);
        let shapes = Translator::INPUT_SHAPES.iter().map(ToString::to_string);
        assert_eq!(shapes.collect::<Vec<_>>(), ["[T]", "[S]"]);
        assert_eq!(Translator::OUTPUT_SHAPE.to_string(), "[T, 30]");
        Ok(())
    }
}
