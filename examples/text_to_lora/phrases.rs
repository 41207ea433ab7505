//! What a task asks for, and in which form it is answered, in several wordings.

/// Wordings to train on; the last is kept for tests.
pub const TRAINED_WORDINGS: usize = 3;

/// What is asked of an input.
pub struct Subject {
    /// As the questions' file names it.
    pub name: &'static str,
    /// Ways to ask for it.
    pub wordings: [&'static str; TRAINED_WORDINGS + 1],
}

/// The form of an answer.
pub struct Form {
    /// As tables name it.
    pub name: &'static str,
    /// Ways to ask for it; none for the plain form, which may go without words.
    pub wordings: [&'static str; TRAINED_WORDINGS + 1],
    /// An answer in this form.
    pub apply: fn(&str) -> String,
}

const fn subject(name: &'static str, wordings: [&'static str; 4]) -> Subject {
    Subject { name, wordings }
}

/// All forms of answers.
pub const FORMS: [Form; 8] = [
    Form {
        name: "plain",
        wordings: ["", "give the answer alone", "just the answer", "nothing but the answer"],
        apply: str::to_owned,
    },
    Form {
        name: "capitals",
        wordings: [
            "in capital letters",
            "all letters are upper case",
            "shout it: capitals only",
            "write everything in upper case",
        ],
        apply: str::to_uppercase,
    },
    Form {
        name: "quoted",
        wordings: [
            "in quotation marks",
            "put the answer between double quotes",
            "quote the answer",
            "quotation marks around it",
        ],
        apply: |answer| format!("\"{answer}\""),
    },
    Form {
        name: "twice",
        wordings: [
            "say it twice",
            "repeat the answer once",
            "two times in a row",
            "write the answer two times",
        ],
        apply: |answer| format!("{answer} {answer}"),
    },
    Form {
        name: "brackets",
        wordings: [
            "in square brackets",
            "put the answer between [ and ]",
            "enclose it in square brackets",
            "square brackets around it",
        ],
        apply: |answer| format!("[{answer}]"),
    },
    Form {
        name: "exclaimed",
        wordings: [
            "with an exclamation mark",
            "end with an exclamation mark",
            "an exclamation mark comes last",
            "finish the answer with !",
        ],
        apply: |answer| format!("{answer}!"),
    },
    Form {
        name: "arrow",
        wordings: [
            "after an arrow",
            "an arrow comes first",
            "put an arrow in front",
            "start with ->",
        ],
        apply: |answer| format!("-> {answer}"),
    },
    Form {
        name: "announced",
        wordings: [
            "begin with the word Answer and a colon",
            "after Answer and a colon",
            "first write Answer:, then the answer",
            "start with Answer:",
        ],
        apply: |answer| format!("Answer: {answer}"),
    },
];

/// All that is asked for.
pub const SUBJECTS: [Subject; 32] = [
    subject(
        "plural",
        [
            "the plural of the word",
            "write the word in the plural",
            "more than one of them",
            "turn the singular noun into its plural form",
        ],
    ),
    subject(
        "category",
        [
            "what kind of thing the word is",
            "the category of the word",
            "say which class of things it belongs to",
            "name the group of things that the word falls under",
        ],
    ),
    subject(
        "opposite",
        [
            "the opposite of the word",
            "a word that means the contrary",
            "give the antonym",
            "reverse the meaning of the word",
        ],
    ),
    subject(
        "past",
        [
            "the past tense of the verb",
            "put the verb into the past",
            "the verb as of yesterday",
            "change the verb to its past form",
        ],
    ),
    subject(
        "ing",
        [
            "the verb with -ing",
            "the present participle of the verb",
            "the ing form of the verb",
            "say that the action is going on",
        ],
    ),
    subject(
        "first letter",
        [
            "the first letter of the word",
            "the letter that the word starts with",
            "the initial of the word",
            "which letter the word begins with",
        ],
    ),
    subject(
        "last letter",
        [
            "the last letter of the word",
            "the letter that the word ends with",
            "the final letter of the word",
            "which letter comes at the end of the word",
        ],
    ),
    subject(
        "length",
        [
            "the number of letters of the word",
            "how many letters the word has",
            "count the letters",
            "the length of the word in letters",
        ],
    ),
    subject(
        "article",
        [
            "the word with its indefinite article",
            "put a or an in front of the word",
            "the word after a or an",
            "add the indefinite article",
        ],
    ),
    subject(
        "french",
        [
            "the word in French",
            "translate the word to French",
            "what a person from Paris would call it",
            "French translation",
        ],
    ),
    subject(
        "spanish",
        [
            "the word in Spanish",
            "translate the word to Spanish",
            "what a person from Madrid would call it",
            "Spanish translation",
        ],
    ),
    subject(
        "german",
        [
            "the word in German",
            "translate the word to German",
            "what a person from Berlin would call it",
            "German translation",
        ],
    ),
    subject(
        "italian",
        [
            "the word in Italian",
            "translate the word to Italian",
            "what a person from Rome would call it",
            "Italian translation",
        ],
    ),
    subject(
        "portuguese",
        [
            "the word in Portuguese",
            "translate the word to Portuguese",
            "what a person from Lisbon would call it",
            "Portuguese translation",
        ],
    ),
    subject(
        "number in English",
        [
            "the number in English words",
            "spell the number out in English",
            "write the number as English words",
            "how the number is read in English",
        ],
    ),
    subject(
        "number in French",
        [
            "the number in French words",
            "spell the number out in French",
            "write the number as French words",
            "how the number is read in French",
        ],
    ),
    subject(
        "number in German",
        [
            "the number in German words",
            "spell the number out in German",
            "write the number as German words",
            "how the number is read in German",
        ],
    ),
    subject(
        "number in Spanish",
        [
            "the number in Spanish words",
            "spell the number out in Spanish",
            "write the number as Spanish words",
            "how the number is read in Spanish",
        ],
    ),
    subject(
        "ordinal",
        [
            "the number as an ordinal",
            "the ordinal of the number",
            "write the number as a rank",
            "turn the count into a position, with its ending",
        ],
    ),
    subject(
        "next",
        ["the next number", "one more than the number", "add one to the number", "count up by one"],
    ),
    subject(
        "previous",
        [
            "the previous number",
            "one less than the number",
            "subtract one from the number",
            "count down by one",
        ],
    ),
    subject(
        "parity",
        [
            "whether the number is even or odd",
            "even or odd",
            "the parity of the number",
            "say if two divides the number: even or odd",
        ],
    ),
    subject(
        "double",
        [
            "twice the number",
            "two times the number",
            "double the number",
            "add the number to itself",
        ],
    ),
    subject(
        "times ten",
        [
            "ten times the number",
            "the number multiplied by ten",
            "put a zero behind the number",
            "multiply by ten",
        ],
    ),
    subject(
        "capital",
        [
            "the capital of the country",
            "the city where the country has its government",
            "name the capital city",
            "which city is the capital",
        ],
    ),
    subject(
        "continent",
        [
            "the continent of the country",
            "the part of the world where the country lies",
            "which continent it is on",
            "name the continent",
        ],
    ),
    subject(
        "currency",
        [
            "the currency code of the country",
            "three letters for the money of the country",
            "the code of the money that people pay with there",
            "currency code",
        ],
    ),
    subject(
        "language",
        [
            "the language of the country",
            "what people speak in the country",
            "the main language spoken there",
            "name the language",
        ],
    ),
    subject(
        "demonym",
        [
            "what a person of the country is called",
            "the word for people from the country",
            "the nationality",
            "the name of an inhabitant",
        ],
    ),
    subject(
        "country code",
        [
            "the two-letter code of the country",
            "the country's code in two letters",
            "ISO code of two letters",
            "two letters that stand for the country",
        ],
    ),
    subject(
        "chemical symbol",
        [
            "the symbol of the chemical element",
            "the element's chemical symbol",
            "how chemists abbreviate the element",
            "letters of the element in the periodic table",
        ],
    ),
    subject(
        "atomic number",
        [
            "the atomic number of the element",
            "the number of protons of the element",
            "the element's place in the periodic table",
            "how many protons an atom has",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_wording_stands_for_two() {
        let subjects = SUBJECTS.iter().flat_map(|subject| subject.wordings);
        let forms = FORMS.iter().flat_map(|form| form.wordings);
        let all: Vec<_> = subjects.chain(forms).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }
}
