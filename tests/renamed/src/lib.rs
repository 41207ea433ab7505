//! A crate that depends on hypernn under another name, and on nothing else.

use renamed::nn::{Conv2d, Conv2dConfig, LayerNorm, Linear};
use renamed::{HyperTarget, hypernetwork};

/// A target that uses every path in the derive's output.
#[derive(Debug, HyperTarget)]
#[hyper(crate = renamed)]
pub struct Net {
    /// A list.
    #[hyper([linear(4, 2), linear(2, 1)])]
    pub layers: Vec<Linear>,
    /// A configuration as a literal.
    #[hyper(conv2d(1, 1, 2, Conv2dConfig { stride: 2, ..Default::default() }))]
    pub conv: Conv2d,
    /// An epsilon.
    #[hyper(if true { layer_norm(2, 1e-5) })]
    pub norm: Option<LayerNorm>,
    /// A tied tensor.
    #[hyper(conv2d(1, 1, 2), tie(weight = conv.weight))]
    pub tied: Conv2d,
    /// A target.
    pub block: Block,
}

/// A target inside the other.
#[derive(Debug, HyperTarget)]
#[hyper(crate = ::renamed)]
pub struct Block {
    /// A layer.
    #[hyper(linear(4, 2))]
    pub fc: Linear,
}

/// A target with a configuration.
#[derive(Debug, HyperTarget)]
#[hyper(crate = renamed, config = usize)]
pub struct Configured {
    /// A layer.
    #[hyper(linear(*config, 2))]
    pub fc: Linear,
}

hypernetwork! {
    /// A hypernetwork.
    pub struct HyperNet for Net {
        embedding: table(3, 8),
        generator: mlp([4], tanh),
        mode: static,
        init: hyper_nn,
        crate: renamed,
    }
}

hypernetwork! {
    /// A hypernetwork over a target with a configuration.
    pub struct HyperConfigured for Configured {
        embedding: table(3, 8),
        generator: linear,
        mode: static,
        config: usize,
        crate: ::renamed,
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Result};
    use renamed::nn::{VarBuilder, VarMap};

    use super::*;

    #[test]
    fn the_crate_may_have_another_name() -> Result<()> {
        let vars = || VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
        assert_eq!(HyperNet::NUM_TARGET_PARAMS, 10 + 3 + 5 + 4 + 1 + 10);
        assert_eq!(HyperNet::new(vars())?.target()?.layers.len(), 2);
        let configured = HyperConfigured::new(&4, vars())?;
        assert_eq!(configured.target()?.fc.weight().dims(), [2, 4]);
        Ok(())
    }
}
