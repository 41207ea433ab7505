"""The cases of benches/large.rs by hand in PyTorch: a table or an encoder, a linear generator, views of what it gives.

    python benches/peers/large_torch.py              # OMP_NUM_THREADS says how many threads
    python benches/peers/large_torch.py static_step

Prints the median and the fastest of some steps, and the peak of resident memory as a multiple of the values of all sets.
Each case is a process of its own, since a process has one peak.
"""

import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

ROUNDS, BATCH, PARTS, SETS, CONDITION = 3, 64, 4, 8, 16
LARGE, MEDIUM = (2048, 24), (1000, 10)
CASES = ["static_step", "static_parts", "static_forward", "dynamic_step"]


def num_params(width, layers):
    return layers * (width * width + width)


def start(generator):
    """Values of a tenth, so that outputs stay finite."""
    for tensor in (generator.weight, generator.bias):
        nn.init.normal_(tensor, std=0.01)
    return generator


class Static(nn.Module):
    def __init__(self, rows=1024, width=8):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(rows, width))
        self.generator = start(nn.Linear(width, -(-num_params(*LARGE) // rows)))

    def generate(self):
        flat = self.generator(self.embedding).view(-1)[: num_params(*LARGE)]
        width, layers = LARGE
        parts = flat.split([width * width, width] * layers)
        return [(w.view(width, width), b) for w, b in zip(parts[::2], parts[1::2])]


class Dynamic(nn.Module):
    def __init__(self, rows=500, width=8):
        super().__init__()
        self.rows, self.width = rows, width
        self.encoder = nn.Sequential(nn.Linear(CONDITION, 64), nn.Tanh(), nn.Linear(64, rows * width))
        self.generator = start(nn.Linear(width, -(-num_params(*MEDIUM) // rows)))

    def generate(self, conditions):
        rows = self.encoder(conditions).view(-1, self.rows, self.width)
        flat = self.generator(rows).view(len(conditions), -1)[:, : num_params(*MEDIUM)]
        width, layers = MEDIUM
        parts = flat.split([width * width, width] * layers, dim=1)
        return [(w.view(-1, width, width), b[:, None]) for w, b in zip(parts[::2], parts[1::2])]


def through(params, xs):
    for weight, bias in params:
        xs = F.linear(xs, weight, bias).relu()
    return xs


def through_sets(params, xs):
    xs = xs.view(SETS, BATCH // SETS, -1)
    for weight, bias in params:
        xs = torch.baddbmm(bias, xs, weight.mT).relu()
    return xs


def static_step():
    hyper, xs = Static(), torch.randn(BATCH, LARGE[0])
    optimizer = torch.optim.AdamW(hyper.parameters(), lr=1e-4, fused=True)

    def run():
        optimizer.zero_grad()
        through(hyper.generate(), xs).square().mean().backward()
        optimizer.step()

    return num_params(*LARGE), run


def static_parts():
    """Generated once; the gradients of the leaves are added up."""
    hyper, xs = Static(), torch.randn(BATCH, LARGE[0])
    optimizer = torch.optim.AdamW(hyper.parameters(), lr=1e-4, fused=True)

    def run():
        optimizer.zero_grad()
        params = hyper.generate()
        leaves = [tuple(tensor.detach().requires_grad_() for tensor in layer) for layer in params]
        for part in xs.chunk(PARTS):
            (through(leaves, part).square().mean() / PARTS).backward()
        pairs = [pair for layer, of_leaves in zip(params, leaves) for pair in zip(layer, of_leaves)]
        torch.autograd.backward([tensor for tensor, _ in pairs], [leaf.grad for _, leaf in pairs])
        optimizer.step()

    return num_params(*LARGE), run


def static_forward():
    hyper, xs = Static(), torch.randn(BATCH, LARGE[0])

    def run():
        with torch.no_grad():
            through(hyper.generate(), xs)

    return num_params(*LARGE), run


def dynamic_step():
    hyper, xs, conditions = Dynamic(), torch.randn(BATCH, MEDIUM[0]), torch.randn(SETS, CONDITION)
    optimizer = torch.optim.AdamW(hyper.parameters(), lr=1e-4, fused=True)

    def run():
        optimizer.zero_grad()
        through_sets(hyper.generate(conditions), xs).square().mean().backward()
        optimizer.step()

    return SETS * num_params(*MEDIUM), run


def resident(line):
    with open("/proc/self/status") as status:
        return next(int(found.split()[1]) * 1024 for found in status if found.startswith(line + ":"))


def seconds(run):
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def measure(case):
    torch.manual_seed(0)
    torch.randn(64, 64) @ torch.randn(64, 64)
    idle = resident("VmRSS")
    values, run = globals()[case]()
    run()
    times = [seconds(run) for _ in range(ROUNDS)]
    peak = (resident("VmHWM") - idle) / (4 * values)
    print(f"| `{case}` | {values} | {statistics.median(times):.2f} | {min(times):.2f} | {peak:.2f} |", flush=True)


def main():
    if sys.argv[1:2] == ["--measured"]:
        return measure(sys.argv[2])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("| Case | Values | Median, s | Fastest, s | Peak / 4·G·P |\n|---|---|---|---|---|", flush=True)
    for case in sys.argv[1:] or CASES:
        subprocess.run([sys.executable, __file__, "--measured", case], check=True)


if __name__ == "__main__":
    main()
