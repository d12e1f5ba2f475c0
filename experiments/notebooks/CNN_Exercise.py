# %% [markdown]
# # Putting it all together
#
# Fourteen short exercises in the order of these notebooks: layers, overfitting, preprocessing,
# and at the end a custom network. They take an hour to an hour and a half; the machine
# computes for about two minutes of it.
#
# Each exercise is three cells: one asks, in the second you replace every `...`, the third checks
# your answer and prints `not answered yet`, `right: ...` or `not yet: ...` with a hint. Answer
# them in any order, and run a cell again as often as you like. Nothing breaks as long as a `...`
# is still there.
#
# `CNN_Exercise_Solution.ipynb` has the same cells answered. Try first. If you work in a copy of
# this notebook, keep it in this folder: the checks are in `checks.py` beside it.

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["jpeg"]
import functools

import checks
import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import skimage.data
from sklearn.datasets import load_sample_image

from jaxcnn import data, image, metrics, models, ops, regularizers, train
from jaxcnn.models import layers


def show(images, titles, columns=4):
    """Images in [0, 1] in rows, each with a title."""
    rows = -(-len(images) // columns)
    size = (8, 8 / columns * rows + 0.2)
    _, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(np.clip(np.asarray(picture).squeeze(), 0, 1), cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=9)


# %% [markdown]
# ## Convolution layers
#
# ### 1. Convolve by hand
#
# The kernel slides over the image from the top left to the right, then down; at each place you
# multiply element by element and sum the products up. Without padding, a 3x3 kernel fits into a
# 4x4 image in 2x2 places. Write down the convolved matrix.

# %%
pixels = [
    [1, 2, 0, 1],
    [3, 1, 1, 0],
    [0, 2, 4, 1],
    [1, 0, 2, 3],
]
kernel = [
    [1, 0, -1],
    [1, 0, -1],
    [1, 0, -1],
]

# %%
convolved = [
    [..., ...],
    [..., ...],
]

# %%
checks.convolution(convolved, pixels, kernel)

# %% [markdown]
# ### 2. The shape of the output
#
# An image of 34x34x3 goes through a convolution layer with 16 filters of 5x5x3 that moves 2 pixels
# at a time (its stride). What is the shape of the output (height, width, channels) without padding
# (`valid`), and with `SAME` padding, which adds just enough zeros round the image that every pixel
# can be under the middle of the filter?

# %%
valid = (..., ..., ...)
same = (..., ..., ...)

# %%
checks.output_shapes(valid, same, size=(34, 34, 3), filters=16, window=5, strides=2)

# %% [markdown]
# ### 3. A feature detector for vertical edges
#
# "Averaging neighboring pixels" blurs, "subtracting neighboring" pixels finds edges. Write a 3x3
# kernel that gives large values (positive or negative) where the brightness changes from left to
# right, and 0 on plain areas and where it changes only from top to bottom.

# %%
vertical = ...

# %%
checks.vertical_edges(vertical)

# %%
wall = image.to_float(skimage.data.brick()[None, :256, :256, None])
pair = [wall[0], wall[0]]  # until there is a kernel, the photograph twice
if vertical is not ...:
    pair[1] = jnp.abs(image.filter2d(wall, vertical))[0]
show(pair, ["photograph", "what your kernel makes of it"], columns=2)

# %% [markdown]
# ## Pooling layer
#
# ### 4. Pool by hand
#
# Pool this feature map with a window of 2x2 that moves 2 places at a time: its maximum, its sum,
# its average. Each answer has 2 rows of 2 values.

# %%
feature_map = [
    [1, 3, 0, 2],
    [5, 7, 4, 2],
    [8, 0, 1, 1],
    [2, 2, 6, 0],
]

# %%
maximum = ...
total = ...
average = ...

# %%
checks.pooling(maximum, total, average, feature_map)

# %% [markdown]
# ## A classical CNN architecture
#
# ### 5. Count its parameters
#
# The classical network of these notebooks takes images of 28x28x1: a convolution layer with 32
# filters of 5x5 (`SAME` padding), max pooling 2x2, dropout, flatten, a fully connected layer with
# 128 neurons, and an output layer with 10. How many parameters (weights and biases) does each of
# the three layers have that have any? Arithmetic such as `3 * 4 + 5` is a fine answer.

# %%
parameters = {
    "conv": ...,
    "hidden": ...,
    "output": ...,
}

# %%
checks.parameters(parameters, size=(28, 28, 1))

# %% [markdown]
# ### 6. The output layer
#
# The output layer is followed by an activation. Which one, `"sigmoid"` or `"softmax"`, for
# each kind of target? Binary: is there a tumor or not (one output)? Multi-class: which one of ten
# garments is it? Multi-label: which of these things are in the photograph (none, one or several)?

# %%
functions = {
    "binary": ...,
    "multi-class": ...,
    "multi-label": ...,
}

# %%
checks.output_layer(functions)

# %% [markdown]
# ## Overfitting and regularization
#
# ### 7. Which of these curves overfits?
#
# Overfitting is "learning by heart": the performance on the training data is much *better* than
# on the validation data. The next cell trains the same network, LeNet-5, three times, each time
# with other images or another learning rate. The curves are losses: less is better.
#
# Which of A, B and C overfits? And in that one, the network of which epoch would you keep (the
# one with the smallest validation loss; `histories["A"][0]` is the first epoch's row of numbers of
# A)?

# %%
source = data.load("fashion_mnist_slice")  # 10,000 real images, in the package
training, validation = data.hold_out(source, 0.1)
preprocess = image.Preprocess(size=(28, 28), channels=1)


def teach(images, learning_rate, epochs):
    """LeNet-5 after some epochs on the first images, and its history."""
    model, optimizer = models.LeNet5(num_classes=10), optax.adam(learning_rate)
    state = train.create_state(jax.random.key(0), model, optimizer, preprocess(training.images[:1]))
    step = train.make_train_step(model, optimizer, preprocess=preprocess)
    eval_step = train.make_eval_step(model, preprocess=preprocess)
    batches = data.batches(training.take(np.arange(images)), 50, seed=0)

    def validate(state):
        return train.evaluate(eval_step, state, data.batches(validation, 250))

    return train.fit(state, step, batches, epochs=epochs, validate=validate)


def curves(histories):
    """Training and validation loss by epoch, one picture for each history."""
    size = (max(4, 2.7 * len(histories)), 2.6)
    _, row = plt.subplots(
        1, len(histories), figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    for axes, (name, history) in zip(row[0], histories.items(), strict=True):
        epochs = [line["epoch"] for line in history]
        for part in ("train", "validation"):
            axes.plot(epochs, [line[f"{part}_loss"] for line in history], label=part)
        axes.set(title=name, xlabel="epoch", ylim=(0, 2.4))
        axes.grid(alpha=0.3)
    row[0, 0].set(ylabel="loss")
    row[0, 0].legend()


runs = {"A": teach(2000, 2e-5, 10), "B": teach(200, 5e-3, 30), "C": teach(4000, 1e-3, 8)}
histories = {name: history for name, (_, history) in runs.items()}
curves(histories)

# %%
overfits = ...  # "A", "B" or "C"
best_epoch = ...

# %%
checks.overfitting(overfits, best_epoch, histories)

# %% [markdown]
# ## Image preprocessing
#
# ### 8. Normalize, crop, gray, resize
#
# `pixels` is a photograph as it comes from a file: bytes from 0 to 255, `[B, H, W, C]`. Make of it
#
#  - `unit`: values from 0 to 1 (the division by 255),
#  - `symmetric`: values from -1 to 1 (the byte 0 becomes -1, the byte 255 becomes 1),
#  - `standardized`: each of the three channels with mean 0 and standard deviation 1,
#  - `small`: the largest square in its middle, in the grays that the eye sees (green counts most,
#    blue least), resized to 64x64, values from 0 to 1.
#
# NumPy is enough for the first three; `jaxcnn.image` has a function for everything.

# %%
pixels = load_sample_image("flower.jpg")[None]
pixels.shape, pixels.dtype

# %%
unit = ...
symmetric = ...
standardized = ...
small = ...

# %%
checks.preprocessing(unit, symmetric, standardized, small, pixels, size=64)

# %%
pair = [pixels[0] / 255, pixels[0] / 255]
if small is not ...:
    pair[1] = np.reshape(small, (64, 64))
show(pair, ["photograph", "small, once it is made"], columns=2)

# %% [markdown]
# ### 9. Data augmentation
#
# Write a function that makes slightly modified copies of images in [0, 1]: a random change for
# each image, decided by the key alone. `image.random_flip_left_right`, `image.random_affine`
# (rotation, shearing, scaling, translation), `image.random_brightness`, `image.random_erasing` and
# others take a key first and then the images; `image.compose` puts several together.


# %%
def augment(key, images):
    """The images, each with a random change."""
    return ...


# %%
photographs = image.resize(image.crop_to_square(image.to_float(skimage.data.chelsea()[None])), 96)
checks.augmentation(augment, photographs)

# %%
copies = jnp.repeat(photographs, 8, 0)  # eight times the same image
changed = augment(jax.random.key(0), copies)
show(copies if changed is ... else changed, [f"copy {number}" for number in range(1, 9)])

# %% [markdown]
# ### 10. Image filtering
#
# This photograph has salt and pepper: one pixel in ten was made white or black. These notebooks
# show an average and another filter. Clean it so that it is clearly nearer to the original than any
# average makes it.

# %%
original = image.resize(image.to_float(skimage.data.camera()[None, ..., None]), 256)
noisy = image.add_salt_pepper(jax.random.key(0), original, 0.1)

# %%
cleaned = ...

# %%
checks.noise(cleaned, noisy, original)

# %%
row = [noisy[0], image.box_blur(noisy, 3)[0]]
titles = ["added noise", "average"]
if cleaned is not ...:
    row, titles = [*row, np.reshape(cleaned, original.shape)[0]], [*titles, "yours"]
show(row, titles, columns=3)

# %% [markdown]
# ## Image connected components
#
# ### 11. Count them
#
# Two pixels that are on belong together if they touch: with 4-connectivity their edges, with
# 8-connectivity their edges or their corners. How many components does the matrix have, with 4 and
# with 8?

# %%
matrix = [
    [0, 0, 0, 0, 0, 0, 0, 0],
    [0, 1, 1, 0, 0, 1, 1, 1],
    [0, 1, 1, 0, 0, 0, 1, 1],
    [0, 1, 1, 0, 0, 0, 0, 0],
    [0, 0, 0, 1, 1, 0, 0, 0],
    [0, 0, 0, 1, 1, 0, 0, 0],
    [0, 0, 0, 1, 1, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 0, 0],
]

# %%
four = ...
eight = ...

# %%
checks.components(four, eight, matrix)

# %% [markdown]
# Now a photograph: 24 coins on a table, with more light in the corner at the top. Make a `mask`
# (True where a coin is) that has exactly 24 connected components. A way to it: blur a little;
# subtract the mean of a wide neighborhood (100 pixels or so), which takes the uneven light away;
# `image.otsu` finds a threshold, and `image.threshold` tells which pixels are above it. Masks are
# `[B, H, W]`, so take the one channel with `[..., 0]`; then `image.remove_small_components` takes
# specks away.

# %%
coins = image.to_float(skimage.data.coins()[None, ..., None])

# %%
mask = ...

# %%
checks.coins(mask, coins, 24)

# %%
picture = coins[0]
if mask is not ...:
    labels = image.connected_components(jnp.asarray(mask).reshape(coins.shape[:3]) != 0).labels
    colors = plt.colormaps["tab20"](np.asarray(labels[0]) % 20)[..., :3]
    picture = np.where(np.asarray(labels[0] > 0)[..., None], colors, coins[0])
show([coins[0], picture], ["photograph", "your components, each in a color"], columns=2)

# %% [markdown]
# ## A custom network
#
# ### 12. Build it
#
# Write a custom Linen module from images `[B, 28, 28, 1]` to 10 logits, of convolutions
# (`layers.Conv(filters, window)`), an activation after each (`nn.relu`), pooling (`ops.max_pool`),
# flatten (`ops.flatten`) and fully connected layers (`layers.Dense(neurons)`). Remedies against
# overfitting that are part of a network: `layers.BatchNorm()(x, train=train)`,
# `layers.Dropout(rate)(x, train=train)`, `layers.GaussianNoise(stddev)(x, train=train)`.


# %%
class MyNetwork(nn.Module):
    """Images ``[B, 28, 28, 1]`` to logits ``[B, 10]``."""

    @nn.compact
    def __call__(self, images, *, train):
        return ...


model = MyNetwork()

# %%
checks.network(model, size=(28, 28, 1), classes=10)

# %% [markdown]
# ### 13. Train it
#
# Train your network on images of `training` until it is right on at least 80% of `validation`,
# with three or more of the seven remedies: dropout, batch normalization, pooling layers, early
# stopping, noise injection, L1 and L2 regularization, data augmentation. Some thousand images and
# a few epochs (less than a minute) are enough. The cell of exercise 7 shows how; the further
# remedies are arguments:
#
#  - `train.make_train_step(..., augment=...)`: a function `(keys, batch) -> batch` on images in
#    [0, 1], such as `lambda keys, batch: batch._replace(image=augment(keys, batch.image))` with
#    the `augment` of exercise 9;
#  - `train.make_train_step(..., penalty=functools.partial(regularizers.penalty, l1=..., l2=...))`;
#  - `train.fit(..., monitors=[train.EarlyStopping(patience=...)])`.
#
# Give the names of your remedies as a list of words, and what `train.fit` gives. The check looks
# for what they leave in the network and in its history, and takes your word for the others.

# %%
remedies = ...
state, history = ..., ...

# %%
checks.training(remedies, model, state, history, validation, preprocess, 0.80)

# %%
if history is not ...:
    curves({"your network": history})

# %% [markdown]
# ### 14. Look at what it gets wrong
#
# `outputs` are the logits `[N, 10]` of a network for the validation images: those of network C
# above, until you put your own in by the lines that are commented out. Which images are classified
# wrongly (their places, `np.flatnonzero` gives such), and which garment is most often taken for
# which other one (two names of `classes`: the true one, then what it is taken for)?
# `metrics.confusion_matrix` counts.

# %%
classes, labels = validation.classes, validation.labels
network, trained = models.LeNet5(num_classes=10), runs["C"][0]
# network, trained = model, state
_, outputs = train.predict(
    train.make_eval_step(network, preprocess=preprocess), trained, data.batches(validation, 250)
)
print(outputs.shape, labels.shape)
print(classes)

# %%
wrong = ...
confused = ...  # (true, predicted)

# %%
checks.mistakes(wrong, confused, outputs, labels, classes)

# %%
if wrong is not ...:
    places = np.ravel(wrong)[:8]
    titles = [f"{classes[labels[i]]}\ntaken for {classes[outputs[i].argmax()]}" for i in places]
    show(validation.images[places] / 255, titles)
