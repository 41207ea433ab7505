#!/usr/bin/env python3
"""Fails where a usual cargo command would build candle again, with other features or another profile.

A build of candle is told apart by all that it is built from: the features, profiles and dependencies of each package
below it. `cargo test --workspace` decides what they are (in release, `cargo bench --workspace`), and this script
compares those of other commands by cargo's unit graph, which needs no build. Where packages differ in their features,
ci/features/Cargo.toml is to name those that are missing.
"""

import json
import os
import subprocess
import sys

CANDLE = {"candle-core", "candle-nn", "candle-transformers"}


def cargo(*args):
    env = dict(os.environ, RUSTC_BOOTSTRAP="1")
    return subprocess.run(("cargo", *args), env=env, stdout=subprocess.PIPE, check=True).stdout


def name_of(package):
    """`candle-core` of `registry+https://…#candle-core@0.11.1`."""
    path, _, rest = package.partition("#")
    return rest.partition("@")[0] if "@" in rest else path.rpartition("/")[2]


class Graph:
    """What a cargo command builds."""

    def __init__(self, *args):
        self.units = json.loads(cargo(*args, "--locked", "--unit-graph", "-Z", "unstable-options"))["units"]
        self.identities = {}

    def own(self, at):
        """All that a unit's build depends on but its dependencies."""
        unit = self.units[at]
        profile = {key: value for key, value in unit["profile"].items() if key != "name"}
        parts = (unit["pkg_id"], unit["target"], unit["mode"], unit["platform"], sorted(unit["features"]), profile)
        return json.dumps(parts, sort_keys=True)

    def below(self, at):
        return [dependency["index"] for dependency in self.units[at]["dependencies"]]

    def identity(self, at):
        if at not in self.identities:
            self.identities[at] = hash((self.own(at), *sorted(self.identity(other) for other in self.below(at))))
        return self.identities[at]

    def candle(self):
        return [at for at, unit in enumerate(self.units) if name_of(unit["pkg_id"]) in CANDLE]


class Reference(Graph):
    def __init__(self, *args):
        super().__init__(*args)
        self.known = {self.identity(at) for at in range(len(self.units))}
        self.own_parts = {self.own(at) for at in range(len(self.units))}

    def like(self, unit):
        """The units of the same package and target, built for the same purpose."""
        same = lambda other: all(other[key] == unit[key] for key in ("pkg_id", "target", "mode", "platform"))
        return [other for other in self.units if same(other)]

    def difference(self, unit):
        profile = lambda unit: {key: value for key, value in unit["profile"].items() if key != "name"}
        found = []
        for other in self.like(unit):
            here, there = set(unit["features"]), set(other["features"])
            parts = [f"without {feature}" for feature in sorted(there - here)]
            parts += [f"with {feature}" for feature in sorted(here - there)]
            parts += [
                f"{key} {value} instead of {profile(other).get(key)}"
                for key, value in profile(unit).items()
                if value != profile(other).get(key)
            ]
            found.append(", ".join(parts))
        return min(found, key=len, default="which is not built there")

    def causes(self, graph):
        """What is different below candle, by package."""
        causes, seen, left = {}, set(), [at for at in graph.candle() if graph.identity(at) not in self.known]
        again = {name_of(graph.units[at]["pkg_id"]) for at in left}
        while left:
            at = left.pop()
            if at in seen or graph.identity(at) in self.known:
                continue
            seen.add(at)
            if graph.own(at) not in self.own_parts:
                unit = graph.units[at]
                causes.setdefault(unit["pkg_id"].rpartition("#")[2], set()).add(self.difference(unit))
            left += graph.below(at)
        return again, causes


def members():
    """All packages, those that have a feature for CUDA and for MPI, and all examples."""
    packages = json.loads(cargo("metadata", "--locked", "--no-deps", "--format-version", "1"))["packages"]
    names = sorted(package["name"] for package in packages)
    cuda, mpi = (sorted(package["name"] for package in packages if name in package["features"]) for name in ("cuda", "mpi"))
    targets = [target for package in packages for target in package["targets"]]
    return names, cuda, mpi, sorted(target["name"] for target in targets if "example" in target["kind"])


def commands():
    """Reference commands, each with those that are to build the same."""
    names, cuda, mpi, examples = members()
    yield ["test", "--workspace"], [["test", "-p", name, "--features", "mpi"] for name in mpi]
    for feature, packages in ([], names), (["--features", "cuda"], cuda):
        for command, build in ("test", ["build"]), ("bench", ["build", "--release"]):
            others = [[command, "-p", name, *feature] for name in packages]
            others += [[*build, "--example", name, *feature] for name in examples]
            yield [command, "--workspace", *feature], others
    checks = [["check", "-p", name, "--all-targets"] for name in names]
    yield ["check", "--workspace", "--all-targets"], [*checks, ["doc", "--workspace", "--no-deps"]]


def main():
    failed = 0
    for reference, others in commands():
        known = Reference(*reference)
        for other in others:
            again, causes = known.causes(Graph(*other))
            if not again:
                continue
            failed += 1
            print(f"`cargo {' '.join(other)}` builds {', '.join(sorted(again))} again after `cargo {' '.join(reference)}`:")
            for package, differences in sorted(causes.items()):
                print(f"    {package} {'; '.join(sorted(differences))}")
    if failed:
        sys.exit(f"{failed} commands build candle again")
    print("All commands share one build of candle.")


if __name__ == "__main__":
    main()
