//! The forward of a `sequential` target: each step of its chain, in order.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{Generics, Ident, WherePredicate, parse_quote};

use super::chain::{Block, Chain, Join, Joined, Link, Operand, Split, Start, Takes, Use};
use super::check::{Header, Target};
use super::expand::config_argument;
use super::field::{Field, FieldKind, member_name, used};
use super::forward_impl::{Signature, implement};
use super::parse::Layer;
use super::{bounds, spec};
use crate::span::ends;

/// The forward as it is called.
pub(crate) fn module(target: &Target, chain: &Chain, key: &Ident) -> TokenStream {
    let signature = Signature::new(&target.header, key);
    let mut writer = Writer { target, chain, statements: TokenStream::new(), variables: 0 };
    let ys = writer.block(&chain.block, input(0));
    let ys = writer.outputs(ys);
    let (inputs, statements) = (inputs(&signature), writer.statements);
    let config = config(target);
    let body = quote! {
        #inputs
        #config
        #statements
        __p::StdResult::Ok(#ys)
    };
    implement(&target.header, &with_steps(target, chain), &signature, &body)
}

/// What stands in for it while the declaration is wrong.
pub(crate) fn stub(header: &Header, key: &Ident) -> TokenStream {
    let signature = Signature::of_stub(header, key);
    implement(header, &header.generics, &signature, &quote!(__p::invalid()))
}

/// The configuration that the target keeps, for steps that read it.
fn config(target: &Target) -> Option<TokenStream> {
    let field = target.read_config()?;
    let (config, member) = (config_argument(&target.header), used(&field.member));
    Some(quote!(let #config = &self.#member;))
}

/// The inputs as the first values.
fn inputs(signature: &Signature) -> TokenStream {
    let inputs = signature.inputs().iter().enumerate().map(|(i, name)| {
        let value = kept(i);
        quote!(let #value = #name;)
    });
    inputs.collect()
}

/// The variable of an input or of a value with a name.
fn kept(value: usize) -> Ident {
    format_ident!("__kept{value}")
}

/// A value: of type `&Tensor`, or the variable that owns it.
#[derive(Clone)]
enum Xs {
    Borrowed(TokenStream),
    Owned(Ident),
}

/// An input, which the first values are, or a value with a name.
fn input(number: usize) -> Xs {
    Xs::Borrowed(kept(number).to_token_stream())
}

impl Xs {
    fn owned(&self) -> TokenStream {
        match self {
            Self::Borrowed(xs) => quote!(__p::Clone::clone(#xs)),
            Self::Owned(xs) => xs.to_token_stream(),
        }
    }
}

impl ToTokens for Xs {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Borrowed(xs) => xs.to_tokens(tokens),
            Self::Owned(xs) => tokens.extend(quote!(&#xs)),
        }
    }
}

/// Writes statements.
///
/// Each block has one variable, in which the next step's output takes the place of the one before: nothing lives longer
/// than it is needed.
struct Writer<'a> {
    target: &'a Target,
    chain: &'a Chain,
    statements: TokenStream,
    variables: usize,
}

impl Writer<'_> {
    /// What the forward gives, where `ys` is what the steps give.
    fn outputs(&mut self, ys: Xs) -> TokenStream {
        let chain = self.chain;
        if chain.outputs.is_empty() {
            return ys.owned();
        }
        let outputs: Vec<_> = chain
            .outputs
            .iter()
            .map(|output| Xs::Borrowed(self.operand(&output.operand, &ys)).owned())
            .collect();
        quote!((#(#outputs),*))
    }

    /// What the block gives of a value.
    fn block(&mut self, block: &Block, xs: Xs) -> Xs {
        let variable = self.variable();
        let mutable = (block.computed() > 1).then(|| quote!(mut));
        let mut xs = match block.start {
            Some(Start::Kept(value)) => input(value),
            Some(Start::Tensor(i)) => Xs::Borrowed(self.tensor(i, &xs)),
            None => xs,
        };
        for link in &block.links {
            if let Link::Keep(value) = link {
                let value = kept(*value);
                self.push(quote!(let #value = &__p::Clone::clone(#xs);));
                continue;
            }
            let ys = self.link(link, &xs);
            match xs {
                Xs::Owned(_) => self.push(quote!(#variable = #ys;)),
                Xs::Borrowed(_) => self.push(quote!(let #mutable #variable = #ys;)),
            }
            xs = Xs::Owned(variable.clone());
        }
        xs
    }

    fn variable(&mut self) -> Ident {
        self.variables += 1;
        format_ident!("__ys{}", self.variables - 1)
    }

    fn push(&mut self, statement: TokenStream) {
        self.statements.extend(statement);
    }

    /// The output of one step, as an expression.
    fn link(&mut self, link: &Link, xs: &Xs) -> TokenStream {
        match link {
            Link::Field(i) => self.field(&self.target.fields[*i], xs),
            Link::Call(call, _) => self.between(&spec::step(call), &call.func, xs),
            Link::Value(value, _) => self.between(&spec::step_value(value), value, xs),
            Link::Split(split) => self.split(split, xs),
            Link::Join(join) => self.join(join, xs),
            Link::Repeat(count, block) => self.repeat(count, block, xs),
            Link::Keep(..) => xs.owned(),
        }
    }

    /// The first of the outputs of a target; those with names have variables.
    fn split(&mut self, split: &Split, xs: &Xs) -> TokenStream {
        let field = &self.target.fields[split.field];
        let (member, ty, name) = (used(&field.member), &field.ty, member_name(&field.member));
        let (outputs, parts, count) = (self.variable(), self.variable(), split.values.len());
        let (span, _) = ends(ty);
        let given = match self.chain.train {
            false => {
                quote_spanned!(span=> <#ty as __p::ForwardTarget>::outputs(&self.#member, #xs)?)
            }
            true => quote_spanned! {span=>
                <#ty as __p::ForwardTargetT>::outputs_t(&self.#member, #xs, __train)?
            },
        };
        let kept = split.values.iter().enumerate().filter_map(|(i, value)| {
            let value = kept((*value)?);
            Some(quote!(let #value = #parts[#i];))
        });
        self.push(quote! {
            let #outputs = #given;
            let #parts = __p::parts::<#count>(#name, &#outputs)?;
            #(#kept)*
        });
        quote!(__p::Clone::clone(#parts[0]))
    }

    fn field(&self, field: &Field, xs: &Xs) -> TokenStream {
        let member = used(&field.member);
        let value = quote!(self.#member);
        match &field.kind {
            FieldKind::Layer { layer, .. } if layer.inner().is_some() => {
                let each = self.each(layer, &quote!(__item), None);
                several(&value, xs, &each)
            }
            _ => {
                let ty = field.ty.to_token_stream();
                let to = (Takes::One, xs.to_token_stream());
                let applied = self.apply(Some(&ty), &ty, &quote!(&#value), to);
                quote!(#applied?)
            }
        }
    }

    fn between(&self, step: &TokenStream, shown: &impl ToTokens, xs: &Xs) -> TokenStream {
        let step = quote_spanned!(ends(shown).0=> &#step);
        let to = (Takes::One, xs.to_token_stream());
        let applied = self.apply(None, &shown.to_token_stream(), &step, to);
        quote!(#applied?)
    }

    /// One layer of a container after the other; each takes the value before it, and the others where there are any.
    fn each(
        &self,
        layer: &Layer,
        item: &TokenStream,
        others: Option<&[TokenStream]>,
    ) -> TokenStream {
        let inner = layer.inner().unwrap_or(layer);
        if inner.inner().is_some() {
            let each = self.each(inner, item, others);
            return quote!(for #item in __p::Container::items(#item) { #each });
        }
        let to = match others {
            None => (Takes::One, quote!(&__all)),
            Some(others) => (Takes::Several, quote!(&[&__all, #(#others),*])),
        };
        let applied = self.apply(None, &shown(inner), item, to);
        quote!(__all = #applied?;)
    }

    /// A step of values, of a type that an error is shown at where it is known.
    fn apply(
        &self,
        ty: Option<&TokenStream>,
        shown: &TokenStream,
        value: &TokenStream,
        (takes, xs): (Takes, TokenStream),
    ) -> TokenStream {
        let (span, _) = ends(shown);
        let name = trait_of(takes, self.chain.train);
        let call = match (takes, self.chain.train) {
            (Takes::One, false) => quote_spanned!(span=> step(#value, #xs)),
            (Takes::One, true) => quote_spanned!(span=> step_t(#value, #xs, __train)),
            (Takes::Several, false) => quote_spanned!(span=> join(#value, #xs)),
            (Takes::Several, true) => quote_spanned!(span=> join_t(#value, #xs, __train)),
        };
        match ty {
            Some(ty) => quote_spanned!(span=> <#ty as __p::#name>::#call),
            None => quote_spanned!(span=> __p::#name::#call),
        }
    }

    /// The same steps several times.
    fn repeat(&mut self, count: &syn::Expr, block: &Block, xs: &Xs) -> TokenStream {
        let all = self.variable();
        let outer = std::mem::take(&mut self.statements);
        let ys = self.block(block, Xs::Borrowed(quote!(&#all))).owned();
        let body = std::mem::replace(&mut self.statements, outer);
        let xs = xs.owned_copy();
        quote!({
            let mut #all = #xs;
            let __count: __p::usize = #count;
            for _ in 0..__count {
                #body
                #all = #ys;
            }
            #all
        })
    }

    fn join(&mut self, join: &Join, xs: &Xs) -> TokenStream {
        let outer = std::mem::take(&mut self.statements);
        let operands: Vec<_> =
            join.operands.iter().map(|operand| self.operand(operand, xs)).collect();
        let before = std::mem::replace(&mut self.statements, outer);
        let joined = match &join.joined {
            Joined::Step(step) => {
                let step = quote_spanned!(join.ends.0=> &#step);
                let to = (Takes::Several, quote!(&[#(#operands),*]));
                let applied = self.apply(None, &step, &step, to);
                quote!(#applied?)
            }
            Joined::Field(i) => self.join_field(&self.target.fields[*i], &operands),
        };
        quote!({
            #before
            #joined
        })
    }

    fn join_field(&self, field: &Field, operands: &[TokenStream]) -> TokenStream {
        let member = used(&field.member);
        let value = quote!(self.#member);
        match &field.kind {
            FieldKind::Layer { layer, .. } if layer.inner().is_some() => {
                let each = self.each(layer, &quote!(__item), Some(&operands[1..]));
                several(&value, &Xs::Borrowed(operands[0].clone()), &each)
            }
            _ => {
                let ty = field.ty.to_token_stream();
                let to = (Takes::Several, quote!(&[#(#operands),*]));
                let applied = self.apply(Some(&ty), &ty, &quote!(&#value), to);
                quote!(#applied?)
            }
        }
    }

    /// An operand, of type `&Tensor`.
    fn operand(&mut self, operand: &Operand, xs: &Xs) -> TokenStream {
        match operand {
            Operand::Current => xs.to_token_stream(),
            Operand::Block(block, _) => {
                let xs = Xs::Borrowed(xs.to_token_stream());
                self.block(block, xs).to_token_stream()
            }
            Operand::Kept(value, _) => kept(*value).to_token_stream(),
            Operand::Tensor(i, _) => self.tensor(*i, xs),
        }
    }

    /// A tensor of the target's for each sample, of type `&Tensor`.
    fn tensor(&mut self, i: usize, xs: &Xs) -> TokenStream {
        let field = &self.target.fields[i];
        let (member, (span, _)) = (used(&field.member), ends(&field.ty));
        let spec = match &field.kind {
            FieldKind::Layer { layer, .. } => spec::spec(layer),
            FieldKind::Value(value) => value.to_token_stream(),
        };
        let value = self.variable();
        self.push(quote_spanned! {span=>
            let #value = __p::step::of_each_sample(&self.#member, (&#spec).rank(), #xs)?;
        });
        quote!(&#value)
    }
}

/// The trait of a step.
fn trait_of(takes: Takes, train: bool) -> TokenStream {
    match (takes, train) {
        (Takes::One, false) => quote!(Step),
        (Takes::One, true) => quote!(StepT),
        (Takes::Several, false) => quote!(Join),
        (Takes::Several, true) => quote!(JoinT),
    }
}

fn several(value: &TokenStream, xs: &Xs, each: &TokenStream) -> TokenStream {
    let xs = xs.owned_copy();
    quote!({
        let mut __all = #xs;
        for __item in __p::Container::items(&#value) {
            #each
        }
        __all
    })
}

impl Xs {
    fn owned_copy(&self) -> TokenStream {
        quote!(__p::Clone::clone(#self))
    }
}

/// What an error about a layer in a container is shown at.
fn shown(layer: &Layer) -> TokenStream {
    match layer {
        Layer::Call(call) => call.func.to_token_stream(),
        Layer::Target(key, _) => key.to_token_stream(),
        Layer::Repeat(layer, _) | Layer::When(_, layer) => shown(layer),
        Layer::List(layers) => shown(&layers[0]),
    }
}

/// The generics, with a bound for each field of a generic type.
fn with_steps(target: &Target, chain: &Chain) -> Generics {
    let mut generics = bounds::buildable(target);
    let uses = chain.uses().into_iter();
    let predicates: Vec<_> = uses.filter_map(|used| bound(used, target, chain)).collect();
    if !predicates.is_empty() {
        generics.make_where_clause().predicates.extend(predicates);
    }
    generics
}

fn bound((i, used): (usize, Use), target: &Target, chain: &Chain) -> Option<WherePredicate> {
    let field = &target.fields[i];
    if !bounds::is_generic(field, target) {
        return None;
    }
    let ty = match &field.kind {
        FieldKind::Layer { layer, .. } => innermost(layer, field.ty.to_token_stream()),
        FieldKind::Value(_) => field.ty.to_token_stream(),
    };
    let name = match (used, chain.train) {
        (Use::Step(takes), train) => trait_of(takes, train),
        (Use::Split, false) => quote!(ForwardTarget),
        (Use::Split, true) => quote!(ForwardTargetT),
        (Use::Tensor, _) => return None,
    };
    Some(parse_quote!(#ty: __p::#name))
}

/// The type of one layer in containers of them.
fn innermost(layer: &Layer, ty: TokenStream) -> TokenStream {
    match layer.inner() {
        Some(inner) => innermost(inner, quote!(<#ty as __p::Container>::Item)),
        None => ty,
    }
}
