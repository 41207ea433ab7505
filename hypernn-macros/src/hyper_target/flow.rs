//! The shapes along the chain of a `sequential` target, as a constant, and what does not fit.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Expr, Generics, Ident};

use super::chain::{
    Block, Chain, Input, Join, Joined, Link, Operand, Split, Start, Takes, config_reads,
};
use super::check::{Header, Target};
use super::expand::{config_argument, value_function};
use super::field::{Field, FieldKind, member_name};
use super::parse::{Arg, Call, Layer, bare};
use super::typed::known_field;
use super::{bounds, call, spec};
use crate::span::{ends, shown_at};

/// The code of a chain's shapes.
pub(crate) struct Flow<'a> {
    target: &'a Target,
    /// Follows the shapes: a variable for each value.
    steps: TokenStream,
    /// What the chain gives: one value or several.
    outputs: Vec<Ident>,
    /// Where each problem is shown, if there is one.
    places: Vec<Place>,
    values: usize,
    /// Inputs and steps, for drawings.
    nodes: Vec<Node>,
    /// The node that each variable's value is of.
    nodes_of: Vec<(Ident, usize)>,
}

/// An input or a step of the network as a graph.
struct Node {
    name: String,
    what: String,
    inputs: Vec<usize>,
    /// Where its shape is: an input's, or that of a place.
    place: TokenStream,
}

/// Where the problems of one step are shown.
struct Place {
    /// A size that does not fit.
    takes: (Span, Span),
    /// What can't be given.
    gives: (Span, Span),
}

impl Place {
    fn at(tokens: impl ToTokens) -> Self {
        let ends = ends(tokens);
        Self { takes: ends, gives: ends }
    }

    fn between(ends: (Span, Span)) -> Self {
        Self { takes: ends, gives: ends }
    }

    fn of_call(call: &Call) -> Self {
        let gives = (ends(&call.func).0, shown_at(call.paren.span.close()));
        let takes = call::input_size(call).map_or(gives, ends);
        Self { takes, gives }
    }
}

impl<'a> Flow<'a> {
    /// Of a checked chain.
    pub(crate) fn new(target: &'a Target, chain: &Chain) -> Self {
        let mut flow = Self {
            target,
            steps: TokenStream::new(),
            outputs: Vec::new(),
            places: Vec::new(),
            values: 0,
            nodes: Vec::new(),
            nodes_of: Vec::new(),
        };
        for (i, input) in chain.inputs.iter().enumerate() {
            let name =
                input.name.as_ref().map_or("input".to_owned(), |name| name.unraw().to_string());
            flow.draw(&name, String::new(), &[], quote!(__p::NodePlace::Input(#i)), &kept(i));
        }
        let ys = flow.block(&chain.block, kept(0));
        flow.outputs(chain, ys);
        flow
    }

    /// The outputs of a chain whose steps give `ys`.
    fn outputs(&mut self, chain: &Chain, ys: Ident) {
        if chain.outputs.is_empty() {
            self.outputs.push(ys);
            return;
        }
        let values: Vec<_> =
            chain.outputs.iter().map(|output| self.operand(&output.operand, &ys)).collect();
        for (i, (output, value)) in chain.outputs.iter().zip(values).enumerate() {
            // What the others said of an input is said of it here.
            let value = self.learned(&value);
            let (place, name) = (quote!(__p::NodePlace::Output(#i)), format_ident!("__output{i}"));
            self.draw(
                &output.name,
                "output".to_owned(),
                std::slice::from_ref(&value),
                place,
                &name,
            );
            self.outputs.push(value);
        }
    }

    /// A new place; its number.
    fn place(&mut self, place: Place) -> usize {
        self.places.push(place);
        self.places.len() - 1
    }

    /// A new value, which the code sets.
    fn value(&mut self, code: TokenStream) -> Ident {
        let value = format_ident!("__v{}", self.values);
        self.values += 1;
        self.steps.extend(quote!(let #value = #code;));
        value
    }

    /// A new node, whose value is that of a variable.
    fn draw(
        &mut self,
        name: &str,
        what: String,
        inputs: &[Ident],
        place: TokenStream,
        value: &Ident,
    ) {
        let inputs = inputs.iter().filter_map(|input| self.node_of(input)).collect();
        self.nodes_of.push((value.clone(), self.nodes.len()));
        self.nodes.push(Node { name: name.to_owned(), what, inputs, place });
    }

    /// A step's value, which is a node.
    fn step_value(
        &mut self,
        (place, name, what): (usize, &str, String),
        inputs: &[Ident],
        code: TokenStream,
    ) -> Ident {
        let value = self.value(code);
        self.draw(name, what, inputs, quote!(__p::NodePlace::Step(#place)), &value);
        value
    }

    fn node_of(&self, value: &Ident) -> Option<usize> {
        self.nodes_of.iter().rev().find(|(ident, _)| ident == value).map(|(_, node)| *node)
    }

    /// Another variable of the same value.
    fn same_node(&mut self, value: &Ident, other: &Ident) {
        if let Some(node) = self.node_of(value) {
            self.nodes_of.push((other.clone(), node));
        }
    }

    /// Code apart from what is there so far.
    fn apart<T>(&mut self, write: impl FnOnce(&mut Self) -> T) -> (T, TokenStream) {
        let outer = std::mem::take(&mut self.steps);
        let written = write(self);
        (written, std::mem::replace(&mut self.steps, outer))
    }

    /// The value that a block makes of another.
    fn block(&mut self, block: &Block, xs: Ident) -> Ident {
        let xs = match block.start {
            Some(Start::Kept(value)) => kept(value),
            Some(Start::Tensor(i)) => self.tensor(i),
            None => xs,
        };
        block.links.iter().fold(xs, |xs, link| self.link(link, &xs))
    }

    fn link(&mut self, link: &Link, xs: &Ident) -> Ident {
        let target = self.target;
        match link {
            Link::Field(i) => self.field(&target.fields[*i], xs),
            Link::Call(call, name) => {
                let place = self.place(Place::of_call(call));
                let step = self.expression(&spec::step(call));
                let code = between(place, name, &step, ends(&call.func).0, xs);
                let what = call_text(call);
                self.step_value((place, name, what), std::slice::from_ref(xs), code)
            }
            Link::Value(value, name) => {
                let place = self.place(Place::at(value));
                let step = self.expression(&spec::step_value(value));
                let code = between(place, name, &step, ends(value).0, xs);
                self.step_value((place, name, String::new()), std::slice::from_ref(xs), code)
            }
            Link::Keep(value) => {
                let value = kept(*value);
                self.steps.extend(quote!(let #value = #xs;));
                self.same_node(xs, &value);
                xs.clone()
            }
            Link::Split(split) => self.split(split, xs),
            Link::Join(join) => self.join(join, xs),
            Link::Repeat(count, block) => {
                let count = self.expression(&count.to_token_stream());
                self.repeat(&count, xs, |flow, xs| flow.block(block, xs))
            }
        }
    }

    /// An expression of a step, which reads the `config` that the target keeps.
    fn expression(&self, expression: &TokenStream) -> TokenStream {
        let header = &self.target.header;
        if header.config.is_none() || config_reads(expression.clone()).next().is_none() {
            return expression.clone();
        }
        let config = config_argument(header);
        quote!({
            let #config = &__kept_config;
            #expression
        })
    }

    /// The `config` that the target will keep, where steps read it.
    fn kept_config(&self) -> Option<TokenStream> {
        let field = self.target.read_config()?;
        let (config, value) = (config_argument(&self.target.header), value_function(&field.member));
        Some(quote!(let __kept_config = Self::#value(#config);))
    }

    /// The same several times; once is enough where the shape stays as it is.
    fn repeat(
        &mut self,
        count: &TokenStream,
        xs: &Ident,
        each: impl FnOnce(&mut Self, Ident) -> Ident,
    ) -> Ident {
        let all = format_ident!("__all{}", self.places.len());
        self.same_node(xs, &all);
        let (ys, body) = self.apart(|flow| each(flow, all.clone()));
        let value = self.value(quote!({
            let (mut #all, mut __i) = (#xs, 0);
            let __count: __p::usize = #count;
            while __i < __count {
                #body
                let __same = (&#ys).has_shape_of(&#all);
                #all = #ys;
                if __same {
                    break;
                }
                __i += 1;
            }
            #all
        }));
        self.same_node(&ys, &value);
        value
    }

    fn field(&mut self, field: &Field, xs: &Ident) -> Ident {
        let (name, ty) = (member_name(&field.member), field.ty.to_token_stream());
        match &field.kind {
            FieldKind::Layer { layer, .. } => {
                self.steps.extend(known_field(field, layer));
                self.layer(Takes::One, layer, &name, &ty, std::slice::from_ref(xs))
            }
            FieldKind::Value(_) => self.value_field(field, xs),
        }
    }

    /// A layer that takes these values, or each layer of a container: what it gives takes the place of the first.
    fn layer(
        &mut self,
        takes: Takes,
        layer: &Layer,
        name: &str,
        ty: &TokenStream,
        xs: &[Ident],
    ) -> Ident {
        let (first, others) = (&xs[0], &xs[1..]);
        let with = |first: Ident| [&[first], others].concat();
        match layer {
            Layer::Call(call) => match takes {
                Takes::One => self.call(call, name, first),
                Takes::Several => self.unknown(name, ty, xs),
            },
            Layer::Target(_, config) => {
                let method = match takes {
                    Takes::One => quote!(target),
                    Takes::Several => quote!(called_target),
                };
                self.target((name, ty, method), config.as_deref(), xs)
            }
            Layer::Repeat(layer, count) => {
                let (count, item) = (count.to_token_stream(), spec::item(ty));
                self.repeat(&count, first, |flow, xs| {
                    flow.layer(takes, layer, name, &item, &with(xs))
                })
            }
            Layer::List(layers) => {
                let item = spec::item(ty);
                layers.iter().enumerate().fold(first.clone(), |xs, (i, layer)| {
                    self.layer(takes, layer, &format!("{name}.{i}"), &item, &with(xs))
                })
            }
            Layer::When(condition, layer) => {
                let item = spec::item(ty);
                let (ys, body) = self.apart(|flow| flow.layer(takes, layer, name, &item, xs));
                let value = self.value(quote!(if #condition { #body #ys } else { #first }));
                self.same_node(&ys, &value);
                value
            }
        }
    }

    fn call(&mut self, call: &Call, name: &str, xs: &Ident) -> Ident {
        let place = self.place(Place::of_call(call));
        let (spec, span) = (spec::call_spec(call), ends(&call.func).0);
        let known = match call::is_ours(call) {
            true => quote!(&__spec),
            false => quote!((&__field).known(&__spec)),
        };
        // Wrong sizes are a problem of their own, and their shapes could not be computed.
        let of = (place, name, call_text(call));
        self.step_value(
            of,
            std::slice::from_ref(xs),
            quote_spanned! {span=> {
                let __spec = #spec;
                let __spec = #known;
                let __info = __spec.info();
                if __p::Option::is_some(&__info.problem) {
                    (&mut __chain).unknown(#place, #name)
                } else {
                    let __xs = (&mut __chain).takes(#place, #name, __info.takes, #xs);
                    let __gives = __spec.gives((&__xs).shape());
                    let __of_any = if (&__xs).may_be_kept(&__gives) {
                        __spec.gives(&__p::SampleShape::ANY)
                    } else {
                        __gives
                    };
                    (&mut __chain).gives(#place, #name, (__gives, __of_any), __xs)
                }
            }},
        )
    }

    /// A target whose sizes are constants has constant shapes; those of one that takes a configuration are known
    /// where it is, at run time.
    fn target(
        &mut self,
        (name, ty, function): (&str, &TokenStream, TokenStream),
        config: Option<&Expr>,
        xs: &[Ident],
    ) -> Ident {
        let place = self.place(Place::at(ty));
        let code = match (config, &self.target.header.config) {
            (Some(config), Some(_)) => quote! {
                match __p::TargetOf::<#ty>::network_of(&#config) {
                    __p::Option::Some(__network) => (&mut __chain).#function(
                        #place,
                        #name,
                        (&(&__network).input_shapes(), (&__network).output_shape()),
                        &[#(#xs),*],
                    ),
                    __p::Option::None => (&mut __chain).unknown(#place, #name),
                }
            },
            _ => quote! {
                (&mut __chain).#function(
                    #place,
                    #name,
                    (__p::TargetOf::<#ty>::INPUT_SHAPES, __p::TargetOf::<#ty>::OUTPUT_SHAPE),
                    &[#(#xs),*],
                )
            },
        };
        self.step_value((place, name, type_text(ty)), xs, code)
    }

    /// The first of the outputs of a target; those with names have variables.
    fn split(&mut self, split: &Split, xs: &Ident) -> Ident {
        let field = &self.target.fields[split.field];
        let (name, ty) = (member_name(&field.member), field.ty.to_token_stream());
        let (place, count) = (self.places.len(), split.values.len());
        self.place(Place { takes: ends(&ty), gives: split.ends });
        let layer = match &field.kind {
            FieldKind::Layer { layer, .. } => Some(layer),
            FieldKind::Value(_) => None,
        };
        let config = match layer {
            Some(Layer::Target(_, config)) => config.as_deref(),
            _ => None,
        };
        let splits = |shapes: TokenStream| quote!((&mut __chain).splits::<#count>(#place, #name, #shapes, #xs));
        let code = match (config, &self.target.header.config) {
            (Some(config), Some(_)) => {
                let known =
                    splits(quote!((&(&__network).input_shapes(), (&__network).output_shapes())));
                let unknown = splits(quote!((&[], &[])));
                quote! {
                    match __p::TargetOf::<#ty>::network_of(&#config) {
                        __p::Option::Some(__network) => #known,
                        __p::Option::None => #unknown,
                    }
                }
            }
            _ => splits(quote!((
                __p::TargetOf::<#ty>::INPUT_SHAPES,
                __p::TargetOf::<#ty>::OUTPUT_SHAPES,
            ))),
        };
        let inputs = std::slice::from_ref(xs);
        let values = self.step_value((place, &name, type_text(&ty)), inputs, code);
        for (i, value) in split.values.iter().enumerate() {
            let Some(value) = value.map(kept) else { continue };
            self.steps.extend(quote!(let #value = #values[#i];));
            self.same_node(&values, &value);
        }
        let first = self.value(quote!(#values[0]));
        self.same_node(&values, &first);
        first
    }

    /// A field without parameters.
    fn value_field(&mut self, field: &Field, xs: &Ident) -> Ident {
        let (name, ty) = (member_name(&field.member), field.ty.to_token_stream());
        let place = self.place(Place::at(&ty));
        let unknown = quote! {
            if __p::StepOf::<#ty>::KEEPS {
                (&mut __chain).keeps(#place, #xs)
            } else {
                (&mut __chain).unknown(#place, #name)
            }
        };
        let code = match self.target.header.config {
            None => unknown,
            Some(_) => {
                let value = value_function(&field.member);
                let shaped = between(place, &name, &quote!(__step), ends(&ty).0, xs);
                quote! {
                    match __p::StepOf::<#ty>::shaped(|| Self::#value(config)) {
                        __p::Option::Some(__step) => #shaped,
                        __p::Option::None => #unknown,
                    }
                }
            }
        };
        self.step_value((place, &name, type_text(&ty)), std::slice::from_ref(xs), code)
    }

    fn join(&mut self, join: &Join, xs: &Ident) -> Ident {
        // Before those of the steps within.
        let own = self.place(Place::between(join.ends));
        let operands: Vec<_> =
            join.operands.iter().map(|operand| self.operand(operand, xs)).collect();
        let operands: Vec<_> = operands.iter().map(|xs| self.learned(xs)).collect();
        match &join.joined {
            Joined::Step(step) => self.join_step((join, own), step, &operands),
            Joined::Field(i) => self.join_field(&self.target.fields[*i], &operands),
        }
    }

    /// A value with what the blocks beside it said of it.
    fn learned(&mut self, xs: &Ident) -> Ident {
        let value = self.value(quote!((&__chain).learned(#xs)));
        self.same_node(xs, &value);
        value
    }

    fn join_step(
        &mut self,
        (join, own): (&Join, usize),
        step: &TokenStream,
        operands: &[Ident],
    ) -> Ident {
        let first = self.places.len();
        for operand in &join.operands {
            self.place(Place::between(operand.ends().unwrap_or(join.ends)));
        }
        let (name, step) = (&join.name, self.expression(step));
        self.step_value(
            (own, name, String::new()),
            operands,
            quote_spanned! {join.ends.0=> {
                let __step = &#step;
                let __info = __step.info();
                if __p::Option::is_some(&__info.problem) {
                    (&mut __chain).broken(#own, #name, __info.problem)
                } else {
                    let __gives = __step.gives(&[#(*(&#operands).shape()),*]);
                    let __places = __p::JoinPlaces { own: #own, operands: #first };
                    (&mut __chain).joins(__places, #name, __gives, &[#(#operands),*])
                }
            }},
        )
    }

    /// A target with several inputs, or each in a container of them.
    fn join_field(&mut self, field: &Field, operands: &[Ident]) -> Ident {
        let (name, ty) = (member_name(&field.member), field.ty.to_token_stream());
        match &field.kind {
            FieldKind::Layer { layer, .. } => {
                self.layer(Takes::Several, layer, &name, &ty, operands)
            }
            FieldKind::Value(_) => self.unknown(&name, &ty, operands),
        }
    }

    fn unknown(&mut self, name: &str, ty: &TokenStream, xs: &[Ident]) -> Ident {
        let place = self.place(Place::at(ty));
        let code = quote!((&mut __chain).unknown(#place, #name));
        self.step_value((place, name, type_text(ty)), xs, code)
    }

    fn operand(&mut self, operand: &Operand, xs: &Ident) -> Ident {
        match operand {
            Operand::Current => xs.clone(),
            Operand::Block(block, _) => self.block(block, xs.clone()),
            Operand::Kept(value, _) => kept(*value),
            Operand::Tensor(i, _) => self.tensor(*i),
        }
    }

    /// The value that a field's tensor is.
    fn tensor(&mut self, i: usize) -> Ident {
        let field = &self.target.fields[i];
        let name = member_name(&field.member);
        let spec = match &field.kind {
            FieldKind::Layer { layer, .. } => spec::spec(layer),
            FieldKind::Value(value) => value.to_token_stream(),
        };
        let place = self.place(Place::at(&field.ty));
        let code = quote!((&mut __chain).tensor(#place, #name, (&#spec).shape()));
        self.step_value((place, &name, text(&spec)), &[], code)
    }

    /// The constants of a target whose sizes are constants, or the function of one whose are not.
    pub(crate) fn constants(&self, target: &Target, chain_of: &Chain) -> TokenStream {
        let header = &target.header;
        let ident = &header.ident;
        let generics = bounds::buildable(target);
        let (impl_generics, _, where_clause) = generics.split_for_impl();
        let (_, ty_generics, _) = header.generics.split_for_impl();
        let (chain, chain_type) = (self.chain(chain_of), self.chain_type(chain_of));
        if let Some(config) = &header.config {
            return quote! {
                #[automatically_derived]
                impl #impl_generics #ident #ty_generics #where_clause {
                    fn __chain(config: &#config) -> #chain_type {
                        #chain
                    }
                }
            };
        }
        let inputs = (0..chain_of.inputs.len()).map(|i| quote!((&Self::__CHAIN).input_shape(#i)));
        let (outputs, shape) = (self.output_shapes(), quote!(__p::SampleShape));
        quote! {
            #[automatically_derived]
            impl #impl_generics #ident #ty_generics #where_clause {
                const __CHAIN: #chain_type = const { #chain };
            }

            #[automatically_derived]
            impl #impl_generics __p::ShapedTarget for #ident #ty_generics #where_clause {
                const INPUT_SHAPE: #shape = (&Self::__CHAIN).input_shape(0);
                const OUTPUT_SHAPE: #shape = (&Self::__CHAIN).output_shape(0);
                const INPUT_SHAPES: &'static [#shape] = &[#(#inputs),*];
                #outputs
            }
        }
    }

    /// The constant of all shapes that the chain gives, where these are several.
    fn output_shapes(&self) -> Option<TokenStream> {
        let several = self.outputs.len() > 1;
        let shapes = (0..self.outputs.len()).map(|i| quote!((&Self::__CHAIN).output_shape(#i)));
        several.then(|| quote!(const OUTPUT_SHAPES: &'static [__p::SampleShape] = &[#(#shapes),*];))
    }

    fn chain_type(&self, chain: &Chain) -> TokenStream {
        let (places, inputs, outputs) = (self.places.len(), chain.inputs.len(), self.outputs.len());
        quote!(__p::Chain<#places, #inputs, #outputs>)
    }

    fn chain(&self, chain: &Chain) -> TokenStream {
        let Self { steps, outputs, .. } = self;
        let chain_type = self.chain_type(chain);
        let outputs =
            outputs.iter().enumerate().map(|(i, ys)| quote!((&mut __chain).gives_output(#i, #ys);));
        let inputs = chain.inputs.iter().enumerate().map(|(i, input)| {
            let (value, shape) = (kept(i), input_shape(input, &self.target.header.generics));
            match &input.name {
                None => quote!(let #value = (&mut __chain).input(#shape);),
                Some(name) => {
                    let name = name.unraw().to_string();
                    quote!(let #value = (&mut __chain).named_input(#i, #name, #shape);)
                }
            }
        });
        let config = self.kept_config();
        quote! {
            use __p::{NoTarget as _, UnknownStep as _};
            #config
            let mut __chain = <#chain_type>::new();
            #(#inputs)*
            #steps
            #(#outputs)*
            __chain
        }
    }

    /// The graph of the network, as a method of the target.
    pub(crate) fn network(&self) -> TokenStream {
        let config = self.target.header.config.is_some();
        let argument = if config { quote!(config) } else { quote!(_) };
        let chain = if config { quote!(Self::__chain(config)) } else { quote!(Self::__CHAIN) };
        let nodes = self.nodes.iter().map(|Node { name, what, inputs, place }| {
            quote!(__p::NodeAt { name: #name, what: #what, inputs: &[#(#inputs),*], place: #place })
        });
        quote! {
            fn network(#argument: &Self::Config) -> __p::Option<__p::Network> {
                __p::Option::Some(__p::Network::of(&#chain, &[#(#nodes),*]))
            }
        }
    }

    /// Expressions that fail to evaluate where a step does not fit.
    pub(crate) fn checks(&self, chain: &Chain) -> Vec<TokenStream> {
        let generics = &self.target.header.generics;
        let inputs = chain.inputs.iter().filter_map(|input| {
            let sizes = input.sizes.as_deref()?;
            let (span, end) = (ends(sizes.first()?).0, ends(sizes.last()?).1);
            let shape = input_shape(input, generics);
            Some(deny((span, end), &quote!((&#shape).check())))
        });
        let checks = self.places.iter().enumerate().map(|(i, place)| {
            let takes = deny(place.takes, &quote!((&Self::__CHAIN).problem_taken(#i)));
            let gives = deny(place.gives, &quote!((&Self::__CHAIN).problem_given(#i)));
            quote!({ #takes; #gives })
        });
        inputs.chain(checks).collect()
    }
}

/// Shapes of which nothing is known, while the declaration is wrong.
pub(crate) fn stub(header: &Header) -> TokenStream {
    if header.config.is_some() {
        return TokenStream::new();
    }
    let Header { ident, generics, .. } = header;
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    let shape = quote!(__p::SampleShape);
    quote! {
        #[automatically_derived]
        impl #impl_generics __p::ShapedTarget for #ident #ty_generics #where_clause {
            const INPUT_SHAPE: #shape = #shape::ANY;
            const OUTPUT_SHAPE: #shape = #shape::ANY;
            const INPUT_SHAPES: &'static [#shape] = &[];
        }
    }
}

/// An expression that fails to evaluate where there is a problem, shown between two spans.
fn deny((span, end): (Span, Span), problem: &TokenStream) -> TokenStream {
    let problem = quote_spanned!(end=> (#problem));
    quote_spanned!(span=> __p::deny #problem)
}

/// A type as it is written. What a container holds has no name of its own.
fn type_text(ty: &TokenStream) -> String {
    let written = text(ty);
    if written.contains("__p") { String::new() } else { written }
}

/// A call as it is written.
fn call_text(call: &Call) -> String {
    let args = call.args.iter().map(|arg| match arg {
        Arg::Positional(value) => text(value),
        Arg::Named(name, value) => format!("{name} = {}", text(value)),
    });
    let args: Vec<_> = args.collect();
    format!("{}({})", text(&call.func), args.join(", "))
}

/// Tokens as they are written, for drawings.
fn text(tokens: &impl ToTokens) -> String {
    let text = tokens.to_token_stream().to_string();
    let closed = [
        (" ::", "::"),
        (":: ", "::"),
        (" <", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        (" (", "("),
        (" .", "."),
    ];
    closed.iter().fold(text, |text, (open, closed)| text.replace(open, closed))
}

/// The variable of an input or of a value with a name.
fn kept(value: usize) -> Ident {
    format_ident!("__kept{value}")
}

/// A step without parameters.
fn between(place: usize, name: &str, step: &TokenStream, span: Span, xs: &Ident) -> TokenStream {
    quote_spanned! {span=> {
        let __step = &#step;
        let __info = __step.info();
        if __p::Option::is_some(&__info.problem) {
            (&mut __chain).broken(#place, #name, __info.problem)
        } else {
            let __xs = (&mut __chain).takes(#place, #name, __info.takes, #xs);
            let __gives = __step.gives((&__xs).shape());
            (&mut __chain).passes(#place, #name, __gives, __xs)
        }
    }}
}

/// The shape that an input has.
fn input_shape(input: &Input, generics: &Generics) -> TokenStream {
    let shape = quote!(__p::SampleShape);
    let Some(sizes) = &input.sizes else { return quote!(#shape::ANY) };
    let sizes = sizes.iter().map(bare).map(|size| match size {
        Expr::Infer(_) => quote!(__p::Size::Unknown),
        Expr::Path(path) => {
            match path.path.get_ident().filter(|name| may_be_a_name(name, generics)) {
                Some(name) => named(name),
                None => known(size),
            }
        }
        _ => known(size),
    });
    quote!(#shape::sized(&[#(#sizes),*]))
}

fn known(size: &Expr) -> TokenStream {
    // A user's parentheses would be said to be one pair too many.
    let size = bare(size);
    quote!({
        let __size: __p::usize = #size;
        __p::Size::Known(__size)
    })
}

/// Whether a size is a capital letter, perhaps with digits, and no parameter of the target.
fn may_be_a_name(name: &Ident, generics: &Generics) -> bool {
    let text = name.to_string();
    let (first, digits) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
    let letter = first.chars().all(|c| c.is_ascii_uppercase());
    letter
        && digits.chars().all(|c| c.is_ascii_digit())
        && !generics.const_params().any(|param| param.ident == *name)
}

/// The size of this name, or of the constant of this name where there is one.
///
/// As a pattern, a constant is what equals it, and a name that nothing has is what equals anything.
fn named(name: &Ident) -> TokenStream {
    let text = name.to_string();
    // Not the user's token: a variable of this name is none that lints should look at.
    let name = Ident::new(&text, Span::call_site());
    quote!({
        const fn __equals(__size: __p::usize) -> __p::bool {
            match __size {
                #name => true,
                _ => false,
            }
        }
        let mut __size = 0;
        while __size < __p::Size::MOST_OF_A_LETTER && !__equals(__size) {
            __size += 1;
        }
        __p::Size::of_letter(#text, __size, __equals(__p::usize::MAX))
    })
}
