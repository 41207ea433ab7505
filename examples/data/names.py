"""Surnames out of faker's sources, a file for each language: `names.py faker/providers/person FOLDER`."""

import ast
import pathlib
import sys

# Eighteen languages in Latin script; for each, a locale of faker and the lists there that hold surnames.
SURNAMES = {
    "Akan": ("tw_GH", ["last_names_male", "last_names_female"]),
    "Arabic": ("fr_DZ", ["last_names"]),
    "Croatian": ("hr_HR", ["last_names"]),
    "Czech": ("cs_CZ", ["last_names_male", "last_names_female"]),
    "Dutch": ("nl_NL", ["last_names"]),
    "English": ("en_GB", ["last_names"]),
    "Estonian": ("et_EE", ["last_names_est"]),
    "Finnish": ("fi_FI", ["last_names"]),
    "French": ("fr_FR", ["last_names"]),
    "German": ("de_DE", ["last_names"]),
    "Indonesian": ("id_ID", ["last_names_male", "last_names_female"]),
    "Irish": ("ga_IE", ["last_names"]),
    "Italian": ("it_IT", ["last_names"]),
    "Polish": ("pl_PL", ["unisex_last_names", "male_last_names"]),
    "Portuguese": ("pt_PT", ["last_names"]),
    "Slovak": ("sk_SK", ["last_names_male", "last_names_female"]),
    "Slovene": ("sl_SI", ["last_names"]),
    "Spanish": ("es_ES", ["last_names"]),
}


def lists(source):
    """The literal lists of the class `Provider`, by name."""
    provider = next(part for part in ast.parse(source).body if getattr(part, "name", "") == "Provider")
    for part in provider.body:
        if isinstance(part, (ast.Assign, ast.AnnAssign)):
            target = part.targets[0] if isinstance(part, ast.Assign) else part.target
            yield target.id, part.value


def names(value):
    """The strings of a literal list, or of an `OrderedDict` with a weight for each."""
    if isinstance(value, ast.Call):
        return [name for name, _weight in ast.literal_eval(value.args[0])]
    return list(ast.literal_eval(value))


def main():
    sources, folder = map(pathlib.Path, sys.argv[1:])
    for language, (locale, parts) in SURNAMES.items():
        found = dict(lists((sources / locale / "__init__.py").read_text(encoding="utf-8")))
        surnames = [name for part in parts for name in names(found[part])]
        text = "".join(f"{name}\n" for name in sorted(set(surnames)))
        (folder / f"{language}.txt").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
