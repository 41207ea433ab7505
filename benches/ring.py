#!/usr/bin/env python3
"""The time of a step of data-parallel training by the number of ranks: a ring all-reduce, simulated message by message,
beside the formula.

    python3 benches/ring.py [--bandwidth 10] [--latency 20] [--compute 100] [--jitter 0.05]

A rank computes its gradient, which takes `compute` milliseconds, by a share `jitter` longer or shorter (a normal
distribution, from a fixed seed). Then 2(n − 1) rounds: in each a rank sends one n-th of the gradient to the next, over
a link of `bandwidth` Gbit/s and `latency` microseconds, and goes on when that of the rank before has come. The
formula has no jitter:

    t(n) = compute + 2(n − 1)/n · bytes / bandwidth + 2(n − 1) · latency
"""

import argparse
import random


def formula(ranks, count, compute, bandwidth, latency):
    """Seconds of a step, for so many bytes of gradient."""
    return compute + 2 * (ranks - 1) / ranks * count / bandwidth + 2 * (ranks - 1) * latency


def simulated(ranks, count, compute, bandwidth, latency, jitter, rng):
    """The same, message by message: when each rank is done with what it has to do before it goes on."""
    free = [compute * max(0.0, rng.gauss(1, jitter)) for _ in range(ranks)]
    message = count / ranks / bandwidth + latency
    for _ in range(2 * (ranks - 1)):
        free = [max(free[rank], free[rank - 1]) + message for rank in range(ranks)]
    return max(free)


def check():
    """Without jitter both are the same."""
    for ranks in 1, 2, 7, 50:
        numbers = (ranks, 1e6, 0.1, 1.25e9, 2e-5)
        found, expected = simulated(*numbers, 0.0, random.Random(0)), formula(*numbers)
        assert abs(found - expected) < 1e-9 * expected, (ranks, found, expected)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bandwidth", type=float, default=10, help="of a link, Gbit/s")
    parser.add_argument("--latency", type=float, default=20, help="of a message, microseconds")
    parser.add_argument("--compute", type=float, default=100, help="of a rank's gradient, milliseconds")
    parser.add_argument("--jitter", type=float, default=0.05, help="deviation of that time, as a share")
    parser.add_argument("--params", type=float, nargs="+", default=[6_940, 77_066], help="trained values")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 8, 32, 128, 512, 1000])
    options = parser.parse_args()
    check()
    link = (options.bandwidth * 1e9 / 8, options.latency * 1e-6)
    print("| ranks |" + "".join(f" {count:,.0f}: formula, ms | simulated, ms |" for count in options.params))
    print("|---:|" + "---:|---:|" * len(options.params))
    for ranks in options.ranks:
        row = f"| {ranks:,} |"
        for count in options.params:
            numbers = (ranks, 4 * count, options.compute * 1e-3, *link)
            times = formula(*numbers), simulated(*numbers, options.jitter, random.Random(7))
            row += "".join(f" {1e3 * time:,.1f} |" for time in times)
        print(row)


if __name__ == "__main__":
    main()
