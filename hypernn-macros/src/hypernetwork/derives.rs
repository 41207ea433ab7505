//! `#[derive(…)]` on a declaration.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::punctuated::Punctuated;
use syn::{Attribute, Ident, Meta, Path, Token};

use crate::attr;
use crate::report::Report;

/// What the standard library derives, and why a hypernetwork does not have it.
const REFUSED: [(&str, &str); 8] = [
    ("Clone", SHARED),
    ("Copy", SHARED),
    ("Default", "`new` builds it from a `VarBuilder`"),
    ("PartialEq", COMPARED),
    ("Eq", COMPARED),
    ("PartialOrd", COMPARED),
    ("Ord", COMPARED),
    ("Hash", COMPARED),
];

const SHARED: &str = "its parts may be of any type; share it by reference, or in an `Arc`";
const COMPARED: &str = "compare the tensors of `named_tensors()`";

/// The attributes as the emitted type has them. `Debug` is there for every hypernetwork; a derive of
/// the user's own is given the type as it is emitted.
pub(super) fn check(attrs: Vec<Attribute>, name: &Ident, report: &mut Report) -> Vec<TokenStream> {
    let kept = attrs.iter().filter_map(|attr| {
        let meta = kept(&attr.meta, name, report)?;
        Some(quote!(#[#meta]))
    });
    kept.collect()
}

/// The attribute without what is there anyway; nothing where that is all.
fn kept(meta: &Meta, name: &Ident, report: &mut Report) -> Option<TokenStream> {
    if let Some((condition, metas)) = attr::conditional(meta) {
        let kept: Vec<_> = metas.iter().filter_map(|meta| self::kept(meta, name, report)).collect();
        return (!kept.is_empty()).then(|| quote!(cfg_attr(#condition, #(#kept),*)));
    }
    let Meta::List(list) = meta else { return Some(meta.to_token_stream()) };
    if !list.path.is_ident("derive") {
        return Some(meta.to_token_stream());
    }
    // What is no list of paths is rustc's to refuse.
    let Ok(paths) = list.parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated) else {
        return Some(meta.to_token_stream());
    };
    let paths: Vec<_> = paths.into_iter().filter(|path| is_kept(path, name, report)).collect();
    (!paths.is_empty()).then(|| quote!(derive(#(#paths),*)))
}

fn is_kept(path: &Path, name: &Ident, report: &mut Report) -> bool {
    let Some(derived) = of_std(path) else { return true };
    if derived == "Debug" {
        return false;
    }
    let Some((refused, reason)) = REFUSED.iter().find(|(refused, _)| derived == *refused) else {
        return true;
    };
    report.error(path, format!("the hypernetwork `{name}` can't derive `{refused}`: {reason}"));
    false
}

/// The name of a derive of the standard library: by itself, or by its path.
fn of_std(path: &Path) -> Option<&Ident> {
    let first = path.segments.first()?;
    let std = ["std", "core"].iter().any(|krate| first.ident == krate);
    (std || path.segments.len() == 1).then(|| path.segments.last().map(|last| &last.ident))?
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    fn checked(attr: Attribute) -> (String, Vec<String>) {
        let mut report = Report::default();
        let kept = check(vec![attr], &parse_quote!(H), &mut report);
        (kept.into_iter().collect::<TokenStream>().to_string(), report.messages())
    }

    #[test]
    fn debug_is_there_anyway() {
        for attr in [
            parse_quote!(#[derive(Debug)]),
            parse_quote!(#[derive(::core::fmt::Debug)]),
            parse_quote!(#[cfg_attr(test, derive(std::fmt::Debug))]),
        ] {
            assert_eq!(checked(attr), (String::new(), vec![]));
        }
        let kept = checked(parse_quote!(#[cfg_attr(test, derive(Debug, own::Clone), must_use)])).0;
        let expected = quote!(#[cfg_attr(test, derive(own::Clone), must_use)]);
        assert_eq!(kept, expected.to_string());
    }

    #[test]
    fn what_can_not_be_derived_says_why() {
        let messages = checked(parse_quote!(#[derive(Debug, Clone, std::default::Default)])).1;
        assert_eq!(
            messages,
            [
                "the hypernetwork `H` can't derive `Clone`: its parts may be of any type; share it by reference, or in an `Arc`",
                "the hypernetwork `H` can't derive `Default`: `new` builds it from a `VarBuilder`",
            ]
        );
    }

    #[test]
    fn other_attributes_stay() {
        for attr in [
            quote!(#[doc = "text"]),
            quote!(#[derive(Own)]),
            quote!(#[derive(1)]),
            quote!(#[must_use]),
        ] {
            assert_eq!(checked(parse_quote!(#attr)).0, attr.to_string());
        }
    }
}
