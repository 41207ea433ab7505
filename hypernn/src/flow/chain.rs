//! Shapes on their way through the steps of a forward, and what does not fit.

use super::bindings::Bindings;
use super::{Given, SampleShape};
use crate::check::Problem;

/// The shapes along a forward of `N` steps, with so many inputs and outputs.
///
/// Where a step does not fit, its problem is kept, and the forward goes on as if it did: the next mistake is then
/// found too. What is computed is a [`Value`] each; the first problem of a step is kept.
#[derive(Clone, Copy, Debug)]
pub struct Chain<const N: usize, const INPUTS: usize = 1, const OUTPUTS: usize = 1> {
    inputs: [SampleShape; INPUTS],
    outputs: [SampleShape; OUTPUTS],
    steps: [StepRecord; N],
}

/// What is known of one step.
#[derive(Clone, Copy, Debug)]
struct StepRecord {
    takes: Option<Problem>,
    gives: Option<Problem>,
    shape: SampleShape,
}

/// A tensor on its way: its shape, and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Value {
    shape: SampleShape,
    giver: Giver,
    /// The last step that made another shape of what it took.
    maker: Option<Maker>,
    /// The last field that it went through, since it was an input or made of several values.
    field: Option<&'static str>,
    /// The input that it still is, as far as its shape tells.
    input: Option<usize>,
    /// The shape that was met where a step takes another one. All that follows is as if the step were right, so that a
    /// misfit of several values, one of which went another way, may not be a mistake of its own.
    doubtful: Option<SampleShape>,
}

/// What a message calls a value by.
#[derive(Clone, Copy, Debug)]
enum Giver {
    /// The only input.
    Input,
    /// An input with a name.
    Named(&'static str),
    Step(&'static str),
}

#[derive(Clone, Copy, Debug)]
struct Maker {
    place: usize,
    step: &'static str,
    /// The last field before a step that is none.
    after: Option<&'static str>,
}

impl Value {
    /// Its shape.
    pub const fn shape(&self) -> &SampleShape {
        &self.shape
    }

    /// Whether both have one shape.
    pub const fn has_shape_of(&self, other: &Self) -> bool {
        self.shape.same(&other.shape)
    }

    /// Whether a step may be one that never makes another shape, as far as what it gives of this value tells. What it
    /// gives of any shape says the rest.
    pub const fn may_be_kept(&self, gives: &Given) -> bool {
        match gives {
            Given::Shape(shape) => shape.same(&self.shape),
            Given::Problem(_) | Given::Misfit { .. } => true,
        }
    }

    /// Appends "`conv` gives [8]" or "the input is [8]".
    const fn found(&self, text: Problem) -> Problem {
        match self.giver {
            Giver::Step(step) => text.text("`").text(step).text("` gives "),
            Giver::Named(name) => text.text("`").text(name).text("` is "),
            Giver::Input => text.text("the input is "),
        }
        .shape(&self.shape)
    }

    /// The same by the name of the step that made the shape: "`split_heads` after `q` gives [4, T, 8]".
    const fn made(&self, text: Problem) -> Problem {
        let Some(Maker { step, after, .. }) = self.maker else { return self.found(text) };
        let text = text.text("`").text(step);
        let text = match after {
            Some(field) => text.text("` after `").text(field),
            None => text,
        };
        text.text("` gives ").shape(&self.shape)
    }
}

/// Where the problems of a step that takes several values are shown.
#[derive(Clone, Copy, Debug)]
pub struct JoinPlaces {
    /// The step's own place; those of the steps within its operands come behind it.
    pub own: usize,
    /// The place of its first operand; the others' follow.
    pub operands: usize,
}

impl<const N: usize, const INPUTS: usize, const OUTPUTS: usize> Chain<N, INPUTS, OUTPUTS> {
    /// Before the first step.
    pub const fn new() -> Self {
        let none = StepRecord { takes: None, gives: None, shape: SampleShape::ANY };
        let any = SampleShape::ANY;
        Self { inputs: [any; INPUTS], outputs: [any; OUTPUTS], steps: [none; N] }
    }

    /// The only input, which has this shape; where that is wrong, any.
    pub const fn input(&mut self, shape: SampleShape) -> Value {
        self.add_input(0, Giver::Input, shape)
    }

    /// One of several inputs.
    pub const fn named_input(
        &mut self,
        number: usize,
        name: &'static str,
        shape: SampleShape,
    ) -> Value {
        self.add_input(number, Giver::Named(name), shape)
    }

    const fn add_input(&mut self, number: usize, giver: Giver, shape: SampleShape) -> Value {
        let shape = if shape.check().is_some() { SampleShape::ANY } else { shape };
        self.inputs[number] = shape;
        Value { shape, giver, maker: None, field: None, input: Some(number), doubtful: None }
    }

    /// A value as it is known by now: what a step says of an input is said of it in every block that takes it.
    pub const fn learned(&self, mut xs: Value) -> Value {
        if let Some(number) = xs.input
            && let Some(met) = xs.shape.meet(&self.inputs[number])
        {
            xs.shape = met;
        }
        xs
    }

    /// The shape of an input, with what the steps say of it that take it.
    pub const fn input_shape(&self, number: usize) -> SampleShape {
        self.inputs[number]
    }

    /// What the forward gives, the first output or another.
    pub const fn gives_output(&mut self, number: usize, ys: Value) {
        self.outputs[number] = ys.shape;
    }

    /// The shape of an output.
    pub const fn output_shape(&self, number: usize) -> SampleShape {
        self.outputs[number]
    }

    /// The value, as a step takes it that takes this.
    pub const fn takes(
        &mut self,
        place: usize,
        step: &str,
        takes: SampleShape,
        xs: Value,
    ) -> Value {
        self.meets(place, step, takes, true, xs)
    }

    /// `of_sizes`: the step says what it takes in sizes, one of which may be the one to replace.
    const fn meets(
        &mut self,
        place: usize,
        step: &str,
        takes: SampleShape,
        of_sizes: bool,
        mut xs: Value,
    ) -> Value {
        match xs.shape.meet(&takes) {
            Some(met) => xs.shape = met,
            None => {
                let remedy = if of_sizes { takes.difference(&xs.shape) } else { None };
                self.misfit(place, misfit(step, &takes, remedy, &xs));
                xs.doubtful = Some(xs.shape);
                xs.shape = takes.over(&xs.shape);
            }
        }
        self.learns(&xs);
        xs
    }

    /// What is known of a value that is still an input is known of that.
    const fn learns(&mut self, xs: &Value) {
        if let Some(number) = xs.input
            && let Some(met) = self.inputs[number].meet(&xs.shape)
        {
            self.inputs[number] = met;
        }
    }

    /// What a field gives of a value that it takes. `of_any` is what it gives of any shape: the same shape again says
    /// that it never makes another one. Where such a field does not fit, the next step meets the shape that it met.
    pub const fn gives(
        &mut self,
        place: usize,
        step: &'static str,
        (gives, of_any): (Given, Given),
        xs: Value,
    ) -> Value {
        let keeps = matches!(&of_any, Given::Shape(shape) if shape.same(&SampleShape::ANY));
        let ys = Value { field: Some(step), ..self.given(place, step, gives, &xs) };
        if !keeps {
            return Value { maker: Some(Maker { place, step, after: None }), ..ys };
        }
        let shape = match (self.steps[place].takes, xs.doubtful) {
            (Some(_), Some(met)) => met,
            _ => ys.shape,
        };
        self.steps[place].shape = shape;
        Value { shape, maker: xs.maker, ..ys }
    }

    const fn given(&mut self, place: usize, step: &'static str, gives: Given, xs: &Value) -> Value {
        let shape = match gives {
            Given::Shape(shape) => shape,
            Given::Problem(problem) | Given::Misfit { problem, .. } => {
                self.impossible(place, impossible(step, &problem, xs));
                SampleShape::ANY
            }
        };
        let maker = Some(Maker { place, step, after: xs.field });
        Value { maker, field: xs.field, doubtful: xs.doubtful, ..self.made(place, step, shape) }
    }

    /// A value that a step made.
    const fn made(&mut self, place: usize, step: &'static str, shape: SampleShape) -> Value {
        self.steps[place].shape = shape;
        let (giver, maker) = (Giver::Step(step), Some(Maker { place, step, after: None }));
        Value { shape, giver, maker, field: None, input: None, doubtful: None }
    }

    /// What a step between fields gives. One that keeps the shape is not where it comes from.
    pub const fn passes(
        &mut self,
        place: usize,
        step: &'static str,
        gives: Given,
        xs: Value,
    ) -> Value {
        match gives {
            Given::Shape(shape) if shape.same(&xs.shape) => {
                self.steps[place].shape = shape;
                Value { input: None, ..xs }
            }
            _ => self.given(place, step, gives, &xs),
        }
    }

    /// A tensor of the target's own, which is no step's output.
    pub const fn tensor(&mut self, place: usize, name: &'static str, shape: SampleShape) -> Value {
        self.steps[place].shape = shape;
        let giver = Giver::Named(name);
        Value { shape, giver, maker: None, field: None, input: None, doubtful: None }
    }

    /// What a step gives that is known to keep the shape.
    pub const fn keeps(&mut self, place: usize, xs: Value) -> Value {
        self.steps[place].shape = xs.shape;
        Value { input: None, ..xs }
    }

    /// What a step gives of which nobody knows what.
    pub const fn unknown(&mut self, place: usize, step: &'static str) -> Value {
        self.made(place, step, SampleShape::ANY)
    }

    /// What a step gives that has a problem of its own.
    pub const fn broken(
        &mut self,
        place: usize,
        step: &'static str,
        problem: Option<Problem>,
    ) -> Value {
        if let Some(problem) = problem {
            self.impossible(place, problem);
        }
        self.unknown(place, step)
    }

    /// What a target gives: `gives`, with the names in it that its inputs' shapes `takes` have for the sizes of the
    /// values. Of another number of values than it takes nothing is known; a type's own error says it where `takes` or
    /// `xs` is of one.
    pub const fn target(
        &mut self,
        place: usize,
        step: &'static str,
        (takes, gives): (&[SampleShape], SampleShape),
        xs: &[Value],
    ) -> Value {
        if takes.len() != xs.len() {
            return self.unknown(place, step);
        }
        let (mut names, mut doubtful, mut i) = (Bindings::NONE, None, 0);
        while i < xs.len() {
            names = names.bind(&takes[i], xs[i].shape());
            let met = self.meets(place, step, names.put_into(&takes[i]), false, xs[i]);
            if let (None, Some(_)) = (doubtful, met.doubtful) {
                doubtful = met.doubtful;
            }
            i += 1;
        }
        let ys = self.made(place, step, names.put_into(&gives));
        Value { field: Some(step), doubtful, ..ys }
    }

    /// What a target gives that gives several values; another number of them than `M` is a problem.
    pub const fn splits<const M: usize>(
        &mut self,
        place: usize,
        step: &'static str,
        (takes, gives): (&[SampleShape], &[SampleShape]),
        xs: Value,
    ) -> [Value; M] {
        let known = gives.len() == M;
        if !known && !gives.is_empty() {
            self.impossible(place, wrong_number_of_outputs(step, gives.len(), M));
        }
        let mut values = [xs; M];
        // The last shape that is noted for the step is the first one's.
        let mut i = M;
        while i > 0 {
            i -= 1;
            let shape = if known { gives[i] } else { SampleShape::ANY };
            values[i] = self.target(place, step, (takes, shape), &[xs]);
        }
        values
    }

    /// What a target gives that is called with several values; another number of values is a problem.
    pub const fn called_target(
        &mut self,
        place: usize,
        step: &'static str,
        (takes, gives): (&[SampleShape], SampleShape),
        xs: &[Value],
    ) -> Value {
        if takes.len() > 1 && takes.len() != xs.len() {
            self.misfit(place, wrong_number(step, takes.len(), xs.len()));
        }
        self.target(place, step, (takes, gives), xs)
    }

    /// What a step gives that takes several values.
    pub const fn joins(
        &mut self,
        places: JoinPlaces,
        step: &'static str,
        gives: Given,
        xs: &[Value],
    ) -> Value {
        let doubtful = doubtful(xs);
        let shape = match gives {
            Given::Shape(shape) => shape,
            // One of them is not what it would be without a mistake that is known.
            _ if doubtful.is_some() => SampleShape::ANY,
            Given::Misfit { operand, beside, instead, problem }
                if operand < xs.len() && beside < xs.len() =>
            {
                let at = self.blamed(places, operand, &xs[operand]);
                let text = Problem::new("`").text(step).text("`: ");
                let text = xs[beside].made(xs[operand].made(text).text(", but ")).text(": ");
                let text = match instead {
                    Some((wrong, right)) if at < places.operands => {
                        text.text("write ").number(right).text(" in place of ").number(wrong)
                    }
                    _ => text.text(problem.message()),
                };
                self.impossible(at, text);
                SampleShape::ANY
            }
            Given::Problem(problem) | Given::Misfit { problem, .. } => {
                let text = Problem::new("`").text(step).text("`: ").text(problem.message());
                self.impossible(places.own, text);
                SampleShape::ANY
            }
        };
        Value { doubtful, ..self.made(places.own, step, shape) }
    }

    /// The step within the operand that made its shape; else the operand.
    const fn blamed(&self, places: JoinPlaces, operand: usize, xs: &Value) -> usize {
        match xs.maker {
            Some(Maker { place, .. }) if place > places.own => place,
            _ => places.operands + operand,
        }
    }

    const fn misfit(&mut self, place: usize, problem: Problem) {
        if self.steps[place].takes.is_none() {
            self.steps[place].takes = Some(problem);
        }
    }

    const fn impossible(&mut self, place: usize, problem: Problem) {
        if self.steps[place].gives.is_none() {
            self.steps[place].gives = Some(problem);
        }
    }

    /// What is wrong with what a step takes.
    pub const fn problem_taken(&self, place: usize) -> Option<Problem> {
        self.steps[place].takes
    }

    /// What is wrong with what a step would give.
    pub const fn problem_given(&self, place: usize) -> Option<Problem> {
        self.steps[place].gives
    }

    /// The shape that a step gives.
    pub const fn shape_given(&self, place: usize) -> SampleShape {
        self.steps[place].shape
    }

    /// The first problem of all.
    pub const fn first(&self) -> Option<Problem> {
        let mut i = 0;
        while i < N {
            match self.steps[i] {
                StepRecord { takes: Some(problem), .. } => return Some(problem),
                StepRecord { gives: Some(problem), .. } => return Some(problem),
                _ => i += 1,
            }
        }
        None
    }
}

impl<const N: usize, const INPUTS: usize, const OUTPUTS: usize> Default
    for Chain<N, INPUTS, OUTPUTS>
{
    fn default() -> Self {
        Self::new()
    }
}

/// What was met where one of the values is not what it would be.
const fn doubtful(xs: &[Value]) -> Option<SampleShape> {
    let mut i = 0;
    while i < xs.len() {
        if xs[i].doubtful.is_some() {
            return xs[i].doubtful;
        }
        i += 1;
    }
    None
}

/// `remedy`: the size to replace, and by what.
const fn misfit(
    step: &str,
    takes: &SampleShape,
    remedy: Option<(usize, usize)>,
    xs: &Value,
) -> Problem {
    let text = Problem::new("`").text(step).text("` takes ").shape(takes).text(", but ");
    let text = xs.found(text);
    match (takes.rank(), takes.last_dim(), xs.shape.num_values(), remedy) {
        (None, Some(width), Some(values), _) if width == values => {
            text.text(": put `flatten` before it")
        }
        (_, _, _, Some((wrong, right))) => {
            text.text(": write ").number(right).text(" in place of ").number(wrong)
        }
        _ => text,
    }
}

const fn impossible(step: &str, problem: &Problem, xs: &Value) -> Problem {
    let text = Problem::new("`").text(step).text("`: ").text(problem.message()).text("; ");
    xs.found(text)
}

const fn wrong_number(step: &str, takes: usize, found: usize) -> Problem {
    let text = Problem::new("`").text(step).text("` takes ").number(takes);
    let text = text.text(if takes == 1 { " value" } else { " values" });
    text.text(", but gets ")
        .number(found)
        .text(": write `")
        .text(step)
        .text("(context)`, with one name or block for each value but the first")
}

const fn wrong_number_of_outputs(step: &str, gives: usize, names: usize) -> Problem {
    let text = Problem::new("`").text(step).text("` gives ").number(gives);
    let text = text.text(if gives == 1 { " value" } else { " values" });
    text.text(", and there are ").number(names).text(" names: one for each, or `_`")
}

#[cfg(test)]
mod tests {
    use super::super::Size;
    use super::*;

    const IMAGE: [usize; 3] = [1, 28, 28];

    fn start() -> (Chain<4>, Value) {
        let mut chain = Chain::new();
        let xs = chain.input(SampleShape::new(&IMAGE));
        (chain, xs)
    }

    fn message(problem: Option<Problem>) -> Option<String> {
        problem.map(|problem| problem.message().to_owned())
    }

    fn shape(sizes: &[usize]) -> Given {
        Given::Shape(SampleShape::new(sizes))
    }

    #[test]
    fn a_step_that_does_not_fit_is_named_with_its_giver() {
        let (mut chain, xs) = start();
        let xs = chain.takes(0, "fc", SampleShape::last(784), xs);
        let expected = "`fc` takes […, 784], but the input is [1, 28, 28]: put `flatten` before it";
        assert_eq!(message(chain.problem_taken(0)).as_deref(), Some(expected));
        // It goes on as if it had.
        let xs = chain.gives(0, "fc", (shape(&[64]), shape(&[64])), xs);
        let xs = chain.passes(1, "relu", Given::Shape(*xs.shape()), xs);
        chain.takes(1, "out", SampleShape::last(63), xs);
        let expected = "`out` takes […, 63], but `fc` gives [64]: write 64 in place of 63";
        assert_eq!(message(chain.problem_taken(1)).as_deref(), Some(expected));
        assert_eq!(message(chain.first()), message(chain.problem_taken(0)));
    }

    #[test]
    fn the_first_problem_of_a_place_is_kept() {
        let (mut chain, xs) = start();
        let xs = chain.takes(0, "a", SampleShape::last(3), xs);
        chain.takes(0, "a", SampleShape::last(4), xs);
        assert_eq!(
            message(chain.first()).as_deref(),
            Some("`a` takes […, 3], but the input is [1, 28, 28]: write 28 in place of 3")
        );
    }

    #[test]
    fn a_step_that_does_not_fit_keeps_the_other_sizes() {
        let image = SampleShape::of(&[Some(3), None, None]);
        let (mut chain, xs) = start();
        assert_eq!(chain.takes(0, "conv", image, xs).shape().to_string(), "[3, 28, 28]");
        chain.target(1, "block", (&[image], image), &[xs]);
        let expected = "`block` takes [3, _, _], but the input is [1, 28, 28]";
        assert_eq!(message(chain.problem_taken(1)).as_deref(), Some(expected));
    }

    #[test]
    fn what_cannot_be_given_is_a_problem_of_its_own() {
        let (mut chain, xs) = start();
        let problem = Given::Problem(Problem::new("the kernel spans 29"));
        let ys = chain.gives(1, "conv", (problem, Given::Shape(SampleShape::ANY)), xs);
        let expected = "`conv`: the kernel spans 29; the input is [1, 28, 28]";
        assert_eq!(message(chain.problem_given(1)).as_deref(), Some(expected));
        assert!(chain.problem_taken(1).is_none() && ys.shape().same(&SampleShape::ANY));
    }

    #[test]
    fn the_first_step_tells_what_the_input_is() {
        let mut chain = Chain::<2>::new();
        let xs = chain.input(SampleShape::ANY);
        let ys = chain.takes(0, "fc", SampleShape::last(4), xs);
        let last = Given::Shape(SampleShape::last(8));
        let ys = chain.gives(0, "fc", (last, last), ys);
        let ys = chain.takes(1, "out", SampleShape::new(&[8]), ys);
        assert_eq!(chain.input_shape(0).to_string(), "[…, 4]");
        assert_eq!(ys.shape().to_string(), "[8]");
        assert!(chain.first().is_none());
    }

    #[test]
    fn a_problem_of_an_operand_is_that_of_the_step_within_that_made_it() {
        let (mut chain, xs) = start();
        let ys = chain.gives(1, "conv", (shape(&[8, 28, 28]), shape(&[8])), xs);
        // A norm is not where the shape comes from.
        let any = Given::Shape(SampleShape::ANY);
        let ys = chain.gives(2, "norm", (Given::Shape(*ys.shape()), any), ys);
        let misfit = |operand, beside| Given::Misfit {
            operand,
            beside,
            instead: Some((8, 1)),
            problem: Problem::new("one shape is expected"),
        };
        let places = JoinPlaces { own: 0, operands: 2 };
        chain.joins(places, "residual", misfit(0, 1), &[ys, xs]);
        let expected = "`residual`: `conv` gives [8, 28, 28], but the input is [1, 28, 28]: write 1 in place of 8";
        assert_eq!(message(chain.problem_given(1)).as_deref(), Some(expected));
        // What was made before is shown where it is named, where there is no size to replace.
        chain.joins(places, "add", misfit(1, 0), &[ys, xs]);
        let expected =
            "`add`: the input is [1, 28, 28], but `conv` gives [8, 28, 28]: one shape is expected";
        assert_eq!(message(chain.problem_given(3)).as_deref(), Some(expected));
    }

    /// Of several mistakes in a row each is found; what follows from one is not.
    #[test]
    fn what_follows_from_a_mistake_is_none_of_its_own() {
        let (mut chain, xs) = start();
        let ys = chain.takes(1, "fc", SampleShape::last(7), xs);
        let ys = chain.gives(1, "fc", (shape(&[1, 28, 9]), shape(&[9])), ys);
        let misfit = Given::Misfit {
            operand: 0,
            beside: 1,
            instead: None,
            problem: Problem::new("one shape is expected"),
        };
        let places = JoinPlaces { own: 0, operands: 2 };
        let ys = chain.joins(places, "residual", misfit, &[ys, xs]);
        assert!(chain.problem_taken(1).is_some() && chain.problem_given(1).is_none());
        assert_eq!(ys.shape().to_string(), "[…]");
        // A norm of another width gives what it gets.
        let any = Given::Shape(SampleShape::ANY);
        let zs = chain.takes(3, "norm", SampleShape::last(5), xs);
        let zs = chain.gives(3, "norm", (Given::Shape(*zs.shape()), any), zs);
        assert_eq!(zs.shape().to_string(), "[1, 28, 28]");
    }

    #[test]
    fn the_names_of_a_target_are_those_of_its_caller() {
        let sizes = |a, b| SampleShape::sized(&[a, b]);
        let [t, s, n] = ["T", "S", "N"].map(Size::Named);
        let takes = [sizes(t, Size::Known(4)), sizes(s, Size::Known(4))];
        let mut chain = Chain::<2, 2>::new();
        let xs = chain.named_input(0, "x", sizes(s, Size::Known(4)));
        let context = chain.named_input(1, "context", sizes(n, Size::Known(4)));
        let ys = chain.target(0, "cross", (&takes, sizes(t, s)), &[xs, context]);
        assert_eq!(ys.shape().to_string(), "[S, N]");
        assert!(chain.first().is_none());
        chain.target(0, "same", (&[takes[0], takes[0]], takes[0]), &[xs, context]);
        let expected = "`same` takes [S, 4], but `context` is [N, 4]";
        assert_eq!(message(chain.first()).as_deref(), Some(expected));
        chain.target(1, "cross", (&takes, takes[0]), &[xs]);
        assert!(chain.problem_taken(1).is_none());
        chain.called_target(1, "cross", (&takes, takes[0]), &[xs]);
        assert!(
            message(chain.problem_taken(1))
                .is_some_and(|text| text.contains("takes 2 values, but gets 1"))
        );
    }
}
