// What users write, in every place that the macros can stand in; compiled by `tests/lints.rs` under every
// lint, in every edition.

/// Documented and public.
pub mod public {
    use hypernn::nn::{Conv2d, Conv2dConfig, Embedding, LayerNorm, Linear};
    use hypernn::{HyperTarget, hypernetwork};

    const WIDTH: usize = 4;

    /// A chain.
    #[derive(Debug, HyperTarget)]
    #[hyper(sequential = [conv, relu, flatten, fc], input = (1, 4, 4))]
    pub struct Chain {
        #[hyper(conv2d(1, 2, 3, stride = 1))]
        conv: Conv2d,
        #[hyper(linear(2 * 2 * 2, 4))]
        fc: Linear,
    }

    /// Branches, values with names, several inputs.
    #[derive(Debug, HyperTarget)]
    #[hyper(
        sequential = [
            kept = first,
            residual([first, relu]),
            add([], [other, second], kept),
            repeat(2, [first]),
            concat(0, [class], []),
        ],
        input = (x: (T, 4), other: (T, 2)),
    )]
    pub struct Branches {
        #[hyper(linear(4, 4))]
        first: Linear,
        #[hyper(linear(2, 4))]
        second: Linear,
        #[hyper(tensor([1, 4]))]
        class: hypernn::candle_core::Tensor,
    }

    /// One in another.
    #[derive(Debug, HyperTarget)]
    #[hyper(sequential = [branches(other)], input = (x: (T, 4), other: (T, 2)))]
    pub struct Nested {
        branches: Branches,
    }

    /// What it is sized by.
    #[derive(Clone, Copy, Debug)]
    pub struct Sizes {
        /// The width.
        pub width: usize,
    }

    /// Sizes at run time.
    #[derive(Debug, HyperTarget)]
    #[hyper(config = Sizes)]
    pub struct AtRunTime {
        #[hyper(linear(config.width, 2))]
        fc: Linear,
        #[hyper(if config.width > 2 { linear(2, 2) })]
        optional: Option<Linear>,
    }

    /// Several outputs, of one input and of several.
    #[derive(Debug, HyperTarget)]
    #[hyper(
        sequential_t = [kept = first, relu],
        input = (x: (T, 4), other: (T, 4)),
        output = (kept, sum = [add(other)], [second, tanh]),
    )]
    pub struct Outputs {
        #[hyper(linear(4, 4))]
        first: Linear,
        #[hyper(linear(4, 2))]
        second: Linear,
    }

    /// Steps that read the configuration, and the outputs of another target.
    #[derive(Debug, HyperTarget)]
    #[hyper(
        config = Sizes,
        sequential = [(first, _) = two, repeat(config.width, [relu]), add(first)],
        input = (T, 4),
        output = ([], again = [tanh]),
    )]
    pub struct Reading {
        two: Two,
        #[hyper(value = *config)]
        config: Sizes,
    }

    /// Two heads.
    #[derive(Debug, HyperTarget)]
    #[hyper(sequential = [fc], output = ([relu], same = []), input = (T, 4))]
    pub struct Two {
        #[hyper(linear(4, 4))]
        fc: Linear,
    }

    /// A target in itself.
    #[derive(Debug, HyperTarget)]
    #[hyper(config = Sizes, sequential = [fc, below], input = 4)]
    pub struct Level {
        #[hyper(linear(4, 4))]
        fc: Linear,
        #[hyper(if config.width > 0 { target(Sizes { width: config.width - 1 }) })]
        below: Option<Box<Self>>,
    }

    /// Every kind of field.
    #[derive(Debug, HyperTarget)]
    pub struct Kinds<'a, T, B: 'a, const N: usize> {
        inner: T,
        /// A layer.
        #[hyper(linear(N, WIDTH), name = "first")]
        layer: Linear,
        #[hyper(conv2d(1, 1, 2, Conv2dConfig { stride: 2, ..Default::default() }))]
        conv: Conv2d,
        #[hyper([linear(2, 2); 2])]
        alike: Vec<Linear>,
        #[hyper([linear(2, 3), linear(3, 2)])]
        different: [Linear; 2],
        #[hyper(if N > 1 { layer_norm(2, 1e-5) })]
        norm: Option<LayerNorm>,
        #[hyper(embedding(3, 2))]
        embed: Embedding,
        #[hyper(linear_no_bias(2, 3), tie(weight = embed.weight))]
        head: Linear,
        #[hyper(linear(2, 2), role = train)]
        kept: Linear,
        #[hyper(linear(2, 2), role = lora(1, 2.))]
        adapted: Linear,
        #[hyper(value = "name")]
        name: &'a str,
        kind: core::marker::PhantomData<B>,
    }

    hypernetwork! {
        /// Static.
        pub struct Static for Chain {
            /// Rows.
            embedding: table(6, 2),
            generator: mlp([3], tanh),
            mode: static,
        }

        /// Dynamic.
        pub struct Dynamic for Chain {
            embedding: encoder(16, [4], tanh, 6, 2),
            generator: linear,
            mode: dynamic,
            init: hyper_nn,
        }

        /// Of a configuration.
        pub struct OfAtRunTime for AtRunTime {
            embedding: table(2, 3),
            generator: linear,
            mode: static,
            config: Sizes,
        }

        /// By constructor.
        #[must_use]
        #[derive(Debug)]
        pub struct ByConstructor for Linear {
            target: constructor,
            roles: [("bias", train), ("*", generate)],
            embedding: table(2, 3),
            generator: linear,
            mode: static,
        }

        /// Under a condition.
        #[cfg(all())]
        pub struct Conditional for Chain {
            #[cfg(all())]
            embedding: table(3, 2),
            #[cfg(any())]
            embedding: table(0, 2),
            generator: linear,
            mode: static,
        }

        #[cfg(any())]
        pub struct Absent for Nothing {
            mode: none,
        }
    }

    /// What a field without parameters holds.
    #[must_use]
    pub const fn read<'a>(kinds: &Kinds<'a, Chain, u8, 2>) -> &'a str {
        kinds.name
    }
}

/// Of this crate alone.
mod private {
    use hypernn::nn::Linear;
    use hypernn::{HyperTarget, hypernetwork};

    #[derive(HyperTarget)]
    #[hyper(sequential)]
    pub(crate) struct Net {
        #[hyper(linear(4, 2))]
        fc: Linear,
    }

    hypernetwork! {
        pub(crate) struct HyperNet for Net {
            embedding: table(5, 2),
            generator: linear,
            mode: static,
        }
    }
}

/// The size of a hypernetwork of this crate alone.
#[must_use]
pub fn size() -> usize {
    /// In a function.
    mod scope {
        use hypernn::nn::Linear;
        use hypernn::{HyperTarget, hypernetwork};

        pub(super) fn size() -> usize {
            #[derive(HyperTarget)]
            struct Local {
                #[hyper(linear(4, 2))]
                fc: Linear,
            }

            hypernetwork! {
                struct HyperLocal for Local {
                    embedding: table(5, 2),
                    generator: linear,
                    mode: static,
                }
            }

            let bias = |local: &Local| local.fc.bias().is_some();
            usize::from(core::any::type_name_of_val(&bias).is_empty()) + HyperLocal::NUM_PARAMS
        }
    }

    scope::size() + private::HyperNet::NUM_PARAMS
}
