"""Attribution of a network's outputs to image regions: Grad-CAM and saliency maps.

Both methods differentiate one output of a network in evaluation mode: Grad-CAM with respect to the
last feature maps, saliency with respect to the pixels. Images are preprocessed, ``[B, H, W, C]``
floating point. Outputs are logits, before the softmax or sigmoid.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import image, shapes
from jaxcnn.models import offers_features

Variables = dict[str, Any]
Indices = Sequence[int] | np.ndarray | jax.Array
Run = Callable[[Variables, Any, Any], tuple[jax.Array, jax.Array]]
_CACHED = 16  # number of models whose compiled functions are cached


class NoFeatureMapsError(ValueError):
    """The model is not split into features and head, so Grad-CAM does not apply.

    Example:
      >>> try:
      ...     grad_cam(nn.Dense(10), {}, jnp.ones((1, 8, 8, 3)))
      ... except NoFeatureMapsError as error:
      ...     print(str(error)[:27])
      model must be a Linen modul
    """


def grad_cam(
    model: nn.Module,
    variables: Variables,
    images: jax.Array | np.ndarray,
    classes: Indices | None = None,
) -> jax.Array:
    """Return Grad-CAM: a coarse map of the image regions that increase a class's logit.

    The feature maps ``A`` are combined as ``relu(sum_c w[c] A[:, :, c])``, where ``w[c]`` is the
    mean over all positions of the gradient of the class's logit with respect to ``A[:, :, c]``.
    Each map is divided by its maximum and resized to the image size; it is 0 everywhere if no
    region contributes.

    Args:
      model: a Linen module with the methods `jaxcnn.models.Network.features` and
        `jaxcnn.models.Network.head`.
      variables: the model's parameters and statistics.
      images: preprocessed images, ``[B, H, W, C]`` floating point.
      classes: ``[B]`` output indices, starting at 0; None selects each image's largest output.

    Returns:
      ``[B, H, W]`` float32 in [0, 1].

    Raises:
      NoFeatureMapsError: a ValueError, if the model lacks these methods, or ``features`` does not
        return ``[B, h, w, C]`` feature maps.
      ValueError: if ``images`` or the model's outputs have the wrong shape or dtype, or a class is
        out of range.

    Example:
      >>> from jaxcnn import models
      >>> model, images = models.create("lenet5", 10), jnp.ones((2, 28, 28, 1))
      >>> variables = model.init(jax.random.key(0), images, train=False)
      >>> grad_cam(model, variables, images, [3, 5]).shape
      (2, 28, 28)

    Reference:
      Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based
      localization". Scaling and resizing follow the authors' figures.
    """
    if not offers_features(model):
        raise NoFeatureMapsError(
            "model must be a Linen module with the methods features(images, *, train) and "
            f"head(features, *, train) for Grad-CAM, got {type(model).__name__}"
        )
    return _explain(_make_grad_cam, model, variables, images, classes)


def saliency(
    model: Any,
    variables: Variables,
    images: jax.Array | np.ndarray,
    classes: Indices | None = None,
) -> jax.Array:
    """Return each pixel's effect on a class's logit, ``max_c |d logit / d image[..., c]|``.

    Args:
      model: a Linen module called as ``model(images, train=...)``, or the result of
        `jaxcnn.train.from_functions`.
      variables: the model's parameters and statistics.
      images: preprocessed images, ``[B, H, W, C]`` floating point.
      classes: ``[B]`` output indices, starting at 0; None selects each image's largest output.

    Returns:
      ``[B, H, W]`` float32, >= 0, in logits per unit of the preprocessed pixel values.

    Raises:
      ValueError: if ``images`` or the model's outputs have the wrong shape or dtype, or a class is
        out of range.

    Example:
      The output is three times the first pixel minus the second:

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
      Simonyan et al. 2013, "Deep inside convolutional networks: visualizing image classification
      models and saliency maps".
    """
    return _explain(_make_saliency, model, variables, images, classes)


def _explain(
    make: Any, model: Any, variables: Variables, images: Any, classes: Indices | None
) -> jax.Array:
    if np.ndim(images) != 4 or 0 in images.shape[1:]:
        raise ValueError(
            f"images must be [B, H, W, C] with no empty images, got shape {np.shape(images)}"
        )
    shapes.check_floating(images, "images")
    if classes is not None:
        classes = _as_indices(classes, len(images))
    try:
        run: Run = make(model)
    except TypeError:
        # A module with an unhashable attribute, such as an array, cannot be cached.
        run = make.__wrapped__(model)
    if classes is not None and not isinstance(classes, jax.core.Tracer):
        # The call below reuses this trace.
        _, outputs = jax.eval_shape(run, variables, images, classes)
        indices, count = np.asarray(classes), outputs.shape[1]
        if ((indices < 0) | (indices >= count)).any():
            raise ValueError(
                f"classes must be indices from 0 to {count - 1}, got {indices.tolist()}"
            )
    return run(variables, images, classes)[0]


@functools.lru_cache(_CACHED)
def _make_grad_cam(model: nn.Module) -> Run:
    @jax.jit
    def run(variables: Variables, images: jax.Array, classes: Any) -> tuple[jax.Array, jax.Array]:
        maps: Any = model.apply(variables, images, train=False, method="features")
        if getattr(maps, "ndim", 0) != 4:
            raise NoFeatureMapsError(
                "model.features must return [B, h, w, C] feature maps for Grad-CAM, "
                f"got {getattr(maps, 'shape', type(maps).__name__)} from {type(model).__name__}"
            )

        def score(maps: jax.Array) -> tuple[jax.Array, jax.Array]:
            return _chosen(model.apply(variables, maps, train=False, method="head"), classes)

        gradient, outputs = jax.grad(score, has_aux=True)(maps)
        weights = gradient.astype(jnp.float32).mean((1, 2))
        maps = maps.astype(jnp.float32)
        heat = nn.relu(jnp.einsum("bhwc,bc->bhw", maps, weights, precision="highest"))
        largest = heat.max((1, 2), keepdims=True)
        heat /= jnp.where(largest == 0, 1, largest)
        heat = image.resize(heat[..., None], images.shape[1:3])[..., 0]
        return jnp.clip(heat, 0, 1), outputs  # rounding in resize may exceed 1

    return run


@functools.lru_cache(_CACHED)
def _make_saliency(model: Any) -> Run:
    @jax.jit
    def run(variables: Variables, images: jax.Array, classes: Any) -> tuple[jax.Array, jax.Array]:
        def score(images: jax.Array) -> tuple[jax.Array, jax.Array]:
            return _chosen(model.apply(variables, images, train=False), classes)

        gradient, outputs = jax.grad(score, has_aux=True)(images)
        return jnp.abs(gradient).max(-1).astype(jnp.float32), outputs

    return run


def _chosen(outputs: Any, classes: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Return the sum of one output per image, and all outputs."""
    if getattr(outputs, "ndim", 0) != 2 or not outputs.shape[1]:
        raise ValueError(
            "model must return outputs [B, K] with K >= 1, "
            f"got {getattr(outputs, 'shape', type(outputs).__name__)}"
        )
    if classes is None:
        classes = outputs.argmax(-1)
    # Images are independent in evaluation mode, so the gradient of the sum contains each image's
    # own gradient.
    return jnp.take_along_axis(outputs, classes[:, None], 1).sum(), outputs


def _as_indices(classes: Indices, count: int) -> np.ndarray | jax.Array:
    indices = classes if isinstance(classes, jax.Array) else np.asarray(classes)
    if indices.shape != (count,) or not jnp.issubdtype(indices.dtype, jnp.integer):
        raise ValueError(
            f"classes must be one integer per image, with shape ({count},), "
            f"got {classes!r} with shape {indices.shape}"
        )
    return indices
