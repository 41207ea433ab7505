//! All types can be sent to other threads and shared between them.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use hypernn::generated::{Buffers, TargetPlan};
use hypernn::hypernetwork::{Audit, Core, DynamicHyperNetwork, StaticHyperNetwork};
use hypernn::nn::{Conv2d, Linear};
use hypernn::{
    Aux, ChunkPlan, DynamicAux, GeneratedParams, HyperTarget, Layout, Pretrained, Role, State,
    hypernetwork,
};

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

hypernetwork! {
    struct Static for Net { embedding: table(5, 2), generator: linear, mode: static }

    struct Dynamic for Net { embedding: rnn(4, 5, 2), generator: linear, mode: dynamic }

    struct ByConstructor for (candle_nn::Linear, Conv2d) {
        target: constructor, embedding: table(5, 2), generator: linear, mode: static,
    }
}

const fn shared<T: Send + Sync>() {}

const _: () = {
    shared::<Static>();
    shared::<Dynamic>();
    shared::<ByConstructor>();
    shared::<StaticHyperNetwork<Net>>();
    shared::<DynamicHyperNetwork<Net>>();
    shared::<Core<Net>>();
    shared::<GeneratedParams<Net>>();
    shared::<TargetPlan<Net>>();
    shared::<Buffers>();
    shared::<Aux<Net>>();
    shared::<DynamicAux<Net>>();
    shared::<Pretrained<'_>>();
    shared::<Layout>();
    shared::<ChunkPlan>();
    shared::<Audit>();
    shared::<State>();
    shared::<Role>();
    shared::<Net>();
    shared::<hypernn::continual::OutputRegularizer>();
    shared::<hypernn::nn::AdamW>();
    shared::<hypernn::nn::LSTM>();
    shared::<hypernn::nn::BatchNorm>();
};

#[test]
fn one_hypernetwork_serves_several_threads() {
    let vars = VarMap::new();
    let hyper = Dynamic::new(VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu)).unwrap();
    let params = hyper.generate_params(&condition(1.)).unwrap();
    let expected = values(&params);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let generated = hyper.generate_params(&condition(1.)).unwrap();
                    (values(&generated), values(&params))
                })
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), (expected.clone(), expected.clone()));
        }
    });
}

fn condition(value: f32) -> Tensor {
    Tensor::full(value, 4, &Device::Cpu).unwrap()
}

fn values(params: &GeneratedParams<Net>) -> Vec<f32> {
    let ys = params.forward(&Tensor::ones((3, 4), DType::F32, &Device::Cpu).unwrap()).unwrap();
    ys.flatten_all().unwrap().to_vec1().unwrap()
}
