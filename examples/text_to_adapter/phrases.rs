//! Phrases that describe sets of digits, in wordings to train on, to choose settings with and to
//! test on.

use crate::digits::Digits;

/// Phrases for one set, all of one kind.
pub struct Phrases {
    /// How the set is described.
    pub kind: Kind,
    /// What is described.
    pub digits: Digits,
    /// In which words.
    pub wordings: Wordings,
}

/// Ways to say the same.
pub struct Wordings {
    /// To train on.
    pub train: Vec<String>,
    /// To choose settings with.
    pub validation: String,
    /// To test on.
    pub test: String,
}

/// How a set is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// "three or eight"
    List,
    /// "any digit except three and eight"
    Exception,
    /// "digits greater than six"
    Range,
    /// "even digits"
    Property,
    /// "even digits greater than three"
    Both,
}

impl Kind {
    /// All kinds, as tables list them.
    pub const ALL: [Self; 5] =
        [Self::List, Self::Exception, Self::Range, Self::Property, Self::Both];

    /// As tables name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Exception => "exception",
            Self::Range => "range",
            Self::Property => "property",
            Self::Both => "property and range",
        }
    }
}

/// All phrases, in a fixed order.
pub fn all() -> Vec<Phrases> {
    let of_size = |most| Digits::all().filter(move |set| (1..=most).contains(&set.len()));
    let mut all: Vec<_> = of_size(4).map(list).chain(of_size(3).map(exception)).collect();
    all.extend(ranges().into_iter().map(range));
    for property in PROPERTIES {
        all.push(property_alone(property));
        all.extend(ranges().iter().filter_map(|range| both(property, range)));
    }
    all
}

/// "a, b and c"
fn listed(items: &[String], last: &str) -> String {
    match items {
        [rest @ .., end] if !rest.is_empty() => format!("{} {last} {end}", rest.join(", ")),
        _ => items.concat(),
    }
}

const WORDS: [&str; 10] =
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

fn word(digit: u32) -> String {
    WORDS[digit as usize].to_owned()
}

fn each(digits: Digits, text: impl Fn(u32) -> String) -> Vec<String> {
    digits.iter().map(text).collect()
}

fn numeral(digit: u32) -> String {
    digit.to_string()
}

fn number(digit: u32) -> String {
    format!("the number {}", word(digit))
}

fn article(digit: u32) -> String {
    format!("{} {}", if digit == 8 { "an" } else { "a" }, word(digit))
}

fn plural(digit: u32) -> String {
    format!("{}{}", word(digit), if digit == 6 { "es" } else { "s" })
}

fn list(digits: Digits) -> Phrases {
    let [words, numerals, articles, plurals, numbers] =
        [word, numeral, article, plural, number].map(|text: fn(u32) -> String| each(digits, text));
    let wordings = Wordings {
        train: vec![
            listed(&words, "or"),
            listed(&words, "and"),
            listed(&numerals, "and"),
            listed(&numerals, "or"),
            listed(&articles, "or"),
            listed(&articles, "and"),
            listed(&plurals, "and"),
            listed(&plurals, "or"),
            format!("the digits {}", listed(&words, "and")),
            format!("the numerals {}", listed(&numerals, "or")),
            format!("any of the numbers {}", listed(&numerals, "and")),
            format!("either {}", listed(&words, "or")),
        ],
        validation: listed(&numbers, "or"),
        test: format!("one of these digits: {}", listed(&words, "and")),
    };
    Phrases { kind: Kind::List, digits, wordings }
}

fn exception(left_out: Digits) -> Phrases {
    let [words, numerals, articles, plurals] =
        [word, numeral, article, plural].map(|text: fn(u32) -> String| each(left_out, text));
    let wordings = Wordings {
        train: vec![
            format!("any digit except {}", listed(&words, "and")),
            format!("everything but {}", listed(&numerals, "and")),
            format!("all digits other than {}", listed(&words, "or")),
            format!("digits without {}", listed(&numerals, "and")),
            format!("no {}", listed(&words, "and no")),
            format!("anything that is neither {}", listed(&articles, "nor")),
            format!("digits, but not {}", listed(&words, "or")),
            format!("all numbers excluding {}", listed(&plurals, "and")),
            format!("what is not {}", listed(&numerals, "or")),
            format!("the digits, leaving out {}", listed(&plurals, "and")),
        ],
        validation: format!("whatever is not {}", listed(&articles, "or")),
        test: format!("every digit apart from {}", listed(&words, "and")),
    };
    Phrases { kind: Kind::Exception, digits: left_out.others(), wordings }
}

/// A run of digits, and what is said after "digits".
struct Range {
    digits: Digits,
    wordings: Wordings,
}

/// Above, below, and between.
fn ranges() -> Vec<Range> {
    let ends = (0..10).flat_map(|from| (from..10).map(move |to| (from, to)));
    let range = |(from, to)| {
        let wordings = match (from, to) {
            (0, 9) => return None,
            (_, 9) if from > 1 => above(from),
            (0, _) if to < 8 => below(to),
            _ if from > 0 && to < 9 && to > from + 1 => between(from, to),
            _ => return None,
        };
        Some(Range { digits: Digits::which(|digit| (from..=to).contains(&digit)), wordings })
    };
    ends.filter_map(range).collect()
}

fn above(from: u32) -> Wordings {
    let (first, before) = (word(from), word(from - 1));
    Wordings {
        train: vec![
            format!("greater than {before}"),
            format!("of at least {first}"),
            format!("larger than {before}"),
            format!("from {first} up"),
            format!("that are {first} or more"),
            format!("over {before}"),
        ],
        validation: format!("bigger than {before}"),
        test: format!("above {before}"),
    }
}

fn below(to: u32) -> Wordings {
    let (last, after) = (word(to), word(to + 1));
    Wordings {
        train: vec![
            format!("less than {after}"),
            format!("of at most {last}"),
            format!("smaller than {after}"),
            format!("up to {last}"),
            format!("that are {last} or less"),
            format!("under {after}"),
        ],
        validation: format!("lower than {after}"),
        test: format!("below {after}"),
    }
}

fn between(from: u32, to: u32) -> Wordings {
    let (first, last) = (word(from), word(to));
    Wordings {
        train: vec![
            format!("from {first} to {last}"),
            format!("between {first} and {last} inclusive"),
            format!("of at least {first} and at most {last}"),
            format!("that lie between {first} and {last}, both included"),
        ],
        validation: format!("in the range from {first} through {last}"),
        test: format!("no less than {first} and no more than {last}"),
    }
}

fn range(Range { digits, wordings }: Range) -> Phrases {
    let name = |range: &String| format!("digits {range}");
    let wordings = Wordings {
        train: wordings.train.iter().map(name).collect(),
        validation: name(&wordings.validation),
        test: name(&wordings.test),
    };
    Phrases { kind: Kind::Range, digits, wordings }
}

/// What digits can be beside themselves.
struct Property {
    holds: fn(u32) -> bool,
    train: &'static [&'static str],
    validation: &'static str,
    test: &'static str,
}

const PROPERTIES: &[Property] = &[
    Property {
        holds: |digit| digit % 2 == 0,
        train: &["even digits", "digits divisible by two", "even numbers"],
        validation: "multiples of two",
        test: "digits that are even",
    },
    Property {
        holds: |digit| digit % 2 == 1,
        train: &["odd digits", "digits not divisible by two", "odd numbers"],
        validation: "uneven numbers",
        test: "digits that are odd",
    },
    Property {
        holds: is_prime,
        train: &["prime numbers", "primes", "prime digits"],
        validation: "numbers that are prime",
        test: "digits that are primes",
    },
    Property {
        holds: |digit| !is_prime(digit),
        train: &["digits that are not prime", "non-prime numbers", "numbers other than primes"],
        validation: "anything but primes",
        test: "digits that are no primes",
    },
    Property {
        holds: |digit| digit % 3 == 0,
        train: &[
            "multiples of three",
            "digits divisible by three",
            "digits in the times table of three",
        ],
        validation: "three times a whole number",
        test: "numbers that three divides",
    },
    Property {
        holds: |digit| digit % 4 == 0,
        train: &[
            "multiples of four",
            "digits divisible by four",
            "digits in the times table of four",
        ],
        validation: "four times a whole number",
        test: "numbers that four divides",
    },
    Property {
        holds: |digit| matches!(digit, 0 | 1 | 4 | 9),
        train: &["square numbers", "perfect squares", "numbers that are squares"],
        validation: "digits that are squares",
        test: "squares of whole numbers",
    },
    Property {
        holds: |digit| matches!(digit, 0 | 6 | 8 | 9),
        train: &[
            "digits with a closed loop",
            "digits that enclose a hole",
            "round digits with a loop in them",
        ],
        validation: "digits with a hole",
        test: "digits whose shape has a loop",
    },
];

fn is_prime(digit: u32) -> bool {
    matches!(digit, 2 | 3 | 5 | 7)
}

fn property_alone(property: &Property) -> Phrases {
    let wordings = Wordings {
        train: property.train.iter().map(|&way| way.to_owned()).collect(),
        validation: property.validation.to_owned(),
        test: property.test.to_owned(),
    };
    Phrases { kind: Kind::Property, digits: Digits::which(property.holds), wordings }
}

/// Where that is some of the property's digits, but not all.
fn both(property: &Property, range: &Range) -> Option<Phrases> {
    let all = Digits::which(property.holds);
    let digits = all.and(range.digits);
    if digits == all || digits.len() == 0 {
        return None;
    }
    let ranges = &range.wordings;
    let pairs = property
        .train
        .iter()
        .flat_map(|property| ranges.train.iter().map(move |range| format!("{property} {range}")));
    let wordings = Wordings {
        train: pairs.collect(),
        validation: format!("{} {}", property.validation, ranges.validation),
        test: format!("{} and {}", property.test, ranges.test),
    };
    Some(Phrases { kind: Kind::Both, digits, wordings })
}
