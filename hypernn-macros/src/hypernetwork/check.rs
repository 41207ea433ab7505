//! From keys as they were written to a declaration that can be expanded. Every mistake is
//! reported, each at its own tokens.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Expr, Ident, Path, Type, Visibility, parse_quote};

use super::derives;
use super::parse::{Declaration, Entry};
use crate::attr::{self, unknown_key};
use crate::report::Report;

const KEYS: [&str; 8] =
    ["embedding", "generator", "mode", "init", "config", "target", "roles", "crate"];

/// A declaration whose parts are known; expanding it can't fail.
pub(super) struct Checked {
    /// The attributes of the type.
    pub(super) attrs: Vec<TokenStream>,
    /// The attributes of all items that belong to it.
    pub(super) shared: TokenStream,
    pub(super) vis: Visibility,
    pub(super) name: Ident,
    pub(super) target: Type,
    pub(super) embedding: Expr,
    pub(super) generator: Expr,
    pub(super) mode: Mode,
    pub(super) init: Expr,
    pub(super) source: Source,
    /// Roles by pattern; the sizes are then known only at run time.
    pub(super) roles: Option<Expr>,
    /// The path of the hypernn crate.
    pub(super) krate: Path,
}

/// Whether the input takes part in generating the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Static,
    Dynamic,
}

impl Checked {
    /// Whether all sizes are constants.
    pub(super) fn has_constants(&self) -> bool {
        matches!(self.source, Source::Fixed) && self.roles.is_none()
    }
}

/// How the target is known.
pub(super) enum Source {
    /// It derives `HyperTarget`, and its sizes are constants.
    Fixed,
    /// It derives `HyperTarget`, and `new` takes its configuration, of this type.
    Configured(Box<Type>),
    /// `new` takes its constructor.
    Constructor,
}

/// Where the report then holds an error, what is missing is a placeholder.
pub(super) fn check(declaration: Declaration, report: &mut Report) -> Checked {
    let Declaration { attrs, vis, name, target, entries } = declaration;
    let entries: Vec<_> = entries.into_iter().collect();
    check_keys(&entries, report);
    let shared = shared(&attrs, &entries);
    let attrs = derives::check(attrs, &name, report);
    let keys = Keys { entries: &entries, name: &name };
    let embedding = keys.required("embedding", "embedding: table(64, 8)", report);
    let generator = keys.required("generator", "generator: linear", report);
    let mode = mode(&keys, report).unwrap_or(Mode::Static);
    let init = keys.parsed("init", report).unwrap_or_else(|| parse_quote!(exact));
    let source = source(&keys, report);
    let roles = keys.parsed("roles", report);
    let krate = keys
        .parsed_by("crate", attr::crate_path, report)
        .unwrap_or_else(|| parse_quote!(::hypernn));
    Checked {
        attrs,
        shared,
        vis,
        name,
        target,
        embedding,
        generator,
        mode,
        init,
        source,
        roles,
        krate,
    }
}

/// What is allowed for one key is for all, since the items repeat the user's expressions.
fn shared(attrs: &[syn::Attribute], entries: &[Entry]) -> TokenStream {
    let on_keys = entries.iter().map(|entry| attr::passed_on(&entry.attrs));
    let (on_type, on_keys) = (attr::passed_on(attrs), on_keys.collect::<TokenStream>());
    quote!(#on_type #on_keys)
}

/// An attribute that a key does not take, unknown keys, and each key but the first of its name.
fn check_keys(entries: &[Entry], report: &mut Report) {
    for (i, entry) in entries.iter().enumerate() {
        check_attrs(entry, report);
        let key = entry.key.to_string();
        if !KEYS.contains(&key.as_str()) {
            report.error(&entry.key, unknown_key(&key, &KEYS));
        } else if entries[..i].iter().any(|earlier| earlier.key == entry.key) {
            report.error(&entry.key, format!("`{key}` is given twice"));
        }
    }
}

fn check_attrs(entry: &Entry, report: &mut Report) {
    for attr in &entry.attrs {
        let known = ["doc", "cfg", "cfg_attr", "allow", "expect"];
        if !known.iter().any(|known| attr.path().is_ident(known)) {
            let message = "a key takes documentation, `#[cfg]` and `#[allow]`; other attributes go above `struct`";
            report.error(attr, message);
        }
    }
}

fn source(keys: &Keys<'_>, report: &mut Report) -> Source {
    let config = keys.parsed_by("config", Type::without_plus, report);
    let Some(written) = keys.value("target") else {
        return config.map_or(Source::Fixed, |config| Source::Configured(Box::new(config)));
    };
    let text = written.to_string();
    if text == "by constructor" {
        let renamed = "`by constructor` is now `constructor`: write `target: constructor`";
        report.error(written, renamed.to_owned());
    } else if text != "constructor" {
        let form =
            "write `target: constructor`, or leave it out where the target derives `HyperTarget`";
        report.error(written, format!("unknown target `{text}`: {form}"));
    } else if let Some(config) = keys.value("config") {
        let reason = "a target by constructor takes no `config`: the constructor that `new` takes knows its own";
        report.error(config, reason.to_owned());
    }
    Source::Constructor
}

fn mode(keys: &Keys<'_>, report: &mut Report) -> Option<Mode> {
    let Some(written) = keys.value("mode") else {
        keys.missing("mode", "mode: static", report);
        return None;
    };
    match written.to_string().as_str() {
        "static" => Some(Mode::Static),
        "dynamic" => Some(Mode::Dynamic),
        other => {
            let form = "write `mode: static`, or `mode: dynamic` where the input takes part";
            report.error(written, format!("unknown mode `{other}`: {form}"));
            None
        }
    }
}

/// The entries by key.
struct Keys<'a> {
    entries: &'a [Entry],
    name: &'a Ident,
}

impl Keys<'_> {
    fn value(&self, key: &str) -> Option<&TokenStream> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    fn missing(&self, key: &str, form: &str, report: &mut Report) {
        let name = self.name.unraw();
        report.error(self.name, format!("`{name}` has no `{key}`: write `{form}`"));
    }

    fn parsed<P: Parse>(&self, key: &str, report: &mut Report) -> Option<P> {
        self.parsed_by(key, P::parse, report)
    }

    fn parsed_by<P>(
        &self,
        key: &str,
        parser: fn(ParseStream<'_>) -> syn::Result<P>,
        report: &mut Report,
    ) -> Option<P> {
        let value = self.value(key)?;
        let parsed = parser.parse2(value.clone());
        report.take(parsed.map_err(|error| at_the_end(error, value)))
    }

    /// A placeholder where it is missing: the report then fails as a whole.
    fn required(&self, key: &str, form: &str, report: &mut Report) -> Expr {
        if self.value(key).is_none() {
            self.missing(key, form, report);
        }
        self.parsed(key, report).unwrap_or_else(|| Expr::Verbatim(TokenStream::new()))
    }
}

/// An error where the value ends is one of its last token: behind it there is nothing to show.
fn at_the_end(error: syn::Error, value: &TokenStream) -> syn::Error {
    match value.clone().into_iter().last() {
        Some(last) if error.to_string().starts_with(END) => {
            syn::Error::new(last.span(), format!("{error} after this"))
        }
        _ => error,
    }
}

/// How syn begins to say that tokens are missing.
const END: &str = "unexpected end of input";

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn errors(tokens: TokenStream) -> Vec<String> {
        let mut report = Report::default();
        match syn::parse2::<Declaration>(tokens) {
            Ok(declaration) => drop(check(declaration, &mut report)),
            Err(err) => drop(report.take::<()>(Err(err))),
        }
        report.messages()
    }

    #[test]
    fn a_whole_declaration_is_accepted() {
        let tokens = quote! {
            /// Docs.
            pub(crate) struct H for crate::Net<3> {
                embedding: table(64, 8), generator: mlp([32], tanh), mode: static, init: hyper_nn,
            }
        };
        assert_eq!(errors(tokens), [""; 0]);
    }

    #[test]
    fn every_mistake_is_reported() {
        let tokens = quote! {
            struct H for Net { embeding: table(64, 8), generator: linear, generator: heads, mode: statik }
        };
        assert_eq!(
            errors(tokens),
            [
                "unknown key `embeding`; did you mean `embedding`? (known here: `embedding`, `generator`, `mode`, `init`, `config`, `target`, `roles`, `crate`)",
                "`generator` is given twice",
                "`H` has no `embedding`: write `embedding: table(64, 8)`",
                "unknown mode `statik`: write `mode: static`, or `mode: dynamic` where the input takes part",
            ]
        );
    }

    #[test]
    fn a_target_is_by_constructor_or_derived() {
        let with = |target: TokenStream| {
            errors(quote! {
                struct H for Net { embedding: table(1, 2), generator: linear, mode: static, #target }
            })
        };
        assert_eq!(with(quote!(target: constructor)), [""; 0]);
        assert_eq!(
            with(quote!(target: module)),
            [
                "unknown target `module`: write `target: constructor`, or leave it out where the target derives `HyperTarget`"
            ]
        );
        assert_eq!(
            with(quote!(target: by constructor)),
            ["`by constructor` is now `constructor`: write `target: constructor`"]
        );
        assert_eq!(
            with(quote!(target: constructor, config: Sizes)),
            [
                "a target by constructor takes no `config`: the constructor that `new` takes knows its own"
            ]
        );
    }

    #[test]
    fn a_value_may_have_commas_of_its_own() {
        let tokens = quote! {
            struct H for Net<3, 4> {
                embedding: Rows::<1, 2>::new(), generator: a < b, mode: static, config: Sizes<A, B>,
            }
        };
        assert_eq!(errors(tokens), [""; 0]);
    }

    #[test]
    fn a_comma_left_out_is_missed_before_the_next_key() {
        let tokens = quote!(struct H for Net { embedding: table(1, 2) generator: linear });
        assert_eq!(errors(tokens), ["expected `,` before the next key"]);
    }

    #[test]
    fn a_key_takes_documentation_and_conditions() {
        let tokens = quote! {
            struct H for Net {
                /// Docs.
                #[cfg(test)]
                embedding: table(1, 2),
                #[allow(dead_code)]
                generator: linear,
                #[must_use]
                mode: static,
            }
        };
        let refused = "a key takes documentation, `#[cfg]` and `#[allow]`; other attributes go above `struct`";
        assert_eq!(errors(tokens), [refused]);
    }

    #[test]
    fn bounds_are_no_target() {
        let errors = errors(quote!(struct H for Net + {}));
        assert!(errors[0].starts_with("expected curly braces; the form is"), "{errors:?}");
    }

    #[test]
    fn a_value_that_ends_too_early_is_shown_where_it_ends() {
        let tokens = quote! {
            struct H for Net { embedding: table(1, 2), generator: linear +, mode: static }
        };
        assert_eq!(errors(tokens), ["unexpected end of input, expected an expression after this"]);
    }

    #[test]
    fn keys_need_values() {
        assert_eq!(
            errors(quote!(struct H for Net { embedding: , })),
            ["`embedding:` has no value"]
        );
    }

    #[test]
    fn all_keys_are_needed() {
        assert_eq!(
            errors(quote!(struct H for Net {})),
            [
                "`H` has no `embedding`: write `embedding: table(64, 8)`",
                "`H` has no `generator`: write `generator: linear`",
                "`H` has no `mode`: write `mode: static`",
            ]
        );
    }
}
