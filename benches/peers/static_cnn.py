#!/usr/bin/env python3
"""A convolutional target beside its peers; set up as dynamic.py says.

Runs all in turn, several times, on one thread each, and prints the fastest round of each in
milliseconds.
"""

import re
import subprocess

from dynamic import ROOT, TURNS, F, fastest, nn, torch
from hypernn.torch import TorchLinearHyperNetwork
from torch.func import functional_call

BATCH = 64


def target():
    """The network of hyper-nn's MNIST notebook."""
    return nn.Sequential(
        nn.Conv2d(1, 64, 3, 2), nn.ReLU(), nn.Conv2d(64, 64, 3, 2), nn.ReLU(),
        nn.Conv2d(64, 64, 3, 2), nn.ReLU(), nn.Conv2d(64, 10, 2, 2), nn.Flatten(),
    )  # fmt: skip


class Notebook(TorchLinearHyperNetwork):
    def make_weight_generator(self):
        return nn.Sequential(nn.Linear(self.embedding_dim, 32), nn.Tanh(), nn.Linear(32, self.weight_chunk_dim))


class ByHand(nn.Module):
    def __init__(self):
        super().__init__()
        self.target = [target().to("meta")]
        self.shapes = {name: param.shape for name, param in self.target[0].named_parameters()}
        self.embedding = nn.Parameter(torch.randn(511, 4))
        self.generator = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 151))

    def forward(self, xs):
        sizes = [shape.numel() for shape in self.shapes.values()]
        flat = self.generator(self.embedding).view(-1)[: sum(sizes)]
        tensors = torch.split(flat, sizes)
        params = {name: t.view(shape) for (name, shape), t in zip(self.shapes.items(), tensors)}
        return functional_call(self.target[0], params, (xs,))


def cases():
    xs, digits = torch.randn(BATCH, 1, 28, 28), torch.arange(BATCH) % 10
    nets = {
        "torch, own weights": target(),
        "hyper-nn": Notebook(target(), embedding_dim=4, num_embeddings=512),
        "torch by hand": ByHand(),
    }

    def quiet(net):
        with torch.no_grad():
            return net(xs)

    def both(net):
        net.zero_grad(set_to_none=True)
        F.cross_entropy(net(xs), digits).backward()

    forward = {("forward", name): lambda net=net: quiet(net) for name, net in nets.items()}
    return forward | {("forward + backward", name): lambda net=net: both(net) for name, net in nets.items()}


def hypernn():
    command = ["cargo", "bench", "--quiet", "-p", "hypernn-benches", "--bench", "static_cnn"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    times, title = {}, None
    for line in lines.splitlines():
        row = re.fullmatch(r"  (\S.*?) +([\d.]+) ms +[\d.]+ +([\d.]+) ms +[\d.]+", line)
        if row:
            times[title, row[1]] = float(row[3])
        else:
            title = line.split("  ")[0]
    return times


def main():
    torch.manual_seed(0)
    peers, best = cases(), {}
    for _ in range(TURNS):
        turn = hypernn() | {key: fastest(run) for key, run in peers.items()}
        best = {key: min(ms, best.get(key, ms)) for key, ms in turn.items()}
    for (case, who), ms in best.items():
        print(f"{case:20} {who:36} {ms:8.2f}")


if __name__ == "__main__":
    main()
