//! What the macros emit, read like code: `snapshots/*.snap`.
//!
//! `INSTA_UPDATE=always cargo test -p hypernn-macros` rewrites them.

use insta::assert_snapshot;
use proc_macro2::TokenStream;
use quote::quote;

fn pretty(emitted: TokenStream) -> String {
    match syn::parse2(emitted) {
        Ok(file) => prettyplease::unparse(&file),
        Err(error) => error.to_string(),
    }
}

fn target(input: TokenStream) -> String {
    pretty(crate::hyper_target::derive(input))
}

fn network(input: TokenStream) -> String {
    pretty(crate::hypernetwork::hypernetwork(input))
}

#[test]
fn a_target() {
    assert_snapshot!(target(quote! {
        pub struct Net {
            #[hyper(conv2d(1, 8, 5, stride = 2))]
            conv: Conv2d,
            #[hyper(linear(64, 10), name = "head")]
            fc: Linear,
        }
    }));
}

#[test]
fn a_chain() {
    assert_snapshot!(target(quote! {
        #[hyper(sequential = [conv, relu, max_pool2d(2), flatten, layers], input = (1, 28, N))]
        struct Net {
            #[hyper(conv2d(1, 8, 5))]
            conv: Conv2d,
            #[hyper([linear(8, 8); 4])]
            layers: Vec<Linear>,
        }
    }));
}

#[test]
fn all_kinds_of_fields() {
    assert_snapshot!(target(quote! {
        #[hyper(config = Sizes, crate = renamed, forward(fn step(&self, xs: &Tensor) -> Result<Tensor>))]
        struct Net<T> {
            #[hyper(embedding(config.vocabulary, 8))]
            embed: Embedding,
            #[hyper(if config.bias { tensor([8]) })]
            bias: Option<Tensor>,
            #[hyper(target(&config.block))]
            block: T,
            #[hyper(value = Activation::Relu)]
            activation: Activation,
            #[hyper(linear_no_bias(8, config.vocabulary), tie(weight = embed.weight))]
            head: Linear,
        }
    }));
}

#[test]
fn a_wrong_target() {
    assert_snapshot!(target(quote! {
        #[hyper(sequential_t)]
        struct Net {
            #[hyper(linear(1, 2, 3))]
            fc: Linear,
        }
    }));
}

#[test]
fn a_static_hypernetwork() {
    assert_snapshot!(network(quote! {
        /// Documented.
        pub struct HyperNet for Net {
            embedding: table(64, 8),
            generator: linear,
            mode: static,
        }
    }));
}

#[test]
fn a_dynamic_hypernetwork() {
    assert_snapshot!(network(quote! {
        struct HyperNet for Net<3> {
            embedding: rnn(8, 64, 4),
            generator: linear.conditioned(8),
            mode: dynamic,
            init: hyper_nn,
        }
    }));
}

#[test]
fn a_hypernetwork_over_a_configured_target() {
    assert_snapshot!(network(quote! {
        struct HyperNet for Net {
            embedding: table(64, 8),
            generator: heads,
            mode: static,
            config: Sizes,
        }
    }));
}

#[test]
fn a_hypernetwork_by_constructor_with_roles() {
    assert_snapshot!(network(quote! {
        struct HyperNet for models::Net {
            target: constructor,
            roles: [("head.*", generate), ("*", freeze)],
            embedding: table(64, 8),
            generator: linear,
            mode: static,
        }
    }));
}

#[test]
fn a_target_with_a_role() {
    assert_snapshot!(target(quote! {
        struct Net {
            #[hyper(linear(2, 2), role = freeze)]
            trunk: Linear,
            #[hyper(linear(2, 2), tie(weight = trunk.weight), role = train)]
            head: Linear,
            #[hyper([linear(2, 2), linear_no_bias(2, 2)], role = lora(RANK, 4.))]
            layers: Vec<Linear>,
            #[hyper(role = freeze)]
            below: Block,
        }
    }));
}

#[test]
fn a_wrong_hypernetwork() {
    assert_snapshot!(network(quote! {
        struct HyperNet for Net {
            embedding: table(64, 8),
            mode: static,
        }
    }));
}

/// The lines that hold anything.
fn lines(code: &str) -> usize {
    code.lines().filter(|line| !line.trim().is_empty()).count()
}

/// The tests of the workspace compile `by_hand`, and compare both targets.
#[test]
fn ten_layers_take_no_more_than_twice_the_lines_of_a_person() {
    let derived = syn::parse_str(include_str!("by_hand/derived.rs")).map(target);
    let derived = derived.unwrap_or_else(|error| error.to_string());
    let by_hand = lines(include_str!("by_hand/ten_layers.rs"));
    let derived = lines(&derived);
    println!("derived: {derived} lines, by hand: {by_hand}");
    assert!((by_hand..=2 * by_hand).contains(&derived), "{derived}, by hand {by_hand}");
}
