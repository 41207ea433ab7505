//! The steps of a chain as they are written; `docs/forward-language.md` has the grammar.

use proc_macro2::{Span, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Expr, ExprPath, Ident, Member, Result, Token, bracketed, parenthesized, token};

use super::super::parse::{Arg, Call, arguments, bare};

/// A step of a chain.
pub(crate) enum Step {
    /// A field, a step without parameters, or a value that has a name.
    Name(Member),
    Call(Call),
    Value(Expr),
    /// `name = step`: later steps take what it gives by its name.
    Kept(Ident, Vec<Step>),
    Split(RawSplit),
    Join(RawJoin),
    Repeat(RawRepeat),
}

/// Steps in brackets.
pub(crate) struct RawBlock {
    pub(crate) bracket: token::Bracket,
    pub(crate) steps: Vec<Step>,
}

/// `(mean, _) = encoder`: the outputs of a target that gives several.
pub(crate) struct RawSplit {
    /// None for `_`.
    pub(crate) names: Vec<Option<Ident>>,
    pub(crate) paren: token::Paren,
    pub(crate) field: Member,
}

/// `residual([conv, relu], skip = [down])`, `add([a], b)`, `concat(1, skip)`, …
pub(crate) struct RawJoin {
    pub(crate) word: Ident,
    pub(crate) paren: token::Paren,
    /// What stands in front of the operands: the axis of `concat`, the step of `join`.
    pub(crate) setting: Option<Expr>,
    pub(crate) operands: Vec<RawOperand>,
    /// `causal = true`.
    pub(crate) options: Vec<(Ident, Expr)>,
    pub(crate) skip: Option<RawBlock>,
}

/// One of the values that a step takes.
pub(crate) enum RawOperand {
    Name(Member),
    Block(RawBlock),
}

/// `repeat(blocks)`, `repeat(3, [conv, relu])`.
pub(crate) enum RawRepeat {
    Field(Member),
    Times(Expr, RawBlock),
}

/// The steps that take several values, with the form of each.
const JOINS: [(&str, &str); 6] = [
    ("residual", "residual([norm, fc], skip = [down])"),
    ("add", "add([left], [right])"),
    ("mul", "mul([left], [right])"),
    ("concat", "concat(0, [left], skip)"),
    ("attention", "attention([q], [k], [v], causal = true)"),
    ("join", "join(self::mine, [left], [right])"),
];

/// The words that begin a step with steps of its own.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    JOINS.iter().map(|(word, _)| *word).chain(["repeat"])
}

/// Steps between brackets, to the end.
pub(crate) fn steps(input: ParseStream<'_>) -> Result<Vec<Step>> {
    let steps = Punctuated::<Step, Token![,]>::parse_terminated(input)?;
    Ok(steps.into_iter().collect())
}

impl Parse for Step {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.peek(Token![#]) {
            return Err(input.error("a step of a chain takes no attribute"));
        }
        if is_member(input) {
            return input.parse().map(Self::Name);
        }
        if is_assigned(input) {
            return kept(input);
        }
        if is_split(input) {
            return with_form(input.parse(), "(mean, log_variance) = encoder").map(Self::Split);
        }
        if input.peek(Ident::peek_any) && input.peek2(token::Paren) {
            let word = input.fork().call(Ident::parse_any)?;
            if word == "repeat" {
                return repeat(input).map(Self::Repeat);
            }
            if let Some((_, form)) = JOINS.iter().find(|(name, _)| word == name) {
                return with_form(join(input), form).map(Self::Join);
            }
        }
        let ahead = input.fork();
        if ahead.parse::<ExprPath>().is_ok() && ahead.peek(token::Paren) {
            return arguments(input.parse()?, input).map(Self::Call);
        }
        value(input.parse()?)
    }
}

fn value(value: Expr) -> Result<Step> {
    if let Expr::Array(array) = bare(&value) {
        let message = "steps in brackets stand in a step that takes several values, or have a name: `skip = [conv, relu]`";
        return Err(syn::Error::new_spanned(array, message));
    }
    // A name in parentheses is that name.
    if let Expr::Path(path) = bare(&value)
        && let Some(name) = path.path.get_ident()
    {
        return Ok(Step::Name(Member::Named(name.clone())));
    }
    Ok(Step::Value(value))
}

/// Whether a name or a number stands alone.
fn is_member(input: ParseStream<'_>) -> bool {
    let ahead = input.fork();
    ahead.parse::<Member>().is_ok() && (ahead.is_empty() || ahead.peek(Token![,]))
}

fn is_assigned(input: ParseStream<'_>) -> bool {
    input.peek(Ident) && input.peek2(Token![=]) && !input.peek2(Token![==])
}

/// Whether a value is given to names in parentheses.
fn is_split(input: ParseStream<'_>) -> bool {
    let ahead = input.fork();
    input.peek(token::Paren)
        && ahead.parse::<TokenTree>().is_ok()
        && ahead.peek(Token![=])
        && !ahead.peek(Token![==])
}

impl Parse for RawSplit {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let content;
        let paren = parenthesized!(content in input);
        let name = |input: ParseStream<'_>| match input.peek(Token![_]) {
            true => input.parse::<Token![_]>().map(|_| None),
            false => input.parse().map(Some),
        };
        let names = content.parse_terminated(name, Token![,])?.into_iter().collect();
        input.parse::<Token![=]>()?;
        if !is_member(input) {
            return Err(input.error("expected a field, a target that gives several values"));
        }
        Ok(Self { names, paren, field: input.parse()? })
    }
}

/// `name = step` or `name = [step, …]`.
fn kept(input: ParseStream<'_>) -> Result<Step> {
    let name = input.parse()?;
    input.parse::<Token![=]>()?;
    if input.peek(token::Bracket) {
        let RawBlock { bracket, steps } = input.parse()?;
        if steps.is_empty() {
            return Err(syn::Error::new(bracket.span.join(), "the block has no steps"));
        }
        return Ok(Step::Kept(name, steps));
    }
    Ok(Step::Kept(name, vec![input.parse()?]))
}

impl Parse for RawBlock {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let content;
        let bracket = bracketed!(content in input);
        Ok(Self { bracket, steps: steps(&content)? })
    }
}

fn join(input: ParseStream<'_>) -> Result<RawJoin> {
    let word = input.call(Ident::parse_any)?;
    let content;
    let paren = parenthesized!(content in input);
    let setting = match word == "concat" || word == "join" {
        true => Some(first_argument(&content)?),
        false => None,
    };
    let mut join =
        RawJoin { word, paren, setting, operands: Vec::new(), options: Vec::new(), skip: None };
    while !content.is_empty() {
        join.item(&content)?;
        if !content.is_empty() {
            content.parse::<Token![,]>()?;
        }
    }
    Ok(join)
}

fn first_argument(content: ParseStream<'_>) -> Result<Expr> {
    if content.peek(token::Bracket) {
        return Err(content.error("the axis, or the step, comes before the values"));
    }
    let value = content.parse()?;
    if !content.is_empty() {
        content.parse::<Token![,]>()?;
    }
    Ok(value)
}

impl RawJoin {
    /// One operand, or a named argument.
    fn item(&mut self, content: ParseStream<'_>) -> Result<()> {
        if !is_assigned(content) {
            self.operands.push(content.parse()?);
            return Ok(());
        }
        let name: Ident = content.parse()?;
        content.parse::<Token![=]>()?;
        match self.word == "residual" && name == "skip" {
            true if self.skip.is_some() => {
                return Err(syn::Error::new_spanned(name, "`skip` is given twice"));
            }
            true => self.skip = Some(content.parse()?),
            false => self.options.push((name, content.parse()?)),
        }
        Ok(())
    }
}

impl Parse for RawOperand {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.peek(token::Bracket) {
            return input.parse().map(Self::Block);
        }
        if is_member(input) {
            return input.parse().map(Self::Name);
        }
        Err(input.error("expected steps in brackets, `[conv, relu]`, or the name of a value"))
    }
}

impl RawOperand {
    /// The operands in the arguments of a field's call: `cross(context)`.
    pub(crate) fn of_call(call: &Call) -> Result<Vec<Self>> {
        let operands = call.args.iter().map(|arg| match arg {
            Arg::Positional(value) => syn::parse2(value.to_token_stream()),
            Arg::Named(name, _) => {
                let message = "a field takes values here, `field(context)`, and no settings";
                Err(syn::Error::new_spanned(name, message))
            }
        });
        operands.collect()
    }
}

fn repeat(input: ParseStream<'_>) -> Result<RawRepeat> {
    with_form(repeated(input), "repeat(3, [conv, relu])")
}

fn repeated(input: ParseStream<'_>) -> Result<RawRepeat> {
    input.call(Ident::parse_any)?;
    let content;
    parenthesized!(content in input);
    let repeated = match is_member(&content) && !content.peek2(Token![,]) {
        true => RawRepeat::Field(content.parse()?),
        false => {
            let count = content.parse()?;
            content.parse::<Token![,]>()?;
            RawRepeat::Times(count, content.parse()?)
        }
    };
    if content.peek(Token![,]) {
        content.parse::<Token![,]>()?;
    }
    if content.is_empty() { Ok(repeated) } else { Err(content.error("unexpected token")) }
}

/// Adds the right form to a syntax error; the innermost form is enough.
fn with_form<T>(parsed: Result<T>, form: &str) -> Result<T> {
    parsed.map_err(|error| {
        let text = error.to_string();
        match text.contains("; the form is `") {
            true => error,
            false => syn::Error::new(error.span(), format!("{text}; the form is `{form}`")),
        }
    })
}

/// What follows `sequential` or `sequential_t`: the steps of a chain, if it names any.
///
/// Not in parentheses: clippy takes those for nested attributes, and a step that comes twice for one
/// too many.
pub(crate) fn chain(key: &Ident, input: ParseStream<'_>) -> Result<Option<Vec<Step>>> {
    if input.is_empty() || input.peek(Token![,]) {
        return Ok(None);
    }
    with_form(in_brackets(input), &format!("#[hyper({key} = [conv, relu, flatten, fc])]")).map(Some)
}

fn in_brackets(input: ParseStream<'_>) -> Result<Vec<Step>> {
    input.parse::<Token![=]>()?;
    let RawBlock { bracket, steps } = input.parse()?;
    if steps.is_empty() {
        return Err(syn::Error::new(bracket.span.join(), "the chain has no steps"));
    }
    Ok(steps)
}

/// One input.
pub(crate) struct RawInput {
    pub(crate) name: Option<Ident>,
    pub(crate) sizes: Vec<Expr>,
}

/// The sizes of a tuple or the one size that something else is; or several inputs by name.
pub(crate) fn inputs(input: ParseStream<'_>) -> Result<Vec<RawInput>> {
    if !names_inputs(input) {
        return Ok(vec![RawInput { name: None, sizes: sizes(input)? }]);
    }
    let content;
    parenthesized!(content in input);
    let inputs = Punctuated::<RawInput, Token![,]>::parse_terminated(&content)?;
    Ok(inputs.into_iter().collect())
}

fn names_inputs(input: ParseStream<'_>) -> bool {
    let ahead = input.fork();
    let content = (|| {
        let content;
        parenthesized!(content in ahead);
        Ok(content.peek(Ident) && content.peek2(Token![:]) && !content.peek2(Token![::]))
    })();
    content.unwrap_or(false)
}

impl Parse for RawInput {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let name = input.parse()?;
        input.parse::<Token![:]>()?;
        Ok(Self { name: Some(name), sizes: sizes(input)? })
    }
}

/// One of several outputs.
pub(crate) struct RawOutput {
    pub(crate) name: Option<Ident>,
    pub(crate) operand: RawOperand,
}

/// `= (features, scores = [head, softmax], boxes = regress)`.
pub(crate) fn outputs(input: ParseStream<'_>) -> Result<Vec<RawOutput>> {
    with_form(in_parens(input), "#[hyper(output = (features, scores = [head, softmax]))]")
}

fn in_parens(input: ParseStream<'_>) -> Result<Vec<RawOutput>> {
    input.parse::<Token![=]>()?;
    let content;
    parenthesized!(content in input);
    let outputs = Punctuated::<RawOutput, Token![,]>::parse_terminated(&content)?;
    Ok(outputs.into_iter().collect())
}

impl Parse for RawOutput {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.peek(Ident) && input.peek2(Token![:]) && !input.peek2(Token![::]) {
            let after: Ident = input.parse()?;
            return Err(syn::Error::new_spanned(
                &after,
                format!(
                    "the steps of an output stand behind `{after} =`, and its shape follows from them"
                ),
            ));
        }
        if !is_assigned(input) {
            return Ok(Self { name: None, operand: input.parse()? });
        }
        let name: Ident = input.parse()?;
        input.parse::<Token![=]>()?;
        let block = match input.peek(token::Bracket) {
            true => input.parse()?,
            false => RawBlock { bracket: token::Bracket(name.span()), steps: vec![input.parse()?] },
        };
        Ok(Self { name: Some(name), operand: RawOperand::Block(block) })
    }
}

fn sizes(input: ParseStream<'_>) -> Result<Vec<Expr>> {
    let size: Expr = input.parse()?;
    Ok(match bare(&size) {
        Expr::Tuple(tuple) => tuple.elems.iter().cloned().collect(),
        _ => vec![size],
    })
}

impl RawBlock {
    /// Where the block begins and ends.
    pub(crate) fn ends(&self) -> (Span, Span) {
        (self.bracket.span.open(), self.bracket.span.close())
    }
}
