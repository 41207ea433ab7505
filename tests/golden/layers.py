"""A PyTorch network of each kind of layer, and its checkpoints.

Without arguments: writes `k_layers.pt`, its `state_dict` as `torch.save` writes it, and
`k_layers.safetensors`, an input and the output. With the path of a checkpoint and that of a file with an
`output`: loads the checkpoint by `load_state_dict` and checks the output for the same input.
"""

import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file
from torch import nn

HERE = pathlib.Path(__file__).parent


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.conv1d = nn.Conv1d(6, 8, 3, padding=1)
        self.conv_transpose1d = nn.ConvTranspose1d(8, 6, 2, stride=2)
        self.group_norm = nn.GroupNorm(2, 6)
        self.batch_norm = nn.BatchNorm1d(6)
        self.prelu = nn.PReLU(6)
        self.conv2d = nn.Conv2d(1, 3, 3)
        self.conv_transpose2d = nn.ConvTranspose2d(3, 2, 2)
        self.lstm = nn.LSTM(45, 6, batch_first=True)
        self.gru = nn.GRU(6, 5, batch_first=True)
        self.layer_norm = nn.LayerNorm(5)
        self.rms_norm = nn.RMSNorm(5, eps=1e-5)
        self.head = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3, bias=False))

    def forward(self, ids):
        xs = self.embedding(ids).transpose(1, 2)
        xs = self.prelu(self.batch_norm(self.group_norm(self.conv_transpose1d(self.conv1d(xs)))))
        xs = self.conv_transpose2d(self.conv2d(xs.unsqueeze(1))).flatten(2)
        xs = self.gru(self.lstm(xs)[0])[0]
        return self.head(self.rms_norm(self.layer_norm(xs)))


def drawn():
    torch.manual_seed(0)
    net = Layers().eval()
    with torch.no_grad():
        for tensor in [*net.parameters(), net.batch_norm.running_mean]:
            tensor.copy_(torch.randn(tensor.shape) * 0.5)
        net.batch_norm.running_var.copy_(torch.rand(6) + 0.5)
    return net


def write():
    net, ids = drawn(), torch.tensor([[0, 3, 6, 1, 4], [2, 2, 5, 0, 1]])
    torch.save(net.state_dict(), HERE / "k_layers.pt")
    tensors = {"input.ids": ids, "output": net(ids).detach()}
    save_file(tensors, HERE / "k_layers.safetensors", {"torch": torch.__version__})


def check(checkpoint, expected):
    net = Layers().eval()
    print(net.load_state_dict(load_file(checkpoint)))
    output = net(load_file(HERE / "k_layers.safetensors")["input.ids"])
    torch.testing.assert_close(output, load_file(expected)["output"], rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
    torch.set_num_threads(1)
    check(*sys.argv[1:]) if sys.argv[1:] else write()
