"""Network inspection: parameters, receptive fields, feature maps and confident mistakes."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from jaxcnn.models import input_layer
from jaxcnn.models.layers import GroupNorm
from jaxcnn.ops import plain_xla

Variables = dict[str, Any]


class Parameter(NamedTuple):
    """One array of a model.

    Attributes:
      name: collection and path, such as ``params/conv/kernel``.
      shape: shape of the array.
      size: number of values.

    Example:
      >>> Parameter("params/conv/kernel", (5, 5, 1, 32), 800).size
      800
    """

    name: str
    shape: tuple[int, ...]
    size: int


class Layer(NamedTuple):
    """Feature maps of a layer.

    Attributes:
      name: path of the layer.
      shape: (height, width, channels) of the maps.
      receptive_field: (rows, columns) of the image region that the central value depends on.

    Example:
      >>> Layer("conv1", (28, 28, 6), receptive_field=(5, 5)).shape
      (28, 28, 6)
    """

    name: str
    shape: tuple[int, ...]
    receptive_field: tuple[int, int]


def parameter_table(variables: Variables) -> list[Parameter]:
    """List every array of a model by name, including statistics.

    Args:
      variables: parameters and statistics, by collection.

    Example:
      >>> parameter_table({"params": {"dense": {"kernel": np.zeros((3, 4))}}})
      [Parameter(name='params/dense/kernel', shape=(3, 4), size=12)]
    """
    return [
        Parameter(jax.tree_util.keystr(path, simple=True, separator="/"), leaf.shape, leaf.size)
        for path, leaf in jax.tree.leaves_with_path(variables)
    ]


def feature_maps(model: Any, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
    """Return the feature maps of each layer of a Linen module, in order of computation.

    Args:
      model: a Linen module; for any other model the result is empty.
      variables: the model's parameters and statistics.
      images: preprocessed images, ``[B, H, W, C]``.

    Returns:
      The maps ``[B, h, w, c]``, keyed by the path of the submodule that returns them.

    Example:
      >>> from jaxcnn import models
      >>> model, images = models.create("classic_cnn", 10), jnp.zeros((1, 28, 28, 1))
      >>> variables = model.init(jax.random.key(0), images, train=False)
      >>> {name: maps.shape for name, maps in feature_maps(model, variables, images).items()}
      {'conv': (1, 28, 28, 32), 'drop': (1, 14, 14, 32)}
    """
    if not isinstance(model, nn.Module):
        return {}
    names: list[str] = []

    @jax.jit
    def run(variables: Variables, images: jax.Array) -> list[jax.Array]:
        maps = _watched(model, variables, images)
        names.extend(maps)  # jit would return a dictionary sorted by name
        return list(maps.values())

    values = run(variables, images)
    return dict(zip(names, values, strict=True))


def receptive_fields(model: Any, variables: Variables, size: tuple[int, int, int]) -> list[Layer]:
    """Measure the receptive field of the central value in each layer's maps.

    This works for any architecture: with positive weights and zero biases, a black image produces
    zeros, and a value that becomes positive when one row (or column) of the image is lit depends on
    that row (or column). Receptive fields are clipped at the image border. Group normalization is
    skipped, since its statistics make every value depend on the whole image.

    Args:
      model: a Linen module.
      variables: the model's parameters and statistics; only their shapes and names are used.
      size: (height, width, channels) of an image.

    Returns:
      The layers that return maps, in order of computation.

    Example:
      >>> from jaxcnn import models
      >>> model = models.create("lenet5", 10)
      >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)), train=False)
      >>> layers = receptive_fields(model, variables, (28, 28, 1))
      >>> [(layer.name, layer.receptive_field) for layer in layers]
      [('conv1', (5, 5)), ('conv2', (14, 14))]
    """
    positive = jax.tree_util.tree_map_with_path(_positive, variables)
    shapes: dict[str, tuple[int, ...]] = {}  # in order of computation

    # Kernels are passed as arguments, because XLA on CPU (jaxlib 0.10) reads uninitialized memory
    # in a chain of convolution, pooling and convolution with constant kernels.
    @jax.jit
    def sees(positive: Variables, images: jax.Array) -> dict[str, jax.Array]:
        # Use plain XLA, because Winograd convolution leaves rounding errors outside the kernel.
        with nn.intercept_methods(_skip_group_norm), plain_xla():
            maps = feature_maps(model, positive, images)
        shapes.update({name: m.shape[1:] for name, m in maps.items()})
        return {
            name: (m[:, m.shape[1] // 2, m.shape[2] // 2] > 0).any(-1) for name, m in maps.items()
        }

    extents: dict[str, list[int]] = {}
    for axis in (0, 1):
        # One image per row (or column); both use the same batch size, to compile only once.
        lines = np.zeros((max(size[:2]), *size), np.float32)
        for line in range(size[axis]):
            lines[(line, slice(None), line) if axis else (line, line)] = 1
        for name, seen in sees(positive, lines).items():
            # Measure from first to last, because a dilated kernel skips pixels in between.
            extents.setdefault(name, []).append(int(np.ptp(np.flatnonzero(seen))) + 1)
    return [
        Layer(name, shape, (extents[name][0], extents[name][1])) for name, shape in shapes.items()
    ]


def first_kernel(model: Any, params: Any, channels: int) -> np.ndarray | None:
    """Return the kernel ``[h, w, channels, out]`` of the layer applied to the image, or None.

    Args:
      model: a model, whose ``input_layer`` names the layer. If it has none, the first layer by name
        whose kernel has ``channels`` input channels is used.
      params: the model's parameters.
      channels: number of channels in the image.

    Example:
      >>> params = {"conv": {"kernel": np.zeros((5, 5, 1, 32))}, "dense": {"kernel": np.eye(3)}}
      >>> first_kernel(None, params, channels=1).shape
      (5, 5, 1, 32)
    """
    if path := input_layer(model):
        return np.asarray(flatten_dict(params, sep="/")[f"{path}/kernel"])
    kernels = [
        np.asarray(leaf)
        for leaf in jax.tree.leaves(params)
        if jnp.ndim(leaf) == 4 and leaf.shape[2] == channels
    ]
    return kernels[0] if kernels else None


def confident_mistakes(probabilities: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of wrong predictions, most confident first.

    Args:
      probabilities: ``[N, K]``.
      labels: ``[N]`` true classes.
      count: maximum number of indices.

    Example:
      >>> probabilities = np.array([[0.7, 0.3], [0.9, 0.1], [0.0, 1.0]])
      >>> confident_mistakes(probabilities, np.array([1, 1, 1]), 5).tolist()
      [1, 0]
    """
    confidence = probabilities.max(-1)
    wrong = np.flatnonzero(probabilities.argmax(-1) != labels)
    return wrong[np.argsort(-confidence[wrong], kind="stable")][:count]


def _watched(model: nn.Module, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
    """Apply the model and collect the ``[B, h, w, C]`` outputs of its submodules."""
    maps: dict[str, jax.Array] = {}

    def watch(call: Any, arguments: Any, options: Any, context: Any) -> Any:
        output = call(*arguments, **options)
        name = "/".join(context.module.path)
        if context.method_name == "__call__" and name and getattr(output, "ndim", 0) == 4:
            # A layer that is the identity here, such as dropout, replaces its input's entry.
            for earlier in [key for key, value in maps.items() if value is output]:
                del maps[earlier]
            maps[name] = output
        return output

    with nn.intercept_methods(watch):
        model.apply(variables, images, train=False)
    return maps


def _skip_group_norm(call: Any, arguments: Any, options: Any, context: Any) -> Any:
    """Replace the output of group normalization with its input."""
    if isinstance(context.module, GroupNorm) and context.method_name == "__call__":
        call(*arguments, **options)
        return arguments[0] + 0  # a new array, so that the layer keeps its entry
    return call(*arguments, **options)


def _positive(path: tuple[Any, ...], leaf: jax.Array) -> np.ndarray:
    """Return averaging kernels, with ones for scales and variances and zeros for the rest."""
    if leaf.ndim > 1:
        return np.full(leaf.shape, leaf.shape[-1] / leaf.size, leaf.dtype)
    name = jax.tree_util.keystr(path[-1:], simple=True)
    return np.full(leaf.shape, name not in ("bias", "mean"), leaf.dtype)
