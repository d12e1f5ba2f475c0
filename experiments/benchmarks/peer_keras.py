"""Keras 3 on the backend named by KERAS_BACKEND, trained with Keras's own ``fit``.

On TensorFlow, functions run as graphs without XLA (``--xla`` selects Keras's default, which is
slower for most networks on a CPU). Each call runs 16 steps (``steps_per_execution``) where that is
faster.
"""

import os
import sys
from typing import Any

import keras
import numpy as np
from keras import layers
from peer import serve
from workloads import Workload

EFFICIENTNET = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
)  # fmt: skip
KINDS = {"gamma": "scale", "beta": "bias", "kernel": "kernel", "bias": "bias"}


def conv(x: Any, features: int, window: int, stride: int, name: str) -> Any:
    """Apply a convolution without bias, padded as in torchvision."""
    if window > 1 and stride > 1:
        # SAME would pad only at the bottom and right.
        x, padding = layers.ZeroPadding2D(window // 2)(x), "valid"
    else:
        padding = "same"
    return layers.Conv2D(features, window, stride, padding, use_bias=False, name=name)(x)


def norm(x: Any, name: str) -> Any:
    """Apply batch norm as in torchvision."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def classic_cnn(x: Any, classes: int, dropout: float = 0.2) -> Any:
    """Return the logits of the course's network."""
    x = layers.Conv2D(32, 5, padding="same", activation="relu", name="conv")(x)
    x = layers.Dropout(dropout)(layers.MaxPooling2D(2)(x))
    x = layers.Dense(128, activation="relu", name="hidden")(layers.Flatten()(x))
    return layers.Dense(classes, name="output")(x)


def small_vgg(x: Any, classes: int, dropout: float = 0.3, norm: str = "none") -> Any:
    """Return the logits of a network with six convolutions and two dense layers."""
    for number, width in enumerate((32, 32, 64, 64, 128, 128)):
        x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"convs_{number}")(x)
        if number % 2:
            x = layers.MaxPooling2D(2)(x)
    x = layers.Dropout(dropout)(layers.Flatten()(x))
    x = layers.Dropout(dropout)(layers.Dense(128, activation="relu", name="hidden")(x))
    return layers.Dense(classes, name="output")(x)


def block(x: Any, width: int, stride: int, bottleneck: bool, name: str) -> Any:
    """Apply a residual block."""
    outputs = width * (4 if bottleneck else 1)
    plan = [(width, 1, 1), (width, 3, stride), (outputs, 1, 1)]
    if not bottleneck:
        plan = [(width, 3, stride), (outputs, 3, 1)]
    shortcut = x
    for number, (features, window, step) in enumerate(plan, start=1):
        x = norm(conv(x, features, window, step, f"{name}.conv{number}"), f"{name}.bn{number}")
        if number < len(plan):
            x = layers.ReLU()(x)
    if stride != 1 or shortcut.shape[-1] != outputs:
        shortcut = conv(shortcut, outputs, 1, stride, f"{name}.downsample_0")
        shortcut = norm(shortcut, f"{name}.downsample_1")
    return layers.ReLU()(layers.Add()([x, shortcut]))


def resnet(
    x: Any,
    classes: int,
    depths: tuple[int, ...] = (2, 2, 2, 2),
    bottleneck: bool = False,
    stem: str = "imagenet",
) -> Any:
    """Return the logits of ResNet v1.5."""
    window, stride = (7, 2) if stem == "imagenet" else (3, 1)
    x = layers.ReLU()(norm(conv(x, 64, window, stride, "conv1"), "bn1"))
    if stem == "imagenet":
        # After a ReLU, zero padding is equivalent to padding with minus infinity.
        x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for stage, depth in enumerate(depths):
        for number in range(depth):
            stride = 2 if stage and not number else 1
            x = block(x, 64 * 2**stage, stride, bottleneck, f"layer{stage + 1}_{number}")
    return layers.Dense(classes, name="fc")(layers.GlobalAveragePooling2D()(x))


def efficientnet(x: Any, classes: int, dropout: float = 0.2, drop_path: float = 0.2) -> Any:
    """Return the logits of EfficientNet-B0."""
    x = layers.Activation("silu")(norm(conv(x, 32, 3, 2, "stem"), "stem_bn"))
    total, blocks = sum(row[-1] for row in EFFICIENTNET), 0
    for stage, row in enumerate(EFFICIENTNET, start=1):
        for number in range(row[-1]):
            stride = 1 if number else row[2]
            name = f"stage{stage}_{number}"
            x = inverted_bottleneck(x, row, stride, drop_path * blocks / total, name)
            blocks += 1
    x = layers.Activation("silu")(norm(conv(x, 1280, 1, 1, "top"), "top_bn"))
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    return layers.Dense(classes, name="classifier")(x)


def inverted_bottleneck(
    images: Any, row: tuple[int, ...], stride: int, rate: float, name: str
) -> Any:
    """Apply EfficientNet's block."""
    expansion, window, _, channels, _ = row
    inputs, x = images.shape[-1], images
    if expansion != 1:
        x = conv(x, inputs * expansion, 1, 1, f"{name}.expand")
        x = layers.Activation("silu")(norm(x, f"{name}.expand_bn"))
    padding = "same"
    if stride > 1:
        x, padding = layers.ZeroPadding2D(window // 2)(x), "valid"
    x = layers.DepthwiseConv2D(window, stride, padding, use_bias=False, name=f"{name}.depthwise")(x)
    x = layers.Activation("silu")(norm(x, f"{name}.depthwise_bn"))
    y = layers.GlobalAveragePooling2D()(x)
    y = layers.Dense(max(1, inputs // 4), "silu", name=f"{name}.excite.Dense_0")(y)
    y = layers.Dense(x.shape[-1], "sigmoid", name=f"{name}.excite.Dense_1")(y)
    x = layers.Multiply()([x, layers.Reshape((1, 1, -1))(y)])
    x = norm(conv(x, channels, 1, 1, f"{name}.project"), f"{name}.project_bn")
    if stride == 1 and inputs == channels:
        x = layers.Add()([images, layers.Dropout(rate, noise_shape=(None, 1, 1, 1))(x)])
    return x


def build(workload: Workload, options: dict[str, Any]) -> keras.Model:
    """Return the workload's network, with logits in Keras's default float type."""
    inputs = keras.Input(workload.shape)
    if workload.model == "resnet50":
        options = {"depths": (3, 4, 6, 3), "bottleneck": True} | options
    make: Any = {
        "classic_cnn": classic_cnn,
        "small_vgg": small_vgg,
        "resnet18": resnet,
        "resnet50": resnet,
        "efficientnet_b0": efficientnet,
    }[workload.model]
    outputs = make(inputs, workload.classes, **options)
    return keras.Model(inputs, layers.Activation("linear", dtype=keras.config.floatx())(outputs))


class KerasPeer:
    """See `peer.Peer`."""

    def load(
        self,
        workload: Workload,
        precision: str,
        weights: dict[str, np.ndarray] | None,
        data: list[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        """Build and compile the model."""
        keras.config.set_floatx("float64" if precision == "float64" else "float32")
        keras.mixed_precision.set_global_policy(
            "mixed_bfloat16" if precision == "bfloat16" else precision
        )
        options = workload.options | ({} if weights is None else workload.regularizers)
        self.model = build(workload, options)
        if weights is not None:
            for variable in self.model.trainable_variables:
                name = jaxcnn_name(variable)
                value = weights[name]
                if "depthwise" in name and value.ndim == 4:
                    value = value.transpose(0, 1, 3, 2)
                variable.assign(value)
        self.data = data
        if workload.optimizer == "adam":
            optimizer = keras.optimizers.Adam(1e-3)
        else:
            optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        self.model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=keras.backend.backend() == "jax" or "--xla" in sys.argv,
            steps_per_execution=16 if workload.batch >= 128 else 1,
        )

    def batches(self, steps: int) -> Any:
        """Return a stream of ``steps`` batches in the backend's native form."""
        if keras.backend.backend() == "jax":
            return (self.data[step % len(self.data)] for step in range(steps))
        import tensorflow as tf

        images, labels = (np.concatenate(part) for part in zip(*self.data, strict=True))
        source = tf.data.Dataset.from_tensor_slices((images, labels))
        return source.batch(len(self.data[0][0])).cache().repeat().take(steps).prefetch(2)

    def gradients(self) -> tuple[float, dict[str, np.ndarray]]:
        """Return the loss and gradients for the first batch."""
        images, labels = self.data[0]
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if keras.backend.backend() == "jax":
            import jax

            def objective(trainable: Any, fixed: Any) -> Any:
                logits, _ = self.model.stateless_call(trainable, fixed, images, training=True)
                return loss(labels, logits)

            value, gradients = jax.jit(jax.value_and_grad(objective))(
                [variable.value for variable in self.model.trainable_variables],
                [variable.value for variable in self.model.non_trainable_variables],
            )
        else:
            import tensorflow as tf

            with tf.GradientTape() as tape:
                value = loss(labels, self.model(images, training=True))
            variables = [variable.value for variable in self.model.trainable_variables]
            gradients = tape.gradient(value, variables)
        named = {}
        for variable, gradient in zip(self.model.trainable_variables, gradients, strict=True):
            name, array = jaxcnn_name(variable), np.asarray(gradient)
            if "depthwise" in name and array.ndim == 4:
                array = array.transpose(0, 1, 3, 2)
            named[name] = array
        return float(value), named

    def train(self, steps: int) -> None:
        """Train with ``fit``."""
        self.model.fit(self.batches(steps), steps_per_epoch=steps, verbose=0)

    def forward(self, steps: int) -> None:
        """Compute logits with ``predict``."""
        source = self.batches(steps)
        if keras.backend.backend() == "jax":
            source = ((images,) for images, _ in source)
        else:
            source = source.map(lambda images, labels: images)
        self.model.predict(source, steps=steps, verbose=0)

    def versions(self) -> str:
        """Return the versions."""
        backend = keras.backend.backend()
        module = sys.modules["jax" if backend == "jax" else "tensorflow"]
        return f"keras {keras.__version__}, {module.__name__} {module.__version__}"


def jaxcnn_name(variable: Any) -> str:
    """Return jaxcnn's name for a variable."""
    *layer, kind = variable.path.split("/")
    return "/".join([*layer[-1].split("."), KINDS.get(kind, kind)])


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    serve(KerasPeer)
