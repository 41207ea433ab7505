//! The emitted type: a thin wrapper with the user's name, docs and constants.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

use super::check::Checked;

/// The whole type.
pub(super) fn expand(checked: &Checked) -> TokenStream {
    let parts = [definition(checked), sizes(checked), construction(checked)];
    parts.into_iter().chain([methods(checked), traits(checked)]).collect()
}

/// What stands in for a declaration with errors: the same names, nothing behind them.
pub(super) fn stub(checked: &Checked) -> TokenStream {
    let Checked { name, krate, .. } = checked;
    let config = checked.config.as_ref().map(|config| quote!(_config: &#config,));
    let stub = quote! {
        #[allow(dead_code, missing_docs)]
        impl #name {
            pub const NUM_TARGET_PARAMS: #krate::__private::usize = 0;
            pub const NUM_PARAMS: #krate::__private::usize = 0;
            pub const RATIO: #krate::__private::f64 = 0.;
            pub const CHUNKS: #krate::ChunkPlan = #krate::ChunkPlan::whole(0);

            pub fn new(#config _vb: #krate::nn::VarBuilder<'_>) -> #krate::__private::Result<Self> {
                #krate::__private::invalid()
            }
        }
    };
    [definition(checked), stub, methods(checked), traits(checked)].into_iter().collect()
}

fn definition(checked: &Checked) -> TokenStream {
    let Checked { attrs, vis, name, target, krate, .. } = checked;
    quote! {
        #(#attrs)*
        #vis struct #name {
            inner: #krate::__private::StaticHyperNetwork<#target>,
        }
    }
}

/// What is known of the sizes, as a function of the target's, so that it serves constants and run
/// time alike.
fn sizes(checked: &Checked) -> TokenStream {
    let Checked { name, embedding, generator, krate, .. } = checked;
    quote! {
        impl #name {
            #[doc(hidden)]
            const fn __sizes(num_target_params: #krate::__private::usize) -> #krate::__private::Sizes {
                let embedding = { #[allow(unused_imports)] use #krate::embedding::spec::*; #embedding };
                let generator = { #[allow(unused_imports)] use #krate::generator::spec::*; #generator };
                let shape = #krate::generator::GeneratorShape {
                    num_embeddings: embedding.num_embeddings(),
                    embedding_dim: embedding.embedding_dim(),
                    plan: generator.plan(num_target_params, embedding.num_embeddings()),
                };
                let num_params = embedding.num_params() + generator.num_params(shape);
                #krate::__private::Sizes { shape, num_params }
            }
        }
    }
}

/// `new`, with constants and their checks where the target's sizes are constants.
fn construction(checked: &Checked) -> TokenStream {
    let Checked { name, target, embedding, generator, init, krate, .. } = checked;
    let declaration = quote! {
        #krate::__private::Declaration {
            name: ::core::stringify!(#name),
            embedding: &{ #[allow(unused_imports)] use #krate::embedding::spec::*; #embedding },
            generator: &{ #[allow(unused_imports)] use #krate::generator::spec::*; #generator },
            shape: sizes.shape,
            scheme: { #[allow(unused_imports)] use #krate::init::spec::*; #init },
        }
    };
    let new = quote! {
        let inner = #krate::__private::StaticHyperNetwork::new(config, &#declaration, vb)?;
        #krate::__private::StdResult::Ok(Self { inner })
    };
    if let Some(config) = &checked.config {
        return quote! {
            #[allow(dead_code)]
            impl #name {
                /// Builds the hypernetwork for a target of this configuration, with its variables
                /// below `vb`.
                ///
                /// # Errors
                /// An invalid size, or the builder's own.
                pub fn new(
                    config: &#config,
                    vb: #krate::nn::VarBuilder<'_>,
                ) -> #krate::__private::Result<Self> {
                    let layout = <#target as #krate::HyperTarget>::layout_with(config)?;
                    let sizes = Self::__sizes(layout.num_params());
                    #new
                }
            }
        };
    }
    let check = quote_spanned! { embedding.span() =>
        const _: () = if let #krate::__private::Option::Some(problem) = #name::__SIZES.check() {
            ::core::panic!("{}", problem.message())
        };
    };
    quote! {
        #check

        #[allow(dead_code)]
        impl #name {
            #[doc(hidden)]
            const __SIZES: #krate::__private::Sizes = Self::__sizes(Self::NUM_TARGET_PARAMS);

            /// The number of the target's parameters.
            pub const NUM_TARGET_PARAMS: #krate::__private::usize =
                <#target as #krate::FixedTarget>::NUM_PARAMS;

            /// The number of the hypernetwork's own parameters.
            pub const NUM_PARAMS: #krate::__private::usize = Self::__SIZES.num_params;

            /// `NUM_PARAMS / NUM_TARGET_PARAMS`.
            pub const RATIO: #krate::__private::f64 = Self::NUM_PARAMS as #krate::__private::f64
                / Self::NUM_TARGET_PARAMS as #krate::__private::f64;

            /// How the generated rows cover the target's flat vector.
            pub const CHUNKS: #krate::ChunkPlan = Self::__SIZES.shape.plan;

            /// Builds the hypernetwork, with its variables below `vb`.
            ///
            /// # Errors
            /// The builder's own.
            pub fn new(vb: #krate::nn::VarBuilder<'_>) -> #krate::__private::Result<Self> {
                let (config, sizes) = (&(), Self::__SIZES);
                #new
            }
        }
    }
}

fn methods(checked: &Checked) -> TokenStream {
    let Checked { name, target, krate, .. } = checked;
    let private = quote!(#krate::__private);
    let result = quote!(#private::Result);
    let tensor = quote!(#private::Tensor);
    let params = quote!(#krate::GeneratedParams<#target>);
    // The quantified lifetime keeps rustc from refusing the method where the bound does not hold.
    let module = quote!(where for<'__a> #target: #krate::nn::Module);
    let module_t = quote!(where for<'__a> #target: #krate::nn::ModuleT);
    quote! {
        #[allow(dead_code)]
        impl #name {
            /// Generates the target's parameters.
            ///
            /// # Errors
            /// candle's own.
            pub fn generate_params(&self) -> #result<#params> {
                self.inner.generate_params()
            }

            /// An ordinary target over freshly generated parameters.
            ///
            /// # Errors
            /// candle's own.
            pub fn target(&self) -> #result<#target> {
                self.inner.target()
            }

            /// Generates the parameters and applies the target.
            ///
            /// # Errors
            /// The target's own.
            pub fn forward(&self, xs: &#tensor) -> #result<#tensor> #module {
                self.inner.forward(xs)
            }

            /// Applies the target with parameters generated before.
            ///
            /// # Errors
            /// The target's own.
            pub fn forward_with(&self, params: &#params, xs: &#tensor) -> #result<#tensor> #module {
                self.inner.forward_with(params, xs)
            }

            /// Generates the parameters and applies the target, in training or not.
            ///
            /// # Errors
            /// The target's own.
            pub fn forward_t(&self, xs: &#tensor, train: #private::bool) -> #result<#tensor> #module_t {
                self.inner.forward_t(xs, train)
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
                self.inner.forward_t_with(params, xs, train)
            }

            /// Generates the parameters and applies the target; also returns the parameters and the
            /// embeddings.
            ///
            /// # Errors
            /// The target's own.
            pub fn forward_aux(&self, xs: &#tensor) -> #result<(#tensor, #krate::Aux<#target>)> #module {
                self.inner.forward_aux(xs)
            }

            /// The hypernetwork itself, with all its methods.
            pub fn as_network(&self) -> &#private::StaticHyperNetwork<#target> {
                &self.inner
            }

            /// Writes the hypernetwork's checkpoint.
            ///
            /// # Errors
            /// The file can't be written.
            pub fn save(&self, path: impl #private::AsRef<#private::Path>) -> #result<()> {
                self.inner.save(path)
            }

            /// Reads what `save` wrote.
            ///
            /// # Errors
            /// The file is not a whole checkpoint of this hypernetwork; nothing has changed.
            pub fn load(&self, path: impl #private::AsRef<#private::Path>) -> #result<()> {
                self.inner.load(path)
            }

            /// Writes the generated weights as an ordinary checkpoint of the target.
            ///
            /// # Errors
            /// The file can't be written.
            pub fn bake(&self, path: impl #private::AsRef<#private::Path>) -> #result<()> {
                self.inner.bake(path)
            }
        }
    }
}

fn traits(checked: &Checked) -> TokenStream {
    let Checked { name, target, krate, .. } = checked;
    let private = quote!(#krate::__private);
    quote! {
        impl #krate::nn::Module for #name
        where
            for<'__a> #target: #krate::nn::Module,
        {
            fn forward(&self, xs: &#private::Tensor) -> #private::Result<#private::Tensor> {
                self.inner.forward(xs)
            }
        }

        impl #private::Debug for #name {
            fn fmt(&self, f: &mut #private::Formatter<'_>) -> #private::FmtResult {
                #private::Debug::fmt(&self.inner, f)
            }
        }
    }
}
