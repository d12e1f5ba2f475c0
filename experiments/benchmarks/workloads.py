"""Timed workloads: five networks with input batches, the same for all peers. Plain Python only."""

from typing import NamedTuple


class Workload(NamedTuple):
    """One network and its input.

    Attributes:
      title: name in the tables.
      model: the network's name in jaxcnn, which the peers' builders also use.
      options: options for the network.
      shape: shape of one image.
      classes: number of outputs.
      batch: rows per step.
      optimizer: ``"adam"`` (learning rate 0.001) or ``"momentum"`` (SGD with learning rate 0.01
        and momentum 0.9).
      regularizers: options that turn off the network's random regularizers, for comparing values.
    """

    title: str
    model: str
    options: dict[str, object]
    shape: tuple[int, int, int]
    classes: int
    batch: int
    optimizer: str
    regularizers: dict[str, float]


WORKLOADS = {
    "W1": Workload(
        "the classical CNN, 28x28x1, batch 128",
        "classic_cnn", {}, (28, 28, 1), 10, 128, "adam", {"dropout": 0.0},
    ),
    "W2": Workload(
        "six-convolution VGG, 32x32x3, batch 128",
        "small_vgg", {"norm": "none"}, (32, 32, 3), 10, 128, "adam", {"dropout": 0.0},
    ),
    "W3": Workload(
        "ResNet-18, CIFAR stem, 32x32x3, batch 64",
        "resnet18", {"stem": "cifar"}, (32, 32, 3), 10, 64, "momentum", {},
    ),
    "W4": Workload(
        "ResNet-50, 224x224x3, batch 8",
        "resnet50", {}, (224, 224, 3), 1000, 8, "momentum", {},
    ),
    "W5": Workload(
        "EfficientNet-B0, 224x224x3, batch 8",
        "efficientnet_b0", {}, (224, 224, 3), 1000, 8, "momentum",
        {"dropout": 0.0, "drop_path": 0.0},
    ),
}  # fmt: skip
