"""The step of benches/adapters.rs in PyTorch: adapters for each sample by forward hooks, as Text-to-LoRA adds them.

    python benches/peers/adapters_torch.py     # OMP_NUM_THREADS says how many threads

Prints the median and the fastest of some steps with one adapter and with an adapter for each sample, and the peak of
resident memory. The base, the generator and the optimiser are those of the benchmark; bases have no gradient.
"""

import resource
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

LAYERS, WIDTH, KEYS, HIDDEN = 30, 576, 192, 1536
SAMPLES, TOKENS, CONDITION, RANK, SCALE = 16, 12, 64, 8, 2.0
ROUNDS = 5


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.o_proj = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.k_proj, self.v_proj = (nn.Linear(WIDTH, KEYS, bias=False) for _ in range(2))
        self.gate_proj, self.up_proj = (nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, xs):
        mixed = self.k_proj(xs) * self.v_proj(xs)
        xs = xs + self.o_proj(torch.cat([mixed, mixed, mixed], -1) + self.q_proj(xs))
        return xs + self.down_proj(F.silu(self.gate_proj(xs)) * self.up_proj(xs))


class Generator(nn.Module):
    """A row for each layer, module and rank; a head for each width, of `down` and of `up`."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(CONDITION, 128), nn.GELU(), nn.Linear(128, 64))
        self.layers, self.rows = (nn.Parameter(torch.randn(count, 64)) for count in (LAYERS, RANK))
        self.kinds = nn.Parameter(torch.randn(4, 64))
        self.condition = nn.Linear(64, 128)
        self.places = nn.Linear(3 * 64, 128, bias=False)
        self.down, self.up_q, self.up_v = nn.Linear(128, WIDTH), nn.Linear(128, WIDTH), nn.Linear(128, KEYS)
        for head in (self.up_q, self.up_v):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, condition):
        """`[samples, layers, kinds, rank, 128]` to factors: down of q and v, up of q, up of v."""
        of_layer, of_kind, of_row = self.places.weight.split(64, 1)
        places = (self.layers @ of_layer.T)[:, None, None] + (self.kinds @ of_kind.T)[None, :, None]
        places = places + (self.rows @ of_row.T)[None, None]
        condition = self.condition(self.encoder(condition))
        hidden = F.gelu(condition[:, None, None, None] + places[None])
        return self.down(hidden[:, :, :2]), self.up_q(hidden[:, :, 2]), self.up_v(hidden[:, :, 3])


class Adapted:
    def __init__(self):
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)]).requires_grad_(False)
        self.factors = None
        for at, block in enumerate(self.blocks):
            block.q_proj.register_forward_hook(self.hook(at, 0))
            block.v_proj.register_forward_hook(self.hook(at, 1))

    def hook(self, layer, module):
        def add(_, inputs, output):
            down = self.factors[0][:, layer, module]
            up = self.factors[1 + module][:, layer]
            return output + SCALE * (inputs[0] @ down.transpose(1, 2) @ up)

        return add

    def forward(self, factors, xs):
        self.factors = factors
        return self.blocks(xs)


def step(adapted, generator, samples):
    condition = torch.randn(samples, CONDITION)
    # An adapter that all share is a batch of one.
    xs = torch.randn(samples, SAMPLES // samples * TOKENS, WIDTH)
    optimizer = torch.optim.AdamW(generator.parameters(), lr=1e-4)

    def run():
        optimizer.zero_grad()
        adapted.forward(generator(condition), xs).square().mean().backward()
        optimizer.step()

    return run


def milliseconds(run):
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def main():
    torch.manual_seed(0)
    adapted, generator = Adapted(), Generator()
    steps = {samples: step(adapted, generator, samples) for samples in (1, SAMPLES)}
    times = {samples: [] for samples in steps}
    for run in steps.values():
        run()
    for _ in range(ROUNDS):
        for samples, run in steps.items():
            times[samples].append(milliseconds(run))
    for samples, found in times.items():
        print(f"a step, {samples} adapters: {statistics.median(found):.1f} ms (median), {min(found):.1f} ms (fastest)")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"peak of resident memory: {peak:.0f} MB; threads: {torch.get_num_threads()}; torch {torch.__version__}")


if __name__ == "__main__":
    main()
