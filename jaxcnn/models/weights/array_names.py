"""Names and axes of a network's arrays in other libraries.

Each library's rule is a function that maps a module's path in jaxcnn, such as ``layer1_0/conv1``,
to the layer's name in the library. The names of the arrays in a layer depend only on the library.
"""

import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxcnn.models.efficientnet import EfficientNet
from jaxcnn.models.inception import BLOCKS, STEM, InceptionV3, Layer
from jaxcnn.models.resnet import ResNet
from jaxcnn.models.vgg import VGG

WeightSource = Literal["torchvision", "timm", "timm_tf", "efficientnet_pytorch", "keras"]
"""Library that wrote a weights file. ``timm_tf`` means timm's networks with the prefix ``tf_``,
which use TensorFlow's padding and epsilon; ``efficientnet_pytorch`` is the package of that name.
"""

_TORCH_LEAVES = {
    "kernel": "weight",
    "bias": "bias",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
# Arrays in a Keras layer, in order.
_KERAS_LEAVES = (("kernel", "bias"), ("scale", "bias", "mean", "var"))


class Place(NamedTuple):
    """Location of an array in a file: the array's name, and the conversion to jaxcnn's axes."""

    name: str
    convert: Callable[[np.ndarray], np.ndarray]


def places(
    model: Any, arrays: dict[str, tuple[int, ...]], source: WeightSource
) -> dict[str, Place]:
    """Return the place of each of a network's arrays in a file written by ``source``.

    Args:
      model: the network.
      arrays: shapes of the network's parameters and statistics, keyed by path, such as
        ``conv1/kernel``.
      source: library that wrote the file. Keras arrays are named ``layer/0``, ``layer/1``, ...

    Raises:
      ValueError: if ``source`` does not provide the network.

    Example:
      >>> from jaxcnn import models
      >>> found = places(models.create("resnet18", 10), {"fc/kernel": (512, 10)}, "torchvision")
      >>> found["fc/kernel"].name, found["fc/kernel"].convert(np.zeros((10, 512))).shape
      ('fc.weight', (512, 10))
    """
    if (type(model), source) not in _RULES:
        known = [name for kind, name in _RULES if isinstance(model, kind)]
        if not known:
            raise ValueError(
                f"{type(model).__name__} exists only in jaxcnn and can only load files from jaxcnn"
            )
        raise ValueError(
            f"source must be one of {', '.join(known)} for {type(model).__name__}, got {source!r}"
        )
    rule = _RULES[type(model), source]
    found = {}
    for path, shape in arrays.items():
        module, _, leaf = path.rpartition("/")
        layer = rule(model, module)
        if source == "keras":
            name = f"{layer}/{_keras_index(arrays, module, leaf)}"
            convert = _from_keras(shape, is_depthwise=module.endswith("depthwise"))
        else:
            name = f"{layer}.{_TORCH_LEAVES[leaf]}"
            convert = _from_torch(shape, maps=leaf == "kernel" and module == "fc6")
        found[path] = Place(name, convert)
    return found


def _keras_index(arrays: dict[str, tuple[int, ...]], module: str, leaf: str) -> int:
    """Return an array's position in its Keras layer."""
    for leaves in _KERAS_LEAVES:
        kept = [name for name in leaves if f"{module}/{name}" in arrays]
        if leaf in kept and ("mean" in leaves) == (f"{module}/mean" in arrays):
            return kept.index(leaf)
    raise ValueError(f"{module}/{leaf} does not match an array in a Keras layer")


def _from_torch(shape: tuple[int, ...], *, maps: bool) -> Callable[[np.ndarray], np.ndarray]:
    """Return a conversion from OIHW to HWIO; ``maps`` marks a dense layer on feature maps."""

    def convert(array: np.ndarray) -> np.ndarray:
        if maps and array.ndim == 2:  # the inputs were flattened channels-first
            array = array.reshape(len(array), -1, 7, 7)
        if array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
            return array.reshape(-1, array.shape[-1]) if len(shape) == 2 else array
        return array.T

    return convert


def _from_keras(
    shape: tuple[int, ...], *, is_depthwise: bool
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a converter of depthwise kernels, and of 1x1 convolution kernels to dense ones."""

    def convert(array: np.ndarray) -> np.ndarray:
        if is_depthwise and array.ndim == 4:
            return array.transpose(0, 1, 3, 2)
        # Squeeze-and-excitation uses dense layers in jaxcnn and 1x1 convolutions in Keras.
        return array.reshape(array.shape[2:]) if array.ndim == 4 and len(shape) == 2 else array

    return convert


def _vgg_torchvision(model: VGG, module: str) -> str:
    dense = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
    return dense.get(module) or f"features.{_vgg_index(model, module)}"


def _vgg_timm(model: VGG, module: str) -> str:
    dense = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"}
    return dense.get(module) or f"features.{_vgg_index(model, module)}"


def _vgg_index(model: VGG, module: str) -> int:
    """Return the index in torchvision's sequence, which also contains activations and pooling."""
    kind, stage, number = re.fullmatch(r"(conv|bn)(\d+)_(\d+)", module).groups()  # type: ignore[union-attr]
    per_conv = 3 if model.norm == "batch" else 2
    before = sum(per_conv * depth + 1 for depth in model.depths[: int(stage) - 1])
    return before + per_conv * (int(number) - 1) + (kind == "bn")


def _vgg_keras(model: VGG, module: str) -> str:
    del model
    dense = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
    return dense.get(module) or re.sub(r"conv(\d+)_(\d+)", r"block\1_conv\2", module)


def _resnet_torch(model: ResNet, module: str) -> str:
    del model
    return re.sub(r"(layer\d+|downsample)_(\d+)", r"\1.\2", module).replace("/", ".")


def _resnet_keras(model: ResNet, module: str) -> str:
    del model
    if module in ("conv1", "bn1"):
        return {"conv1": "conv1_conv", "bn1": "conv1_bn"}[module]
    if module == "fc":
        return "predictions"
    block, _, layer = module.partition("/")
    stage, number = map(int, re.findall(r"\d+", block))
    layer = {"downsample_0": "conv0", "downsample_1": "bn0"}.get(layer, layer)
    kind, index = layer[:-1], layer[-1]
    return f"conv{stage + 1}_block{number + 1}_{index}_{kind}"


def _inception_torch(model: InceptionV3, module: str) -> str:
    del model
    return module.replace("/", ".")


def _inception_keras(model: InceptionV3, module: str) -> str:
    """Return Keras's name for a layer, numbered in order of creation."""
    del model
    if module == "fc":
        return "predictions"
    unit, _, kind = module.rpartition("/")
    number = _UNITS.index(unit)
    name = {"conv": "conv2d", "bn": "batch_normalization"}[kind]
    return f"{name}_{number}" if number else name


def _inception_units() -> list[str]:
    """List the convolutions in the order in which Keras creates them."""
    units = [layer.name for layer in STEM]
    for name, block in BLOCKS.items():
        for branch in block.branches:
            for step in branch:
                layers = (step,) if isinstance(step, Layer) else step
                units += [f"{name}/{layer.name}" for layer in layers]
        if block.pooled:
            units.append(f"{name}/branch_pool")
    return units


_UNITS = _inception_units()


def _efficientnet(model: EfficientNet, module: str) -> tuple[int, int, bool, str]:
    """Return a block's row and index, whether it expands, and the inner path; row -1 means none."""
    block, _, inner = module.partition("/")
    if not block.startswith("stage"):
        return -1, 0, True, module
    row, number = map(int, re.findall(r"\d+", block))
    return row - 1, number, model.table[row - 1].expansion != 1, inner


def _efficientnet_torchvision(model: EfficientNet, module: str) -> str:
    row, number, widens, inner = _efficientnet(model, module)
    if row < 0:
        top = len(model.table) + 1
        return {
            "stem": "features.0.0",
            "stem_bn": "features.0.1",
            "top": f"features.{top}.0",
            "top_bn": f"features.{top}.1",
            "classifier": "classifier.1",
        }[inner]
    within = {
        "expand": "0.0",
        "expand_bn": "0.1",
        "depthwise": f"{int(widens)}.0",
        "depthwise_bn": f"{int(widens)}.1",
        "excite/Dense_0": f"{1 + widens}.fc1",
        "excite/Dense_1": f"{1 + widens}.fc2",
        "project": f"{2 + widens}.0",
        "project_bn": f"{2 + widens}.1",
    }[inner]
    return f"features.{row + 1}.{number}.block.{within}"


def _efficientnet_timm(model: EfficientNet, module: str) -> str:
    row, number, widens, inner = _efficientnet(model, module)
    if row < 0:
        return {"stem": "conv_stem", "stem_bn": "bn1", "top": "conv_head", "top_bn": "bn2"}.get(
            inner, inner
        )
    within = {
        "expand": "conv_pw",
        "expand_bn": "bn1",
        "depthwise": "conv_dw",
        "depthwise_bn": f"bn{1 + widens}",
        "excite/Dense_0": "se.conv_reduce",
        "excite/Dense_1": "se.conv_expand",
        "project": "conv_pwl" if widens else "conv_pw",
        "project_bn": f"bn{2 + widens}",
    }[inner]
    return f"blocks.{row}.{number}.{within}"


def _efficientnet_pytorch(model: EfficientNet, module: str) -> str:
    row, number, _, inner = _efficientnet(model, module)
    if row < 0:
        return {
            "stem": "_conv_stem",
            "stem_bn": "_bn0",
            "top": "_conv_head",
            "top_bn": "_bn1",
            "classifier": "_fc",
        }[inner]
    within = {
        "expand": "_expand_conv",
        "expand_bn": "_bn0",
        "depthwise": "_depthwise_conv",
        "depthwise_bn": "_bn1",
        "excite/Dense_0": "_se_reduce",
        "excite/Dense_1": "_se_expand",
        "project": "_project_conv",
        "project_bn": "_bn2",
    }[inner]
    return f"_blocks.{sum(stage.depth for stage in model.table[:row]) + number}.{within}"


def _efficientnet_keras(model: EfficientNet, module: str) -> str:
    row, number, _, inner = _efficientnet(model, module)
    if row < 0:
        return {"stem": "stem_conv", "top": "top_conv", "classifier": "predictions"}.get(
            inner, inner
        )
    within = {
        "expand": "expand_conv",
        "expand_bn": "expand_bn",
        "depthwise": "dwconv",
        "depthwise_bn": "bn",
        "excite/Dense_0": "se_reduce",
        "excite/Dense_1": "se_expand",
        "project": "project_conv",
        "project_bn": "project_bn",
    }[inner]
    return f"block{row + 1}{chr(ord('a') + number)}_{within}"


_RULES: dict[tuple[type, str], Callable[[Any, str], str]] = {
    (VGG, "torchvision"): _vgg_torchvision,
    (VGG, "timm"): _vgg_timm,
    (VGG, "keras"): _vgg_keras,
    (ResNet, "torchvision"): _resnet_torch,
    (ResNet, "timm"): _resnet_torch,
    (ResNet, "keras"): _resnet_keras,
    (InceptionV3, "torchvision"): _inception_torch,
    (InceptionV3, "timm"): _inception_torch,
    (InceptionV3, "keras"): _inception_keras,
    (EfficientNet, "torchvision"): _efficientnet_torchvision,
    (EfficientNet, "timm"): _efficientnet_timm,
    (EfficientNet, "timm_tf"): _efficientnet_timm,
    (EfficientNet, "efficientnet_pytorch"): _efficientnet_pytorch,
    (EfficientNet, "keras"): _efficientnet_keras,
}
