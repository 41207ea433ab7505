//! Collects the mistakes of one invocation, so that all are reported at once.

use proc_macro2::Span;
use quote::ToTokens;

/// The mistakes found so far.
#[derive(Default)]
pub(crate) struct Report {
    errors: Option<syn::Error>,
}

impl Report {
    pub(crate) fn error(&mut self, error: syn::Error) {
        match &mut self.errors {
            None => self.errors = Some(error),
            Some(errors) => errors.combine(error),
        }
    }

    pub(crate) fn push(&mut self, span: Span, message: impl std::fmt::Display) {
        self.error(syn::Error::new(span, message));
    }

    /// At all of the tokens, first to last.
    pub(crate) fn push_tokens(&mut self, tokens: impl ToTokens, message: impl std::fmt::Display) {
        self.error(syn::Error::new_spanned(tokens, message));
    }

    pub(crate) fn finish(self) -> syn::Result<()> {
        self.errors.map_or(Ok(()), Err)
    }
}

/// `, did you mean …?` where one of the names is at most two edits away.
pub(crate) fn did_you_mean(written: &str, names: &[&str]) -> String {
    let nearest = names.iter().min_by_key(|name| distance(written, name));
    match nearest {
        Some(name) if distance(written, name) <= 2 => format!(", did you mean `{name}`?"),
        _ => String::new(),
    }
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }

    #[test]
    fn only_near_names_are_suggested() {
        assert_eq!(did_you_mean("stride", &["bias", "strides"]), ", did you mean `strides`?");
        assert_eq!(did_you_mean("colour", &["bias", "strides"]), "");
    }
}
