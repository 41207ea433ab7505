//! The methods that the emitted type has of its own. All others are those of the network behind it, to which
//! it derefs.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use super::check::{Checked, Mode};
use super::emitted::{has_own_condition, item, name, network, own_condition};
use crate::span::ends;

pub(super) fn methods(checked: &Checked) -> TokenStream {
    let (name, paths) = (name(checked), Paths::new(checked));
    let (converted, forward_t) = (with_target_dtype(&paths), forward_t(&paths));
    let own = has_own_condition(checked).then(|| of_own_condition(&paths));
    let methods = quote! {
        impl #name {
            #converted
            #forward_t
            #own
        }
    };
    let (methods, deref) = (item(checked, &methods), deref(checked));
    quote!(#methods #deref)
}

/// What the documentation of the emitted type says of the methods that it has by deref.
const STATIC_METHODS: &str = "The network behind the type, with its methods: `generate_params`, `target`, `forward`, \
    `forward_aux`, `audit_exact` and `export`, and those of every hypernetwork, such as `trainable`, `save`, `load` and \
    `layout`.";

/// Of a dynamic hypernetwork.
const DYNAMIC_METHODS: &str = "The network behind the type, with its methods: `generate_params`, `generate_step`, \
    `zero_state`, `scan`, `add_tasks`, `buffers`, `condition`, `audit_exact` and `export`, those that take an input which \
    conditions its own weights, `forward`, `forward_aux`, `step` and `run`, and those of every hypernetwork, such as \
    `trainable`, `save`, `load` and `layout`.";

/// What the signatures name.
struct Paths {
    private: TokenStream,
    result: TokenStream,
    tensor: TokenStream,
    state: TokenStream,
    aux: TokenStream,
    /// What the output of the target's forward implements: a parameter of each method, for rustc does not find a method
    /// whose result is a type of a trait that the target lacks, and says of it what does not help.
    outputs: TokenStream,
    /// What the target's forward gives.
    /// The quantified lifetime keeps rustc from refusing a method where the bound does not hold.
    module: TokenStream,
    module_t: TokenStream,
    /// A further bound of the methods in which the input conditions its own weights.
    own: TokenStream,
}

impl Paths {
    fn new(checked: &Checked) -> Self {
        let Checked { target, krate, .. } = checked;
        let (span, _) = ends(target);
        Self {
            private: quote!(#krate::__private),
            result: quote!(#krate::__private::Result),
            tensor: quote!(#krate::__private::Tensor),
            state: quote!(#krate::State),
            aux: quote!(#krate::DynamicAux<#target>),
            outputs: quote!(#krate::target::Outputs),
            module: quote_spanned!(span=> where for<'__a> #target: #krate::target::ForwardTarget<Output = __O>),
            module_t: quote_spanned!(span=> where for<'__a> #target: #krate::target::ForwardTargetT<Output = __O>),
            own: own_condition(checked),
        }
    }
}

/// The network behind the type, with its methods.
fn deref(checked: &Checked) -> TokenStream {
    let (name, network, private) = (name(checked), network(checked), &checked.krate);
    let private = quote!(#private::__private);
    let doc = match checked.mode {
        Mode::Static => STATIC_METHODS,
        Mode::Dynamic => DYNAMIC_METHODS,
    };
    // A target that is less visible than the type is shown where it is named.
    let (span, end) = ends(&checked.target);
    let (target, closed) = (quote_spanned!(span=> type Target =), quote_spanned!(end=> ;));
    let deref = quote! {
        #[doc = #doc]
        impl #private::Deref for #name {
            #target #network #closed

            fn deref(&self) -> &#network {
                &self.inner
            }
        }
    };
    let deref = item(checked, &deref);
    if checked.mode == Mode::Static {
        return deref;
    }
    let deref_mut = quote! {
        impl #private::DerefMut for #name {
            fn deref_mut(&mut self) -> &mut #network {
                &mut self.inner
            }
        }
    };
    let deref_mut = item(checked, &deref_mut);
    quote!(#deref #deref_mut)
}

/// It takes the network itself, which no deref gives.
fn with_target_dtype(paths: &Paths) -> TokenStream {
    let Paths { private, result, .. } = paths;
    quote! {
        /// This hypernetwork, with a target that computes in `dtype`: generated tensors, inputs and outputs have it.
        /// The hypernetwork's own variables, and their gradients, keep theirs.
        ///
        /// # Errors
        /// The dtype is none of f16, bf16, f32 and f64.
        pub fn with_target_dtype(self, dtype: #private::DType) -> #result<Self> {
            self.inner.with_target_dtype(dtype).map(|inner| Self { inner })
        }
    }
}

/// The type is a `Module` where its target is, so it is a `ModuleT` by candle's impl for all of these, whose `forward_t`
/// comes before the network's and knows nothing of training.
fn forward_t(paths: &Paths) -> TokenStream {
    let Paths { private, result, tensor, outputs, module_t, own, .. } = paths;
    quote! {
        /// Generates the parameters and applies a target that behaves otherwise in training.
        ///
        /// # Errors
        /// The target's own.
        pub fn forward_t<__O: #outputs>(
            &self,
            xs: &#tensor,
            train: #private::bool,
        ) -> #result<__O> #module_t #own {
            (&self.inner).forward_t(xs, train)
        }
    }
}

/// Methods of the network that ask, in addition, for an input that can be its own condition, where constants say
/// whether it can.
fn of_own_condition(paths: &Paths) -> TokenStream {
    let (forward, sequences) = (forward(paths), sequences(paths));
    quote!(#forward #sequences)
}

fn forward(paths: &Paths) -> TokenStream {
    let Paths { result, tensor, aux, outputs, module, own, .. } = paths;
    quote! {
        /// Generates a weight set for each row of the input `[B, …]`, from that row and a zero state, and applies
        /// the target.
        ///
        /// # Errors
        /// The input's width is not the condition's, or the target's own.
        pub fn forward<__O: #outputs>(&self, xs: &#tensor) -> #result<__O> #module #own {
            (&self.inner).forward(xs)
        }

        /// Generates a weight set for each row of the input `[B, …]` and applies the target. Returns the output, and
        /// the embedding, parameters and state that were computed on the way.
        ///
        /// # Errors
        /// The input's width is not the condition's, or the target's own.
        pub fn forward_aux<__O: #outputs>(&self, xs: &#tensor) -> #result<(__O, #aux)> #module #own {
            (&self.inner).forward_aux(xs)
        }
    }
}

fn sequences(paths: &Paths) -> TokenStream {
    let Paths { private, result, tensor, state, outputs, module, module_t, own, .. } = paths;
    quote! {
        /// One step of a sequence: the input `[B, …]` conditions its own weights, from a state. Returns the output
        /// and the next state.
        ///
        /// # Errors
        /// The input's width is not the condition's, a state of another number of rows, or the
        /// target's own.
        pub fn step<__O: #outputs>(&self, xs: &#tensor, state: &#state) -> #result<(__O, #state)> #module #own {
            (&self.inner).step(xs, state)
        }

        /// One step of a sequence, for a target that behaves otherwise in training: the input `[B, …]` conditions
        /// its own weights, from a state. Returns the output and the next state.
        ///
        /// # Errors
        /// The input's width is not the condition's, a state of another number of rows, or the
        /// target's own.
        pub fn step_t<__O: #outputs>(
            &self,
            xs: &#tensor,
            state: &#state,
            train: #private::bool,
        ) -> #result<(__O, #state)> #module_t #own {
            (&self.inner).step_t(xs, state, train)
        }

        /// A whole sequence `[B, T, …]` from a state: outputs `[B, T, …]` and the last state.
        ///
        /// # Errors
        /// No steps, the input's width is not the condition's, a state of another number of rows, or the
        /// target's own.
        pub fn run<__O: #outputs>(&self, xs: &#tensor, state: &#state) -> #result<(__O, #state)> #module #own {
            (&self.inner).run(xs, state)
        }

        /// A whole sequence `[B, T, …]`, step by step from a state, for a target that behaves otherwise in training.
        /// Returns the outputs `[B, T, …]` and the last state.
        ///
        /// # Errors
        /// No steps, the input's width is not the condition's, a state of another number of rows, or the
        /// target's own.
        pub fn run_t<__O: #outputs>(
            &self,
            xs: &#tensor,
            state: &#state,
            train: #private::bool,
        ) -> #result<(__O, #state)> #module_t #own {
            (&self.inner).run_t(xs, state, train)
        }
    }
}
