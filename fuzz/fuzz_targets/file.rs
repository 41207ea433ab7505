//! A whole file: as a pretrained network, as a checkpoint and as remembered tasks.

#![no_main]

use candle_core::{DType, Device};
use hypernn::continual::OutputRegularizer;
use hypernn::nn::{Linear, VarBuilder, VarMap};
use hypernn::{HyperTarget, Pretrained, hypernetwork};
use libfuzzer_sys::fuzz_target;

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    #[hyper(linear(3, 2))]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net { embedding: table(4, 2), generator: linear, mode: static }
}

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net");
    std::fs::write(&path, data).unwrap();
    let _ = Pretrained::open(&path);
    let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    let hyper = HyperNet::new(vb).unwrap();
    let _ = hyper.load(&path);
    let _ = hyper.load_hyper_nn(&path);
    let _ = OutputRegularizer::new(1.).unwrap().load(&path, &Device::Cpu);
});
