#!/usr/bin/env python3
"""hyper-nn's names notebook on a folder of names, for the figures to compare with.

  python3 -m venv venv
  venv/bin/pip install torch numpy setuptools safetensors matplotlib tqdm seaborn gitpython torchvision pandas
  venv/bin/pip install --no-deps hyper-nn==0.2.2
  venv/bin/python examples/names/peer.py --names examples/data/names --network hyper-nn --learning-rate 1e-3

Networks, data, optimiser and clipping are the notebook's; names are held out as in the example.
"""

import argparse
import pathlib
import random
import string
import unicodedata
import warnings

warnings.filterwarnings("ignore")

import torch
import torch.nn.functional as F
from hypernn.torch import TorchDynamicHyperNetwork
from torch import nn

ALPHABET = string.ascii_letters + " .,;'-"
OUTPUTS = len(ALPHABET) + 1
WINDOW = 500


class NextLetter(nn.Module):
    def __init__(self, languages):
        super().__init__()
        self.rnn = nn.GRUCell(languages + OUTPUTS, 128)
        self.linear, self.linear2 = nn.Linear(128, 256), nn.Linear(256, 256)
        self.linear3 = nn.Linear(256, OUTPUTS)

    def forward(self, xs, hidden):
        hidden = self.rnn(xs, hidden)
        ys = torch.relu(self.linear2(torch.relu(self.linear(hidden))))
        return torch.log_softmax(self.linear3(ys), dim=1), hidden


def plain_text(line):
    letters = unicodedata.normalize("NFD", line.strip())
    return "".join(letter for letter in letters if letter in ALPHABET)


def corpus(folder):
    """Names to train on and names held out, by language: every tenth of the sorted names is held out."""
    train, held_out = {}, {}
    for path in sorted(pathlib.Path(folder).glob("*.txt")):
        names = [plain_text(line) for line in path.read_text(encoding="utf-8").splitlines()]
        names = [name for name in names if name]
        tenth = set(sorted(set(names))[9::10])
        train[path.stem] = [name for name in names if name not in tenth]
        held_out[path.stem] = sorted(tenth)
    return train, held_out


def tensors(languages, language, name):
    xs = torch.zeros(len(name), 1, len(languages) + OUTPUTS)
    letters = [ALPHABET.index(letter) for letter in name]
    xs[:, 0, languages.index(language)] = 1
    xs[range(len(name)), 0, [len(languages) + letter for letter in letters]] = 1
    return xs, torch.tensor(letters[1:] + [OUTPUTS - 1])


def hyper_loss(hyper, xs, after):
    hidden, state, total = torch.zeros(1, 128), hyper.embedding_module.init_hidden(), 0
    for step, x in enumerate(xs):
        params, aux = hyper.generate_params(x=x, hidden_state=state)
        state = aux["hidden_state"]
        ys, hidden = hyper.forward(x, hidden, generated_params=params)
        total = total + F.nll_loss(ys, after[step : step + 1])
    return total


def plain_loss(net, xs, after):
    hidden, total = torch.zeros(1, 128), 0
    for step, x in enumerate(xs):
        ys, hidden = net(x, hidden)
        total = total + F.nll_loss(ys, after[step : step + 1])
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", required=True, help="folder of LANGUAGE.txt, a name a line")
    parser.add_argument("--network", choices=["hyper-nn", "plain"], default="hyper-nn")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--count", type=int, default=3000, help="names to train on")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    train, held_out = corpus(args.names)
    languages = list(train)
    net, loss_of = NextLetter(len(languages)), plain_loss
    if args.network == "hyper-nn":
        width = len(languages) + OUTPUTS
        net = TorchDynamicHyperNetwork(input_dim=width, target_network=net, embedding_dim=4, num_embeddings=64)
        loss_of = hyper_loss
    optimizer = torch.optim.Adam(net.parameters(), lr=args.learning_rate)
    losses = []
    for _ in range(args.count):
        language = rng.choice(languages)
        xs, after = tensors(languages, language, rng.choice(train[language]))
        optimizer.zero_grad()
        loss = loss_of(net, xs, after)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
        losses.append(loss.item() / len(after))
    with torch.no_grad():
        means = []
        for language in languages:
            each = [loss_of(net, *tensors(languages, language, name)).item() / len(name) for name in held_out[language]]
            means.append(sum(each) / len(each))
    last = sum(losses[-WINDOW:]) / WINDOW
    print(
        f"{args.network}, learning rate {args.learning_rate}, seed {args.seed}: {last:.3f} nats per letter over "
        f"the last {WINDOW} names, {sum(means) / len(means):.3f} over names held out"
    )


if __name__ == "__main__":
    main()
