//! The methods of the emitted type: the network's own, under the user's name.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use super::check::{Checked, Mode};
use super::expand::{item, name};
use crate::span::ends;

pub(super) fn methods(checked: &Checked) -> TokenStream {
    let paths = Paths::new(checked);
    let own = match checked.mode {
        Mode::Static => static_methods(&paths),
        Mode::Dynamic => dynamic_methods(&paths),
    };
    let (name, shared) = (name(checked), shared_methods(&paths));
    let methods = quote! {
        impl #name {
            #own
            #shared
        }
    };
    item(checked, &methods)
}

/// What the signatures name.
struct Paths {
    private: TokenStream,
    result: TokenStream,
    tensor: TokenStream,
    vb: TokenStream,
    state: TokenStream,
    target: TokenStream,
    params: TokenStream,
    aux: TokenStream,
    audit: TokenStream,
    network: TokenStream,
    /// The quantified lifetime keeps rustc from refusing a method where the bound does not hold.
    module: TokenStream,
    module_t: TokenStream,
    /// A further bound of the methods in which the input conditions its own weights.
    own: TokenStream,
}

impl Paths {
    fn new(checked: &Checked) -> Self {
        let Checked { target, krate, mode, .. } = checked;
        let (span, _) = ends(target);
        let aux = match mode {
            Mode::Static => quote!(#krate::Aux<#target>),
            Mode::Dynamic => quote!(#krate::DynamicAux<#target>),
        };
        Self {
            private: quote!(#krate::__private),
            result: quote!(#krate::__private::Result),
            tensor: quote!(#krate::__private::Tensor),
            vb: quote!(#krate::nn::VarBuilder<'_>),
            state: quote!(#krate::State),
            target: quote!(#target),
            params: quote!(#krate::GeneratedParams<#target>),
            aux,
            audit: quote!(#krate::hypernetwork::Audit),
            network: super::expand::network(checked),
            module: quote_spanned!(span=> where for<'__a> #target: #krate::target::ForwardTarget),
            module_t: quote_spanned!(span=> where for<'__a> #target: #krate::target::ForwardTargetT),
            own: own_condition(checked),
        }
    }
}

/// What holds where the input can condition its own weights, as far as constants tell.
pub(super) fn own_condition(checked: &Checked) -> TokenStream {
    let (Checked { krate, mode, .. }, name) = (checked, name(checked));
    if *mode == Mode::Static || !checked.has_constants() {
        return TokenStream::new();
    }
    let private = quote!(#krate::__private);
    quote! {,
        for<'__a> #name: #private::ConditionIsVector<{ #name::__OWN_CONDITION.is_vector }>,
        for<'__a> #name: #private::InputIsCondition<
            { #name::__OWN_CONDITION.condition },
            { #name::__OWN_CONDITION.input },
        >
    }
}

fn static_methods(paths: &Paths) -> TokenStream {
    let Paths { private, result, target, params, .. } = paths;
    quote! {
        /// Generates the target's parameters.
        ///
        /// # Errors
        /// candle's own.
        pub fn generate_params(&self) -> #result<#params> {
            (&self.inner).generate_params()
        }

        /// An ordinary target over freshly generated parameters.
        ///
        /// # Errors
        /// candle's own.
        pub fn target(&self) -> #result<#target> {
            (&self.inner).target()
        }

        /// Writes the generated weights as an ordinary checkpoint of the target.
        ///
        /// # Errors
        /// The file can't be written.
        pub fn bake(&self, path: impl #private::AsRef<#private::Path>) -> #result<()> {
            (&self.inner).bake(path)
        }
    }
}

fn dynamic_methods(paths: &Paths) -> TokenStream {
    let (stateful, sequences) = (generation(paths), sequences(paths));
    let Paths { private, result, tensor, vb, .. } = paths;
    quote! {
        #stateful
        #sequences

        /// Adds `count` tasks to an embedding of `tasks`, with variables below `vb`, the builder
        /// that `new` was given; the tasks that are there stay as they are.
        ///
        /// # Errors
        /// The embedding has no tasks, or the builder's own.
        pub fn grow(&mut self, count: #private::usize, vb: #vb) -> #result<()> {
            (&mut self.inner).grow(count, vb)
        }

        /// Writes the weights for one condition as an ordinary checkpoint of the target.
        ///
        /// # Errors
        /// A condition of several sets, or the file can't be written.
        pub fn bake(
            &self,
            condition: &#tensor,
            path: impl #private::AsRef<#private::Path>,
        ) -> #result<()> {
            (&self.inner).bake(condition, path)
        }
    }
}

fn generation(paths: &Paths) -> TokenStream {
    let Paths { private, result, tensor, state, params, .. } = paths;
    quote! {
        /// What the first step of a recurrent embedding starts from, for `sets` sets.
        ///
        /// # Errors
        /// candle's own.
        pub fn zero_state(&self, sets: #private::usize) -> #result<#state> {
            (&self.inner).zero_state(sets)
        }

        /// Generates the target's parameters for a condition: one set for `[width]` (or one task),
        /// `G` sets for `[G, width]` (or `G` tasks).
        ///
        /// # Errors
        /// A condition of another width, rank or dtype, or an unknown task.
        pub fn generate_params(&self, condition: &#tensor) -> #result<#params> {
            (&self.inner).generate_params(condition)
        }

        /// As `generate_params`, from a state; also gives the next state.
        ///
        /// # Errors
        /// As there, or a state of another number of sets.
        pub fn generate_step(
            &self,
            condition: &#tensor,
            state: &#state,
        ) -> #result<(#params, #state)> {
            (&self.inner).generate_step(condition, state)
        }
    }
}

fn sequences(paths: &Paths) -> TokenStream {
    let Paths { private, result, tensor, state, target, module, module_t, own, .. } = paths;
    quote! {
        /// One step of a sequence: the input conditions its own weights, from a state; also gives
        /// the next state.
        ///
        /// # Errors
        /// The input's width is not the condition's, a state of another number of rows, or the
        /// target's own.
        pub fn step(&self, xs: &#tensor, state: &#state) -> #result<(#tensor, #state)> #module #own {
            (&self.inner).step(xs, state)
        }

        /// As `step`, in training or not.
        ///
        /// # Errors
        /// As there.
        pub fn step_t(
            &self,
            xs: &#tensor,
            state: &#state,
            train: #private::bool,
        ) -> #result<(#tensor, #state)> #module_t #own {
            (&self.inner).step_t(xs, state, train)
        }

        /// A whole sequence `[B, T, …]` from a state: outputs `[B, T, …]` and the last state.
        ///
        /// # Errors
        /// As `step`, or no steps.
        pub fn run(&self, xs: &#tensor, state: &#state) -> #result<(#tensor, #state)> #module #own {
            (&self.inner).run(xs, state)
        }

        /// As `run`, in training or not.
        ///
        /// # Errors
        /// As there.
        pub fn run_t(
            &self,
            xs: &#tensor,
            state: &#state,
            train: #private::bool,
        ) -> #result<(#tensor, #state)> #module_t #own {
            (&self.inner).run_t(xs, state, train)
        }

        /// A sequence of conditions over a target of any signature, such as a recurrent one:
        /// `step(target, at, carried)` gives an output and what it carries on.
        ///
        /// # Errors
        /// As `generate_step`, no steps, or `step`'s own.
        pub fn scan<__C>(
            &self,
            conditions: &#tensor,
            state: &#state,
            carried: __C,
            step: impl #private::FnMut(&#target, #private::usize, __C) -> #result<(#tensor, __C)>,
        ) -> #result<(#tensor, #state, __C)> {
            (&self.inner).scan(conditions, state, carried, step)
        }
    }
}

fn shared_methods(paths: &Paths) -> TokenStream {
    let (forward, files) = (forward_methods(paths), file_methods(paths));
    let Paths { private, result, .. } = paths;
    quote! {
        /// The same with a target of this dtype; the hypernetwork's own variables, and their
        /// gradients, keep theirs.
        ///
        /// # Errors
        /// The dtype is none of f16, bf16, f32 and f64.
        pub fn with_target_dtype(self, dtype: #private::DType) -> #result<Self> {
            self.inner.with_target_dtype(dtype).map(|inner| Self { inner })
        }

        #forward
        #files
    }
}

fn forward_methods(paths: &Paths) -> TokenStream {
    let Paths { private, result, tensor, params, aux, module, module_t, own, .. } = paths;
    quote! {
        /// Generates the parameters and applies the target.
        ///
        /// # Errors
        /// The target's own.
        pub fn forward(&self, xs: &#tensor) -> #result<#tensor> #module #own {
            (&self.inner).forward(xs)
        }

        /// Applies the target with parameters generated before.
        ///
        /// # Errors
        /// The target's own.
        pub fn forward_with(&self, params: &#params, xs: &#tensor) -> #result<#tensor> #module {
            params.forward(xs)
        }

        /// Generates the parameters and applies the target, in training or not.
        ///
        /// # Errors
        /// The target's own.
        pub fn forward_t(
            &self,
            xs: &#tensor,
            train: #private::bool,
        ) -> #result<#tensor> #module_t #own {
            (&self.inner).forward_t(xs, train)
        }

        /// Applies the target with parameters generated before, in training or not.
        ///
        /// # Errors
        /// The target's own.
        pub fn forward_t_with(
            &self,
            params: &#params,
            xs: &#tensor,
            train: #private::bool,
        ) -> #result<#tensor> #module_t {
            params.forward_t(xs, train)
        }

        /// Generates the parameters and applies the target; also returns what was computed on the
        /// way.
        ///
        /// # Errors
        /// The target's own.
        pub fn forward_aux(&self, xs: &#tensor) -> #result<(#tensor, #aux)> #module #own {
            (&self.inner).forward_aux(xs)
        }
    }
}

fn file_methods(paths: &Paths) -> TokenStream {
    let Paths { private, result, tensor, params, audit, network, .. } = paths;
    quote! {
        /// Which generated tensors and which variables get a gradient from a loss that was
        /// computed with `params`.
        ///
        /// # Errors
        /// The backward pass's own.
        pub fn audit(&self, params: &#params, loss: &#tensor) -> #result<#audit> {
            (&self.inner).audit(params, loss)
        }

        /// The variables that are trained, each once, in the order of construction: what an
        /// optimiser takes. Bases and running statistics, which a `VarMap` holds as well, are left
        /// out.
        pub fn trainable(&self) -> #private::Vec<#private::Var> {
            self.inner.trainable()
        }

        /// Takes a flat vector `[P]`, or `[G, P]` for `G` sets, as generated parameters; what is
        /// not generated is what the hypernetwork keeps.
        ///
        /// # Errors
        /// The vector's length, rank, dtype or device does not fit.
        pub fn params_from_flat(&self, flat: &#tensor) -> #result<#params> {
            self.inner.params_from_flat(flat)
        }

        /// Reads generated parameters that their `save` wrote.
        ///
        /// # Errors
        /// The file is not a whole file of generated parameters of this target, or was saved over
        /// other trained or frozen tensors.
        pub fn load_params(
            &self,
            path: impl #private::AsRef<#private::Path>,
        ) -> #result<#params> {
            self.inner.load_params(path)
        }

        /// Looks for values that are NaN or infinite among the variables and all else that a
        /// checkpoint holds; `load` takes them as they are.
        ///
        /// # Errors
        /// A tensor has such values; it is named.
        pub fn check_finite(&self) -> #result<()> {
            self.inner.check_finite()
        }

        /// The hypernetwork itself, with all its methods.
        pub fn as_network(&self) -> &#network {
            &self.inner
        }

        /// Writes the hypernetwork's checkpoint.
        ///
        /// # Errors
        /// The file can't be written.
        pub fn save(&self, path: impl #private::AsRef<#private::Path>) -> #result<()> {
            (&self.inner).save(path)
        }

        /// Reads a `state_dict` of the Python library hyper-nn, for the same network with
        /// `init: hyper_nn`.
        ///
        /// # Errors
        /// The file can't be read, or is not of such a network; nothing has changed.
        pub fn load_hyper_nn(
            &self,
            path: impl #private::AsRef<#private::Path>,
        ) -> #result<()> {
            (&self.inner).load_hyper_nn(path)
        }

        /// Reads what `save` wrote.
        ///
        /// # Errors
        /// The file is not a whole checkpoint of this hypernetwork; nothing has changed.
        pub fn load(&self, path: impl #private::AsRef<#private::Path>) -> #result<()> {
            (&self.inner).load(path)
        }
    }
}
