//! `hypernetwork! { … }`: from a declaration to a type.

mod check;
mod expand;
mod methods;
mod parse;

use proc_macro2::TokenStream;
use quote::quote;

use crate::report::Report;
use parse::Declaration;

/// Parses, checks and expands a declaration. Where it is wrong, all its errors, with a type that
/// keeps the rest of the program from failing over them.
pub(crate) fn hypernetwork(input: TokenStream) -> TokenStream {
    match syn::parse2::<Declaration>(input) {
        Ok(declaration) => hypernetwork_parsed(declaration),
        Err(error) => error.into_compile_error(),
    }
}

fn hypernetwork_parsed(declaration: Declaration) -> TokenStream {
    let mut report = Report::default();
    let checked = check::check(declaration, &mut report);
    match report.into_compile_errors() {
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
