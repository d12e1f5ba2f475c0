# %% [markdown]
# # Putting it all together
#
# Fourteen short exercises in the order of these notebooks: layers, overfitting, preprocessing, and
# finally a custom network. They take 60 to 90 minutes, of which about two minutes are computation.
#
# Each exercise has three cells: the first asks a question, in the second you replace every `...`,
# and the third checks your answer and prints `not answered yet`, `right: ...` or `not yet: ...`
# with a hint. You can do the exercises in any order, and run a cell as often as you like. Nothing
# breaks while a `...` is still there.
#
# `CNN_Exercise_Solution.ipynb` has the same cells with answers. Try first. If you work in a copy of
# this notebook, keep it in this folder: the checks are in `checks.py` next to it.

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
    """Plot images in [0, 1] in rows, each with a title."""
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
# The kernel slides over the image from left to right, starting at the top left, then moves down a
# row; at each position you multiply element by element and sum the products. Without padding, a 3x3
# kernel fits into a 4x4 image at 2x2 positions. Write down the convolved matrix.

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
# (`valid`), and with `SAME` padding, which adds just enough zeros around the image for the filter
# to be centered on every pixel?

# %%
valid = (..., ..., ...)
same = (..., ..., ...)

# %%
checks.output_shapes(valid, same, size=(34, 34, 3), filters=16, window=5, strides=2)

# %% [markdown]
# ### 3. A feature detector for vertical edges
#
# "Averaging neighboring pixels" blurs; "subtracting neighboring pixels" finds edges. Write a 3x3
# kernel that gives large values (positive or negative) where the brightness changes from left to
# right, and 0 in uniform areas and where it changes only from top to bottom.

# %%
vertical = ...

# %%
checks.vertical_edges(vertical)

# %%
wall = image.to_float(skimage.data.brick()[None, :256, :256, None])
pair = [wall[0], wall[0]]  # until there is a kernel, show the photograph twice
if vertical is not ...:
    pair[1] = jnp.abs(image.filter2d(wall, vertical))[0]
show(pair, ["photograph", "result of your kernel"], columns=2)

# %% [markdown]
# ## Pooling layer
#
# ### 4. Pool by hand
#
# Pool this feature map with a 2x2 window that moves 2 pixels at a time: once with the maximum, once
# with the sum, and once with the average. Each answer has 2 rows of 2 values.

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
# filters of 5x5 (`SAME` padding), 2x2 max pooling, dropout, flatten, a fully connected layer with
# 128 neurons, and an output layer with 10 neurons. Only three of these layers have parameters
# (weights and biases). How many does each of them have? You may answer with arithmetic such as
# `3 * 4 + 5`.

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
# The output layer is followed by an activation. Which one, `"sigmoid"` or `"softmax"`, is right for
# each kind of target? Binary: is there a tumor or not (one output)? Multi-class: which one of ten
# garments is it? Multi-label: which of these objects are in the photograph (none, one or several)?

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
# Overfitting means that a network memorizes its training data: the performance on the training data
# is much *better* than on the validation data. The next cell trains the same network, LeNet-5,
# three times, each time with a different number of images, learning rate and number of epochs. The
# curves show the loss: lower is better.
#
# Which of A, B and C overfits? For that run, which epoch's network would you keep, that is, which
# epoch has the smallest validation loss? (`histories["A"][0]` contains the metrics of run A after
# its first epoch.)

# %%
source = data.load("fashion_mnist_slice")  # 10,000 real images, in the package
training, validation = data.hold_out(source, 0.1)
preprocess = image.Preprocess(size=(28, 28), channels=1)


def teach(images, learning_rate, epochs):
    """Train LeNet-5 on the first images; return its state and history."""
    model, optimizer = models.LeNet5(num_classes=10), optax.adam(learning_rate)
    state = train.create_state(jax.random.key(0), model, optimizer, preprocess(training.images[:1]))
    step = train.make_train_step(model, optimizer, preprocess=preprocess)
    eval_step = train.make_eval_step(model, preprocess=preprocess)
    batches = data.batches(training.take(np.arange(images)), 50, seed=0)

    def validate(state):
        return train.evaluate(eval_step, state, data.batches(validation, 250))

    return train.fit(state, step, batches, epochs=epochs, validate=validate)


def curves(histories):
    """Plot training and validation loss by epoch, one panel for each history."""
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
# ### 8. Normalize, crop, convert to grayscale, resize
#
# `pixels` is a photograph as read from a file: bytes from 0 to 255, `[B, H, W, C]`. Compute from it
#
#  - `unit`: values from 0 to 1 (divide by 255),
#  - `symmetric`: values from -1 to 1 (the byte 0 becomes -1, the byte 255 becomes 1),
#  - `standardized`: each of the three channels with mean 0 and standard deviation 1,
#  - `small`: the largest centered square, in grayscale with the weights of human perception (green
#    counts most, blue least), resized to 64x64, with values from 0 to 1.
#
# NumPy is enough for the first three; `jaxcnn.image` has functions for all four.

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
show(pair, ["photograph", "small, once it is computed"], columns=2)

# %% [markdown]
# ### 9. Data augmentation
#
# Write a function that makes slightly modified copies of images in [0, 1]: a random change for each
# image, determined only by the key. `image.random_flip_left_right`, `image.random_affine`
# (rotation, shear, scale, translation), `image.random_brightness`, `image.random_erasing` and
# others take a key first and then the images; `image.compose` combines several of them.


# %%
def augment(key, images):
    """Return the images, each with a random change."""
    return ...


# %%
photographs = image.resize(image.crop_to_square(image.to_float(skimage.data.chelsea()[None])), 96)
checks.augmentation(augment, photographs)

# %%
copies = jnp.repeat(photographs, 8, 0)  # the same image eight times
changed = augment(jax.random.key(0), copies)
show(copies if changed is ... else changed, [f"copy {number}" for number in range(1, 9)])

# %% [markdown]
# ### 10. Image filtering
#
# This photograph has salt-and-pepper noise: one pixel in ten was made white or black. These
# notebooks show the average and another filter. Remove the noise, so that the result is clearly
# closer to the original than any average is.

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
# Two pixels that are on belong to the same component if they touch: with 4-connectivity they must
# share an edge, with 8-connectivity an edge or a corner. How many components does the matrix have
# with 4-connectivity, and how many with 8-connectivity?

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
# Now a photograph: 24 coins on a table, with brighter light in the upper left corner. Make a `mask`
# (True where there is a coin) that has exactly 24 connected components. One way to do this: blur a
# little; subtract the mean of a wide neighborhood (about 100 pixels), which removes the uneven
# lighting; find a threshold with `image.otsu`, and apply it with `image.threshold`. Masks have the
# shape `[B, H, W]`, so select the only channel with `[..., 0]`. Finally, remove specks with
# `image.remove_small_components`.

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
show([coins[0], picture], ["photograph", "your components, in colors"], columns=2)

# %% [markdown]
# ## A custom network
#
# ### 12. Build it
#
# Write a custom Linen module that maps images `[B, 28, 28, 1]` to 10 logits, with convolutions
# (`layers.Conv(filters, window)`), an activation after each (`nn.relu`), pooling (`ops.max_pool`),
# flattening (`ops.flatten`) and fully connected layers (`layers.Dense(neurons)`). These remedies
# against overfitting can be part of the network: `layers.BatchNorm()(x, train=train)`,
# `layers.Dropout(rate)(x, train=train)`, `layers.GaussianNoise(stddev)(x, train=train)`.


# %%
class MyNetwork(nn.Module):
    """Map images ``[B, 28, 28, 1]`` to logits ``[B, 10]``."""

    @nn.compact
    def __call__(self, images, *, train):
        return ...


model = MyNetwork()

# %%
checks.network(model, size=(28, 28, 1), classes=10)

# %% [markdown]
# ### 13. Train it
#
# Train your network on images from `training` until its accuracy on `validation` is at least 80%,
# with three or more of the seven remedies: dropout, batch normalization, pooling layers, early
# stopping, noise injection, L1 and L2 regularization, data augmentation. A few thousand images and
# a few epochs (less than a minute) are enough. The code for exercise 7 shows how; the other
# remedies are arguments:
#
#  - `train.make_train_step(..., augment=...)`: a function `(keys, batch) -> batch` on images in [0,
#    1], such as `lambda keys, batch: batch._replace(image=augment(keys, batch.image))` with the
#    `augment` from exercise 9;
#  - `train.make_train_step(..., penalty=functools.partial(regularizers.penalty, l1=..., l2=...))`;
#  - `train.fit(..., monitors=[train.EarlyStopping(patience=...)])`.
#
# Answer with the names of your remedies as a list of strings, and with the values that `train.fit`
# returns. The check looks for traces of the remedies in the network and its history, and takes your
# word for those that leave no trace.

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
# `outputs` contains a network's logits `[N, 10]` for the validation images. At first these come
# from network C above; uncomment the line below to use your own network. Which images are
# misclassified (give their indices, for example with `np.flatnonzero`), and which garment is most
# often mistaken for which other one (give two names from `classes`: the true class, then the
# predicted class)? `metrics.confusion_matrix` counts the cases.

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
    titles = [f"{classes[labels[i]]}\nmistaken for {classes[outputs[i].argmax()]}" for i in places]
    show(validation.images[places] / 255, titles)
