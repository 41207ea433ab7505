"""Questions with answers, out of registries' data: `tasks.py DEBIAN FOLDER`.

DEBIAN is a folder in which Debian's `wordnet-base` and `dict-freedict-eng-{deu,fra,ita,por,spa}` were unpacked. The
packages `inflect`, `num2words`, `pycountry`, `countryinfo` and `periodictable` must be importable. FOLDER gets
`questions.tsv`, a line for each question: the task, the input and the answer.
"""

import collections
import gzip
import pathlib
import re
import sys

import countryinfo
import inflect
import num2words
import periodictable
import pycountry

ENGLISH = inflect.engine()
LANGUAGES = {"french": "fra", "german": "deu", "italian": "ita", "portuguese": "por", "spanish": "spa"}

# WordNet's files of words that are shown by what they are, as the answers of `category` name them.
CATEGORIES = {
    5: "animal", 6: "object", 8: "body", 12: "feeling", 13: "food", 14: "group", 15: "place", 18: "person",
    20: "plant", 27: "substance", 28: "time",
}  # fmt: skip
PARTS = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}


class WordNet:
    """WordNet 3.0: words by part of speech with their senses, and how often each was met in tagged texts."""

    def __init__(self, folder):
        self.counts = collections.Counter()
        for line in (folder / "cntlist.rev").read_text().splitlines():
            key, _, count = line.split()
            word, sense = key.split("%")
            self.counts[word, PARTS[sense[0]]] += int(count)
        self.senses, self.synsets = {}, {}
        for part in ("noun", "verb", "adj"):
            self.senses[part] = dict(self._index(folder / f"index.{part}"))
            self.synsets[part] = dict(self._data(folder / f"data.{part}"))
        lines = (folder / "verb.exc").read_text().splitlines()
        self.irregular = collections.defaultdict(list)
        for form, *verbs in map(str.split, lines):
            for verb in verbs:
                self.irregular[verb].append(form)

    @staticmethod
    def _lines(path):
        return (line for line in path.read_text(encoding="latin1").splitlines() if not line.startswith(" "))

    def _index(self, path):
        for fields in map(str.split, self._lines(path)):
            yield fields[0], fields[6 + int(fields[3])]  # The most frequent sense.

    def _data(self, path):
        for line in self._lines(path):
            fields = line.split("|")[0].split()
            count = int(fields[3], 16)
            words = [re.sub(r"\(.*\)", "", fields[4 + 2 * i]) for i in range(count)]
            at = 5 + 2 * count
            pointers = [fields[at + 4 * i : at + 4 * i + 4] for i in range(int(fields[at - 1]))]
            yield fields[0], (int(fields[1]), words, pointers)

    def common(self, part, count, longest=8):
        """Words of this part of speech, the most frequent first, that are seldom another part of speech."""
        others = [other for other in ("noun", "verb", "adj", "adv") if other != part]
        plain = [w for w in self.senses[part] if re.fullmatch(f"[a-z]{{3,{longest}}}", w)]
        sure = [w for w in plain if self.counts[w, part] > 2 * max(self.counts[w, o] for o in others)]
        return sorted(sure, key=lambda w: (-self.counts[w, part], w))[:count]

    def category(self, noun):
        return CATEGORIES.get(self.synsets["noun"][self.senses["noun"][noun]][0])

    def antonym(self, adjective):
        _, words, pointers = self.synsets["adj"][self.senses["adj"][adjective]]
        for symbol, synset, _, ends in pointers:
            if symbol == "!" and words[int(ends[:2], 16) - 1].lower() == adjective:
                return self.synsets["adj"][synset][1][int(ends[2:], 16) - 1]
        return None

    def past(self, verb):
        forms = [form for form in self.irregular.get(verb, []) if not form.endswith("ing")]
        if forms:  # Where past tense and participle differ, WordNet does not say which is which.
            return forms[0] if len(forms) == 1 else None
        if re.search("[^aeiou]y$", verb):
            return verb[:-1] + "ied"
        return verb + ("d" if verb.endswith("e") else "ed")


class Dictionary:
    """A dictionary of FreeDict, in the format of dictd: an index of positions in base 64 into a compressed text."""

    DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

    def __init__(self, folder, code):
        self.text = gzip.open(folder / f"freedict-eng-{code}.dict.dz").read()
        self.places = {}
        for line in (folder / f"freedict-eng-{code}.index").read_text(encoding="utf-8").splitlines():
            word, start, length = line.split("\t")
            self.places.setdefault(word.lower(), (self._number(start), self._number(length)))

    def _number(self, digits):
        value = 0
        for digit in digits:
            value = 64 * value + self.DIGITS.index(digit)
        return value

    def translation(self, word):
        """The first translation of one word, without remarks in brackets."""
        if word not in self.places:
            return None
        start, length = self.places[word]
        for line in self.text[start : start + length].decode("utf-8", "replace").split("\n")[1:]:
            line = re.sub(r"^\s*\d+\.\s*|<[^>]*>|\[[^\]]*\]|\([^)]*\)|\{[^}]*\}", "", line)
            first = re.split("[,;:]", line)[0].strip()
            if re.fullmatch(r"[^\W\d_]{1,12}", first):
                return first
        return None


def words(debian):
    net = WordNet(debian / "usr/share/wordnet")
    nouns, verbs = net.common("noun", 400), net.common("verb", 300)
    some = [w for w in net.common("noun", 4000, 9) if net.counts[w, "noun"] >= 3]
    yield "plural", ((w, ENGLISH.plural_noun(w)) for w in nouns if ENGLISH.singular_noun(w) is False)
    yield "article", ((w, ENGLISH.a(w)) for w in nouns)
    yield "first letter", ((w, w[0]) for w in nouns)
    yield "last letter", ((w, w[-1]) for w in nouns)
    yield "length", ((w, str(len(w))) for w in nouns)
    yield "category", ((w, net.category(w)) for w in some)
    yield "opposite", ((w, net.antonym(w)) for w in net.common("adj", 3000, 11))
    yield "past", ((w, net.past(w)) for w in verbs)
    yield "ing", ((w, ENGLISH.present_participle(ENGLISH.plural_verb(w))) for w in verbs)
    for language, code in LANGUAGES.items():
        dictionary = Dictionary(debian / "usr/share/dictd", code)
        yield language, ((w, dictionary.translation(w)) for w in nouns)


def numbers():
    def table(name, of_number, end=400):
        return name, ((str(n), of_number(n)) for n in range(1, end))

    yield table("number in English", lambda n: num2words.num2words(n).replace(" and", ""))
    yield table("number in French", lambda n: num2words.num2words(n, lang="fr"))
    yield table("number in German", lambda n: num2words.num2words(n, lang="de"), 100)
    yield table("number in Spanish", lambda n: num2words.num2words(n, lang="es"), 200)
    yield table("ordinal", ENGLISH.ordinal)
    yield table("next", lambda n: str(n + 1))
    yield table("previous", lambda n: str(n - 1))
    yield table("double", lambda n: str(2 * n))
    yield table("times ten", lambda n: str(10 * n))
    yield table("parity", lambda n: "odd" if n % 2 else "even")


def country(name):
    """What countryinfo knows of a country."""
    try:
        return countryinfo.CountryInfo(name).info()
    except Exception:  # It has no class of its own for a country that it does not know.
        return {}


def language(about):
    codes = about.get("languages") or []
    found = pycountry.languages.get(alpha_2=codes[0]) if codes else None
    return found and re.split(r" \(|;", found.name)[0]


def countries():
    all_names = ((c, getattr(c, "common_name", c.name)) for c in pycountry.countries)
    known = [(c, name) for c, name in all_names if re.fullmatch("[A-Za-z]+( [A-Za-z]+)?", name)]
    about = {name: country(name) for _, name in known}
    currencies = {name: facts.get("currencies") for name, facts in about.items()}
    yield "country code", ((name, c.alpha_2) for c, name in known)
    yield "capital", ((name, facts.get("capital")) for name, facts in about.items())
    yield "continent", ((name, facts.get("region")) for name, facts in about.items())
    yield "currency", ((name, codes[0]) for name, codes in currencies.items() if isinstance(codes, list) and codes)
    yield "language", ((name, language(facts)) for name, facts in about.items())
    yield "demonym", ((name, facts.get("demonym")) for name, facts in about.items())


def elements():
    known = [element for element in periodictable.elements if 0 < element.number <= 100]
    yield "chemical symbol", ((element.name, element.symbol) for element in known)
    yield "atomic number", ((element.name, str(element.number)) for element in known)


def main():
    debian, folder = map(pathlib.Path, sys.argv[1:])
    tasks = [*words(debian), *numbers(), *countries(), *elements()]
    questions = ((task, asked, answer) for task, pairs in tasks for asked, answer in pairs if answer)
    # One word of Latin letters or two, or a number: what a small model can be expected to write.
    good = (q for q in questions if re.fullmatch(r"[\w-]+( [\w-]+){0,3}", q[2]) and len(q[2]) <= 32)
    text = "".join("\t".join(question) + "\n" for question in good)
    (folder / "questions.tsv").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
