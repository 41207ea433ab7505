//! The impls that the forward of a chain becomes, by the numbers of its inputs and outputs.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Generics, Ident};

use super::chain::{MOST_OUTPUTS, trains};
use super::check::Header;

/// What the forward takes and gives.
pub(crate) struct Signature {
    train: bool,
    /// The name of each input.
    inputs: Vec<Ident>,
    outputs: usize,
}

impl Signature {
    /// Of a target whose key of the chain this is.
    pub(crate) fn new(header: &Header, key: &Ident) -> Self {
        // Not to be seen by the user's expressions.
        let unnamed = Ident::new("xs", Span::mixed_site());
        let input = |name: &Option<Ident>| name.clone().unwrap_or_else(|| unnamed.clone());
        let inputs = header.inputs.iter().map(input).collect();
        Self { train: trains(key), inputs, outputs: header.num_outputs }
    }

    /// The same without the user's names, of which a body that computes nothing makes no use.
    pub(crate) fn of_stub(header: &Header, key: &Ident) -> Self {
        let input = |i| format_ident!("__x{i}", span = Span::mixed_site());
        Self { inputs: (0..header.inputs.len()).map(input).collect(), ..Self::new(header, key) }
    }

    /// The variable of each input in the forward.
    pub(crate) fn inputs(&self) -> &[Ident] {
        &self.inputs
    }

    fn name(&self) -> TokenStream {
        if self.train { quote!(forward_t) } else { quote!(forward) }
    }

    fn output(&self) -> TokenStream {
        let tensors = vec![quote!(__p::Tensor); self.outputs];
        if self.outputs == 1 { quote!(__p::Tensor) } else { quote!((#(#tensors),*)) }
    }

    fn doc(&self) -> &'static str {
        match (self.inputs.len(), self.outputs) {
            (1, _) => "The forward of its chain, which gives several values.",
            (_, 1) => "The forward of its chain, of all its inputs.",
            _ => "The forward of its chain, of all its inputs, which gives several values.",
        }
    }
}

/// The forward with this body: of one input and one output that of `Module` or `ModuleT`. Else it is a method, to which a
/// trait leads: of one output `Join` or `JoinT`, of one input `ForwardTarget` or `ForwardTargetT`.
pub(crate) fn implement(
    header: &Header,
    generics: &Generics,
    signature: &Signature,
    body: &TokenStream,
) -> TokenStream {
    let writer = Impls { header, generics, signature };
    match (signature.inputs.len(), signature.outputs) {
        (1, 1) => {
            let boxed = header.holds_itself.then(|| writer.boxed());
            let module = writer.module(body);
            quote!(#module #boxed)
        }
        (1, outputs) => {
            let target = (outputs <= MOST_OUTPUTS).then(|| writer.forward_target());
            let method = writer.method(body);
            quote!(#method #target)
        }
        (_, 1) => {
            let (method, join) = (writer.method(body), writer.join());
            quote!(#method #join)
        }
        _ => writer.method(body),
    }
}

struct Impls<'a> {
    header: &'a Header,
    generics: &'a Generics,
    signature: &'a Signature,
}

impl Impls<'_> {
    /// An impl of a trait, or of the type's own items.
    fn item(&self, of: Option<TokenStream>, items: &TokenStream) -> TokenStream {
        let ident = &self.header.ident;
        let (impl_generics, _, where_clause) = self.generics.split_for_impl();
        let (_, ty_generics, _) = self.header.generics.split_for_impl();
        let of = of.map(|name| quote!(__p::#name for));
        quote! {
            #[automatically_derived]
            impl #impl_generics #of #ident #ty_generics #where_clause {
                #items
            }
        }
    }

    /// The argument that says whether this is training, and what passes it on.
    fn train(&self) -> (Option<TokenStream>, Option<TokenStream>) {
        let train = self.signature.train;
        (train.then(|| quote!(__train: __p::bool,)), train.then(|| quote!(__train)))
    }

    /// The same of a `Box`, which candle has none of: a target that holds one of its own kind holds it so.
    fn boxed(&self) -> TokenStream {
        let ident = &self.header.ident;
        let (impl_generics, _, where_clause) = self.generics.split_for_impl();
        let (_, ty_generics, _) = self.header.generics.split_for_impl();
        let name = if self.signature.train { quote!(ModuleT) } else { quote!(Module) };
        let (function, (train, passed)) = (self.signature.name(), self.train());
        quote! {
            #[automatically_derived]
            impl #impl_generics __p::#name for __p::Box<#ident #ty_generics> #where_clause {
                fn #function(&self, __xs: &__p::Tensor, #train) -> __p::Result<__p::Tensor> {
                    <#ident #ty_generics as __p::#name>::#function(&**self, __xs, #passed)
                }
            }
        }
    }

    fn module(&self, body: &TokenStream) -> TokenStream {
        let name = if self.signature.train { quote!(ModuleT) } else { quote!(Module) };
        let (function, inputs) = (self.signature.name(), &self.signature.inputs);
        let (train, _) = self.train();
        let forward = quote! {
            fn #function(
                &self,
                #(#inputs: &__p::Tensor,)*
                #train
            ) -> __p::Result<__p::Tensor> {
                #body
            }
        };
        self.item(Some(name), &forward)
    }

    fn method(&self, body: &TokenStream) -> TokenStream {
        let Signature { inputs, .. } = self.signature;
        let (vis, function, output) =
            (&self.header.vis, self.signature.name(), self.signature.output());
        let ((train, _), doc) = (self.train(), self.signature.doc());
        let method = quote! {
            #[doc = #doc]
            ///
            /// # Errors
            /// Those of its steps.
            #vis fn #function(
                &self,
                #(#inputs: &__p::Tensor,)*
                #train
            ) -> __p::Result<#output> {
                #body
            }
        };
        self.item(None, &method)
    }

    /// The method, called with the inputs of a slice.
    fn join(&self) -> TokenStream {
        let (name, function) = match self.signature.train {
            false => (quote!(Join), quote!(join)),
            true => (quote!(JoinT), quote!(join_t)),
        };
        let (method, (train, passed)) = (self.signature.name(), self.train());
        let count = self.signature.inputs.len();
        let inputs: Vec<_> = (0..count).map(|i| format_ident!("__x{i}")).collect();
        let join = quote! {
            fn #function(
                &self,
                __xs: &[&__p::Tensor],
                #train
            ) -> __p::Result<__p::Tensor> {
                let &[#(#inputs),*] = __xs else {
                    return __p::wrong_number_of_inputs(
                        <Self as __p::HyperTarget>::NAME,
                        #count,
                        <[_]>::len(__xs),
                    );
                };
                Self::#method(self, #(#inputs,)* #passed)
            }
        };
        self.item(Some(name), &join)
    }

    /// What gives several values has a `forward_t` in any case, as a `Module` has.
    fn forward_target(&self) -> TokenStream {
        let (method, output, (_, passed)) =
            (self.signature.name(), self.signature.output(), self.train());
        let in_training = quote! {
            type Output = #output;

            fn outputs_t(&self, __xs: &__p::Tensor, __train: __p::bool) -> __p::Result<#output> {
                Self::#method(self, __xs, #passed)
            }
        };
        let in_training = self.item(Some(quote!(ForwardTargetT)), &in_training);
        if self.signature.train {
            return in_training;
        }
        let plain = quote! {
            type Output = #output;

            fn outputs(&self, __xs: &__p::Tensor) -> __p::Result<#output> {
                Self::#method(self, __xs)
            }
        };
        let plain = self.item(Some(quote!(ForwardTarget)), &plain);
        quote!(#in_training #plain)
    }
}
