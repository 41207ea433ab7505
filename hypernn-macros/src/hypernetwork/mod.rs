//! `hypernetwork! { … }`: from a declaration to a type.

mod check;
mod expand;
mod parse;

use proc_macro2::TokenStream;

/// Parses, checks and expands a declaration; its mistakes become compile errors.
pub(crate) fn hypernetwork(input: TokenStream) -> TokenStream {
    syn::parse2::<parse::Declaration>(input)
        .and_then(check::check)
        .map_or_else(syn::Error::into_compile_error, |checked| expand::expand(&checked))
}
