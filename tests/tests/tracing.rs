//! Spans around generation and forward.

#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Module, Result, Tensor};
use hypernn::nn::Linear;
use hypernn::{HyperTarget, hypernetwork};
use hypernn_tests::{input, variables};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes down which spans begin and end.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

/// The value of the field `of`.
struct Of(String);

impl Visit for Of {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "of" {
            write!(self.0, "{value:?}").unwrap();
        }
    }
}

impl Subscriber for Diary {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("hypernn")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut of = Of(String::new());
        span.record(&mut of);
        let mut lines = self.0.lock().unwrap();
        lines.push(format!("{} {}", span.metadata().name(), of.0));
        Id::from_u64(lines.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {
        self.0.lock().unwrap().push("end".to_owned());
    }
}

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(3, 2))]
    fc: Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.fc.forward(xs)
    }
}

hypernetwork! {
    struct HyperNet for Net { embedding: table(4, 2), generator: linear, mode: static }
}

hypernetwork! {
    struct DynamicNet for Net { embedding: rnn(3, 4, 2), generator: linear, mode: dynamic }
}

#[test]
fn generation_and_forward_are_spans() -> Result<()> {
    let diary = Diary::default();
    let xs = input(&[2, 3], 1, DType::F32)?;
    let (hyper, dynamic) =
        (HyperNet::new(variables(1, DType::F32).1)?, DynamicNet::new(variables(1, DType::F32).1)?);
    tracing::subscriber::with_default(diary.clone(), || {
        hyper.forward(&xs)?;
        dynamic.forward(&xs)
    })?;
    assert_eq!(
        *diary.0.lock().unwrap(),
        [
            "generate \"HyperNet\"",
            "end",
            "forward \"Net\"",
            "end",
            "generate \"DynamicNet\"",
            "end",
            "forward \"Net\"",
            "end"
        ]
    );
    Ok(())
}
