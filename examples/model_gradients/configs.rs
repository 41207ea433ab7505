//! Tiny configurations.

use serde::de::DeserializeOwned;

/// A configuration in the words of its file.
///
/// # Errors
/// It has other fields.
pub(crate) fn config<C: DeserializeOwned>(text: &str) -> candle_core::Result<C> {
    serde_json::from_str(text).map_err(candle_core::Error::wrap)
}

pub(crate) const LLAMA: &str = r#"{
    "hidden_size": 16, "intermediate_size": 24, "vocab_size": 11, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 16, "rope_theta": 10000.0, "tie_word_embeddings": false,
    "sliding_window": 8, "max_window_layers": 2, "use_sliding_window": false, "hidden_act": "silu",
    "head_dim": 8, "attention_bias": false, "use_flash_attn": false, "bos_token_id": 1,
    "eos_token_id": 2, "norm_epsilon": 1e-5, "use_bias": true
}"#;

pub(crate) const PHI: &str = r#"{
    "hidden_size": 16, "intermediate_size": 24, "vocab_size": 11, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "hidden_act": "gelu_new",
    "max_position_embeddings": 16, "layer_norm_eps": 1e-5, "tie_word_embeddings": false,
    "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "qk_layernorm": false
}"#;

pub(crate) const STABLE_LM: &str = r#"{
    "hidden_size": 16, "intermediate_size": 24, "vocab_size": 11, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "hidden_act": "silu",
    "partial_rotary_factor": 0.5, "rope_theta": 10000.0, "max_position_embeddings": 16,
    "layer_norm_eps": 1e-5, "use_cache": false
}"#;

pub(crate) const FALCON: &str = r#"{
    "vocab_size": 11, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "layer_norm_epsilon": 1e-5, "initializer_range": 0.02, "use_cache": false, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_dropout": 0.0, "attention_dropout": 0.0, "alibi": false,
    "new_decoder_architecture": false, "multi_query": true, "parallel_attn": true, "bias": false
}"#;

pub(crate) const MAMBA: &str =
    r#"{ "d_model": 16, "n_layer": 2, "vocab_size": 11, "pad_vocab_size_multiple": 1 }"#;

pub(crate) const MODERN_BERT: &str = r#"{
    "vocab_size": 11, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 12, "max_position_embeddings": 16, "layer_norm_eps": 1e-5,
    "pad_token_id": 0, "global_attn_every_n_layers": 2, "global_rope_theta": 10000.0,
    "local_attention": 4, "local_rope_theta": 10000.0
}"#;

pub(crate) const DISTIL_BERT: &str = r#"{
    "vocab_size": 11, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24,
    "activation": "gelu", "max_position_embeddings": 16, "initializer_range": 0.02,
    "pad_token_id": 0, "model_type": null
}"#;

pub(crate) const T5: &str = r#"{
    "vocab_size": 11, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2,
    "num_decoder_layers": 2, "num_heads": 2, "relative_attention_num_buckets": 4,
    "dropout_rate": 0.0, "layer_norm_epsilon": 1e-6, "initializer_factor": 1.0,
    "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false, "is_encoder_decoder": true,
    "use_cache": false, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0
}"#;

pub(crate) const WHISPER: &str = r#"{
    "num_mel_bins": 4, "max_source_positions": 6, "d_model": 16, "encoder_attention_heads": 2,
    "encoder_layers": 1, "vocab_size": 11, "max_target_positions": 8,
    "decoder_attention_heads": 2, "decoder_layers": 1
}"#;

pub(crate) const VIT: &str = r#"{
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "hidden_act": "gelu", "layer_norm_eps": 1e-12, "image_size": 6, "patch_size": 3,
    "num_channels": 3, "qkv_bias": true
}"#;
