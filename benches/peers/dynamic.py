#!/usr/bin/env python3
"""Dynamic hypernetworks beside their peers: hypernn, hyper-nn and PyTorch written by hand.

  python3 -m venv venv
  venv/bin/pip install torch numpy setuptools safetensors matplotlib tqdm seaborn gitpython torchvision pandas
  venv/bin/pip install --no-deps hyper-nn==0.2.2
  venv/bin/python benches/peers/dynamic.py

Runs all in turn, several times, on one thread each, and prints the fastest round of each in
milliseconds, and hypernn's as a multiple of the best peer's.
"""

import os
import pathlib
import subprocess
import time
import warnings

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", RAYON_NUM_THREADS="1")
warnings.filterwarnings("ignore")

import torch
import torch.nn.functional as F
from hypernn.torch import TorchDynamicHyperNetwork
from torch import nn
from torch.func import functional_call, vmap

torch.set_num_threads(1)
ROOT = pathlib.Path(__file__).resolve().parents[2]
TURNS = 3
LETTERS, LANGUAGES = 59, 18


class ByHand(nn.Module):
    """One RNN call, one generator product, batched matmuls."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(32, 4))
        self.rnn, self.generator = nn.RNNCell(8, 32), nn.Linear(4, 329)

    def forward(self, xs):
        rows = xs.shape[0]
        hidden = self.rnn(xs)
        flat = self.generator(self.embedding[None] * hidden[:, :, None]).view(rows, -1)
        w1, b1, w2, b2 = torch.split(flat, [2048, 256, 8192, 32], dim=1)
        ys = torch.baddbmm(b1.view(rows, 1, 256), xs[:, None], w1.view(rows, 256, 8).mT)
        return torch.baddbmm(b2.view(rows, 1, 32), ys.relu(), w2.view(rows, 32, 256).mT)


class NextLetter(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRUCell(LANGUAGES + LETTERS, 128)
        self.linear, self.linear2 = nn.Linear(128, 256), nn.Linear(256, 256)
        self.linear3 = nn.Linear(256, LETTERS)

    def forward(self, xs, hidden):
        hidden = self.rnn(xs, hidden)
        ys = torch.relu(self.linear2(torch.relu(self.linear(hidden))))
        return torch.log_softmax(self.linear3(ys), dim=1), hidden


def modes(prefix, peer, module, forward):
    """The cases of one peer: forward without gradients, forward + backward."""

    def quiet():
        with torch.no_grad():
            return forward()

    def both():
        module.zero_grad(set_to_none=True)
        forward().sum().backward()

    return {(f"{prefix} forward", peer): quiet, (f"{prefix} forward+backward", peer): both}


def policies():
    cases = {}
    target = nn.Sequential(nn.Linear(8, 256), nn.ReLU(), nn.Linear(256, 32))
    hyper = TorchDynamicHyperNetwork(
        input_dim=8, target_network=target, embedding_dim=4, num_embeddings=32
    )
    hand = ByHand()

    def with_params(params, xs):
        return hyper.forward(xs, generated_params=params)

    for rows in (1, 10, 64, 256):
        xs = torch.randn(rows, 8)
        one = xs[:, None]

        def loop(one=one):
            return torch.stack([hyper(x, generate_params_kwargs=dict(x=x)) for x in one])

        def at_once(one=one):
            return vmap(with_params)(vmap(hyper.generate_params)(one)[0], one)

        prefix = f"dynamic B={rows}"
        cases |= modes(prefix, "hyper-nn, loop", hyper, loop)
        if rows > 1:
            cases |= modes(prefix, "hyper-nn, vmap", hyper, at_once)
        cases |= modes(prefix, "torch by hand", hand, lambda xs=xs: hand(xs))
    return cases


def names():
    hyper = TorchDynamicHyperNetwork(
        input_dim=LANGUAGES + LETTERS, target_network=NextLetter(), embedding_dim=4, num_embeddings=64
    )
    letters = [17, 0, 1, 8, 13, 14, 21, 8]
    xs = torch.zeros(8, 1, LANGUAGES + LETTERS)
    for step, letter in enumerate(letters):
        xs[step, 0, 14] = xs[step, 0, LANGUAGES + letter] = 1
    after = torch.tensor(letters[1:] + [LETTERS - 1])
    optimizer = torch.optim.Adam(hyper.parameters(), lr=1e-4)

    def loss():
        hidden, state, total = torch.zeros(1, 128), hyper.embedding_module.init_hidden(), 0
        for step in range(8):
            params, aux = hyper.generate_params(x=xs[step], hidden_state=state)
            state = aux["hidden_state"]
            ys, hidden = hyper.forward(xs[step], hidden, generated_params=params)
            total = total + F.nll_loss(ys, after[step : step + 1])
        return total

    def train():
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(hyper.parameters(), 10.0)
        optimizer.step()

    cases = modes("dynamic_rnn", "hyper-nn", hyper, loss)
    return cases | {("dynamic_rnn training step", "hyper-nn"): train}


def convolutions():
    conv = nn.Conv2d(16, 32, 3, padding=1).to("meta")
    weights = nn.Module()
    weights.w = nn.Parameter(torch.randn(32, 32, 16, 3, 3) * 0.1)
    weights.b = nn.Parameter(torch.randn(32, 32) * 0.1)
    xs = torch.randn(32, 16, 28, 28)
    each = vmap(lambda params, x: functional_call(conv, params, (x[None],))[0])

    def loop():
        each = [F.conv2d(xs[i, None], weights.w[i], weights.b[i], padding=1)[0] for i in range(32)]
        return torch.stack(each)

    def grouped():
        one = xs.view(1, 512, 28, 28)
        kernel, bias = weights.w.view(1024, 16, 3, 3), weights.b.view(-1)
        return F.conv2d(one, kernel, bias, padding=1, groups=32).view(32, 32, 28, 28)

    cases = modes("batched_conv", "vmap", weights, lambda: each({"weight": weights.w, "bias": weights.b}, xs))
    cases |= modes("batched_conv", "loop", weights, loop)
    return cases | modes("batched_conv", "torch, grouped", weights, grouped)


def fastest(run, seconds=0.4):
    for _ in range(3):
        run()
    best, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < seconds:
        before = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - before)
    return best * 1e3


def hypernn():
    command = ["cargo", "bench", "--quiet", "-p", "hypernn-benches", "--bench", "dynamic"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rows = [line.split("\t") for line in lines.splitlines()[1:]]
    return {(case, "hypernn"): float(ms) for case, _, ms in rows}


def main():
    torch.manual_seed(0)
    peers = policies() | names() | convolutions()
    best = {}
    for _ in range(TURNS):
        turn = hypernn() | {key: fastest(run) for key, run in peers.items()}
        best = {key: min(ms, best.get(key, ms)) for key, ms in turn.items()}
    cases = dict.fromkeys(case for case, _ in best)
    for case in cases:
        times = {peer: ms for (at, peer), ms in best.items() if at == case}
        others = [ms for peer, ms in times.items() if peer != "hypernn"]
        ratio = f"{times['hypernn'] / min(others):.2f}" if "hypernn" in times and others else "-"
        line = ", ".join(f"{peer} {ms:.3f}" for peer, ms in times.items())
        print(f"{case:32} {ratio:>6} × the best peer: {line}")


if __name__ == "__main__":
    main()
