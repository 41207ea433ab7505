//! A shape on its way through a chain of steps, and what does not fit.

use super::{Given, SampleShape};
use crate::check::Problem;

/// The shapes along a chain with `N` places for problems.
///
/// Where a step does not fit, its problem is kept, and the chain goes on as if it did: the next
/// mistake is then found too.
#[derive(Clone, Copy, Debug)]
pub struct Chain<const N: usize> {
    input: SampleShape,
    shape: SampleShape,
    /// The step that gave this shape; none gave the input.
    giver: Option<&'static str>,
    /// Whether a step has been taken.
    begun: bool,
    problems: [Problems; N],
}

/// What is wrong with one step.
#[derive(Clone, Copy, Debug)]
struct Problems {
    takes: Option<Problem>,
    gives: Option<Problem>,
}

impl<const N: usize> Chain<N> {
    /// A chain that begins with this shape; where it is wrong, with any.
    pub const fn new(input: SampleShape) -> Self {
        let none = Problems { takes: None, gives: None };
        let input = if input.check().is_some() { SampleShape::ANY } else { input };
        Self { input, shape: input, giver: None, begun: false, problems: [none; N] }
    }

    /// The shape that the next step meets.
    pub const fn shape(&self) -> &SampleShape {
        &self.shape
    }

    /// The input, with what the first step says of it.
    pub const fn input(&self) -> SampleShape {
        self.input
    }

    /// A step that takes this.
    #[must_use]
    pub const fn takes(self, place: usize, step: &str, takes: SampleShape) -> Self {
        let remedy = takes.difference(&self.shape);
        self.meets(place, step, takes, remedy)
    }

    /// A target that takes one shape and gives another.
    #[must_use]
    pub const fn target(
        self,
        place: usize,
        step: &'static str,
        takes: SampleShape,
        gives: SampleShape,
    ) -> Self {
        self.meets(place, step, takes, None).gives(place, step, Given::Shape(gives))
    }

    const fn meets(
        mut self,
        place: usize,
        step: &str,
        takes: SampleShape,
        remedy: Option<(usize, usize)>,
    ) -> Self {
        match self.shape.meet(&takes) {
            Some(met) => self.shape = met,
            None => {
                if self.problems[place].takes.is_none() {
                    self.problems[place].takes = Some(self.misfit(step, &takes, remedy));
                }
                self.shape = takes.over(&self.shape);
            }
        }
        if !self.begun {
            self.input = self.shape;
            self.begun = true;
        }
        self
    }

    /// What a field then gives.
    #[must_use]
    pub const fn gives(mut self, place: usize, step: &'static str, gives: Given) -> Self {
        self.shape = match gives {
            Given::Shape(shape) => shape,
            Given::Problem(problem) => {
                if self.problems[place].gives.is_none() {
                    self.problems[place].gives = Some(self.impossible(step, &problem));
                }
                SampleShape::ANY
            }
        };
        self.giver = Some(step);
        self
    }

    /// What a step between fields then gives. One that keeps the shape is not where it comes from.
    #[must_use]
    pub const fn passes(self, place: usize, step: &'static str, gives: Given) -> Self {
        match gives {
            Given::Shape(shape) if shape.same(&self.shape) => self,
            _ => self.gives(place, step, gives),
        }
    }

    /// A step that gives nobody knows what.
    #[must_use]
    pub const fn unknown(mut self, step: &'static str) -> Self {
        self.begun = true;
        self.shape = SampleShape::ANY;
        self.giver = Some(step);
        self
    }

    /// A step with a problem of its own.
    #[must_use]
    pub const fn broken(
        mut self,
        place: usize,
        step: &'static str,
        problem: Option<Problem>,
    ) -> Self {
        self.problems[place].gives = problem;
        self.unknown(step)
    }

    /// What is wrong with what a step takes.
    pub const fn taken(&self, place: usize) -> Option<Problem> {
        self.problems[place].takes
    }

    /// What is wrong with what a step would give.
    pub const fn given(&self, place: usize) -> Option<Problem> {
        self.problems[place].gives
    }

    /// The first problem of all.
    pub const fn first(&self) -> Option<Problem> {
        let mut i = 0;
        while i < N {
            match self.problems[i] {
                Problems { takes: Some(problem), .. } => return Some(problem),
                Problems { gives: Some(problem), .. } => return Some(problem),
                _ => i += 1,
            }
        }
        None
    }

    /// "but `conv` gives", "but the input is".
    const fn found(&self, text: Problem) -> Problem {
        match self.giver {
            Some(giver) => text.text("`").text(giver).text("` gives ").shape(&self.shape),
            None => text.text("the input is ").shape(&self.shape),
        }
    }

    /// `remedy`: the size to replace, and by what.
    const fn misfit(
        &self,
        step: &str,
        takes: &SampleShape,
        remedy: Option<(usize, usize)>,
    ) -> Problem {
        let text = Problem::new("`").text(step).text("` takes ").shape(takes).text(", but ");
        let text = self.found(text);
        match (takes.rank(), takes.last_dim(), self.shape.num_values(), remedy) {
            (None, Some(width), Some(values), _) if width == values => {
                text.text(": put `flatten` before it")
            }
            (_, _, _, Some((wrong, right))) => {
                text.text(": write ").number(right).text(" in place of ").number(wrong)
            }
            _ => text,
        }
    }

    const fn impossible(&self, step: &str, problem: &Problem) -> Problem {
        let text = Problem::new("`").text(step).text("`: ").text(problem.message()).text("; ");
        self.found(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Chain<2> = Chain::new(SampleShape::new(&[1, 28, 28]));

    fn message(problem: Option<Problem>) -> Option<String> {
        problem.map(|problem| problem.message().to_owned())
    }

    #[test]
    fn a_step_that_does_not_fit_is_named_with_its_giver() {
        let chain = START.takes(0, "fc", SampleShape::last(784));
        let expected = "`fc` takes […, 784], but the input is [1, 28, 28]: put `flatten` before it";
        assert_eq!(message(chain.taken(0)).as_deref(), Some(expected));
        // It goes on as if it had.
        let chain = chain.gives(0, "fc", Given::Shape(SampleShape::new(&[64])));
        let chain = chain.passes(1, "relu", Given::Shape(*chain.shape())).takes(
            1,
            "out",
            SampleShape::last(63),
        );
        let expected = "`out` takes […, 63], but `fc` gives [64]: write 64 in place of 63";
        assert_eq!(message(chain.taken(1)).as_deref(), Some(expected));
        assert_eq!(message(chain.first()), message(chain.taken(0)));
    }

    #[test]
    fn the_first_problem_of_a_place_is_kept() {
        let chain = START.takes(0, "a", SampleShape::last(3)).takes(0, "a", SampleShape::last(4));
        assert_eq!(
            message(chain.first()).as_deref(),
            Some("`a` takes […, 3], but the input is [1, 28, 28]: write 28 in place of 3")
        );
    }

    #[test]
    fn a_step_that_does_not_fit_keeps_the_other_sizes() {
        let image = SampleShape::of(&[Some(3), None, None]);
        assert_eq!(START.takes(0, "conv", image).shape().to_string(), "[3, 28, 28]");
        let chain = START.target(0, "block", image, image);
        let expected = "`block` takes [3, _, _], but the input is [1, 28, 28]";
        assert_eq!(message(chain.taken(0)).as_deref(), Some(expected));
    }

    #[test]
    fn what_cannot_be_given_is_a_problem_of_its_own() {
        let chain = START.takes(1, "conv", SampleShape::ANY);
        let chain = chain.gives(1, "conv", Given::Problem(Problem::new("the kernel spans 29")));
        let expected = "`conv`: the kernel spans 29; the input is [1, 28, 28]";
        assert_eq!(message(chain.given(1)).as_deref(), Some(expected));
        assert!(chain.taken(1).is_none() && chain.shape().same(&SampleShape::ANY));
    }

    #[test]
    fn the_first_step_tells_what_the_input_is() {
        let chain = Chain::<2>::new(SampleShape::ANY).takes(0, "fc", SampleShape::last(4));
        let chain = chain.gives(0, "fc", Given::Shape(SampleShape::last(8)));
        let chain = chain.takes(1, "out", SampleShape::new(&[8]));
        assert_eq!(chain.input().to_string(), "[…, 4]");
        assert_eq!(chain.shape().to_string(), "[8]");
        assert!(chain.first().is_none());
    }
}
