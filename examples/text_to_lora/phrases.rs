//! What a task asks for, and in which form it is answered, in several wordings.

/// Wordings to train on; the last is kept for tests.
pub const TRAINED_WORDINGS: usize = 6;

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

const fn subject(name: &'static str, wordings: [&'static str; TRAINED_WORDINGS + 1]) -> Subject {
    Subject { name, wordings }
}

/// All forms of answers.
pub const FORMS: [Form; 8] = [
    Form {
        name: "plain",
        wordings: [
            "",
            "give the answer alone",
            "just the answer",
            "only the answer",
            "with nothing around it",
            "the bare answer",
            "nothing but the answer",
        ],
        apply: str::to_owned,
    },
    Form {
        name: "capitals",
        wordings: [
            "in capital letters",
            "all letters are upper case",
            "shout it: capitals only",
            "in upper case",
            "use capital letters",
            "ALL CAPS",
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
            "inside double quotes",
            "with quotation marks around the answer",
            "between quotes",
            "quotation marks around it",
        ],
        apply: |answer| format!("\"{answer}\""),
    },
    Form {
        name: "brackets",
        wordings: [
            "in square brackets",
            "put the answer between [ and ]",
            "enclose it in square brackets",
            "between square brackets",
            "with [ before and ] after it",
            "put square brackets around the answer",
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
            "followed by an exclamation mark",
            "add an exclamation mark at the end",
            "exclaim the answer",
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
            "with an arrow before it",
            "write an arrow, then the answer",
            "-> in front of the answer",
            "start with ->",
        ],
        apply: |answer| format!("-> {answer}"),
    },
    Form {
        name: "asked",
        wordings: [
            "with a question mark",
            "end with a question mark",
            "a question mark comes last",
            "followed by a question mark",
            "add a question mark at the end",
            "as if it were a question",
            "finish the answer with ?",
        ],
        apply: |answer| format!("{answer}?"),
    },
    Form {
        name: "starred",
        wordings: [
            "between two stars",
            "put a star before and after the answer",
            "with an asterisk on both sides",
            "surrounded by asterisks",
            "in asterisks",
            "stars around the answer",
            "enclose the answer in asterisks",
        ],
        apply: |answer| format!("*{answer}*"),
    },
];

/// All that is asked for.
pub const SUBJECTS: [Subject; 29] = [
    subject(
        "plural",
        [
            "the plural of the word",
            "write the word in the plural",
            "more than one of them",
            "several of the thing",
            "the word for two or more of it",
            "make the noun plural",
            "turn the singular noun into its plural form",
        ],
    ),
    subject(
        "category",
        [
            "what kind of thing the word is",
            "the category of the word",
            "say which class of things it belongs to",
            "what sort of thing it is",
            "the class that the word belongs to",
            "a more general word for it",
            "name the group of things that the word falls under",
        ],
    ),
    subject(
        "opposite",
        [
            "the opposite of the word",
            "a word that means the contrary",
            "give the antonym",
            "the antonym of the word",
            "the word with the contrary meaning",
            "what is the reverse of it",
            "reverse the meaning of the word",
        ],
    ),
    subject(
        "past",
        [
            "the past tense of the verb",
            "put the verb into the past",
            "the verb as of yesterday",
            "the verb in the past tense",
            "how the verb reads when it is over",
            "what the verb becomes after yesterday",
            "change the verb to its past form",
        ],
    ),
    subject(
        "ing",
        [
            "the verb with -ing",
            "the present participle of the verb",
            "the ing form of the verb",
            "the verb ending in ing",
            "make the verb a participle that ends in -ing",
            "the form of the verb after I am",
            "say that the action is going on",
        ],
    ),
    subject(
        "first letter",
        [
            "the first letter of the word",
            "the letter that the word starts with",
            "the initial of the word",
            "the letter at the beginning of the word",
            "the word's first character",
            "what letter comes first in the word",
            "which letter the word begins with",
        ],
    ),
    subject(
        "last letter",
        [
            "the last letter of the word",
            "the letter that the word ends with",
            "the final letter of the word",
            "the word's last character",
            "the letter at the end",
            "the closing letter of the word",
            "which letter comes at the end of the word",
        ],
    ),
    subject(
        "length",
        [
            "the number of letters of the word",
            "how many letters the word has",
            "count the letters",
            "how long the word is, in letters",
            "the count of letters in the word",
            "say how many characters the word has",
            "the length of the word in letters",
        ],
    ),
    subject(
        "article",
        [
            "the word with its indefinite article",
            "put a or an in front of the word",
            "the word after a or an",
            "write a or an before the word",
            "the noun with a or an",
            "choose between a and an and write it with the word",
            "add the indefinite article",
        ],
    ),
    subject(
        "french",
        [
            "the word in French",
            "translate the word to French",
            "what a person from Paris would call it",
            "in French",
            "how one says it in France",
            "the French word for it",
            "French translation",
        ],
    ),
    subject(
        "spanish",
        [
            "the word in Spanish",
            "translate the word to Spanish",
            "what a person from Madrid would call it",
            "in Spanish",
            "how one says it in Spain",
            "the Spanish word for it",
            "Spanish translation",
        ],
    ),
    subject(
        "german",
        [
            "the word in German",
            "translate the word to German",
            "what a person from Berlin would call it",
            "in German",
            "how one says it in Germany",
            "the German word for it",
            "German translation",
        ],
    ),
    subject(
        "italian",
        [
            "the word in Italian",
            "translate the word to Italian",
            "what a person from Rome would call it",
            "in Italian",
            "how one says it in Italy",
            "the Italian word for it",
            "Italian translation",
        ],
    ),
    subject(
        "portuguese",
        [
            "the word in Portuguese",
            "translate the word to Portuguese",
            "what a person from Lisbon would call it",
            "in Portuguese",
            "how one says it in Portugal",
            "the Portuguese word for it",
            "Portuguese translation",
        ],
    ),
    subject(
        "number in English",
        [
            "the number in English words",
            "spell the number out in English",
            "write the number as English words",
            "the number in words",
            "the digits as English words",
            "say the number in English",
            "how the number is read in English",
        ],
    ),
    subject(
        "ordinal",
        [
            "the number as an ordinal",
            "the ordinal of the number",
            "write the number as a rank",
            "first, second, third: the number in this form",
            "the number's position with st, nd, rd or th",
            "the ordinal form with its suffix",
            "turn the count into a position, with its ending",
        ],
    ),
    subject(
        "next",
        [
            "the next number",
            "one more than the number",
            "add one to the number",
            "the number that follows",
            "the successor of the number",
            "the number plus one",
            "count up by one",
        ],
    ),
    subject(
        "previous",
        [
            "the previous number",
            "one less than the number",
            "subtract one from the number",
            "the number before it",
            "the predecessor of the number",
            "the number minus one",
            "count down by one",
        ],
    ),
    subject(
        "parity",
        [
            "whether the number is even or odd",
            "even or odd",
            "the parity of the number",
            "is the number odd or even",
            "tell whether it is an even number or an odd one",
            "odd or even",
            "say if two divides the number: even or odd",
        ],
    ),
    subject(
        "double",
        [
            "twice the number",
            "two times the number",
            "double the number",
            "the number times two",
            "the number doubled",
            "multiply it by two",
            "add the number to itself",
        ],
    ),
    subject(
        "times ten",
        [
            "ten times the number",
            "the number multiplied by ten",
            "put a zero behind the number",
            "the number times ten",
            "multiply the number by 10",
            "tenfold",
            "multiply by ten",
        ],
    ),
    subject(
        "capital",
        [
            "the capital of the country",
            "the city where the country has its government",
            "name the capital city",
            "the capital city",
            "the chief city of the country",
            "the seat of the country's government",
            "which city is the capital",
        ],
    ),
    subject(
        "continent",
        [
            "the continent of the country",
            "the part of the world where the country lies",
            "which continent it is on",
            "on which continent the country lies",
            "the continent that the country belongs to",
            "Africa, Asia, Europe or which continent",
            "name the continent",
        ],
    ),
    subject(
        "currency",
        [
            "the currency code of the country",
            "three letters for the money of the country",
            "the code of the money that people pay with there",
            "the three-letter code of its currency",
            "the code of the country's money",
            "ISO currency code",
            "currency code",
        ],
    ),
    subject(
        "language",
        [
            "the language of the country",
            "what people speak in the country",
            "the main language spoken there",
            "the language that is spoken in the country",
            "which language people talk there",
            "the official language",
            "name the language",
        ],
    ),
    subject(
        "demonym",
        [
            "what a person of the country is called",
            "the word for people from the country",
            "the nationality",
            "the name for its people",
            "what its citizens are called",
            "the adjective for people of that nation",
            "the name of an inhabitant",
        ],
    ),
    subject(
        "country code",
        [
            "the two-letter code of the country",
            "the country's code in two letters",
            "ISO code of two letters",
            "the country's two-letter ISO code",
            "the country abbreviated to two letters",
            "its internet country code",
            "two letters that stand for the country",
        ],
    ),
    subject(
        "chemical symbol",
        [
            "the symbol of the chemical element",
            "the element's chemical symbol",
            "how chemists abbreviate the element",
            "the element's symbol",
            "the abbreviation of the element in chemistry",
            "how the element is written in formulas",
            "letters of the element in the periodic table",
        ],
    ),
    subject(
        "atomic number",
        [
            "the atomic number of the element",
            "the number of protons of the element",
            "the element's place in the periodic table",
            "the element's atomic number",
            "how many protons the element has",
            "its number in the periodic table",
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
