//! Lowers a candle constructor to a `const` expression: candle's configurations are built by
//! `Default::default()`, which is no `const fn`, so their fields become calls.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Expr, ExprPath, ExprStruct, Ident};

use super::parse::{Arg, Call, bare};
use crate::span::ends;

/// A constructor that `#[hyper(…)]` knows.
struct Known {
    name: &'static str,
    /// The number of its arguments before the configuration.
    sizes: usize,
    config: Config,
}

/// How a constructor takes its configuration.
#[derive(Clone, Copy, PartialEq)]
enum Config {
    None,
    /// A struct of candle's.
    Struct,
    /// A number or a struct of candle's.
    Eps,
}

const KNOWN: &[Known] = &[
    known("linear", 2, Config::None),
    known("linear_no_bias", 2, Config::None),
    known("linear_b", 3, Config::None),
    known("conv1d", 3, Config::Struct),
    known("conv1d_no_bias", 3, Config::Struct),
    known("conv2d", 3, Config::Struct),
    known("conv2d_no_bias", 3, Config::Struct),
    known("conv_transpose1d", 3, Config::Struct),
    known("conv_transpose1d_no_bias", 3, Config::Struct),
    known("conv_transpose2d", 3, Config::Struct),
    known("conv_transpose2d_no_bias", 3, Config::Struct),
    known("embedding", 2, Config::None),
    known("layer_norm", 1, Config::Eps),
    known("layer_norm_no_bias", 2, Config::None),
    known("rms_norm", 2, Config::None),
    known("group_norm", 3, Config::None),
    known("batch_norm", 1, Config::Eps),
    known("prelu", 1, Config::None),
    known("lstm", 2, Config::Struct),
    known("gru", 2, Config::Struct),
    known("tensor", 1, Config::None),
];

const fn known(name: &'static str, sizes: usize, config: Config) -> Known {
    Known { name, sizes, config }
}

/// Whether `name` is a constructor of a layer.
pub(crate) fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|known| known.name == name)
}

/// Whether a call is one of a constructor of ours.
pub(crate) fn is_ours(call: &Call) -> bool {
    lookup(&call.func).is_some()
}

/// Whether a call is that of a bare tensor.
pub(crate) fn is_tensor(call: &Call) -> bool {
    lookup(&call.func).is_some_and(|known| known.name == "tensor")
}

/// The argument that says what the layer takes, where its constructor is known.
pub(crate) fn input_size(call: &Call) -> Option<&Expr> {
    let at = match lookup(&call.func)?.name {
        "embedding" | "tensor" => return None,
        "group_norm" => 1,
        _ => 0,
    };
    positional(call).get(at).copied()
}

fn lookup(func: &ExprPath) -> Option<&'static Known> {
    let ident = func.path.get_ident()?.unraw();
    KNOWN.iter().find(|known| ident == known.name)
}

fn positional(call: &Call) -> Vec<&Expr> {
    let values = call.args.iter().filter_map(|arg| match arg {
        Arg::Positional(value) => Some(value),
        Arg::Named(..) => None,
    });
    values.collect()
}

/// The first argument that the constructor has no place for, and what to say about it.
pub(crate) fn surplus(call: &Call) -> Option<(&Expr, String)> {
    let values = positional(call);
    let builder = values.iter().find_map(|value| Some((*value, var_builder(value)?)));
    if let Some((value, name)) = builder {
        let remedy = format!("leave out `{name}`: the weights come from the hypernetwork");
        return Some((value, remedy));
    }
    let known = lookup(&call.func)?;
    let (limit, and_config) = match known.config {
        Config::None => (known.sizes, ""),
        Config::Struct | Config::Eps => (known.sizes + 1, " and a configuration"),
    };
    let surplus = values.get(limit)?;
    let (name, plural) = (known.name, if known.sizes == 1 { "" } else { "s" });
    Some((surplus, format!("`{name}` takes {} argument{plural}{and_config} here", known.sizes)))
}

/// The name of a builder, as candle's own programs call it: of `vb`, `vs.pp("…")`.
fn var_builder(value: &Expr) -> Option<String> {
    match bare(value) {
        Expr::Path(path) => {
            let name = path.path.get_ident()?.to_string();
            ["vb", "vs"].contains(&name.as_str()).then_some(name)
        }
        Expr::MethodCall(call) if call.method == "pp" => {
            Some(var_builder(&call.receiver).unwrap_or_else(|| "vb".to_owned()))
        }
        Expr::MethodCall(call) => var_builder(&call.receiver),
        Expr::Reference(reference) => var_builder(&reference.expr),
        _ => None,
    }
}

/// A constructor as a `const` expression.
pub(crate) struct Lowered {
    /// The spec.
    pub(crate) spec: TokenStream,
    /// The spec with candle's configuration as it was written, for the type checker alone.
    pub(crate) config: Option<TokenStream>,
}

/// Lowers a call.
pub(crate) fn lower(call: &Call) -> Lowered {
    let values = positional(call);
    let known = lookup(&call.func);
    let sizes = known.map_or(values.len(), |known| known.sizes.min(values.len()));
    let (sizes, rest) = values.split_at(sizes);
    let sized = sized(call, sizes);
    let (Some(known), Some(config)) = (known, rest.first()) else {
        return Lowered { spec: with_options(sized, call), config: None };
    };
    let configured = configure(sized, known, config);
    Lowered { spec: with_options(configured.spec, call), config: configured.config }
}

/// The call with its sizes alone, between the user's own parentheses.
fn sized(call: &Call, sizes: &[&Expr]) -> TokenStream {
    let mut tokens = call.func.to_token_stream();
    call.paren.surround(&mut tokens, |tokens| tokens.extend(quote!(#(#sizes),*)));
    tokens
}

/// Named arguments are calls on the spec.
fn with_options(mut spec: TokenStream, call: &Call) -> TokenStream {
    for arg in &call.args {
        if let Arg::Named(name, value) = arg {
            spec = quote!(#spec.#name(#value));
        }
    }
    spec
}

fn configure(sized: TokenStream, known: &Known, config: &Expr) -> Lowered {
    match bare(config) {
        Expr::Struct(literal) => match literal.rest.as_deref().and_then(default_kind) {
            Some(kind) => from_literal((sized, known), literal, kind),
            None => Lowered { spec: with_config(&sized, known, config), config: None },
        },
        _ => match default_kind(config) {
            Some(kind) => from_default((sized, known), config, kind),
            None => Lowered { spec: with_config(&sized, known, config), config: None },
        },
    }
}

/// The spec with a configuration as a value.
fn with_config(sized: &TokenStream, known: &Known, config: impl ToTokens) -> TokenStream {
    let (span, end) = ends(&config);
    if known.config != Config::Eps {
        return quote_spanned!(span=> #sized.config(#config));
    }
    let method = Ident::new(known.name, span);
    let sized = quote_spanned!(end=> (#sized));
    quote_spanned!(span=> __p::Eps(#config).#method #sized)
}

/// What a call of a default constructor starts from.
#[derive(Clone, Copy, PartialEq)]
enum DefaultKind {
    Plain,
    NoBias,
}

impl DefaultKind {
    fn apply(self, spec: &TokenStream) -> TokenStream {
        match self {
            Self::Plain => spec.clone(),
            Self::NoBias => quote!(#spec.no_bias()),
        }
    }
}

/// `Default::default()`, `Type::default()`, `Type::default_no_bias()`.
fn default_kind(expr: &Expr) -> Option<DefaultKind> {
    let Expr::Call(call) = bare(expr) else { return None };
    let Expr::Path(func) = bare(&call.func) else { return None };
    let last = func.path.segments.last()?;
    let is_default = call.args.is_empty() && func.path.segments.len() > 1;
    match is_default.then(|| last.ident.to_string())?.as_str() {
        "default" => Some(DefaultKind::Plain),
        "default_no_bias" => Some(DefaultKind::NoBias),
        _ => None,
    }
}

fn from_default(
    (sized, known): (TokenStream, &Known),
    config: &Expr,
    kind: DefaultKind,
) -> Lowered {
    let typed = (!is_untyped(config)).then(|| with_config(&sized, known, config));
    Lowered { spec: kind.apply(&sized), config: typed }
}

/// `Default::default()`, whose type nothing tells.
fn is_untyped(config: &Expr) -> bool {
    let Expr::Call(call) = bare(config) else { return false };
    let Expr::Path(func) = bare(&call.func) else { return false };
    func.qself.is_none()
        && func.path.segments.iter().rev().nth(1).is_some_and(|s| s.ident == "Default")
}

/// Each field is a call on the spec, which checks its name and value; of the literal itself only
/// the type is checked.
fn from_literal(
    (sized, known): (TokenStream, &Known),
    literal: &ExprStruct,
    kind: DefaultKind,
) -> Lowered {
    let (path, rest) = (&literal.path, &literal.rest);
    let empty = quote_spanned!(ends(path).0=> #path { ..#rest });
    let config = with_config(&sized, known, empty);
    let mut spec = kind.apply(&sized);
    for field in &literal.fields {
        let (name, value) = (&field.member, &field.expr);
        spec = quote!(#spec.#name(#value));
    }
    Lowered { spec, config: Some(config) }
}

#[cfg(test)]
mod tests {
    use super::super::parse::Layer;
    use super::*;
    use syn::parse_quote;

    fn lowered(layer: Layer) -> (String, Option<String>) {
        let Layer::Call(call) = layer else { unreachable!("the tests write calls") };
        let lowered = lower(&call);
        (lowered.spec.to_string(), lowered.config.map(|config| config.to_string()))
    }

    fn tokens(tokens: TokenStream) -> String {
        tokens.to_string()
    }

    fn spec(layer: Layer) -> String {
        lowered(layer).0
    }

    #[test]
    fn sizes_alone_stay_as_they_are() {
        assert_eq!(spec(parse_quote!(linear(64, N + 1))), tokens(quote!(linear(64, N + 1))));
        assert_eq!(spec(parse_quote!(my::spec(1, 2, 3))), tokens(quote!(my::spec(1, 2, 3))));
        assert_eq!(spec(parse_quote!(tensor([3, 4]))), tokens(quote!(tensor([3, 4]))));
    }

    #[test]
    fn named_arguments_become_calls() {
        assert_eq!(
            spec(parse_quote!(conv2d(1, 8, 5, stride = 2, padding = 1))),
            tokens(quote!(conv2d(1, 8, 5).stride(2).padding(1)))
        );
        assert_eq!(
            spec(parse_quote!(mine(1, bias = a == b))),
            tokens(quote!(mine(1).bias(a == b)))
        );
    }

    #[test]
    fn defaults_vanish() {
        let expected = tokens(quote!(conv2d(1, 8, 5)));
        assert_eq!(
            lowered(parse_quote!(conv2d(1, 8, 5, Default::default()))),
            (expected.clone(), None)
        );
        let config = Some(tokens(quote!(conv2d(1, 8, 5).config(Conv2dConfig::default()))));
        assert_eq!(
            lowered(parse_quote!(conv2d(1, 8, 5, Conv2dConfig::default()))),
            (expected, config)
        );
    }

    #[test]
    fn a_default_without_bias_is_a_call() {
        let (spec, config) = lowered(parse_quote!(lstm(3, 4, LSTMConfig::default_no_bias())));
        assert_eq!(spec, tokens(quote!(lstm(3, 4).no_bias())));
        let expected = quote!(lstm(3, 4).config(LSTMConfig::default_no_bias()));
        assert_eq!(config, Some(tokens(expected)));
    }

    #[test]
    fn a_literal_becomes_calls_and_is_type_checked() {
        let (spec, config) = lowered(parse_quote!(conv2d(
            1,
            8,
            5,
            Conv2dConfig { stride: 2, padding, ..Default::default() }
        )));
        assert_eq!(spec, tokens(quote!(conv2d(1, 8, 5).stride(2).padding(padding))));
        let expected = quote!(conv2d(1, 8, 5).config(Conv2dConfig { ..Default::default() }));
        assert_eq!(config, Some(tokens(expected)));
    }

    #[test]
    fn a_literal_over_another_default_keeps_it() {
        assert_eq!(
            spec(parse_quote!(gru(2, 3, C { layer_idx: 1, ..C::default_no_bias() }))),
            tokens(quote!(gru(2, 3).no_bias().layer_idx(1)))
        );
    }

    #[test]
    fn other_configurations_are_passed_on() {
        assert_eq!(
            spec(parse_quote!(conv1d(1, 2, 3, config.conv))),
            tokens(quote!(conv1d(1, 2, 3).config(config.conv)))
        );
        assert_eq!(
            spec(parse_quote!(conv1d(1, 2, 3, C { stride: 1, ..OTHER }))),
            tokens(quote!(conv1d(1, 2, 3).config(C { stride: 1, ..OTHER })))
        );
    }

    #[test]
    fn an_epsilon_chooses_by_its_type() {
        assert_eq!(
            spec(parse_quote!(layer_norm(8, 1e-5))),
            tokens(quote!(__p::Eps(1e-5).layer_norm(layer_norm(8))))
        );
        assert_eq!(
            spec(parse_quote!(batch_norm(8, EPS, momentum = 0.2))),
            tokens(quote!(__p::Eps(EPS).batch_norm(batch_norm(8)).momentum(0.2)))
        );
    }

    fn surplus_of(layer: Layer) -> Option<String> {
        let Layer::Call(call) = layer else { unreachable!("the tests write calls") };
        surplus(&call).map(|(at, message)| format!("{}: {message}", at.to_token_stream()))
    }

    #[test]
    fn surplus_arguments_are_found() {
        assert_eq!(surplus_of(parse_quote!(conv2d(1, 2, 3, c))), None);
        assert_eq!(surplus_of(parse_quote!(mine(1, 2, 3, 4, 5))), None);
        assert_eq!(
            surplus_of(parse_quote!(linear(1, 2, 3))).as_deref(),
            Some("3: `linear` takes 2 arguments here")
        );
        assert_eq!(
            surplus_of(parse_quote!(layer_norm(1, 2., 3))).as_deref(),
            Some("3: `layer_norm` takes 1 argument and a configuration here")
        );
    }

    #[test]
    fn a_var_builder_is_left_out() {
        let expected = "leave out `vb`: the weights come from the hypernetwork";
        for call in [parse_quote!(linear(1, 2, vb)), parse_quote!(mine(1, vb.pp("fc")))] {
            assert!(surplus_of(call).is_some_and(|message| message.ends_with(expected)));
        }
        let expected = "vs: leave out `vs`: the weights come from the hypernetwork";
        assert_eq!(surplus_of(parse_quote!(linear(1, 2, vs))).as_deref(), Some(expected));
    }
}
