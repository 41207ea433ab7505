//! candle-nn's own tests over `hypernn::nn`, which is a drop-in for it.
//!
//! Copied from candle-nn 0.11.1 (<https://github.com/huggingface/candle>, MIT OR Apache-2.0) with other
//! paths alone.

#![allow(missing_docs, clippy::all, clippy::unwrap_used, rust_2018_idioms)]

mod batch_norm;
mod group_norm;
mod kv_cache;
mod layer_norm;
mod loss;
mod one_hot;
mod optim;
mod rnn;
