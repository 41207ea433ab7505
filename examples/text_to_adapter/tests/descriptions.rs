//! What is held back is held back, and what the phrases say is what they mean.

// What the example alone uses is unused here.
#![allow(missing_docs, dead_code, unreachable_pub)]

#[path = "../descriptions.rs"]
mod descriptions;
#[path = "../digits.rs"]
mod digits;
#[path = "../encoder.rs"]
mod encoder;
#[path = "../minilm.rs"]
mod minilm;
#[path = "../phrases.rs"]
mod phrases;

use std::collections::HashSet;

use crate::descriptions::{Description, Descriptions};

/// What is tested on has not been trained on: neither the sentences, nor the sets, nor the words,
/// as each group says.
#[test]
fn test_descriptions_are_new() {
    let all = Descriptions::new();
    let texts =
        |some: &[Description]| some.iter().map(|task| task.text.clone()).collect::<HashSet<_>>();
    let sets = |some: &[Description]| some.iter().map(|task| task.digits).collect::<HashSet<_>>();
    let (train, known) = (texts(&all.train), sets(&all.train));
    for other in [&all.validation, &all.new_wording, &all.new_set, &all.new_both, &all.by_hand] {
        assert!(other.len() > 20 && texts(other).is_disjoint(&train));
    }
    for other in [&all.validation, &all.new_set, &all.new_both] {
        assert!(sets(other).is_disjoint(&known));
    }
    assert!(sets(&all.validation).is_disjoint(&sets(&all.new_both)));
    assert!(sets(&all.new_wording).is_subset(&known));
    let again = Descriptions::new();
    assert_eq!(texts(&again.train), train);
}

/// Each digit is on one side of every description, and both sides have some.
#[test]
fn every_description_divides_the_digits() {
    for task in &Descriptions::new().train {
        assert!((1..10).contains(&task.digits.len()), "{}", task.text);
    }
    let find = |text: &str| {
        let all = Descriptions::new();
        all.by_hand.into_iter().find(|task| task.text == text).map(|task| task.digits.to_string())
    };
    assert_eq!(find("Two, four, six, eight.").as_deref(), Some("2468"));
}
