//! Finds out what each step of a chain is.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Ident, Member};

use super::names::{Found, Names, last_name};
use super::parse::{RawInput, RawJoin, RawOperand, RawOutput, RawRepeat, RawSplit, Step};
use super::{
    Block, Chain, Input, Join, Joined, Link, MOST_OUTPUTS, Operand, Output, RawChain, RawOutputs,
    Split, Start, trains,
};
use crate::hyper_target::call;
use crate::hyper_target::field::{Field, FieldKind, member_name};
use crate::hyper_target::parse::{Call, Layer};
use crate::report::Report;
use crate::span::{ends, shown_at};

/// Finds out what each step is.
pub(crate) fn check(
    raw: RawChain,
    (inputs, outputs): (Option<Vec<RawInput>>, Option<RawOutputs>),
    fields: &[Field],
    report: &mut Report,
) -> Chain {
    let (train, inputs) = (trains(&raw.key), self::inputs(inputs));
    let Some(steps) = raw.steps else {
        if let Some((key, _)) = outputs {
            report.error(key, "`output` needs the steps of the chain, `sequential = [trunk, relu]`: without, they are all fields in their order");
        }
        let links = (0..fields.len()).map(Link::Field).collect();
        return Chain { train, inputs, block: Block { start: None, links }, outputs: Vec::new() };
    };
    let mut checker = Checker { fields, names: Names::new(fields), report };
    checker.inputs(&inputs);
    let block = checker.block(steps);
    // The first input is what the steps begin with, unless they say another value.
    if block.as_ref().is_none_or(|block| block.start.is_none()) {
        checker.names.use_value(Some(0));
    }
    let outputs = match outputs {
        Some((key, outputs)) => checker.outputs(&key, outputs, block.as_ref()),
        None => Some(Vec::new()),
    };
    let unused = checker.names.unused();
    unused.into_iter().for_each(|(name, message)| checker.report.error(name, message));
    // A misspelt field is not left out.
    let (Some(block), Some(outputs)) = (block, outputs) else {
        let block = Block { start: None, links: Vec::new() };
        return Chain { train, inputs, block, outputs: Vec::new() };
    };
    let chain = Chain { train, inputs, block, outputs };
    let used: Vec<_> = chain.uses().into_iter().map(|(i, _)| i).collect();
    check_left_out(&used, fields, report);
    chain
}

/// What is wrong with a number of outputs.
fn wrong_count(count: usize) -> Option<String> {
    match count {
        0 | 1 => Some("`output` is for several: what a chain with one output gives is what its last step gives".to_owned()),
        2..=MOST_OUTPUTS => None,
        _ => Some(format!("a chain has up to {MOST_OUTPUTS} outputs, and these are {count}: put some of them together, `concat(0, …)`")),
    }
}

/// Whether nothing takes what the chain ends with. A value with a name is one that something takes.
fn drops_the_end(block: &Block, outputs: &[(Option<Ident>, Output)]) -> bool {
    !matches!(block.links.last(), Some(Link::Keep(_)))
        && !outputs.iter().any(|(_, output)| output.operand.begins_with_current())
}

fn inputs(inputs: Option<Vec<RawInput>>) -> Vec<Input> {
    let Some(inputs) = inputs else { return vec![Input { name: None, sizes: None }] };
    let input = |RawInput { name, sizes }| Input { name, sizes: Some(sizes) };
    inputs.into_iter().map(input).collect()
}

/// What is known while steps are checked, one after the other.
struct Checker<'a> {
    fields: &'a [Field],
    names: Names<'a>,
    report: &'a mut Report,
}

impl Checker<'_> {
    /// Inputs are the first values.
    fn inputs(&mut self, inputs: &[Input]) {
        for input in inputs {
            match &input.name {
                Some(name) => self.keep(name),
                None => self.names.no_name(),
            };
        }
    }

    /// All mistakes are reported. `block` has the steps, where these are known.
    fn outputs(
        &mut self,
        key: &Ident,
        raw: Vec<RawOutput>,
        block: Option<&Block>,
    ) -> Option<Vec<Output>> {
        let count = raw.len();
        let outputs: Vec<_> =
            raw.into_iter().enumerate().map(|(i, output)| self.output(i, output)).collect();
        let outputs = outputs.into_iter().collect::<Option<Vec<_>>>()?;
        if let Some(message) = wrong_count(count) {
            self.report.error(key, message);
            return None;
        }
        if block.is_some_and(|block| drops_the_end(block, &outputs)) {
            self.report.error(key, "nothing takes what the chain ends with: among the outputs, `[]` is that value, and steps behind a name or in brackets go on from it, `output = (features, scores = [head, softmax])`");
            return None;
        }
        Some(self.distinct(outputs)?.into_iter().map(|(_, output)| output).collect())
    }

    /// An output, and its name where it is written.
    fn output(&mut self, number: usize, raw: RawOutput) -> Option<(Option<Ident>, Output)> {
        let operand = self.operand(raw.operand)?;
        let value = match &operand {
            Operand::Kept(_, name) => Some(name),
            _ => None,
        };
        let name = raw.name.as_ref().or(value).cloned();
        let text = name.as_ref().map_or(number.to_string(), |name| name.unraw().to_string());
        Some((name, Output { name: text, operand }))
    }

    /// The outputs, of which no two have one name.
    fn distinct(
        &mut self,
        outputs: Vec<(Option<Ident>, Output)>,
    ) -> Option<Vec<(Option<Ident>, Output)>> {
        let twice = outputs.iter().enumerate().find_map(|(i, (name, output))| {
            let earlier = outputs[..i].iter().any(|(_, earlier)| earlier.name == output.name);
            name.as_ref().filter(|_| earlier)
        });
        let Some(name) = twice else { return Some(outputs) };
        self.report.error(name, format!("`{}` is given twice among the outputs", name.unraw()));
        None
    }

    /// The number of a value that goes by a name from here on.
    fn keep(&mut self, name: &Ident) -> usize {
        match self.names.refused(name) {
            Some(message) => {
                self.report.error(name, message);
                self.names.keep_refused(name)
            }
            None => self.names.keep(name),
        }
    }

    /// All mistakes of a block are reported.
    fn block(&mut self, steps: Vec<Step>) -> Option<Block> {
        let start = steps.first().and_then(|step| self.value_of(step));
        let start = start.map(|(value, _)| Start::Kept(value));
        self.block_from(start, steps)
    }

    fn block_from(&mut self, start: Option<Start>, steps: Vec<Step>) -> Option<Block> {
        let steps = steps.into_iter().skip(usize::from(start.is_some()));
        let links: Vec<_> = steps.map(|step| self.step(step)).collect();
        let links: Option<Vec<_>> = links.into_iter().collect();
        Some(Block { start, links: links?.into_iter().flatten().collect() })
    }

    /// A block that is one of several values may also begin with a tensor.
    fn operand_block(&mut self, steps: Vec<Step>) -> Option<Block> {
        match steps.first() {
            Some(Step::Name(member)) => match self.names.find(member) {
                Found::Field(i) if is_tensor(&self.fields[i]) => {
                    self.block_from(Some(Start::Tensor(i)), steps)
                }
                _ => self.block(steps),
            },
            _ => self.block(steps),
        }
    }

    /// The value that a step names, where it is one.
    fn value_of(&mut self, step: &Step) -> Option<(usize, Ident)> {
        let Step::Name(member @ Member::Named(name)) = step else { return None };
        match self.names.find(member) {
            Found::Value(value) => Some((value, name.clone())),
            _ => None,
        }
    }

    /// The links of one step: those of a block with a name are several.
    fn step(&mut self, step: Step) -> Option<Vec<Link>> {
        let link = match step {
            Step::Name(member) => self.named(member),
            Step::Call(call) => self.call(call),
            Step::Value(value) => {
                let name = last_name(&value);
                Some(Link::Value(value, name))
            }
            Step::Kept(name, steps) => return self.kept(&name, steps),
            Step::Split(split) => self.split(split).map(Link::Split),
            Step::Join(join) => self.join(join).map(Link::Join),
            Step::Repeat(repeat) => self.repeat(repeat),
        };
        Some(vec![link?])
    }

    fn named(&mut self, member: Member) -> Option<Link> {
        let name = member_name(&member);
        match self.names.find(&member) {
            Found::Field(i) => Some(Link::Field(i)),
            Found::Step => {
                let step = Ident::new(&name, member.span());
                let value = syn::parse_quote!(#step);
                Some(Link::Value(value, name))
            }
            Found::Value(_) => {
                self.report.error(&member, format!("`{name}` in the middle of a block would drop what comes before it: it stands at the beginning, or in a step that takes several values, `add({name})`, `concat(0, {name})`"));
                None
            }
            Found::Nothing => {
                self.report.error(&member, self.names.no_such_step(&name));
                None
            }
        }
    }

    fn call(&mut self, call: Call) -> Option<Link> {
        if let Some(i) = self.called_field(&call) {
            return self.called(call, i).map(Link::Join);
        }
        let name = last_name(&call.func);
        if call.func.path.get_ident().is_some() && call::is_known(&name) {
            self.report.error(
                &call.func,
                format!("`{name}` has parameters: make it a field, and name that here"),
            );
        }
        Some(Link::Call(call, name))
    }

    fn called_field(&mut self, call: &Call) -> Option<usize> {
        let member = Member::Named(call.func.path.get_ident()?.clone());
        match self.names.find(&member) {
            Found::Field(i) => Some(i),
            _ => None,
        }
    }

    /// A target with several inputs: the first is what has been computed so far.
    fn called(&mut self, call: Call, field: usize) -> Option<Join> {
        let operands = RawOperand::of_call(&call);
        let operands = self.report.take(operands)?;
        let ends = (ends(&call.func).0, shown_at(call.paren.span.close()));
        let name = member_name(&self.fields[field].member);
        let scope = self.names.scope();
        let others: Vec<_> = operands.into_iter().map(|operand| self.operand(operand)).collect();
        self.names.leave(scope);
        let others: Option<Vec<_>> = others.into_iter().collect();
        let operands = std::iter::once(Operand::Current).chain(others?).collect();
        Some(Join { name, ends, joined: Joined::Field(field), operands })
    }

    fn kept(&mut self, name: &Ident, steps: Vec<Step>) -> Option<Vec<Link>> {
        if let Some((_, first)) = steps.first().and_then(|step| self.value_of(step)) {
            self.report.error(&first, format!("`{name}` would drop what comes before it: a block with a name goes on from there; one that begins with `{first}` stands in a step that takes several values"));
            return None;
        }
        let links: Vec<_> = steps.into_iter().map(|step| self.step(step)).collect();
        let value = self.keep(name);
        let links: Option<Vec<_>> = links.into_iter().collect();
        Some(links?.into_iter().flatten().chain([Link::Keep(value)]).collect())
    }

    fn split(&mut self, raw: RawSplit) -> Option<Split> {
        let found = self.names.find(&raw.field);
        let values: Vec<_> =
            raw.names.iter().map(|name| name.as_ref().map(|name| self.keep(name))).collect();
        // The chain goes on from it.
        self.names.use_value(values.first().copied().flatten());
        let field = match found {
            Found::Field(i) if is_target(&self.fields[i]) => i,
            Found::Nothing => {
                self.report.error(&raw.field, self.names.no_such_step(&member_name(&raw.field)));
                return None;
            }
            _ => {
                let name = member_name(&raw.field);
                self.report.error(&raw.field, format!("`{name}` is no target that gives several values, as one with `output = (mean = to_mean, log_variance = to_log_variance)` does"));
                return None;
            }
        };
        let ends = (shown_at(raw.paren.span.open()), shown_at(raw.paren.span.close()));
        Some(Split { field, values, ends })
    }

    fn repeat(&mut self, repeat: RawRepeat) -> Option<Link> {
        match repeat {
            RawRepeat::Field(member) => match self.names.find(&member) {
                Found::Field(i) if is_list(&self.fields[i]) => Some(Link::Field(i)),
                _ => {
                    self.report.error(&member, "`repeat` takes a field with several layers, `#[hyper([linear(8, 8); 3])] layers: Vec<Linear>`; to repeat steps, with the same parameters each time: `repeat(3, [fc, relu])`");
                    None
                }
            },
            RawRepeat::Times(count, block) => {
                let scope = self.names.scope();
                let block = self.block(block.steps);
                self.names.leave(scope);
                Some(Link::Repeat(Box::new(count), block?))
            }
        }
    }

    fn join(&mut self, raw: RawJoin) -> Option<Join> {
        let name = match (&raw.setting, raw.word == "join") {
            (Some(step), true) => last_name(step),
            _ => raw.word.to_string(),
        };
        let ends = (shown_at(raw.word.span()), shown_at(raw.paren.span.close()));
        let (step, scope) = (step_of(&raw), self.names.scope());
        let operands = match raw.word == "residual" {
            true => self.residual(raw),
            false => self.operands(raw.operands),
        };
        self.names.leave(scope);
        Some(Join { name, ends, joined: Joined::Step(step), operands: operands? })
    }

    /// The block, and what its input is added as.
    fn residual(&mut self, raw: RawJoin) -> Option<Vec<Operand>> {
        let mut operands = raw.operands.into_iter();
        let (Some(RawOperand::Block(block)), None) = (operands.next(), operands.next()) else {
            self.report.error(&raw.word, "`residual` takes one block, whose input is added to its output: `residual([norm, fc])`; or `add([left], [right])`");
            return None;
        };
        if block.steps.is_empty() {
            self.report.error(&raw.word, "the block of `residual` has no steps");
            return None;
        }
        let block = self.operand(RawOperand::Block(block));
        let skip = match raw.skip {
            Some(skip) => self.operand(RawOperand::Block(skip))?,
            None => Operand::Current,
        };
        Some(vec![block?, skip])
    }

    /// What has been computed so far takes part: in the blocks, or as the first value.
    fn operands(&mut self, raw: Vec<RawOperand>) -> Option<Vec<Operand>> {
        let operands: Vec<_> = raw.into_iter().map(|operand| self.operand(operand)).collect();
        let operands = operands.into_iter().collect::<Option<Vec<_>>>()?;
        let takes_part = operands.iter().any(Operand::begins_with_current);
        let current = (!takes_part).then_some(Operand::Current);
        Some(current.into_iter().chain(operands).collect())
    }

    fn operand(&mut self, operand: RawOperand) -> Option<Operand> {
        let member = match operand {
            RawOperand::Block(block) => {
                let ends = block.ends();
                let block = self.operand_block(block.steps);
                return block.map(|block| Operand::Block(block, ends));
            }
            RawOperand::Name(member) => member,
        };
        let name = member_name(&member);
        match (self.names.find(&member), &member) {
            (Found::Value(value), Member::Named(ident)) => {
                Some(Operand::Kept(value, ident.clone()))
            }
            (Found::Field(i), _) if is_tensor(&self.fields[i]) => Some(Operand::Tensor(i, member)),
            (Found::Field(_) | Found::Step, _) if self.names.is_refused(&member) => None,
            (Found::Field(_) | Found::Step, _) => {
                self.report.error(&member, format!("`{name}` is no value: in brackets it is what the step makes of one, `[{name}]`"));
                None
            }
            _ => {
                self.report.error(&member, self.names.no_such_value(&name));
                None
            }
        }
    }
}

/// The step of several values, as an expression.
fn step_of(raw: &RawJoin) -> TokenStream {
    let (word, setting) = (&raw.word, &raw.setting);
    if let (true, Some(step)) = (*word == "join", setting) {
        return step.to_token_stream();
    }
    let span = ends(word).0;
    let skips = (*word == "residual" && raw.skip.is_none()).then(|| quote!(.skips()));
    let options = raw.options.iter().map(|(name, value)| quote!(.#name(#value)));
    let setting = setting.iter();
    quote_spanned!(span=> __p::step::#word(#(#setting),*) #skips #(#options)*)
}

fn is_list(field: &Field) -> bool {
    let FieldKind::Layer { layer, .. } = &field.kind else { return false };
    matches!(layer, Layer::Repeat(..) | Layer::List(_))
}

fn is_target(field: &Field) -> bool {
    matches!(&field.kind, FieldKind::Layer { layer: Layer::Target(..), .. })
}

/// Whether the field's layer is a bare tensor.
pub(crate) fn is_tensor(field: &Field) -> bool {
    let FieldKind::Layer { layer: Layer::Call(call), .. } = &field.kind else { return false };
    call::is_tensor(call)
}

/// Parameters that the chain does not use would never be trained.
fn check_left_out(used: &[usize], fields: &[Field], report: &mut Report) {
    for (i, field) in fields.iter().enumerate() {
        if matches!(field.kind, FieldKind::Layer { .. }) && !used.contains(&i) {
            report.error(&field.member, left_out(field));
        }
    }
}

fn left_out(field: &Field) -> String {
    let name = member_name(&field.member);
    let message =
        format!("field `{name}` is no step of the chain: its parameters would have no use");
    match &field.kind {
        FieldKind::Layer { layer: Layer::Target(_, None), .. } => format!(
            "{message}; a field without parameters says how to make it: `#[hyper(value = PhantomData)]`"
        ),
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use proc_macro2::TokenStream;
    use quote::quote;

    use super::super::super::{check, parse};
    use super::*;

    fn checked(on_struct: TokenStream) -> (Option<Chain>, Vec<String>) {
        let input = syn::parse_quote! {
            #[hyper(#on_struct)]
            struct S {
                #[hyper(linear(1, 2))]
                a: A,
                #[hyper(value = 0)]
                b: B,
                #[hyper(linear(1, 2))]
                relu: C,
            }
        };
        let mut report = Report::default();
        let raw = parse::parse(input, &mut report);
        let target = check::check(raw, &mut report);
        (target.chain, report.messages())
    }

    fn steps(on_struct: TokenStream) -> Vec<String> {
        let (chain, messages) = checked(on_struct);
        assert_eq!(messages, [""; 0]);
        let links = chain.map_or(Vec::new(), |chain| chain.block.links);
        links.iter().map(shown).collect()
    }

    fn shown(link: &Link) -> String {
        match link {
            Link::Field(i) => format!("field {i}"),
            Link::Call(_, name) => format!("call {name}"),
            Link::Value(_, name) => format!("value {name}"),
            Link::Keep(value) => format!("keep {value}"),
            Link::Split(Split { field, values, .. }) => format!("field {field} to {values:?}"),
            Link::Repeat(_, block) => format!("repeat {}", all_shown(block)),
            Link::Join(join) => {
                let operands = join.operands.iter().map(|operand| match operand {
                    Operand::Current => "current".to_owned(),
                    Operand::Block(block, _) => all_shown(block),
                    Operand::Kept(value, _) => format!("kept {value}"),
                    Operand::Tensor(i, _) => format!("tensor {i}"),
                });
                format!("{}({})", join.name, operands.collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn all_shown(block: &Block) -> String {
        let start = block.start.map(|start| match start {
            Start::Kept(value) => format!("from {value}"),
            Start::Tensor(i) => format!("tensor {i}"),
        });
        let links = start.into_iter().chain(block.links.iter().map(shown));
        format!("[{}]", links.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn steps_of_several_values() {
        let found = steps(quote!(
            sequential = [
                a,
                skip = [tanh, b],
                residual([relu, tanh]),
                residual([tanh], skip = [relu]),
                concat(0, skip),
                add([a], [], skip),
                repeat(3, [inner = a, mul(inner)]),
            ]
        ));
        let expected = [
            "field 0",
            "value tanh",
            "field 1",
            "keep 1",
            "residual([field 2, value tanh], current)",
            "residual([value tanh], [field 2])",
            "concat(current, kept 1)",
            "add([field 0], [], kept 1)",
            "repeat [field 0, keep 2, mul(current, kept 2)]",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn several_inputs() {
        let found = steps(quote!(
            input = (x: (T, 8), y: (S, 8)),
            sequential = [a, relu, b(y), add([y, tanh], []), join(self::mine(1), y), mul([y, tanh])]
        ));
        let expected = [
            "field 0",
            "field 2",
            "b(current, kept 1)",
            "add([from 1, value tanh], [])",
            "mine(current, kept 1)",
            "mul(current, [from 1, value tanh])",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn several_outputs() {
        let outputs = |on_struct| {
            let (chain, messages) = checked(on_struct);
            assert_eq!(messages, [""; 0]);
            let outputs = chain.map_or(Vec::new(), |chain| chain.outputs);
            let shown = outputs.iter().map(|Output { name, operand }| {
                let operand = match operand {
                    Operand::Block(block, _) => all_shown(block),
                    Operand::Kept(value, _) => format!("kept {value}"),
                    Operand::Current | Operand::Tensor(..) => "no output is".to_owned(),
                };
                format!("{name}: {operand}")
            });
            shown.collect::<Vec<_>>()
        };
        let found = outputs(quote!(
            sequential = [x = a, y = relu],
            output = (y, r#in = x, b = b, [y, tanh], tanh = [relu])
        ));
        let expected = [
            "y: kept 2",
            "in: [from 1]",
            "b: [field 1]",
            "3: [from 2, value tanh]",
            "tanh: [field 2]",
        ];
        assert_eq!(found, expected);
        assert_eq!(outputs(quote!(sequential = [a, relu])), [""; 0]);
    }

    #[test]
    fn outputs_that_will_not_do() {
        let found = messages(quote!(sequential = [a, relu], output = (x, b)));
        let expected = [
            "there is no value `x` yet: an earlier step gives it its name, `x = [conv, relu]`, or `input = (x: (1, 28, 28), x: (10))`",
            "`b` is no value: in brackets it is what the step makes of one, `[b]`",
        ];
        assert_eq!(found, expected);
        let dropped = messages(quote!(sequential = [x = a, relu], output = (x, [x, tanh])));
        assert!(dropped.concat().starts_with("nothing takes what the chain ends with"));
        // What it ends with has a name that nothing takes: one mistake.
        let found = messages(quote!(sequential = [x = a, y = relu], output = (x, [x, tanh])));
        assert!(found.len() == 1 && found[0].starts_with("no step takes `y`"), "{found:?}");
    }

    fn messages(on_struct: TokenStream) -> Vec<String> {
        checked(on_struct).1
    }

    #[test]
    fn names_that_will_not_do() {
        let found = messages(quote!(
            sequential = [
                a = relu,
                tanh = relu,
                x = relu,
                x = [a],
                add(y),
                concat(0, b),
                x,
                add(x, a),
                z = b
            ]
        ));
        let expected = [
            "`a` is a field: a value has another name",
            "`tanh` is a step: a value has another name",
            "`x` is already the name of a value",
            "there is no value `y` yet: an earlier step gives it its name, `y = [conv, relu]`, or `input = (x: (1, 28, 28), y: (10))`",
            "`b` is no value: in brackets it is what the step makes of one, `[b]`",
            "`x` in the middle of a block would drop what comes before it: it stands at the beginning, or in a step that takes several values, `add(x)`, `concat(0, x)`",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_value_that_nothing_takes() {
        let expected = "no step takes `z`: a value with a name stands in a later step, `add(z)`, `concat(0, z)`, or in `output`";
        assert_eq!(messages(quote!(sequential = [a, relu, z = b])), [expected]);
    }

    #[test]
    fn a_name_is_known_in_the_step_that_it_stands_in() {
        let found = messages(quote!(sequential = [residual([x = a, relu, add(x)]), add(x)]));
        assert!(found.len() == 1 && found[0].starts_with("there is no value `x` yet"), "{found:?}");
    }

    #[test]
    fn the_innermost_form_is_shown() {
        let found = messages(quote!(sequential = [residual([a], skip = [relu], skip = [])]));
        assert_eq!(
            found,
            ["`skip` is given twice; the form is `residual([norm, fc], skip = [down])`"]
        );
    }

    #[test]
    fn a_name_in_parentheses_is_that_name() {
        let plain = steps(quote!(sequential = [a, tanh, b, relu]));
        assert_eq!(steps(quote!(sequential = [(a), (tanh), (b), relu])), plain);
    }

    #[test]
    fn all_fields_in_order() {
        assert_eq!(steps(quote!(sequential)), ["field 0", "field 1", "field 2"]);
        assert_eq!(steps(quote!()), [""; 0]);
    }

    #[test]
    fn a_field_comes_before_a_step_of_its_name() {
        let found = steps(quote!(sequential = [relu, tanh, a, own::Step, own::step(1), a]));
        let expected = ["field 2", "value tanh", "field 0", "value Step", "call step", "field 0"];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_key_tells_whether_training_matters() {
        let (chain, _) = checked(quote!(sequential_t, input = (1, _, N)));
        assert!(chain.as_ref().is_some_and(|chain| chain.train));
        assert_eq!(
            chain
                .and_then(|chain| chain.inputs[0].sizes.as_ref().map(Vec::len))
                .unwrap_or_default(),
            3
        );
    }

    #[test]
    fn all_mistakes_of_a_chain_are_reported() {
        let (_, messages) =
            checked(quote!(sequential = [raa, linear(2, 3), relv], input = 1, input = 2));
        assert_eq!(
            messages,
            [
                "`input` is given twice",
                "there is no field or step `raa`: a step of your own is written as a call, or by its path: `self::raa`",
                "`linear` has parameters: make it a field, and name that here",
                "there is no field or step `relv`; did you mean `relu`?",
            ]
        );
        let (_, messages) = checked(quote!(sequential = [a]));
        assert_eq!(
            messages,
            ["field `relu` is no step of the chain: its parameters would have no use"]
        );
    }

    #[test]
    fn a_step_takes_no_attribute() {
        let (_, messages) = checked(quote!(
            sequential = [
                a,
                #[hyper]
                tanh,
                relu
            ]
        ));
        let form = "the form is `#[hyper(sequential = [conv, relu, flatten, fc])]`";
        assert_eq!(messages, [format!("a step of a chain takes no attribute; {form}")]);
    }
}
