//! The emitted type: a thin wrapper with the user's name, docs and constants.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

use super::check::{Checked, Mode};
use super::methods::methods;

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

/// The type of the runtime crate that is wrapped.
pub(super) fn network(checked: &Checked) -> TokenStream {
    let Checked { target, krate, .. } = checked;
    match checked.mode {
        Mode::Static => quote!(#krate::__private::StaticHyperNetwork<#target>),
        Mode::Dynamic => quote!(#krate::__private::DynamicHyperNetwork<#target>),
    }
}

fn definition(checked: &Checked) -> TokenStream {
    let (Checked { attrs, vis, name, .. }, network) = (checked, network(checked));
    quote! {
        #(#attrs)*
        #vis struct #name {
            inner: #network,
        }
    }
}

/// What is known of the sizes, as a function of the target's, so that it serves constants and run
/// time alike.
fn sizes(checked: &Checked) -> TokenStream {
    let Checked { name, embedding, generator, krate, .. } = checked;
    let conditions = match checked.mode {
        Mode::Static => quote!(#krate::__private::Option::None),
        Mode::Dynamic => quote! {
            #krate::__private::Option::Some((embedding.condition(), generator.condition()))
        },
    };
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
                #krate::__private::Sizes { shape, num_params, conditions: #conditions }
            }
        }
    }
}

/// `new`, with constants and their checks where the target's sizes are constants.
fn construction(checked: &Checked) -> TokenStream {
    let Checked { name, target, embedding, krate, .. } = checked;
    let new = new_body(checked);
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

/// With `config`, `sizes` and `vb` in scope.
fn new_body(checked: &Checked) -> TokenStream {
    let Checked { name, embedding, generator, init, krate, .. } = checked;
    let network = network(checked);
    let conditions = match checked.mode {
        Mode::Static => TokenStream::new(),
        Mode::Dynamic => quote!(sizes.conditions(),),
    };
    quote! {
        let embedding = &{ #[allow(unused_imports)] use #krate::embedding::spec::*; #embedding };
        let generator = &{ #[allow(unused_imports)] use #krate::generator::spec::*; #generator };
        let declared = #krate::__private::Declared {
            name: ::core::stringify!(#name),
            shape: sizes.shape,
            scheme: { #[allow(unused_imports)] use #krate::init::spec::*; #init },
        };
        let inner = <#network>::new(config, &declared, #conditions (embedding, generator), vb)?;
        #krate::__private::StdResult::Ok(Self { inner })
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
