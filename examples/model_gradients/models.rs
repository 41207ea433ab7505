//! The models.

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_transformers::models::{
    bert, bigcode, clip, convnext, dinov2, distilbert, efficientnet, falcon, gemma, llama, mamba,
    mistral, modernbert, olmo, phi, phi3, qwen2, qwen3, resnet, stable_lm, starcoder2, t5, vit,
    whisper,
};

use super::configs::{self, config};
use super::measure::Measure::{All, Audit};
use super::measure::{Measure, Row, Rows, measure};

/// Words, `[batch, 4]`.
fn words(batch: usize) -> Result<Tensor> {
    Tensor::new(&[[0u32, 3, 1, 4], [2, 5, 0, 1]], &Device::Cpu)?.narrow(0, 0, batch)?.contiguous()
}

/// Numbers of ordinary size.
fn numbers(dims: &[usize], dtype: DType) -> Result<Tensor> {
    let count = dims.iter().product::<usize>();
    let values = (0..count).map(|at| (2.3 * at as f64 + 0.1).sin());
    Tensor::from_iter(values, &Device::Cpu)?.reshape(dims)?.to_dtype(dtype)
}

/// All of them, one after the other; of none is more measured than this.
///
/// # Errors
/// A model can't be built.
pub(crate) fn all(most: Measure) -> Result<Vec<Row>> {
    let mut rows = Rows { rows: Vec::new(), most };
    causal(&mut rows)?;
    others_of_words(&mut rows)?;
    encoders(&mut rows)?;
    of_pictures(&mut rows)?;
    of_sounds(&mut rows)?;
    Ok(rows.rows)
}

fn causal(rows: &mut Rows) -> Result<()> {
    let llama_config =
        || -> Result<_> { Ok(config::<llama::LlamaConfig>(configs::LLAMA)?.into_config(false)) };
    measure(
        (rows, "Llama", All),
        move |vb| llama::Llama::load(vb, &llama_config()?),
        move |model, n, dtype| {
            let mut cache = llama::Cache::new(false, dtype, &llama_config()?, &Device::Cpu)?;
            model.forward(&words(n)?, 0, &mut cache)
        },
    )?;
    measure(
        (rows, "Qwen2", All),
        |vb| qwen2::ModelForCausalLM::new(&config(configs::LLAMA)?, vb),
        |model, n, _| model.forward(&words(n)?, 0),
    )?;
    measure(
        (rows, "Qwen3", All),
        |vb| qwen3::ModelForCausalLM::new(&config(configs::LLAMA)?, vb),
        |model, n, _| model.forward(&words(n)?, 0),
    )?;
    measure(
        (rows, "Mistral", All),
        |vb| mistral::Model::new(&config(configs::LLAMA)?, vb),
        |model, n, _| model.forward(&words(n)?, 0),
    )?;
    measure(
        (rows, "Gemma", All),
        |vb| gemma::Model::new(false, &config(configs::LLAMA)?, vb),
        |model, n, _| model.forward(&words(n)?, 0),
    )?;
    measure(
        (rows, "OLMo", All),
        |vb| olmo::Model::new(&config(configs::LLAMA)?, vb),
        |model, n, _| model.forward(&words(n)?, 0),
    )?;
    measure(
        (rows, "StarCoder2", All),
        |vb| starcoder2::Model::new(&config(configs::LLAMA)?, vb),
        |model, n, _| model.forward(&words(n)?, 0),
    )?;
    measure(
        (rows, "Phi-3", All),
        |vb| phi3::Model::new(&config(configs::LLAMA)?, vb),
        |model, n, _| model.forward(&words(n)?, 0),
    )?;
    measure(
        (rows, "Phi", All),
        |vb| phi::Model::new(&config(configs::PHI)?, vb),
        |model, n, _| model.forward(&words(n)?),
    )?;
    measure(
        (rows, "StableLM", All),
        |vb| stable_lm::Model::new(&config(configs::STABLE_LM)?, vb),
        |model, n, _| model.forward(&words(n)?, 0),
    )?;
    Ok(())
}

fn others_of_words(rows: &mut Rows) -> Result<()> {
    measure(
        (rows, "Falcon", All),
        |vb| falcon::Falcon::load(vb, config(configs::FALCON)?),
        |model, n, _| model.forward(&words(n)?),
    )?;
    measure(
        (rows, "BigCode", All),
        |vb| bigcode::GPTBigCode::load(vb, bigcode_config()),
        |model, n, _| model.forward(&words(n)?, 0),
    )?;
    measure(
        (rows, "Mamba", All),
        |vb| mamba::Model::new(&config(configs::MAMBA)?, vb),
        |model, n, dtype| {
            let config = config(configs::MAMBA)?;
            let mut state = mamba::State::new(n, &config, dtype, &Device::Cpu)?;
            let words = words(n)?;
            let step = |at| model.forward(&words.narrow(1, at, 1)?.squeeze(1)?, &mut state);
            Tensor::stack(&(0..4).map(step).collect::<Result<Vec<_>>>()?, 1)
        },
    )?;
    Ok(())
}

fn bigcode_config() -> bigcode::Config {
    bigcode::Config {
        vocab_size: 11,
        max_position_embeddings: 16,
        num_hidden_layers: 2,
        hidden_size: 16,
        layer_norm_epsilon: 1e-5,
        n_inner: Some(24),
        num_attention_heads: 2,
        multi_query: true,
        use_cache: false,
    }
}

fn bert_config() -> bert::Config {
    bert::Config {
        vocab_size: 11,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 24,
        max_position_embeddings: 16,
        ..Default::default()
    }
}

fn encoders(rows: &mut Rows) -> Result<()> {
    measure(
        (rows, "BERT", All),
        |vb| bert::BertForMaskedLM::load(vb, &bert_config()),
        |model, n, _| model.forward(&words(n)?, &words(n)?.zeros_like()?, None),
    )?;
    measure(
        (rows, "DistilBERT", All),
        |vb| distilbert::DistilBertForMaskedLM::load(vb, &config(configs::DISTIL_BERT)?),
        |model, n, _| model.forward(&words(n)?, &Tensor::zeros((4, 4), DType::U8, &Device::Cpu)?),
    )?;
    measure(
        (rows, "ModernBERT", All),
        |vb| modernbert::ModernBertForMaskedLM::load(vb, &config(configs::MODERN_BERT)?),
        |model, n, dtype| model.forward(&words(n)?, &Tensor::ones((n, 4), dtype, &Device::Cpu)?),
    )?;
    measure(
        (rows, "T5", All),
        |vb| t5::T5ForConditionalGeneration::load(vb, &config(configs::T5)?),
        |model, n, _| model.forward(&words(n)?, &words(n)?),
    )?;
    measure(
        (rows, "CLIP, text", All),
        |vb| clip::text_model::ClipTextTransformer::new(vb, &clip_text_config()),
        |model, n, _| model.forward(&words(n)?),
    )?;
    Ok(())
}

fn clip_text_config() -> clip::text_model::ClipTextConfig {
    clip::text_model::ClipTextConfig {
        vocab_size: 11,
        embed_dim: 16,
        activation: clip::text_model::Activation::QuickGelu,
        intermediate_size: 24,
        max_position_embeddings: 16,
        pad_with: None,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        projection_dim: 16,
    }
}

fn clip_vision_config() -> clip::vision_model::ClipVisionConfig {
    clip::vision_model::ClipVisionConfig {
        embed_dim: 16,
        activation: clip::text_model::Activation::QuickGelu,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        projection_dim: 16,
        num_channels: 3,
        image_size: 6,
        patch_size: 3,
    }
}

fn of_pictures(rows: &mut Rows) -> Result<()> {
    measure(
        (rows, "CLIP, vision", All),
        |vb| clip::vision_model::ClipVisionTransformer::new(vb, &clip_vision_config()),
        |model, n, dtype| model.forward(&numbers(&[n, 3, 6, 6], dtype)?),
    )?;
    measure(
        (rows, "ViT", All),
        |vb| vit::Model::new(&config(configs::VIT)?, 4, vb),
        |model, n, dtype| model.forward(&numbers(&[n, 3, 6, 6], dtype)?),
    )?;
    measure(
        (rows, "DINOv2", Audit),
        |vb| dinov2::DinoVisionTransformer::new(vb, 1, 16, 2),
        |model, n, dtype| model.forward(&numbers(&[n, 3, 518, 518], dtype)?),
    )?;
    measure(
        (rows, "ConvNeXt", Audit),
        |vb| convnext::convnext(&convnext::Config::atto(), 4, vb),
        |model, n, dtype| model.forward(&numbers(&[n, 3, 64, 64], dtype)?),
    )?;
    measure(
        (rows, "ResNet-18", Audit),
        |vb| resnet::resnet18(4, vb),
        |model, n, dtype| model.forward(&numbers(&[n, 3, 32, 32], dtype)?),
    )?;
    measure(
        (rows, "EfficientNet", Audit),
        |vb| efficientnet::EfficientNet::new(vb, efficientnet::MBConvConfig::b0(), 4),
        |model, n, dtype| model.forward(&numbers(&[n, 3, 64, 64], dtype)?),
    )?;
    Ok(())
}

fn of_sounds(rows: &mut Rows) -> Result<()> {
    measure(
        (rows, "Whisper", All),
        |vb| whisper::model::Whisper::load(&vb, config(configs::WHISPER)?),
        |model, n, dtype| {
            let sound = model.encoder.forward(&numbers(&[n, 4, 12], dtype)?, true)?;
            let ys = model.decoder.forward(&words(n)?, &sound, true)?;
            model.decoder.final_linear(&ys)
        },
    )?;
    Ok(())
}
