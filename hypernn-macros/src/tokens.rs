//! What stands among tokens.

use proc_macro2::{Ident, TokenStream, TokenTree};

/// An identifier, in whatever group it stands.
pub(crate) struct Found {
    pub(crate) ident: Ident,
    /// The sign right before it.
    pub(crate) after: Option<char>,
}

/// All identifiers, in order.
pub(crate) fn idents(tokens: TokenStream) -> Vec<Found> {
    let (mut found, mut after) = (Vec::new(), None);
    for tree in tokens {
        let sign = match &tree {
            TokenTree::Punct(punct) => Some(punct.as_char()),
            _ => None,
        };
        match tree {
            TokenTree::Ident(ident) => found.push(Found { ident, after }),
            TokenTree::Group(group) => found.extend(idents(group.stream())),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        after = sign;
    }
    found
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    #[test]
    fn each_with_the_sign_before_it() {
        let found = idents(quote!(a.b(c, [d::e]) f 'g));
        let shown: Vec<_> =
            found.iter().map(|found| (found.ident.to_string(), found.after)).collect();
        let expected = [
            ("a", None),
            ("b", Some('.')),
            ("c", None),
            ("d", None),
            ("e", Some(':')),
            ("f", None),
            ("g", Some('\'')),
        ];
        assert_eq!(shown, expected.map(|(name, after)| (name.to_owned(), after)));
    }
}
