# %% [markdown]
# # Convolutional neural networks: the basic design
#
# **You will learn** what a convolution computes, what kernels detect, what stride, padding and
# depth mean, what the other layers are for (ReLU, pooling, flattening, dense, output), and how
# these layers form a classical network, first written as a plain function and then as a module.
#
# **You need** Python and NumPy. These notebooks follow the slides of a course on convolutional
# networks, but you do not need the slides. (This notebook covers "CNN Architecture", from "Layers
# of CNN" to "A Classical CNN Architecture".) If you know Keras, the guide [Coming from
# Keras](../guides/coming_from_keras.md) lists its calls next to the ones used here.
#
# **Time**: about 45 minutes to read and try; the whole notebook runs in less than a minute. The
# lines with `assert` verify claims made in the text; you can skip them while reading.

# %%
# %matplotlib inline
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import skimage.data
from matplotlib import pyplot as plt

from jaxcnn import image, losses, models, ops, train
from jaxcnn.view import inspection, plots, predictions

# %% [markdown]
# ## JAX in ten lines
#
# `jaxcnn` is written in JAX, which is NumPy plus a little more:
#
# - **Arrays** are used as in NumPy (`jnp` instead of `np`), but they are immutable:
#   `x.at[0].set(5)` returns a modified copy.
# - **Random numbers** need a **key**, which is the first argument of every random function. The
#   same key always gives the same result; `jax.random.fold_in(key, 1)` makes a new key from a key
#   and a number.
# - **Functions** can be transformed into other functions: `jax.jit(f)` is a compiled, faster `f`;
#   `jax.grad(f)` computes the slope (gradient) of `f`; `jax.vmap(f)` applies `f` to each row.
# - A **tree** is a dictionary of arrays or of further dictionaries, such as the parameters of a
#   network. `jax.tree.map(f, tree)` is the same tree with `f` applied to each array.
#
# To learn more, read [How to think in
# JAX](https://docs.jax.dev/en/latest/notebooks/thinking_in_jax.html).

# %%
x = jnp.arange(3.0)
print("modified copy", x.at[0].set(5), "- original array", x)

key = jax.random.key(0)
print("same key", jax.random.uniform(key), jax.random.uniform(key), end=" - ")
print("new key", jax.random.uniform(jax.random.fold_in(key, 1)))

print("squares, compiled", jax.jit(jnp.square)(x), "- slope at 3", jax.grad(jnp.square)(3.0))
print("slope at each of", x, "is", jax.vmap(jax.grad(jnp.square))(x))

tree = {"kernel": jnp.ones(2), "bias": jnp.zeros(1)}
print("tree, each array plus 1", jax.tree.map(lambda array: array + 1, tree))

# %% [markdown]
# ## 1. A convolution by hand
#
# An image is a matrix of pixels. A **kernel** (also called a filter) is a small matrix of
# **weights** that slides over the image. Here are 5x5 pixels and a 3x3 kernel of zeros and ones.

# %%
pixels = np.array(
    [
        [1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 1, 1, 1],
        [0, 0, 1, 1, 0],
        [0, 1, 1, 0, 0],
    ],
    np.float32,
)
weights = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], np.float32)

# %% [markdown]
# Put the kernel on the top-left corner. Multiply each weight by the pixel under it, and sum the
# nine products. The result is the **dot product** of the kernel and the window.

# %%
window = pixels[:3, :3]
terms = [f"{w:.0f}*{p:.0f}" for w, p in zip(weights.reshape(-1), window.reshape(-1), strict=True)]
first = float((weights * window).sum())
print(" + ".join(terms), "=", first)
assert first == 4

# %% [markdown]
# This number is the top-left value of the convolved matrix. Move the kernel one pixel to the right
# and do the same again; at the end of a row, go back to the left edge and one pixel down. (The
# length of each move is the **stride**, here 1. It does not depend on the size of the window.)

# %%
by_hand = np.zeros((3, 3), np.float32)
for row in range(3):
    for column in range(3):
        by_hand[row, column] = (weights * pixels[row : row + 3, column : column + 3]).sum()
print(by_hand)

# %% [markdown]
# `ops.conv` does the same for many images, channels and kernels at once. Images have the shape
# `[batch, height, width, channels]`, and kernels `[height, width, channels in, channels out]`.
# `padding="VALID"` uses only positions where the whole kernel lies inside the image.

# %%
convolved = ops.conv(
    jnp.array(pixels).reshape(1, 5, 5, 1),
    jnp.array(weights).reshape(3, 3, 1, 1),
    strides=1,
    padding="VALID",
)
print(convolved[0, ..., 0])
np.testing.assert_array_equal(convolved[0, ..., 0], by_hand)

# %% [markdown]
# Do we have to find the weights ourselves? No: training finds them, as you will see in the next
# notebook. But some famous kernels were designed by hand, and they show what a kernel can do.

# %% [markdown]
# ## 2. Kernels are feature detectors
#
# Here is a real photograph, converted to grayscale and made smaller. `image.to_float` scales bytes
# to numbers from 0 to 1, `image.to_grayscale` computes a weighted sum of the three colors, and
# `image.resize` averages pixels.

# %%
color = image.to_float(skimage.data.astronaut()[None, :300, 80:380])
photo = image.resize(image.to_grayscale(color), (150, 150))
print("color", color.shape, "grayscale", photo.shape)

# %% [markdown]
# Four kernels:
#
# - the **average** of the neighbors blurs;
# - five times the pixel minus its four neighbors **sharpens**;
# - the **difference** between the right and the left neighbor is large where the image changes from
#   left to right, so this kernel finds vertical edges. Rotated by 90 degrees, it finds horizontal
#   edges.

# %%
detectors = {
    "average": np.full((3, 3), 1 / 9),
    "sharpen": np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    "vertical edges": np.array([[0, 0, 0], [-1, 0, 1], [0, 0, 0]]),
    "horizontal edges": np.array([[0, -1, 0], [0, 0, 0], [0, 1, 0]]),
}
bank = jnp.stack([jnp.array(kernel, jnp.float32) for kernel in detectors.values()], -1)[:, :, None]
maps = ops.conv(photo, bank, padding="SAME")
print("kernels", bank.shape, "feature maps", maps.shape)

# %% [markdown]
# One call with four kernels returns four **feature maps**: K kernels produce an output of depth K.
# In the edge maps, gray means zero, white a rise in brightness and black a fall.

# %%
figure, axes = plt.subplots(1, 5, figsize=(8, 2), layout="constrained")
panels = {"photo": photo[0, ..., 0]}
panels |= {name: maps[0, ..., number] for number, name in enumerate(detectors)}
for place, (name, panel) in zip(axes, panels.items(), strict=True):
    low, high = (-0.4, 0.4) if "edges" in name else (0, 1)
    place.imshow(panel, cmap="gray", vmin=low, vmax=high)
    place.set_title(name, fontsize=9)
    place.axis("off")

# %% [markdown]
# `jaxcnn.image` provides such kernels by name: `box_blur`, `gaussian_blur`, `sharpen`, `sobel`,
# `laplacian`, and `filter2d` for a custom kernel. Away from the border they compute the same
# convolution; at the border `filter2d` mirrors the image, whereas `ops.conv` pads with zeros.

# %%
inner = (slice(None), slice(1, -1), slice(1, -1))
blurred = image.box_blur(photo, 3)
np.testing.assert_allclose(blurred[inner], maps[..., :1][inner], atol=1e-6)
edges = image.filter2d(photo, detectors["vertical edges"])
np.testing.assert_allclose(edges[inner], maps[..., 2:3][inner], atol=1e-6)

# %% [markdown]
# ### What a convolution does not care about
#
# The same kernel is used everywhere, so a detector works wherever its feature is: shift the image,
# and the feature map shifts with it. Rotation is different. It is sometimes said that features are
# found regardless of their orientation and scale, but a single kernel cannot do that: the detector
# for vertical edges does not respond to the same edges rotated by 90 degrees. A network has to
# learn this, with more kernels, pooling and augmented images.

# %%
upright = bank[..., 2:3]
shifted = ops.conv(jnp.roll(photo, (5, 9), axis=(1, 2)), upright)
again = jnp.roll(ops.conv(photo, upright), (5, 9), axis=(1, 2))
np.testing.assert_allclose(shifted[:, 12:-12, 12:-12], again[:, 12:-12, 12:-12], atol=1e-6)

stripes = jnp.tile(jnp.array([0.0, 0.0, 1.0, 1.0]), 4).reshape(1, 1, 16, 1).repeat(16, axis=1)
seen = jnp.abs(ops.conv(stripes, upright, padding="VALID")).max()
lying = jnp.abs(ops.conv(image.rot90(stripes), upright, padding="VALID")).max()
print("response to vertical stripes", seen, "- to horizontal stripes", lying)
assert seen == 1 and lying == 0

# %% [markdown]
# ## 3. Stride, padding and depth
#
# Take an image of 34x34x3: a block with a height, a width and a depth, where the depth is the
# number of channels. A kernel has the size a x a x 3. Its depth always equals the depth of its
# input, so we only specify a = 3, 5 or 7.
#
# The **stride** is the distance between two neighboring positions. **Padding** adds zeros around
# the image: `"SAME"` adds as many as the kernel needs to be centered on every pixel, `"VALID"` adds
# none.
#
# The table below is computed: `jax.eval_shape` determines the shape of the output of `ops.conv`
# from the shapes of its arguments alone.

# %%
side, kernels = 34, 8
volume = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
print("34x34x3, 8 kernels   " + "  ".join(f"stride {stride} " for stride in range(1, 5)))
for a in (3, 5, 7):
    for padding in ("VALID", "SAME"):
        shapes = []
        for stride in range(1, 5):
            kernel_shape = jax.ShapeDtypeStruct((a, a, 3, kernels), jnp.float32)
            output = jax.eval_shape(
                lambda x, k, s=stride, p=padding: ops.conv(x, k, strides=s, padding=p),
                volume,
                kernel_shape,
            )
            formula = (side - a) // stride + 1 if padding == "VALID" else -(-side // stride)
            assert output.shape == (1, formula, formula, kernels)
            shapes.append("x".join(map(str, output.shape[1:])))
        print(f"a = {a}  {padding:12}  " + "  ".join(f"{shape:9}" for shape in shapes))

# %% [markdown]
# The rules, which the cell above checked:
#
# - `VALID` gives `(size - a) // stride + 1`, so the width and height get smaller;
# - `SAME` gives `size / stride`, rounded up, so with stride 1 the size stays the same;
# - the depth of the output is the number of kernels, whatever the depth of the input.

# %% [markdown]
# ### A kernel as large as the image
#
# If the kernel is as large as the image, there is only one position, and each kernel has one weight
# for each value: this is an ordinary **dense layer**. `ops.conv` and `ops.dense` then compute the
# same numbers.

# %%
values = jax.random.uniform(key, (1, side, side, 3))
large = jax.random.normal(jax.random.fold_in(key, 1), (side, side, 3, kernels)) / side
as_conv = ops.conv(values, large, padding="VALID")
as_dense = ops.dense(ops.flatten(values), large.reshape(-1, kernels))
print("convolution", as_conv.shape, "dense", as_dense.shape)
np.testing.assert_allclose(as_conv.reshape(1, kernels), as_dense, rtol=1e-4, atol=1e-4)

# %% [markdown]
# A small kernel needs far fewer weights, because the same weights are used at every position:

# %%
small_weights, large_weights = 5 * 5 * 3 * kernels, side * side * 3 * kernels
print(f"8 kernels of 5x5x3: {small_weights} weights; of 34x34x3: {large_weights:,} weights")
assert (small_weights, large_weights) == (600, 27744) and large.size == large_weights

# %% [markdown]
# ## 4. The activation function
#
# Each convolution is followed by **ReLU**: negative values become 0, and the others stay the same.
# Without ReLU, two consecutive convolutions would be equivalent to a single convolution. With it,
# the network can learn nonlinear relations.

# %%
numbers = jnp.array([-2.0, -0.5, 0.0, 0.5, 2.0])
print("ReLU of", numbers, "is", jax.nn.relu(numbers))

kernel_1, kernel_2 = (jax.random.normal(jax.random.fold_in(key, n), (3, 3, 1, 1)) for n in (2, 3))
twice = ops.conv(ops.conv(photo, kernel_1, padding="VALID"), kernel_2, padding="VALID")
# The kernel equivalent to both: the full convolution of one kernel with the other.
both = ops.conv(kernel_1.reshape(1, 3, 3, 1), kernel_2[::-1, ::-1], padding=2).reshape(5, 5, 1, 1)
np.testing.assert_allclose(twice, ops.conv(photo, both, padding="VALID"), rtol=1e-3, atol=1e-3)
print("two 3x3 convolutions without ReLU are one 5x5 convolution")

# %% [markdown]
# ReLU also helps against **vanishing gradients**. During backpropagation the gradient is multiplied
# by the slope of each activation. The slope of ReLU is 1 for every positive value; the slope of the
# sigmoid is never more than 0.25, so after ten layers almost nothing is left of the gradient.

# %%
inputs = jnp.linspace(-6, 6, 121)
slope = {f.__name__: jax.vmap(jax.grad(f))(inputs).max() for f in (jax.nn.relu, jax.nn.sigmoid)}
for name, steepest in slope.items():
    print(f"{name:8} steepest slope {steepest:.2f}, to the tenth power {steepest**10:.7f}")
assert slope["relu"] == 1 and slope["sigmoid"] <= 0.25

# %% [markdown]
# ## 5. Pooling
#
# Pooling replaces each window with one number: the largest value (**max pooling**), the **sum** or
# the **average**. With non-overlapping 2x2 windows, a quarter of the values remain, which saves
# memory and time in all later layers. First by hand:

# %%
feature_map = jnp.array(
    [[1.0, 3.0, 2.0, 1.0], [4.0, 2.0, 0.0, 1.0], [0.0, 1.0, 5.0, 6.0], [2.0, 1.0, 7.0, 2.0]]
)
corner = feature_map[:2, :2]
print("top-left window", corner.reshape(-1))
print("max", corner.max(), " sum", corner.sum(), " average", corner.mean())

# %% [markdown]
# Then with `ops.max_pool`, `ops.sum_pool` and `ops.avg_pool`:

# %%
pools = {"max": ops.max_pool, "sum": ops.sum_pool, "average": ops.avg_pool}
windows = feature_map.reshape(2, 2, 2, 2).transpose(0, 2, 1, 3).reshape(2, 2, 4)
expected = {"max": windows.max(-1), "sum": windows.sum(-1), "average": windows.mean(-1)}
for name, pool in pools.items():
    pooled = pool(feature_map.reshape(1, 4, 4, 1), 2)[0, ..., 0]
    print(name, pooled.tolist())
    np.testing.assert_array_equal(pooled, expected[name])

# %% [markdown]
# Here are all three on the photograph, with 6x6 windows so that the effect is visible. Max pooling
# keeps the brightest pixel of each window, and average pooling blurs; the sum is 36 times the
# average, so it looks the same on a different scale.

# %%
figure, axes = plt.subplots(1, 4, figsize=(8, 2.2), layout="constrained")
axes[0].imshow(photo[0, ..., 0], cmap="gray", vmin=0, vmax=1)
axes[0].set_title("photo 150x150", fontsize=9)
for place, (name, pool) in zip(axes[1:], pools.items(), strict=True):
    small = pool(photo, 6)
    place.imshow(small[0, ..., 0], cmap="gray", vmin=0, vmax=36 if name == "sum" else 1)
    place.set_title(f"{name} {small.shape[1]}x{small.shape[2]}", fontsize=9)
for place in axes:
    place.axis("off")
np.testing.assert_allclose(ops.sum_pool(photo, 6), 36 * ops.avg_pool(photo, 6), rtol=1e-5)

# %% [markdown]
# Max pooling also makes the network less sensitive to the exact position of a feature. If a bright
# pixel moves within its window, the pooled map stays the same:

# %%
dot = jnp.zeros((1, 4, 4, 1)).at[0, 0, 0, 0].set(1.0)
moved = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1, 0].set(1.0)
np.testing.assert_array_equal(ops.max_pool(dot, 2), ops.max_pool(moved, 2))

# %% [markdown]
# ## 6. Flattening and fully connected layers
#
# `ops.flatten` turns the feature maps of an image into one long vector. `ops.dense` then connects
# every value to every neuron: it multiplies by a matrix of weights and adds a bias.

# %%
two_maps = jnp.arange(8.0).reshape(1, 2, 2, 2)
vector = ops.flatten(two_maps)
matrix, bias = jnp.full((8, 3), 0.5), jnp.array([0.0, 1.0, 2.0])
print(two_maps.shape, "->", vector.shape, "->", ops.dense(vector, matrix, bias))
np.testing.assert_array_equal(ops.dense(vector, matrix, bias), vector @ matrix + bias[None])

# %% [markdown]
# ## 7. The output layer
#
# The last dense layer produces unscaled numbers, called **logits**. Their meaning depends on the
# task. In jaxcnn a task is an object that defines the activation, the loss and how to put a
# prediction into words:
#
# | the question | outputs | activation | task |
# |---|---|---|---|
# | yes or no? (binary) | 1 | sigmoid | `train.binary()` |
# | which one of K? (multi-class) | K | softmax | `train.multi_class()` |
# | which of L labels apply? (multi-label) | L | a sigmoid for each | `train.multi_label()` |
# | how much? (regression) | D | none | `train.regression()` |
#
# The networks in jaxcnn end with the logits. `task.activate` converts them to probabilities or
# numbers, and the loss is computed directly from the logits, because this is numerically more
# accurate than taking the logarithm of a probability.

# %% [markdown]
# **Binary**: a single number, which the sigmoid converts to a probability. The loss is the negative
# logarithm of the probability of the true answer: it is small if the network is right and
# confident.

# %%
binary = train.binary()
logits, labels = jnp.array([[2.0], [2.0]]), jnp.array([1, 0])
probability = binary.activate(logits)
print("probability of yes", probability[:, 0], "loss if yes, if no", binary.loss(logits, labels))
sigmoid_of_2 = 1 / (1 + np.exp(-2.0))
by_hand = np.array([-np.log(sigmoid_of_2), -np.log(1 - sigmoid_of_2)], np.float32)
np.testing.assert_allclose(binary.loss(logits, labels), by_hand, rtol=1e-5)
print(predictions.describe(binary, np.asarray(probability[0]), ("shirt", "shoe"), top=2))

# %% [markdown]
# **Multi-class**: K numbers, which softmax converts to K probabilities that sum to 1. Raising one
# lowers the others: exactly one class is right.

# %%
multi_class = train.multi_class()
logits, labels = jnp.array([[2.0, 1.0, -1.0]]), jnp.array([0])
probability = multi_class.activate(logits)
print("probabilities", probability[0], "sum", probability.sum())
exponentials = np.exp([2.0, 1.0, -1.0])
softmax = exponentials / exponentials.sum()
np.testing.assert_allclose(probability[0], softmax, rtol=1e-5)
np.testing.assert_allclose(multi_class.loss(logits, labels)[0], -np.log(softmax[0]), rtol=1e-5)
print(
    predictions.describe(multi_class, np.asarray(probability[0]), ("coat", "dress", "bag"), top=3)
)

# %% [markdown]
# **Multi-label**: L independent yes-or-no questions, so there is a sigmoid for each. The
# probabilities need not sum to 1: several labels may apply, or none. The loss is the mean of L
# binary losses.

# %%
multi_label = train.multi_label()
logits, labels = jnp.array([[2.0, 1.0, -1.0]]), jnp.array([[1, 1, 0]])
probability = multi_label.activate(logits)
print(
    "probabilities",
    probability[0],
    "sum",
    probability.sum(),
    "loss",
    multi_label.loss(logits, labels),
)
right = jnp.where(labels == 1, probability, 1 - probability)
np.testing.assert_allclose(multi_label.loss(logits, labels), -jnp.log(right).mean(-1), rtol=1e-5)
print(predictions.describe(multi_label, np.asarray(probability[0]), ("shoe", "dark", "winter")))

# %% [markdown]
# **Regression**: the outputs are the prediction itself, without a squashing function.
# `train.regression` lets the network work in standardized units (mean 0, standard deviation 1),
# which are easier to learn, and converts its predictions back to the original units. The loss is
# the squared error in standardized units.

# %%
regression = train.regression(mean=[20.0], std=[10.0])
outputs, targets = jnp.array([[0.5]]), jnp.array([[30.0]])
print("output", regression.activate(outputs)[0, 0], "loss", regression.loss(outputs, targets)[0])
assert regression.activate(outputs)[0, 0] == 25
assert regression.loss(outputs, targets)[0] == ((25 - 30) / 10) ** 2

# %% [markdown]
# ## 8. The classical network as a pure function
#
# The classical network in Keras, and here:
#
# | Keras | here |
# |---|---|
# | `Conv2D(32, (5, 5), padding="same", activation="relu")` | `ops.conv`, then `jax.nn.relu` |
# | `MaxPooling2D(pool_size=(2, 2), padding="same")` | `ops.max_pool(x, 2, padding="SAME")` |
# | `Dropout(0.2)` | `ops.dropout(key, x, 0.2)`, only during training |
# | `Flatten()` | `ops.flatten` |
# | `Dense(128, activation="relu")` | `ops.dense`, then `jax.nn.relu` |
# | `Dense(10, activation="softmax")` | `ops.dense`; the softmax is part of the loss |
#
# Two notes on old examples. `Conv2D(32, 5, 5)` is Keras 1 syntax: current versions of Keras would
# interpret the second 5 as the stride, and expect `Conv2D(32, (5, 5))` instead. And
# `input_shape=(1, 28, 28)` has the channel first; here, as in current Keras, it comes last:
# `(28, 28, 1)`.

# %% [markdown]
# A network is a function of its parameters and of the images, and of nothing else. The parameters
# are a dictionary of arrays. There is no hidden state: the same arguments give the same result.


# %%
def classical(params: dict, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Return the logits of the classical network; a key enables dropout, as in training."""
    x = ops.conv(images, params["conv"]["kernel"], params["conv"]["bias"], padding="SAME")
    x = ops.max_pool(jax.nn.relu(x), 2, padding="SAME")
    if key is not None:
        x = ops.dropout(key, x, 0.2)
    x = ops.dense(ops.flatten(x), params["hidden"]["kernel"], params["hidden"]["bias"])
    return ops.dense(jax.nn.relu(x), params["output"]["kernel"], params["output"]["bias"])


# %% [markdown]
# Before training, the weights are small random numbers: the more values a layer sums, the smaller
# its weights. The biases are zero.

# %%
layer_shapes = {"conv": (5, 5, 1, 32), "hidden": (14 * 14 * 32, 128), "output": (128, 10)}
params = {}
for number, (name, shape) in enumerate(layer_shapes.items()):
    draw = jax.random.normal(jax.random.fold_in(key, 10 + number), shape)
    spread = np.sqrt(2 / np.prod(shape[:-1]))
    params[name] = {"kernel": draw * spread, "bias": jnp.zeros(shape[-1])}

images = jax.random.uniform(jax.random.fold_in(key, 20), (4, 28, 28, 1))
labels = jnp.array([0, 1, 2, 3])
print("logits", classical(params, images).shape)

# %% [markdown]
# JAX can transform a pure function: `jax.jit` compiles it, and `jax.grad` returns a function that
# computes its gradient with respect to the first argument, here all the parameters. A small step in
# the direction of the negative gradient reduces the loss; training repeats this step.


# %%
def loss(params: dict, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross-entropy of the logits."""
    return losses.cross_entropy(classical(params, images), labels).mean()


compiled = jax.jit(classical)
np.testing.assert_allclose(compiled(params, images), classical(params, images), atol=1e-4)

gradient = jax.jit(jax.grad(loss))(params, images, labels)
better = jax.tree.map(lambda p, g: p - 0.001 * g, params, gradient)
before, after = loss(params, images, labels), loss(better, images, labels)
print(f"loss before the step {before:.3f}, after it {after:.3f}")
assert after < before

# %% [markdown]
# ## 9. The same network as a module
#
# Writing out the parameters is fine for one small network. `models.create` returns the same network
# as a Flax module, which creates the parameters itself, with `init`, and takes them as an argument,
# with `apply`. It is still a pure function.

# %%
model: Any = models.create("classic_cnn", 10)
variables = model.init(jax.random.key(0), images, train=False)
from_module = model.apply(variables, images, train=False)
from_function = classical(variables["params"], images)
np.testing.assert_allclose(from_module, from_function, atol=1e-5)
print("largest difference between the logits:", float(jnp.abs(from_module - from_function).max()))

# %% [markdown]
# `inspection.parameter_table` lists its parameters. To count them by hand: for each of its neurons,
# a layer has one weight per value that the neuron looks at, and one bias. Pooling, dropout and
# flattening have none.

# %%
for name, shape, size in inspection.parameter_table(variables):
    print(f"{name:22} {shape!s:16} {size:>8,}")
conv = 5 * 5 * 1 * 32 + 32
hidden = 14 * 14 * 32 * 128 + 128  # pooling reduced 28x28 to 14x14
output_layer = 128 * 10 + 10
total = sum(parameter.size for parameter in inspection.parameter_table(variables))
print(f"{conv} + {hidden:,} + {output_layer:,} = {conv + hidden + output_layer:,}")
assert conv + hidden + output_layer == total == 805_066

# %% [markdown]
# Nearly all of them are in the first dense layer; the convolution has only one in a thousand.

# %% [markdown]
# ### How much a neuron sees
#
# The **receptive field** of a value is the part of the image that it depends on. After a 5x5
# convolution it is 5x5; pooling combines four neighbors, whose windows together cover 6x6.
# `inspection.receptive_fields` computes it. The layers are named as in the network; `drop` is the
# output after pooling.

# %%
fields = inspection.receptive_fields(model, variables, (28, 28, 1))
for layer in fields:
    print(f"{layer.name:8} maps {layer.shape!s:14} sees {layer.receptive_field}")
assert [layer.receptive_field for layer in fields] == [(5, 5), (6, 6)]

# %% [markdown]
# Deeper networks see more. This is why later layers can find more abstract features: the first
# layer sees an edge, the last one a whole sleeve. `small_vgg` has six 3x3 convolutions:

# %%
deeper: Any = models.create("small_vgg", 10, norm="none")
deeper_variables = deeper.init(jax.random.key(0), images, train=False)
extents = [
    layer.receptive_field[0]
    for layer in inspection.receptive_fields(deeper, deeper_variables, (28, 28, 1))
    if layer.name.startswith("convs")
]
print("sizes of the receptive fields:", extents)
assert extents == [3, 5, 10, 14, 24, 28]

# %% [markdown]
# The last one would be 32, but the image is only 28 pixels wide.

# %% [markdown]
# ### Its kernels before training
#
# They are random: red weights are positive, blue ones negative. No kernel detects a feature yet.
# The next notebook plots these kernels before and after training.

# %%
kernel = inspection.first_kernel(model, variables["params"], 1)
assert kernel is not None and kernel.shape == (5, 5, 1, 32)
plots.kernels(kernel, title="Before training")

# %% [markdown]
# ## Summary
#
# - A convolution slides a kernel over the image; each output value is a dot product (`ops.conv`).
# - A kernel detects a feature; K kernels produce K feature maps. Training finds the weights.
# - Stride and padding determine the width and height of the output, the number of kernels its
#   depth.
# - ReLU makes the network nonlinear, pooling shrinks the feature maps, and flattening and dense
#   layers make the decision (`ops.max_pool`, `ops.flatten`, `ops.dense`).
# - The task defines what the outputs mean: `train.binary`, `train.multi_class`,
#   `train.multi_label`, `train.regression`.
# - The classical network is a pure function with 805,066 parameters, written out or created with
#   `models.create("classic_cnn", 10)`.
#
# Next: **Convolutional_Neural_Networks**, which trains it on real images.
