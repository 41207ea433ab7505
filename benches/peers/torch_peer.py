"""hyper-nn and PyTorch by hand, each also compiled, and targets with weights of their own.

Run by table.py; the cases are those of benches/src/cases.
"""

import functools
import importlib.metadata
import sys
import warnings

warnings.filterwarnings("ignore")

import torch
import torch.nn.functional as F
from hypernn.torch import TorchDynamicHyperNetwork, TorchLinearHyperNetwork
from serve import serve
from torch import nn
from torch.func import functional_call, vmap

LETTERS, LANGUAGES = 59, 18
NAME = [17, 0, 1, 8, 13, 14, 21, 8]


def mlp(*sizes):
    layers = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def deep():
    return nn.Sequential(*[layer for _ in range(64) for layer in (nn.Linear(128, 128), nn.ReLU())])


def notebook():
    """The network of hyper-nn's MNIST notebook."""
    convs = [nn.Conv2d(1, 64, 3, 2), nn.Conv2d(64, 64, 3, 2), nn.Conv2d(64, 64, 3, 2)]
    hidden = [layer for conv in convs for layer in (conv, nn.ReLU())]
    return nn.Sequential(*hidden, nn.Conv2d(64, 10, 2, 2), nn.Flatten())


class WithHidden(TorchLinearHyperNetwork):
    def make_weight_generator(self):
        return nn.Sequential(nn.Linear(self.embedding_dim, 32), nn.Tanh(), nn.Linear(32, self.weight_chunk_dim))


class ByHand(nn.Module):
    """A table, a generator, `split` and `functional_call`."""

    def __init__(self, target, embeddings, width, hidden):
        super().__init__()
        shapes = {name: param.shape for name, param in target.named_parameters()}
        self.names, self.shapes = list(shapes), list(shapes.values())
        self.sizes = [shape.numel() for shape in self.shapes]
        chunk = -(-sum(self.sizes) // embeddings)
        self.embedding = nn.Parameter(torch.randn(embeddings, width))
        last = nn.Linear(hidden or width, chunk)
        self.generator = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), last) if hidden else last
        self.target = [target.to("meta")]

    def generate(self):
        flat = self.generator(self.embedding).view(-1)[: sum(self.sizes)]
        tensors = torch.split(flat, self.sizes)
        return {name: t.view(shape) for name, shape, t in zip(self.names, self.shapes, tensors)}

    def forward(self, xs):
        return functional_call(self.target[0], self.generate(), (xs,))


class DynamicByHand(nn.Module):
    """One RNN call, one generator product, batched products."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(32, 4))
        self.rnn, self.generator = nn.RNNCell(8, 32), nn.Linear(4, 329)

    def generate(self, xs):
        rows = xs.shape[0]
        hidden = self.rnn(xs)
        flat = self.generator(self.embedding[None] * hidden[:, :, None]).view(rows, -1)
        w1, b1, w2, b2 = torch.split(flat, [2048, 256, 8192, 32], dim=1)
        return w1.view(rows, 256, 8), b1.view(rows, 1, 256), w2.view(rows, 32, 256), b2.view(rows, 1, 32)

    def forward(self, xs):
        w1, b1, w2, b2 = self.generate(xs)
        ys = torch.baddbmm(b1, xs[:, None], w1.mT)
        return torch.baddbmm(b2, ys.relu(), w2.mT)


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


class NamesByHand(ByHand):
    """A table that an RNN cell scales, weights anew for each letter."""

    def __init__(self):
        super().__init__(NextLetter(), 64, 4, None)
        self.cell = nn.RNNCell(LANGUAGES + LETTERS, 64)

    def step(self, xs, hidden, state):
        state = self.cell(xs, state)
        flat = self.generator(self.embedding * state.mT).view(-1)[: sum(self.sizes)]
        tensors = torch.split(flat, self.sizes)
        params = {name: t.view(shape) for name, shape, t in zip(self.names, self.shapes, tensors)}
        ys, hidden = functional_call(self.target[0], params, (xs, hidden))
        return ys, hidden, state


class Network:
    """A module with parameters, what generates, what gives outputs, and their loss."""

    def __init__(self, module, forward, generate=None, loss=torch.sum, clip=None):
        self.module, self.forward, self.generate = module, forward, generate
        self.loss, self.clip = loss, clip

    def compiled(self):
        generate = self.generate and torch.compile(self.generate)
        return Network(self.module, torch.compile(self.forward), generate, self.loss, self.clip)

    def step(self, step):
        forward, module = self.forward, self.module
        if step == "generate":
            return self.generate

        def quiet():
            with torch.no_grad():
                return forward()

        def backward():
            module.zero_grad(set_to_none=True)
            self.loss(forward()).backward()

        params = [param for param in module.parameters() if param.numel() > 0]
        if step == "adam":
            optimizer = torch.optim.Adam(params, lr=1e-4, fused=True)

        def adam():
            backward()
            if self.clip:
                nn.utils.clip_grad_norm_(params, self.clip)
            optimizer.step()

        return {"forward": quiet, "backward": backward, "adam": adam}[step]


STATIC = {
    # target, embeddings, their width, width of a hidden layer, shape of a sample
    "static_small": (functools.partial(mlp, 32, 64, 32), 32, 4, None, (32,)),
    "static_mlp_1m": (functools.partial(mlp, 784, 1024, 256, 10), 64, 32, None, (784,)),
    "static_deep": (deep, 64, 16, None, (128,)),
    "static_cnn": (notebook, 511, 4, 32, (1, 28, 28)),
}
ROWS = {"dynamic_step": 1, "dynamic_10": 10, "dynamic_64": 64, "dynamic_256": 256}


def static(case, who):
    make, embeddings, width, hidden, sample = STATIC[case]
    xs, target = torch.randn(64, *sample), make()
    digits = torch.arange(64) % 10
    classifies = case in ("static_mlp_1m", "static_cnn")
    loss = (lambda ys: F.cross_entropy(ys, digits)) if classifies else torch.sum
    if who == "plain":
        return Network(target, lambda: target(xs), loss=loss)
    if who == "torch":
        hand = ByHand(target, embeddings, width, hidden)
        return Network(hand, lambda: hand(xs), hand.generate, loss)
    kind, embeddings = (WithHidden, 512) if hidden else (TorchLinearHyperNetwork, embeddings)
    hyper = kind(target, embedding_dim=width, num_embeddings=embeddings)
    return Network(hyper, lambda: hyper(xs), lambda: hyper.generate_params()[0], loss)


def dynamic(case, who):
    rows = ROWS[case]
    xs = torch.randn(rows, 8)
    if who == "torch":
        hand = DynamicByHand()
        return Network(hand, lambda: hand(xs), lambda: hand.generate(xs))
    if who != "hyper-nn":
        return None
    hyper = TorchDynamicHyperNetwork(
        input_dim=8, target_network=mlp(8, 256, 32), embedding_dim=4, num_embeddings=32
    )
    if rows == 1:
        generate = lambda: hyper.generate_params(x=xs)[0]
        return Network(hyper, lambda: hyper(xs, generate_params_kwargs=dict(x=xs)), generate)
    one = xs[:, None]
    with_params = vmap(lambda params, x: hyper.forward(x, generated_params=params))
    generate = lambda: vmap(hyper.generate_params)(one)[0]
    return Network(hyper, lambda: with_params(generate(), one), generate)


def name():
    xs = torch.zeros(8, 1, LANGUAGES + LETTERS)
    for step, letter in enumerate(NAME):
        xs[step, 0, 14] = xs[step, 0, LANGUAGES + letter] = 1
    return xs, torch.tensor(NAME[1:] + [LETTERS - 1])


def names(case, who):
    xs, after = name()

    def loss(ys):
        return F.nll_loss(torch.cat(ys), after, reduction="sum")

    if who == "torch":
        hand = NamesByHand()

        def by_hand():
            hidden, state, outputs = torch.zeros(1, 128), torch.zeros(1, 64), []
            for step in range(8):
                ys, hidden, state = hand.step(xs[step], hidden, state)
                outputs.append(ys)
            return outputs

        return Network(hand, by_hand, loss=loss, clip=10.0)
    if who != "hyper-nn":
        return None
    hyper = TorchDynamicHyperNetwork(
        input_dim=LANGUAGES + LETTERS, target_network=NextLetter(), embedding_dim=4, num_embeddings=64
    )

    def library():
        hidden, state, outputs = torch.zeros(1, 128), hyper.embedding_module.init_hidden(), []
        for step in range(8):
            params, aux = hyper.generate_params(x=xs[step], hidden_state=state)
            state = aux["hidden_state"]
            ys, hidden = hyper.forward(xs[step], hidden, generated_params=params)
            outputs.append(ys)
        return outputs

    return Network(hyper, library, loss=loss, clip=10.0)


def convolutions(case, who):
    weights = nn.Module()
    weights.w = nn.Parameter(torch.randn(32, 32, 16, 3, 3) * 0.1)
    weights.b = nn.Parameter(torch.randn(32, 32) * 0.1)
    xs = torch.randn(32, 16, 28, 28)
    if who == "torch":

        def grouped():
            one = xs.view(1, 512, 28, 28)
            kernel, bias = weights.w.view(1024, 16, 3, 3), weights.b.view(-1)
            return F.conv2d(one, kernel, bias, padding=1, groups=32).view(32, 32, 28, 28)

        return Network(weights, grouped)
    if who != "hyper-nn":
        return None
    conv = nn.Conv2d(16, 32, 3, padding=1).to("meta")
    each = vmap(lambda params, x: functional_call(conv, params, (x[None],))[0])
    return Network(weights, lambda: each({"weight": weights.w, "bias": weights.b}, xs))


@functools.cache
def network(case, who):
    make = static if case in STATIC else dynamic if case in ROWS else {"dynamic_rnn": names, "batched_conv": convolutions}[case]
    if who.endswith("_compiled"):
        found = network(case, who.removesuffix("_compiled"))
        return found and found.compiled()
    return make(case, who)


def prepare(case, step, who):
    found = network(case, who)
    if not found or (step == "generate" and not found.generate):
        return None
    if case == "batched_conv" and step == "adam":
        return None
    return found.step(step)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(0)
    torch._dynamo.config.cache_size_limit = 64
    serve(prepare, {name: importlib.metadata.version(name) for name in ("torch", "hyper-nn")})
