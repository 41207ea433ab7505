"""Writes the `m_…` files: what `torch.save` makes of tensors of every kind, in every form of file.

    python files.py
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent


def kinds():
    """Tensors that are read, and those that are not."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 8
    whole = torch.arange(6).reshape(2, 3)
    read = {
        "plain": base.clone(),
        "shared": base,
        "shared_again": base,
        "view": base[1:3],
        "transposed": base.t(),
        "strided": base[::2, 1::2],
        "permuted": (torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)).permute(2, 0, 1),
        "expanded": torch.tensor([[1.5], [2.5]]).expand(2, 3),
        "scalar": torch.tensor(0.75),
        "empty": torch.zeros(0, 3),
        "half": base[0].half(),
        "bfloat16": base[0].bfloat16(),
        "double": base[0].double() / 3,
        "long": whole - 3,
        "byte": whole.to(torch.uint8),
        "parameter": torch.nn.Parameter(base[:2].clone()),
    }
    left_out = {
        "int32": whole.to(torch.int32),
        "int16": whole.to(torch.int16),
        "int8": whole.to(torch.int8),
        "bool": whole > 2,
        "complex": torch.complex(base[0], base[1]),
        "float8": base[0].to(torch.float8_e4m3fn),
        "sparse": base.to_sparse(),
        "quantised": torch.quantize_per_tensor(base, 0.5, 0, torch.qint8),
    }
    return read, left_out


def net():
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    with torch.no_grad():
        for i, tensor in enumerate(net.parameters()):
            tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape) / 4 + i)
    return net


def training(net):
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "args": argparse.Namespace(lr=1e-3, name="run"),
        "loss": torch.tensor(0.5),
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
    }


def main():
    read, left_out = kinds()
    everything = read | left_out
    torch.save(everything, HERE / "m_kinds.pt")
    legacy = {"_use_new_zipfile_serialization": False}
    torch.save({k: v for k, v in everything.items() if k != "float8"}, HERE / "m_kinds_legacy.pt", **legacy)
    torch.save(everything, HERE / "m_kinds_protocol_5.pt", pickle_protocol=5)
    expected = {name: tensor.detach().clone().contiguous() for name, tensor in read.items()}
    save_file(expected, HERE / "m_kinds.safetensors")

    torch.save(net().state_dict(), HERE / "m_net.pt")
    torch.save(training(net()), HERE / "m_training.pt")
    torch.save(torch.nn.DataParallel(net()).state_dict(), HERE / "m_parallel.pt")
    torch.save(net(), HERE / "m_whole.pt")
    torch.jit.save(torch.jit.script(net()), HERE / "m_script.pt")


if __name__ == "__main__":
    main()
