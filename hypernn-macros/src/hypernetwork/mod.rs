//! `hypernetwork! { … }`: from a declaration to a type.

mod check;
mod deferred;
mod derives;
mod emitted;
mod expand;
mod methods;
mod parse;

use proc_macro2::TokenStream;
use quote::quote;

use crate::report::Report;
use parse::{Declaration, Declarations};

/// Parses, checks and expands declarations. Where one is wrong, all its errors, with a type that
/// keeps the rest of the program from failing over them.
pub(crate) fn hypernetwork(input: TokenStream) -> TokenStream {
    let Declarations { whole, broken } = match syn::parse2(input) {
        Ok(declarations) => declarations,
        Err(error) => return error.into_compile_error(),
    };
    let broken = broken.map(syn::Error::into_compile_error);
    whole.into_iter().map(declared).chain(broken).collect()
}

fn declared(declaration: Declaration) -> TokenStream {
    if deferred::is_deferred(&declaration) {
        return deferred::defer(&declaration);
    }
    hypernetwork_parsed(declaration)
}

/// The derive through which some declarations go.
pub(crate) fn derive(input: TokenStream) -> TokenStream {
    match syn::parse2(input).and_then(deferred::declaration) {
        Ok(declaration) => hypernetwork_parsed(declaration),
        Err(error) => error.into_compile_error(),
    }
}

fn hypernetwork_parsed(declaration: Declaration) -> TokenStream {
    let mut report = Report::default();
    let checked = check::check(declaration, &mut report);
    match report.into_compile_errors(&checked.shared) {
        None => expand::expand(&checked),
        Some(errors) => {
            let stub = expand::stub(&checked);
            quote!(#errors #stub)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_declaration_does_not_take_the_others_with_it() {
        let whole =
            quote!(struct A for Net { embedding: table(1, 2), generator: linear, mode: static });
        let code =
            hypernetwork(quote!(#whole struct B for Net { embedding table(1, 2) })).to_string();
        assert!(code.contains("struct A") && code.contains("\"expected `:`\""), "{code}");
        assert_eq!(hypernetwork(quote!(#whole #whole)).to_string().matches("struct A").count(), 2);
    }

    #[test]
    fn a_wrong_declaration_still_emits_the_type() {
        let code = hypernetwork(quote!(pub struct H for Net { embedding: table(1, 2) }));
        let code = syn::parse2::<syn::File>(code).map(|file| quote!(#file).to_string());
        let code = code.unwrap_or_else(|error| error.to_string());
        assert_eq!(code.matches("compile_error").count(), 2, "{code}");
        for part in ["pub struct H", "NUM_PARAMS", "fn new", "fn forward", "Module for H"] {
            assert!(code.contains(part), "{part} is not in {code}");
        }
    }
}
