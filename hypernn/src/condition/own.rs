//! Whether a target's input can be its own condition, as bounds of the methods that make it so: an
//! error is then at the call, and a hypernetwork that is conditioned on something else is fine.

use super::Condition;
use crate::flow::SampleShape;

/// What is known of an input as its own condition.
#[derive(Clone, Copy, Debug)]
pub struct OwnCondition {
    /// Whether the condition is no task.
    pub is_vector: bool,
    /// Whether the condition is a sequence or a set.
    pub is_many: bool,
    /// The width of the condition.
    pub condition: usize,
    /// The number of values in one sample of the input; that of the condition where it is unknown.
    pub input: usize,
}

impl OwnCondition {
    /// For what the parts take, and the target.
    pub const fn new(parts: (Condition, Condition), input: SampleShape) -> Self {
        match parts.0.join(parts.1) {
            Condition::Vector(width) => {
                let input = match input.num_values() {
                    Some(values) => values,
                    None => width,
                };
                Self { condition: width, input, ..Self::FITS }
            }
            Condition::Task => Self { is_vector: false, ..Self::FITS },
            Condition::Sequence(_) | Condition::Set(_) => Self { is_many: true, ..Self::FITS },
            // An error of its own.
            Condition::None => Self::FITS,
        }
    }

    /// A condition that any input can be.
    pub const FITS: Self = Self { is_vector: true, is_many: false, condition: 0, input: 0 };
}

/// A hypernetwork whose condition has as many values as its target's input.
#[diagnostic::on_unimplemented(
    message = "the input of `{Self}` can't be its own condition: that has width {CONDITION}, but a sample of the target's input has {INPUT} values",
    label = "here the input conditions its own weights",
    note = "for another condition, call `generate_params(&condition)`, then `params.forward(&xs)`"
)]
pub trait InputIsCondition<const CONDITION: usize, const INPUT: usize> {}

#[diagnostic::do_not_recommend]
impl<T, const WIDTH: usize> InputIsCondition<WIDTH, WIDTH> for T {}

/// A hypernetwork whose condition is one vector, or a task.
#[diagnostic::on_unimplemented(
    message = "the input of `{Self}` can't be its own condition, which is a sequence or a set",
    label = "here the input conditions its own weights",
    note = "call `generate_params(&sequences)`, then `params.forward(&xs)`"
)]
pub trait ConditionIsOne<const IS_MANY: bool> {}

#[diagnostic::do_not_recommend]
impl<T> ConditionIsOne<false> for T {}

/// A hypernetwork whose condition is a vector.
#[diagnostic::on_unimplemented(
    message = "the input of `{Self}` can't be its own condition, which is the number of a task",
    label = "here the input conditions its own weights",
    note = "call `generate_params(&tasks)`, then `params.forward(&xs)`"
)]
pub trait ConditionIsVector<const IS_VECTOR: bool> {}

#[diagnostic::do_not_recommend]
impl<T> ConditionIsVector<true> for T {}
