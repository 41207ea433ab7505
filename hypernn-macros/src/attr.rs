//! What all attributes share.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::spanned::Spanned;
use syn::{Attribute, Ident, Meta, MetaList, Path, Result, Token};

use crate::report::Report;

/// The name of the helper attribute.
const HYPER: &str = "hyper";

/// Parses the comma-separated items of every `#[hyper(…)]` among `attrs`.
///
/// A syntax error ends its attribute, for what follows it could only be guessed.
pub(crate) fn items<T>(
    attrs: &[Attribute],
    report: &mut Report,
    item: fn(ParseStream<'_>) -> Result<T>,
) -> Vec<T> {
    let mut items = Vec::new();
    for attr in attrs.iter().filter(|attr| attr.path().is_ident(HYPER)) {
        let parsed = attr.parse_args_with(|input: ParseStream<'_>| separated(input, item));
        items.extend(report.take(parsed).unwrap_or_default());
    }
    items
}

fn separated<T>(input: ParseStream<'_>, item: fn(ParseStream<'_>) -> Result<T>) -> Result<Vec<T>> {
    let mut items = Vec::new();
    while !input.is_empty() {
        items.push(item(input)?);
        if input.is_empty() {
            break;
        }
        input.parse::<Token![,]>()?;
    }
    Ok(items)
}

/// What an attribute of a declaration means for each item that is emitted for it: `#[cfg]` holds for all
/// of them, and so does what the user allows, for they repeat the user's own names and expressions.
pub(crate) fn passed_on(attrs: &[Attribute]) -> TokenStream {
    let metas = attrs.iter().filter_map(|attr| passed_on_meta(&attr.meta));
    metas.map(|meta| quote!(#[#meta])).collect()
}

fn passed_on_meta(meta: &Meta) -> Option<TokenStream> {
    let path = meta.path();
    if path.is_ident("cfg") || path.is_ident("allow") {
        return Some(meta.to_token_stream());
    }
    let Meta::List(MetaList { tokens, .. }) = meta else { return None };
    if path.is_ident("expect") {
        // What is expected of the declaration need not be there in each of the items.
        return Some(quote_spanned!(path.span()=> allow(#tokens)));
    }
    let (condition, metas) = conditional(meta)?;
    let metas: Vec<_> = metas.iter().filter_map(passed_on_meta).collect();
    (!metas.is_empty()).then(|| quote!(cfg_attr(#condition, #(#metas),*)))
}

/// The condition of a `cfg_attr`, and its attributes.
pub(crate) fn conditional(meta: &Meta) -> Option<(TokenStream, Vec<Meta>)> {
    let Meta::List(MetaList { path, tokens, .. }) = meta else { return None };
    if !path.is_ident("cfg_attr") {
        return None;
    }
    let mut parts = commas(tokens.clone()).into_iter();
    let condition = parts.next()?;
    Some((condition, parts.filter_map(|part| syn::parse2(part).ok()).collect()))
}

/// What stands between the commas.
fn commas(tokens: TokenStream) -> Vec<TokenStream> {
    let mut parts = vec![TokenStream::new()];
    for tree in tokens {
        match &tree {
            TokenTree::Punct(punct) if punct.as_char() == ',' => parts.push(TokenStream::new()),
            _ => parts.last_mut().into_iter().for_each(|part| part.extend([tree.clone()])),
        }
    }
    parts
}

/// The path of a crate or module, as it can stand in `use`.
pub(crate) fn crate_path(input: ParseStream<'_>) -> Result<Path> {
    let path = Path::parse_mod_style(input)?;
    match path.segments.iter().find(|segment| segment.ident == "Self") {
        Some(segment) => Err(syn::Error::new_spanned(segment, "`Self` is no crate or module")),
        None => Ok(path),
    }
}

/// The word that comes next, keyword or not, if one does.
pub(crate) fn next_word(input: ParseStream<'_>) -> Option<Ident> {
    input.fork().call(Ident::parse_any).ok()
}

/// Skips the rest of an item whose key is unknown.
pub(crate) fn skip_item(input: ParseStream<'_>) -> Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<TokenTree>()?;
    }
    Ok(())
}

/// Adds the right form to a syntax error.
pub(crate) fn with_form<T>(parsed: Result<T>, form: &str) -> Result<T> {
    parsed.map_err(|error| {
        syn::Error::new(error.span(), format!("{error}; the form is `#[hyper({form})]`"))
    })
}

/// The message for a key that is none of `known`.
pub(crate) fn unknown_key(found: &str, known: &[&str]) -> String {
    let guess = similar(found, known)
        .map_or(String::new(), |similar| format!("; did you mean `{similar}`?"));
    let list: Vec<_> = known.iter().map(|key| format!("`{key}`")).collect();
    format!("unknown key `{found}`{guess} (known here: {})", list.join(", "))
}

/// The word of `known` that `found` was most likely meant to be.
pub(crate) fn similar<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let with_distance = known.iter().map(|word| (distance(found, word), *word));
    let (distance, word) = with_distance.min_by_key(|(distance, _)| *distance)?;
    let near = distance <= 1 + word.len() / 4 && distance < word.len().min(found.len());
    near.then_some(word)
}

/// The number of letters to insert, remove, replace or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            row.push(step(&rows, &row, (&a, &b), (i, j)));
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// One cell of the distance table.
fn step(
    rows: &[Vec<usize>],
    row: &[usize],
    (a, b): (&[char], &[char]),
    (i, j): (usize, usize),
) -> usize {
    let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
    let best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
    let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
    if swapped { best.min(rows[i - 2][j - 2] + 1) } else { best }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_is_one_step() {
        assert_eq!(distance("tei", "tie"), 1);
        assert_eq!(distance("config", "confg"), 1);
        assert_eq!(distance("", "name"), 4);
    }

    #[test]
    fn what_holds_for_all_items_is_passed_on() {
        let on = |attrs: &[Attribute]| passed_on(attrs).to_string();
        let attrs = [
            syn::parse_quote!(#[doc = "text"]),
            syn::parse_quote!(#[cfg(feature = "a")]),
            syn::parse_quote!(#[expect(deprecated, reason = "old")]),
            syn::parse_quote!(#[cfg_attr(all(unix, a = "b"), must_use, allow(x), cfg_attr(b, cfg(c)))]),
            syn::parse_quote!(#[cfg_attr(unix, must_use)]),
            syn::parse_quote!(#[forbid(y)]),
        ];
        let expected = quote! {
            #[cfg(feature = "a")]
            #[allow(deprecated, reason = "old")]
            #[cfg_attr(all(unix, a = "b"), allow(x), cfg_attr(b, cfg(c)))]
        };
        assert_eq!(on(&attrs), expected.to_string());
    }

    #[test]
    fn an_unknown_key_is_compared_with_the_known_ones() {
        let message = unknown_key("nmae", &["name", "value"]);
        assert_eq!(
            message,
            "unknown key `nmae`; did you mean `name`? (known here: `name`, `value`)"
        );
        assert_eq!(similar("bias", &["name", "value"]), None);
        assert_eq!(similar("a", &["b"]), None);
    }
}
