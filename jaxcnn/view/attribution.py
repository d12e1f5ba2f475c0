"""Where in an image a network finds a class: Grad-CAM and saliency maps.

Both ask how one output of a network in evaluation mode changes: Grad-CAM with the last feature
maps, saliency with the pixels. Images are preprocessed, ``[B, H, W, C]`` floating point. Outputs
are explained as they are, before a softmax or sigmoid.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import image, shapes

Variables = dict[str, Any]
Indices = Sequence[int] | np.ndarray | jax.Array
Run = Callable[[Variables, Any, Any], tuple[jax.Array, jax.Array]]
_KEPT = 16  # networks whose compiled functions are kept


class NoFeatureMapsError(ValueError):
    """The network has no feature maps between two parts, so there is no Grad-CAM of it."""


def grad_cam(
    model: nn.Module,
    variables: Variables,
    images: jax.Array | np.ndarray,
    classes: Indices | None = None,
) -> jax.Array:
    """Which parts of images speak for a class, coarsely, by the last feature maps.

    The maps ``A`` are added up to ``relu(sum_c w[c] A[:, :, c])``, where ``w[c]`` is the mean over
    all positions of the gradient of the class's logit with respect to ``A[:, :, c]``. Each sum is
    divided by its largest value and then resized. Nothing speaks for a class where all is 0.

    Args:
      model: a Linen module that is ``head(features(images, train), train)``, as those of
        `jaxcnn.models` are.
      variables: its parameters and statistics.
      images: preprocessed, ``[B, H, W, C]`` floating point.
      classes: ``[B]`` indices of outputs, from 0; by default of each image's largest output, which
        is the only one if there is one.

    Returns:
      ``[B, H, W]`` float32 in [0, 1].

    Raises:
      NoFeatureMapsError: a ValueError, if the model has no such parts, or ``features`` does not
        give maps ``[B, h, w, C]``.
      ValueError: if another argument is not as described.

    Example:
      >>> from jaxcnn import models
      >>> model, images = models.create("lenet5", 10), jnp.ones((2, 28, 28, 1))
      >>> variables = model.init(jax.random.key(0), images, train=False)
      >>> grad_cam(model, variables, images, [3, 5]).shape
      (2, 28, 28)

    Reference:
      Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based
      localization". Scaling and resizing are as in the authors' pictures.
    """
    if not (isinstance(model, nn.Module) and _takes_two(model, "features", "head")):
        raise NoFeatureMapsError(
            "model must be a Linen module with methods features(images, train) and "
            f"head(features, train) for Grad-CAM, got {type(model).__name__}"
        )
    return _explain(_make_grad_cam, model, variables, images, classes)


def saliency(
    model: Any,
    variables: Variables,
    images: jax.Array | np.ndarray,
    classes: Indices | None = None,
) -> jax.Array:
    """How much the logit of a class changes with each pixel: ``max_c |d logit / d image[..., c]|``.

    Args:
      model: a Linen module called as ``model(images, train=...)``, or
        `jaxcnn.train.from_functions`.
      variables: its parameters and statistics.
      images: preprocessed, ``[B, H, W, C]`` floating point.
      classes: ``[B]`` indices of outputs, from 0; by default of each image's largest output, which
        is the only one if there is one.

    Returns:
      ``[B, H, W]`` float32, >= 0, in units of the logit per unit of the preprocessed pixel.

    Raises:
      ValueError: if an argument is not as described, or the model does not give ``[B, K]``.

    Example:
      The output is three times the first pixel less the second:

      >>> from jaxcnn import train
      >>> model = train.from_functions(
      ...     lambda key, images: jnp.array([[3.0], [-1.0]]),
      ...     lambda params, images, *, train, key: images.reshape(len(images), -1) @ params,
      ... )
      >>> images = jnp.zeros((1, 1, 2, 1))
      >>> variables = model.init(jax.random.key(0), images, train=False)
      >>> saliency(model, variables, images).tolist()
      [[[3.0, 1.0]]]

    Reference:
      Simonyan et al. 2013, "Deep inside convolutional networks: visualising image classification
      models and saliency maps".
    """
    return _explain(_make_saliency, model, variables, images, classes)


def _explain(
    make: Any, model: Any, variables: Variables, images: Any, classes: Indices | None
) -> jax.Array:
    if np.ndim(images) != 4 or 0 in images.shape[1:]:
        raise ValueError(
            f"images must be [B, H, W, C] with no empty image, got shape {np.shape(images)}"
        )
    shapes.check_floating(images, "images")
    if classes is not None:
        classes = _as_indices(classes, len(images))
    try:
        run: Run = make(model)
    except TypeError:
        # An attribute such as an array has no hash: compiled for this call alone.
        run = make.__wrapped__(model)
    if classes is not None and not isinstance(classes, jax.core.Tracer):
        # The call below finds this trace again.
        _, outputs = jax.eval_shape(run, variables, images, classes)
        indices, count = np.asarray(classes), outputs.shape[1]
        if ((indices < 0) | (indices >= count)).any():
            raise ValueError(
                f"classes must be indices from 0 to {count - 1}, got {indices.tolist()}"
            )
    return run(variables, images, classes)[0]


@functools.lru_cache(_KEPT)
def _make_grad_cam(model: nn.Module) -> Run:
    @jax.jit
    def run(variables: Variables, images: jax.Array, classes: Any) -> tuple[jax.Array, jax.Array]:
        maps: Any = model.apply(variables, images, False, method="features")
        if getattr(maps, "ndim", 0) != 4:
            raise NoFeatureMapsError(
                "model.features must give maps [B, h, w, C] for Grad-CAM, "
                f"got {getattr(maps, 'shape', type(maps).__name__)} of {type(model).__name__}"
            )

        def score(maps: jax.Array) -> tuple[jax.Array, jax.Array]:
            return _chosen(model.apply(variables, maps, False, method="head"), classes)

        gradient, outputs = jax.grad(score, has_aux=True)(maps)
        weights = gradient.astype(jnp.float32).mean((1, 2))
        maps = maps.astype(jnp.float32)
        heat = nn.relu(jnp.einsum("bhwc,bc->bhw", maps, weights, precision="highest"))
        largest = heat.max((1, 2), keepdims=True)
        heat /= jnp.where(largest == 0, 1, largest)
        heat = image.resize(heat[..., None], images.shape[1:3])[..., 0]
        return jnp.clip(heat, 0, 1), outputs  # rounding in resize may exceed 1

    return run


@functools.lru_cache(_KEPT)
def _make_saliency(model: Any) -> Run:
    @jax.jit
    def run(variables: Variables, images: jax.Array, classes: Any) -> tuple[jax.Array, jax.Array]:
        def score(images: jax.Array) -> tuple[jax.Array, jax.Array]:
            return _chosen(model.apply(variables, images, train=False), classes)

        gradient, outputs = jax.grad(score, has_aux=True)(images)
        return jnp.abs(gradient).max(-1).astype(jnp.float32), outputs

    return run


def _chosen(outputs: Any, classes: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """The sum of one output per image, and all outputs."""
    if getattr(outputs, "ndim", 0) != 2 or not outputs.shape[1]:
        raise ValueError(
            "model must give outputs [B, K] with K >= 1, "
            f"got {getattr(outputs, 'shape', type(outputs).__name__)}"
        )
    if classes is None:
        classes = outputs.argmax(-1)
    # In evaluation no image sees another, so the sum's gradient is each image's own.
    return jnp.take_along_axis(outputs, classes[:, None], 1).sum(), outputs


def _takes_two(model: nn.Module, *names: str) -> bool:
    """Whether the class has methods of these names that can be called with two arguments."""
    for name in names:
        method = getattr(type(model), name, None)
        if not callable(method):
            return False
        try:
            inspect.signature(method).bind(model, None, False)
        except TypeError:
            return False
    return True


def _as_indices(classes: Indices, count: int) -> np.ndarray | jax.Array:
    indices = classes if isinstance(classes, jax.Array) else np.asarray(classes)
    if indices.shape != (count,) or not jnp.issubdtype(indices.dtype, jnp.integer):
        raise ValueError(
            f"classes must be an integer per image, shape ({count},), "
            f"got {classes!r} of shape {indices.shape}"
        )
    return indices
