#!/usr/bin/env python3
"""Checks licences, sources and double versions of all dependencies by the lists of deny.toml, without cargo-deny.

`cargo deny check` (the crate cargo-deny) looks at the same lists, and at known vulnerabilities as well, for which it
fetches RustSec's database. This script needs neither.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).parent.parent
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def packages():
    command = ("cargo", "metadata", "--locked", "--format-version", "1")
    metadata = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    return metadata["packages"]


class Licence:
    """An SPDX expression: names with AND, OR, WITH and parentheses; a slash is an old way to write OR."""

    def __init__(self, text, allowed):
        self.tokens = re.findall(r"[()]|[^\s()]+", text.replace("/", " OR "))
        self.allowed = allowed

    def is_allowed(self):
        return self.any_of()

    def accept(self, token):
        if self.tokens and self.tokens[0] == token:
            return self.tokens.pop(0)
        return None

    def any_of(self):
        allowed = self.all_of()
        while self.accept("OR"):
            allowed = self.all_of() or allowed
        return allowed

    def all_of(self):
        allowed = self.one()
        while self.accept("AND"):
            allowed = self.one() and allowed
        return allowed

    def one(self):
        if self.accept("("):
            allowed = self.any_of()
            self.accept(")")
            return allowed
        name = self.tokens.pop(0)
        if self.accept("WITH"):
            name += f" WITH {self.tokens.pop(0)}"
        return name in self.allowed


def licence_problems(found, allowed):
    for package in found:
        licence = package["license"]
        if not licence:
            yield f"{package['name']} {package['version']} names no licence"
        elif not Licence(licence, allowed).is_allowed():
            yield f"{package['name']} {package['version']} has the licence {licence}, which deny.toml does not allow"


def source_problems(found):
    for package in found:
        if package["source"] not in (None, CRATES_IO):
            yield f"{package['name']} {package['version']} comes from {package['source']}"


def is_skipped(name, version, skipped):
    def fits(entry):
        skipped_name, _, wanted = entry.partition("@")
        return skipped_name == name and (version + ".").startswith(wanted + ".")

    return [entry for entry in skipped if fits(entry)]


def version_problems(found, skipped):
    versions, used = {}, set()
    for package in found:
        name, version = package["name"], package["version"]
        entries = is_skipped(name, version, skipped)
        used.update(entries)
        if not entries:
            versions.setdefault(name, []).append(version)
    for name, several in sorted(versions.items()):
        if len(several) > 1:
            yield f"{name} is there in versions {' and '.join(several)}"
    for entry in skipped:
        if entry not in used:
            yield f"deny.toml skips {entry}, which is not there"


def main():
    deny, found = tomllib.loads((ROOT / "deny.toml").read_text()), packages()
    problems = [
        *licence_problems(found, set(deny["licenses"]["allow"])),
        *source_problems(found),
        *version_problems(found, deny["bans"]["skip"]),
    ]
    if problems:
        sys.exit("\n".join(problems))
    print(f"{len(found)} packages: licences, sources and versions are as deny.toml allows.")


if __name__ == "__main__":
    main()
