"""PyTorch in channels_last, eager or compiled (``--compile``); autocast for bfloat16."""

import itertools
import sys
from typing import Any

import numpy as np
import torch
from peer import serve
from torch import nn
from workloads import Workload

# The package index only has torchvision with CUDA extensions. The networks do not need them, but
# torchvision cannot be imported unless these operators are defined.
_operators = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    _operators.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import torchvision  # noqa: E402


class ClassicCNN(nn.Module):
    """The course's network."""

    def __init__(self, classes: int, dropout: float = 0.2):
        super().__init__()
        self.conv = nn.Conv2d(1, 32, 5, padding=2)
        self.drop = nn.Dropout(dropout)
        self.hidden = nn.Linear(14 * 14 * 32, 128)
        self.output = nn.Linear(128, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = self.drop(nn.functional.max_pool2d(torch.relu(self.conv(x)), 2))
        # Channels last: avoids a copy, and flattens features in jaxcnn's order.
        x = torch.relu(self.hidden(x.permute(0, 2, 3, 1).flatten(1)))
        return self.output(x)


class SmallVGG(nn.Module):
    """Six convolutions and two dense layers."""

    def __init__(self, classes: int, dropout: float = 0.3, norm: str = "none"):
        super().__init__()
        widths = (3, 32, 32, 64, 64, 128, 128)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in itertools.pairwise(widths)
        )
        self.drop = nn.Dropout(dropout)
        self.hidden = nn.Linear(4 * 4 * 128, 128)
        self.output = nn.Linear(128, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        for number, conv in enumerate(self.convs):
            x = torch.relu(conv(x))
            if number % 2:
                x = nn.functional.max_pool2d(x, 2)
        x = self.drop(x.permute(0, 2, 3, 1).flatten(1))
        return self.output(self.drop(torch.relu(self.hidden(x))))


def build(workload: Workload, options: dict[str, Any]) -> nn.Module:
    """Return the workload's network."""
    if workload.model == "classic_cnn":
        return ClassicCNN(workload.classes, **options)
    if workload.model == "small_vgg":
        return SmallVGG(workload.classes, **options)
    if workload.model == "resnet18":
        model = torchvision.models.resnet18(num_classes=workload.classes)
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
        return model
    if workload.model == "resnet50":
        return torchvision.models.resnet50(num_classes=workload.classes)
    return torchvision.models.efficientnet_b0(
        num_classes=workload.classes,
        dropout=options.get("dropout", 0.2),
        stochastic_depth_prob=options.get("drop_path", 0.2),
    )


def jaxcnn_name(name: str, tensor: torch.Tensor) -> str:
    """Return jaxcnn's name for a torchvision parameter."""
    *path, kind = name.split(".")
    if kind == "weight":
        kind = "scale" if tensor.ndim == 1 else "kernel"
    if path[0] == "features":
        path = efficientnet_path([int(part) if part.isdigit() else part for part in path[1:]])
    elif path[0] == "classifier":
        path = ["classifier"]
    elif path[0].startswith("layer"):
        path = [f"{path[0]}_{path[1]}", "_".join(path[2:])]
    elif path[0] == "convs":
        path = ["_".join(path)]
    return "/".join([*path, kind])


def efficientnet_path(path: list[Any]) -> list[str]:
    """Convert the path ``features[stage][number].block[part]`` in torchvision's EfficientNet-B0."""
    if path[0] in (0, 8):
        return [("stem" if path[0] == 0 else "top") + ("_bn" if path[1] else "")]
    stage, number, _, part, *rest = path
    names = ["expand", "depthwise", "excite", "project"][stage == 1 :]
    if names[part] == "excite":
        return [f"stage{stage}_{number}", "excite", {"fc1": "Dense_0", "fc2": "Dense_1"}[rest[0]]]
    return [f"stage{stage}_{number}", names[part] + ("_bn" if rest[0] else "")]


def to_jax(tensor: np.ndarray, dense: bool) -> np.ndarray:
    """Convert ``OIHW`` to ``HWIO``; squeeze-and-excitation uses dense layers in jaxcnn."""
    if tensor.ndim == 4:
        tensor = tensor.transpose(2, 3, 1, 0)
        return tensor[0, 0] if dense else tensor
    return tensor.T


class TorchPeer:
    """See `peer.Peer`."""

    def load(
        self,
        workload: Workload,
        precision: str,
        weights: dict[str, np.ndarray] | None,
        data: list[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        """Build the network and optimizer."""
        options = workload.options | ({} if weights is None else workload.regularizers)
        self.autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
        model = build(workload, options)
        if precision == "float64":
            model = model.double()
        if weights is not None:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    value = weights[jaxcnn_name(name, parameter)]
                    if parameter.ndim == 4:
                        value = value.reshape(*(1,) * (4 - value.ndim), *value.shape)
                        value = value.transpose(3, 2, 0, 1)
                    parameter.copy_(
                        torch.from_numpy(
                            np.ascontiguousarray(value if parameter.ndim != 2 else value.T)
                        )
                    )
        self.plain = model.to(memory_format=torch.channels_last)
        self.model: Any = self.plain
        if "--compile" in sys.argv:
            self.model = torch.compile(self.plain)
        parameters = self.plain.parameters()
        self.optimizer: torch.optim.Optimizer
        if workload.optimizer == "adam":
            self.optimizer = torch.optim.Adam(parameters, 1e-3, fused=True)
        else:
            self.optimizer = torch.optim.SGD(parameters, 0.01, momentum=0.9, fused=True)
        self.batches = itertools.cycle(
            [
                (
                    torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(
                        memory_format=torch.channels_last
                    ),
                    torch.from_numpy(labels).long(),
                )
                for images, labels in data
            ]
        )

    def loss(self) -> torch.Tensor:
        """Return the training loss for the next batch."""
        images, labels = next(self.batches)
        with self.autocast:
            logits = self.model(images)
        return nn.functional.cross_entropy(
            logits.float() if self.autocast._enabled else logits, labels
        )

    def gradients(self) -> tuple[float, dict[str, np.ndarray]]:
        """Return the loss and gradients for the first batch."""
        self.model.train()
        loss = self.loss()
        loss.backward()
        gradients = {}
        for name, parameter in self.plain.named_parameters():
            assert parameter.grad is not None
            path = jaxcnn_name(name, parameter)
            gradients[path] = to_jax(parameter.grad.numpy(), "/excite/" in path)
        return loss.item(), gradients

    def train(self, steps: int) -> None:
        """Take optimizer steps."""
        self.model.train()
        for _ in range(steps):
            self.optimizer.zero_grad(set_to_none=True)
            self.loss().backward()
            self.optimizer.step()

    def forward(self, steps: int) -> None:
        """Compute logits in evaluation mode."""
        self.model.eval()
        with torch.inference_mode(), self.autocast:
            for _ in range(steps):
                self.model(next(self.batches)[0])

    def versions(self) -> str:
        """Return the versions."""
        return f"torch {torch.__version__}, torchvision {torchvision.__version__}"


if __name__ == "__main__":
    serve(TorchPeer)
