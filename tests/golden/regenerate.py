"""Recomputes the golden files: pip install torch hyper-nn==0.2.2 safetensors, then run this.

Weights and inputs are read from each file and everything else is computed anew; with --fresh, they
are drawn anew as well. Beside each hypernetwork's file goes its `state_dict`, as `torch.save` writes it.
"""

import importlib.metadata
import json
import pathlib
import sys

import torch
from hypernn.torch.dynamic_hypernet import TorchDynamicHyperNetwork
from hypernn.torch.linear_hypernet import TorchLinearHyperNetwork
from safetensors.torch import load_file, save_file
from torch import nn

HERE = pathlib.Path(__file__).parent
SEED = 0


class CnnHyperNetwork(TorchLinearHyperNetwork):
    """The hypernetwork of hyper-nn's MNIST notebook."""

    def make_weight_generator(self):
        return nn.Sequential(
            nn.Linear(self.embedding_dim, 32), nn.Tanh(), nn.Linear(32, self.weight_chunk_dim)
        )


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 64, 3, 2), nn.ReLU(), nn.Conv2d(64, 64, 3, 2), nn.ReLU(),
            nn.Conv2d(64, 64, 3, 2), nn.ReLU(), nn.Conv2d(64, 10, 2, 2),
        )

    def forward(self, x):
        return self.net(x).view(x.shape[0], 10)


class Rnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRUCell(15, 16)
        self.linear, self.linear2 = nn.Linear(16, 24), nn.Linear(24, 24)
        self.linear3 = nn.Linear(24, 12)

    def forward(self, c, state):
        state = self.rnn(c, state)
        hidden = torch.relu(self.linear2(torch.relu(self.linear(state))))
        return torch.log_softmax(self.linear3(hidden), dim=-1), state


class Sets(nn.Module):
    """Not a hypernetwork: the weights of six convolutions as they are."""

    num_embeddings, embedding_dim, weight_chunk_dim = 6, 0, 140

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(6, 5, 3, 3, 3) * 0.3)
        self.b = nn.Parameter(torch.randn(6, 5) * 0.3)


def mlp(sizes):
    return nn.Sequential(nn.Linear(*sizes[:2]), nn.ReLU(), nn.Linear(*sizes[1:]))


def static(net, inputs):
    generated = net.generate_params()[0]
    return generated, lambda flat: {"output": net.target_forward(inputs["x"], generated_params=flat)}


def zero_state(net, like):
    """hyper-nn's own is float32 always."""
    return torch.zeros(1, net.num_embeddings, dtype=like.dtype)


def dynamic(net, inputs):
    steps = [net.generate_params(x, zero_state(net, x)) for x in inputs["x"]]
    hidden = torch.stack([aux["hidden_state"] for _, aux in steps])

    def forward(flat):
        rows = zip(inputs["x"], flat)
        rows = [net.target_forward(x, generated_params=row) for x, row in rows]
        return {"output": torch.stack(rows), "hidden_out": hidden}

    return torch.stack([generated for generated, _ in steps]), forward


def recurrent(net, inputs):
    joined = [torch.cat([inputs["category"], x], dim=1) for x in inputs["xs"]]
    hidden, generated, hiddens = zero_state(net, joined[0]), [], []
    for c in joined:
        flat, aux = net.generate_params(c, hidden)
        hidden = aux["hidden_state"]
        generated.append(flat)
        hiddens.append(hidden)

    def forward(flat):
        state, outputs, states = torch.zeros(1, 16, dtype=flat.dtype), [], []
        for c, row in zip(joined, flat):
            output, state = net.target_forward(c, state, generated_params=row)
            outputs.append(output)
            states.append(state)
        stacked = {"hyper_hidden": hiddens, "target_hidden": states, "output": outputs}
        return {name: torch.stack(tensors) for name, tensors in stacked.items()}

    return torch.stack(generated), forward


def sets(net, inputs):
    generated = torch.cat([net.w.flatten(1), net.b], dim=1)

    def one(x, row):
        weight, bias = row[:135].view(5, 3, 3, 3), row[135:]
        return nn.functional.conv2d(x[None], weight, bias, padding=1)[0]

    def forward(flat):
        return {"output": torch.stack([one(x, row) for x, row in zip(inputs["x"], flat)])}

    return generated, forward


# Per file: the target, the hypernetwork, what is computed, the inputs' shapes, the factor of the
# generator's last layer.
CASES = {
    "a_static_small": (
        lambda: mlp((32, 64, 32)),
        lambda t: TorchLinearHyperNetwork(t, embedding_dim=4, num_embeddings=32),
        static, {"x": (16, 32)}, 0.3,
    ),
    "d_static_cnn": (
        Cnn,
        lambda t: CnnHyperNetwork(t, embedding_dim=4, num_embeddings=512),
        static, {"x": (8, 1, 28, 28)}, 0.15,
    ),
    "f_dynamic_vmap_b10": (
        lambda: mlp((8, 256, 32)),
        lambda t: TorchDynamicHyperNetwork(8, t, embedding_dim=4, num_embeddings=32),
        dynamic, {"x": (10, 1, 8)}, 0.5,
    ),
    "g_dynamic_grucell": (
        Rnn,
        lambda t: TorchDynamicHyperNetwork(15, t, embedding_dim=4, num_embeddings=8),
        recurrent, {"category": (1, 3), "xs": (3, 1, 12)}, 1.0,
    ),
    "h_batched_conv": (
        lambda: nn.Conv2d(3, 5, 3, padding=1), lambda t: Sets(), sets, {"x": (6, 3, 10, 10)}, None,
    ),
}


def drawn(net, shapes, factor):
    """Weights and inputs as a new file has them."""
    if factor is not None:
        generator = net.weight_generator
        last = generator[-1] if isinstance(generator, nn.Sequential) else generator
        with torch.no_grad():
            last.weight *= factor
            last.bias *= factor
    start = {f"hyper.{name}": p.detach().clone() for name, p in trained(net)}
    return start | {f"input.{name}": torch.randn(shape) for name, shape in shapes.items()}


def trained(net):
    return [(name, p) for name, p in net.named_parameters() if "dummy" not in name]


def below(start, prefix, dtype):
    return {
        name.removeprefix(prefix): tensor.to(dtype)
        for name, tensor in start.items()
        if name.startswith(prefix)
    }


def compute(net, case, start, dtype):
    """Everything that follows from weights and inputs, in one dtype."""
    net = net.to(dtype)
    net.load_state_dict(below(start, "hyper.", dtype), strict=False)
    net.zero_grad()
    inputs = {k: x.requires_grad_() for k, x in below(start, "input.", dtype).items()}
    generated, forward = case(net, inputs)
    generated.retain_grad()
    found = forward(generated) | {"generated": generated}
    found["loss"] = found["output"].pow(2).sum().reshape(1)
    found["loss"].backward()
    grads = {name: p for name, p in trained(net)} | {"generated": generated}
    grads |= {f"input.{name}": x for name, x in inputs.items()}
    found |= {f"grad.{name}": of.grad for name, of in grads.items()}
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def exact(found):
    """What a file keeps of the float64 results."""
    names = [n for n in found if n in ("output", "loss") or n.startswith("grad.")]
    names = [n for n in names if n != "grad.generated" and not n.startswith("grad.input.")]
    return {f"f64.{name}": found[name] for name in names}


def metadata(name, target, net):
    params = [[n, list(p.shape)] for n, p in target.named_parameters()]
    sizes = {k: getattr(net, k) for k in ("num_embeddings", "embedding_dim", "weight_chunk_dim")}
    entries = {"target_params": json.dumps(params), "P": sum(p.numel() for p in target.parameters())}
    versions = {"torch": torch.__version__, "hyper_nn": importlib.metadata.version("hyper-nn")}
    return {k: str(v) for k, v in ({"case": name} | entries | sizes | versions).items()}


def regenerate(name, fresh):
    path = HERE / f"{name}.safetensors"
    make_target, make_net, case, shapes, factor = CASES[name]
    torch.manual_seed(SEED)
    target = make_target()
    net = make_net(target)
    if fresh or not path.exists():
        start = drawn(net, shapes, factor)
    else:
        start = {n: t for n, t in load_file(path).items() if n.startswith(("hyper.", "input."))}
    double = exact(compute(net, case, start, torch.float64))
    single = compute(net, case, start, torch.float32)
    tensors = {n: t.contiguous() for n, t in (start | single | double).items()}
    save_file(tensors, path, metadata(name, target, net))
    if case is not sets:
        torch.save(net.state_dict(), path.with_suffix(".pt"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case_name in CASES:
        regenerate(case_name, "--fresh" in sys.argv[1:])
