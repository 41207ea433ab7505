//! `#[derive(HyperTarget)]`: syntax is parsed, checked, and expanded.

mod bounds;
mod call;
mod chain;
mod check;
mod expand;
mod field;
mod flow;
mod forward;
mod forward_impl;
mod parse;
mod role;
mod spec;
mod typed;

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
    match report.into_compile_errors(&TokenStream::new()) {
        None => expand::expand(&target),
        Some(errors) => {
            let stub = expand::stub(&target.header);
            quote!(#errors #stub)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parses(tokens: TokenStream) -> String {
        let file = syn::parse2::<syn::File>(tokens);
        file.map_or_else(|error| error.to_string(), |file| quote!(#file).to_string())
    }

    #[test]
    fn a_wrong_declaration_still_implements_all() {
        let code = parses(derive(quote!(
            #[hyper(config = A, confg = B, forward(fn step(&self) -> R))]
            enum E<T> {
                A(T),
            }
        )));
        assert_eq!(code.matches("compile_error").count(), 2);
        for part in
            ["HyperTarget for E < T >", "Parameters for", "FixedTarget for", "functional_step"]
        {
            assert!(code.contains(part), "{part} is not in {code}");
        }
    }

    #[test]
    fn a_configured_target_has_no_constant_size() {
        let body = quote!(
            struct S {
                #[hyper(linear(1, 2))]
                fc: Linear,
            }
        );
        assert!(parses(derive(body.clone())).contains("FixedTarget for S"));
        assert!(!parses(derive(quote!(#[hyper(config = A)] #body))).contains("FixedTarget"));
        let passing = quote!(
            struct S {
                #[hyper(target(A))]
                fc: B,
            }
        );
        assert!(!parses(derive(passing)).contains("FixedTarget"));
    }

    #[test]
    fn the_crate_may_have_another_name() {
        let code = parses(derive(quote!(
            #[hyper(crate = renamed)]
            struct S {
                #[hyper(layer_norm(8, 1e-5))]
                norm: LayerNorm,
                #[hyper([target; 2])]
                b: [B; 2],
            }
        )));
        assert!(
            code.contains("use renamed :: __private") && !code.contains(":: hypernn"),
            "{code}"
        );
    }

    #[test]
    fn generic_fields_get_the_bounds_they_need() {
        let code = parses(derive(quote!(
            struct S<T> {
                a: T,
                #[hyper([target; 2])]
                b: Vec<T>,
                #[hyper(linear(1, 2))]
                c: Linear,
            }
        )));
        for bound in [
            quote!(for<'__config> T: __p::HyperTarget<Config = ()>),
            quote!(for<'__config> Vec<T>: __p::HyperLayer<__p::Repeat),
        ] {
            assert!(code.contains(&bound.to_string()), "{code}");
        }
        assert!(!code.contains("Linear : __p :: HyperLayer"), "{code}");
    }
}
