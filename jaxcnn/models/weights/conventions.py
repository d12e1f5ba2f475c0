"""Conventions for other libraries' weights: network options, preprocessing and class names."""

import importlib.resources
from typing import Any

import numpy as np

from jaxcnn.image import Preprocess
from jaxcnn.models.efficientnet import EfficientNet
from jaxcnn.models.inception import InceptionV3
from jaxcnn.models.registry import RESNET_V1, TENSORFLOW_NORM, Entry
from jaxcnn.models.resnet import ResNet
from jaxcnn.models.weights.array_names import WeightSource

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Keras's VGG and ResNet weights come from Caffe and expect [0, 255] pixels minus these means.
_CAFFE_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)


def guess_source(entry: Entry, tensors: dict[str, np.ndarray], *, is_keras: bool) -> WeightSource:
    """Infer which library wrote a file from its tensor names.

    Raises:
      ValueError: if the names are ambiguous.

    Example:
      >>> from jaxcnn.models import info
      >>> guess_source(info("vgg16"), {"pre_logits.fc1.weight": np.zeros(1)}, is_keras=False)
      'timm'
    """
    if is_keras:
        return "keras"
    if "_conv_stem.weight" in tensors:
        return "efficientnet_pytorch"
    if "conv_stem.weight" in tensors:
        if entry.options.get("padding") == "SAME":
            return "timm_tf"
        raise ValueError(
            "source must be timm_tf if timm calls the network tf_..., and timm otherwise; "
            "this cannot be inferred from the file"
        )
    return "timm" if "pre_logits.fc1.weight" in tensors else "torchvision"


def options(entry: Entry, source: WeightSource, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the options that make a network compute the same outputs as in the source library.

    Example:
      >>> from jaxcnn.models import info
      >>> options(info("resnet50"), "keras", {})["version"]
      'v1'
    """
    network = entry.network
    if network is ResNet:
        return dict(RESNET_V1) if source == "keras" else {}
    if network is InceptionV3:
        if source == "keras":
            return {
                "aux_head": False,
                "count_include_pad": False,
                "norm_scale": False,
                "norm_momentum": 0.99,
            }
        return {"aux_head": any(tensor.startswith("AuxLogits.") for tensor in tensors)}
    if network is EfficientNet:
        if source in ("keras", "efficientnet_pytorch"):
            return {"padding": "SAME", **TENSORFLOW_NORM}
        if source == "timm_tf":
            return {"padding": "SAME", "norm_momentum": 0.9, "norm_epsilon": 1e-3}
        if source == "timm":
            return {"padding": "centered", "norm_momentum": 0.9, "norm_epsilon": 1e-5}
    return {}


def preprocess(
    entry: Entry, source: WeightSource, channels: int, tensors: dict[str, np.ndarray]
) -> Preprocess:
    """Return the preprocessing expected by a network with weights from ``source``.

    Example:
      >>> from jaxcnn.models import info
      >>> preprocess(info("inception_v3"), "timm", 3, {}).mean
      (0.5, 0.5, 0.5)
    """
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    if entry.network is InceptionV3 or entry.options.get("lite"):
        mean = std = (0.5, 0.5, 0.5)
    elif source == "keras" and entry.network is EfficientNet:
        mean, std = _keras_statistics(tensors)
    elif source == "keras":
        mean, std = _CAFFE_MEAN, (1 / 255, 1 / 255, 1 / 255)
    if channels != len(mean):
        mean, std = (float(np.mean(mean)),) * channels, (float(np.mean(std)),) * channels
    return Preprocess(size=entry.size[:2], channels=channels, mean=mean, std=std)


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of the 1,000 ImageNet classes, in the order that all these libraries use.

    Example:
      >>> imagenet_classes()[0], len(imagenet_classes())
      ('tench', 1000)
    """
    file = importlib.resources.files("jaxcnn.models.weights") / "imagenet_classes.txt"
    return tuple(file.read_text(encoding="utf-8").splitlines())


def _keras_statistics(
    tensors: dict[str, np.ndarray],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of the normalization layer in Keras EfficientNets."""
    if "normalization/0" not in tensors:
        return IMAGENET_MEAN, IMAGENET_STD
    mean, variance = (tensors[f"normalization/{number}"].ravel() for number in (0, 1))
    # Keras's ImageNet weights contain standard deviations instead of variances, and a later layer
    # divides by their square root a second time.
    std = variance if np.allclose(variance, IMAGENET_STD, atol=1e-4) else np.sqrt(variance)
    return tuple(map(float, mean)), tuple(map(float, std))
