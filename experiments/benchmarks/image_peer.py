"""Process for one library of image functions, which answers one JSON request per line.

Usage: ``python image_peer.py LIBRARY``; image_speed.py starts it. A library is a class with a
method for each kind of task. The method takes a batch ``[B, H, W, C]`` and returns a function that
processes the batch once and returns the result as a NumPy array, or as something convertible to
one.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from image_tasks import ANGLE, FACTOR, MEAN, SHEAR, SHIFT, STD, TASKS, ZOOM

BATCHES = 4  # batches per epoch of a generator

Work = Callable[[], Any]


class Jaxcnn:
    """Compiled functions of batches on the device, with a new key for each call."""

    def __init__(self) -> None:
        import jax

        from jaxcnn import data, image
        from jaxcnn.experiment import keep_freed_memory

        keep_freed_memory()
        self.jax, self.image, self.data = jax, image, data

    def versions(self) -> str:
        """Return the versions."""
        return f"jax {self.jax.__version__}"

    def _random(self, function: Callable[[Any, Any], Any], x: np.ndarray) -> Work:
        jax, root = self.jax, self.jax.random.key(0)
        compiled = jax.jit(lambda number, x: function(jax.random.fold_in(root, number), x))
        images, numbers = jax.device_put(x), iter(range(1 << 30))
        return lambda: compiled(next(numbers), images).block_until_ready()

    def _fixed(self, function: Callable[[Any], Any], x: np.ndarray) -> Work:
        compiled, images = self.jax.jit(function), self.jax.device_put(x)
        return lambda: self.jax.block_until_ready(compiled(images))

    def _affine(self, key: Any, x: Any) -> Any:
        return self.image.random_affine(
            key,
            x,
            max_angle=ANGLE,
            max_shear=SHEAR,
            scale=(1 - ZOOM, 1 + ZOOM),
            max_shift=SHIFT,
        )

    def affine(self, x: np.ndarray) -> Work:
        """One draw per image, bilinear, black outside the image."""
        return self._random(self._affine, x)

    def chain(self, x: np.ndarray) -> Work:
        """Flip, affine, brightness, contrast, normalize, erase."""
        image = self.image
        changed = image.compose(
            image.random_flip_left_right,
            self._affine,
            lambda key, x: image.random_brightness(key, x, max_delta=FACTOR),
            lambda key, x: image.random_contrast(key, x, factors=(1 - FACTOR, 1 + FACTOR)),
            lambda key, x: image.normalize(x, (MEAN,) * 3, (STD,) * 3),
            image.random_erasing,
        )
        return self._random(changed, x)

    def generator(self, x: np.ndarray) -> Work:
        """Batches from jaxcnn's `ImageDataGenerator`."""
        images = x.repeat(BATCHES, 0)
        flow = self.data.ImageDataGenerator(**knobs()).flow(images, batch_size=len(x))
        return lambda: next(flow).block_until_ready()

    def median3(self, x: np.ndarray) -> Work:
        """3x3."""
        return self._fixed(lambda x: self.image.median_blur(x, 3), x)

    def median5(self, x: np.ndarray) -> Work:
        """5x5."""
        return self._fixed(lambda x: self.image.median_blur(x, 5), x)

    def gaussian(self, x: np.ndarray) -> Work:
        """5x5, reflected at the border."""
        return self._fixed(lambda x: self.image.gaussian_blur(x, 1.0, window=5), x)

    def sobel(self, x: np.ndarray) -> Work:
        """Both derivatives, 3x3."""
        return self._fixed(lambda x: self.jax.numpy.stack(self.image.sobel(x)), x)

    def components(self, x: np.ndarray) -> Work:
        """8-connectivity, exact."""
        return self._fixed(lambda x: self.image.connected_components(x[..., 0]).labels, x)


class Opencv:
    """A loop over the images, as OpenCV users would write it."""

    def __init__(self) -> None:
        import cv2

        self.cv2, self.rng = cv2, np.random.default_rng(0)

    def versions(self) -> str:
        """Return the versions."""
        return f"opencv {self.cv2.__version__}"

    def _each(self, function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> Work:
        return lambda: np.stack([function(image) for image in x])

    def affine(self, x: np.ndarray) -> Work:
        """``warpAffine`` with a random matrix for each image."""
        height, width = x.shape[1:3]
        middle = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
        back = np.linalg.inv(middle)

        def apply(image: np.ndarray) -> np.ndarray:
            angle, shear = np.deg2rad(self.rng.uniform((-ANGLE, -SHEAR), (ANGLE, SHEAR)))
            zoom = self.rng.uniform(1 - ZOOM, 1 + ZOOM)
            right, down = self.rng.uniform(-SHIFT, SHIFT, 2) * (width, height)
            turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            matrix = np.eye(3)
            matrix[:2, :2] = zoom * turn @ [[1, np.tan(shear)], [0, 1]]
            matrix[:2, 2] = right, down
            return self.cv2.warpAffine(image, (middle @ matrix @ back)[:2], (width, height))

        return self._each(apply, x)

    def median3(self, x: np.ndarray) -> Work:
        """3x3."""
        return self._each(lambda image: self.cv2.medianBlur(image, 3), x)

    def median5(self, x: np.ndarray) -> Work:
        """5x5."""
        return self._each(lambda image: self.cv2.medianBlur(image, 5), x)

    def gaussian(self, x: np.ndarray) -> Work:
        """5x5, reflected at the border."""
        return self._each(lambda image: self.cv2.GaussianBlur(image, (5, 5), 1.0), x)

    def sobel(self, x: np.ndarray) -> Work:
        """Both derivatives, 3x3."""
        cv2 = self.cv2
        slopes = ((0, 1), (1, 0))
        return lambda: np.stack(
            [[cv2.Sobel(image, cv2.CV_32F, dx, dy) for image in x] for dx, dy in slopes]
        )

    def components(self, x: np.ndarray) -> Work:
        """8-connectivity, exact."""
        return self._each(lambda image: self.cv2.connectedComponents(image)[1], x)


class Albumentations:
    """A loop over the images, because albumentations does not process batches."""

    def __init__(self) -> None:
        import albumentations

        self.library = albumentations

    def versions(self) -> str:
        """Return the versions."""
        return f"albumentations {self.library.__version__}"

    def affine(self, x: np.ndarray) -> Work:
        """One draw per image, bilinear, black outside the image."""
        transform = self.library.Affine(
            scale=(1 - ZOOM, 1 + ZOOM),
            translate_percent=(-SHIFT, SHIFT),
            rotate=(-ANGLE, ANGLE),
            shear={"x": (-SHEAR, SHEAR), "y": (0, 0)},
            p=1.0,
        )
        return lambda: np.stack([transform(image=image)["image"] for image in x])


class Torch:
    """Base class for the libraries built on torch: channels first."""

    def __init__(self) -> None:
        import torch

        torch.set_grad_enabled(False)
        self.torch = torch

    def planes(self, x: np.ndarray) -> Any:
        """Return the batch as a ``[B, C, H, W]`` tensor."""
        return self.torch.from_numpy(np.moveaxis(x, -1, 1).copy())


class Kornia(Torch):
    """Batches, with one draw for each image."""

    def __init__(self) -> None:
        super().__init__()
        import kornia

        self.kornia = kornia

    def versions(self) -> str:
        """Return the versions."""
        return f"kornia {self.kornia.__version__}, torch {self.torch.__version__}"

    def affine(self, x: np.ndarray) -> Work:
        """One draw per image, bilinear, black outside the image."""
        transform = self.kornia.augmentation.RandomAffine(
            ANGLE, (SHIFT, SHIFT), (1 - ZOOM, 1 + ZOOM), (-SHEAR, SHEAR), p=1.0
        )
        images = self.planes(x)
        return lambda: np.moveaxis(transform(images).numpy(), 1, -1)

    def gaussian(self, x: np.ndarray) -> Work:
        """5x5, reflected at the border."""
        images = self.planes(x)
        blur = self.kornia.filters.gaussian_blur2d
        return lambda: np.moveaxis(blur(images, (5, 5), (1.0, 1.0)).numpy(), 1, -1)

    def components(self, x: np.ndarray) -> Work:
        """8-connectivity, 100 iterations, which may leave components incomplete."""
        images = self.planes(x.astype(np.float32))
        label = self.kornia.contrib.connected_components
        return lambda: label(images, 100)[:, 0].numpy()


class Torchvision(Torch):
    """A loop over the images, because torchvision draws once per batch."""

    def __init__(self) -> None:
        super().__init__()
        from peer_torch import torchvision  # imports it without its operators
        from torchvision.transforms import v2

        self.version, self.v2 = torchvision.__version__, v2

    def versions(self) -> str:
        """Return the versions."""
        return f"torchvision {self.version}, torch {self.torch.__version__}"

    def _affine(self) -> Any:
        return self.v2.RandomAffine(
            ANGLE,
            (SHIFT, SHIFT),
            (1 - ZOOM, 1 + ZOOM),
            (-SHEAR, SHEAR),
            interpolation=self.v2.InterpolationMode.BILINEAR,
        )

    def _each(self, transform: Any, x: np.ndarray) -> Work:
        images, stack = self.planes(x), self.torch.stack
        return lambda: np.moveaxis(stack([transform(one) for one in images]).numpy(), 1, -1)

    def affine(self, x: np.ndarray) -> Work:
        """One draw per image, bilinear, black outside the image."""
        return self._each(self._affine(), x)

    def chain(self, x: np.ndarray) -> Work:
        """Flip, affine, brightness, contrast, normalize, erase."""
        v2 = self.v2
        parts = [
            v2.RandomHorizontalFlip(),
            self._affine(),
            v2.ColorJitter(FACTOR, FACTOR),
            v2.Normalize((MEAN,) * 3, (STD,) * 3),
            v2.RandomErasing(0.5),
        ]
        return self._each(v2.Compose(parts), x)


class Keras:
    """Layers under ``tf.function``, and the generator on NumPy."""

    def __init__(self) -> None:
        import keras
        import tensorflow

        self.keras, self.tensorflow = keras, tensorflow

    def versions(self) -> str:
        """Return the versions."""
        return f"keras {self.keras.__version__}, tensorflow {self.tensorflow.__version__}"

    def chain(self, x: np.ndarray) -> Work:
        """Flip, affine, brightness, contrast, normalize, erase."""
        layers = self.keras.layers
        black = {"fill_mode": "constant"}
        tangent = float(np.tan(np.deg2rad(SHEAR)))
        parts = [
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(ANGLE / 360, **black),
            layers.RandomShear(tangent, 0.0, **black),
            layers.RandomZoom((-ZOOM, ZOOM), **black),
            layers.RandomTranslation(SHIFT, SHIFT, **black),
            layers.RandomBrightness(FACTOR, value_range=(0, 1)),
            layers.RandomContrast(FACTOR, value_range=(0, 1)),
            layers.Normalization(mean=MEAN, variance=STD**2),
            layers.RandomErasing(0.5, fill_value=0.0, value_range=(0, 1)),
        ]

        @self.tensorflow.function
        def changed(images: Any) -> Any:
            for layer in parts:
                images = layer(images, training=True)
            return images

        images = self.tensorflow.constant(x)
        return lambda: changed(images).numpy()

    def generator(self, x: np.ndarray) -> Work:
        """Batches from Keras's own generator."""
        from keras.src.legacy.preprocessing.image import ImageDataGenerator

        images = x.repeat(BATCHES, 0)
        flow = ImageDataGenerator(**knobs()).flow(images, batch_size=len(x))
        return lambda: next(flow)


def knobs() -> dict[str, Any]:
    """Return the options for Keras's and jaxcnn's generators."""
    return {
        "rotation_range": ANGLE,
        "width_shift_range": SHIFT,
        "height_shift_range": SHIFT,
        "shear_range": SHEAR,
        "zoom_range": ZOOM,
        "horizontal_flip": True,
    }


LIBRARIES = {
    "jaxcnn": Jaxcnn,
    "opencv": Opencv,
    "albumentations": Albumentations,
    "kornia": Kornia,
    "torchvision": Torchvision,
    "keras": Keras,
}


def main() -> None:
    """Answer requests until the input ends."""
    # Only responses may go to the real standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    library: Any = LIBRARIES[sys.argv[1]]()
    works: dict[str, Work] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(answer(library, works, request)) + "\n")
        answers.flush()


def answer(library: Any, works: dict[str, Work], request: dict[str, Any]) -> Any:
    """Answer one request: ``versions``, ``load`` a task, ``show`` (save) its result, or ``run``."""
    if request["do"] == "versions":
        return {"versions": library.versions()}
    name = request["task"]
    if request["do"] == "load":
        task = TASKS[name]
        works.clear()
        works[name] = getattr(library, task.kind)(task.images())
        works[name]()
        return {}
    if request["do"] == "show":
        np.save(
            request["file"], np.stack([np.asarray(works[name]()) for _ in range(request["steps"])])
        )
        return {}
    began = time.perf_counter()
    for _ in range(request["steps"]):
        works[name]()
    return {"seconds": (time.perf_counter() - began) / request["steps"]}


if __name__ == "__main__":
    main()
