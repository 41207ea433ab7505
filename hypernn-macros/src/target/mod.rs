//! `#[derive(HyperTarget)]`: syntax is parsed, checked, and expanded.

mod bounds;
mod call;
mod check;
mod expand;
mod parse;
mod spec;

use proc_macro2::TokenStream;
use quote::quote;
use syn::DeriveInput;

use crate::report::Report;

/// The derive. Where the declaration is wrong, all its errors, with impls that keep the rest of the
/// program from failing over them.
pub(crate) fn derive(input: TokenStream) -> TokenStream {
    match syn::parse2::<DeriveInput>(input) {
        Ok(input) => derive_parsed(input),
        Err(error) => error.into_compile_error(),
    }
}

fn derive_parsed(input: DeriveInput) -> TokenStream {
    let mut report = Report::default();
    let raw = parse::parse(input, &mut report);
    let target = check::check(raw, &mut report);
    match report.into_compile_errors() {
        None => expand::expand(&target),
        Some(errors) => {
            let stub = expand::stub(&target.header);
            quote!(#errors #stub)
        }
    }
}
