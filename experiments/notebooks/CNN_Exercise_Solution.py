# %% [markdown]
# # Putting it all together: the solution
#
# The exercises of `CNN_Exercise.ipynb`, answered, each with a short explanation below its check.
# There is more than one right answer to most of them.

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
    [-1, 3],
    [-3, -1],
]

# %%
checks.convolution(convolved, pixels, kernel)

# %% [markdown]
# Top left: the left column under the kernel sums to 1 + 3 + 0 = 4, the right one to 0 + 1 + 4 = 5,
# and 4 - 5 = -1. With the library it is one line, the images as `[B, H, W, C]` and the kernel as
# `[height, width, in, out]`:

# %%
batch = jnp.array(pixels, jnp.float32).reshape(1, 4, 4, 1)
weights = jnp.array(kernel, jnp.float32).reshape(3, 3, 1, 1)
ops.conv(batch, weights, padding="VALID")[0, ..., 0]

# %% [markdown]
# ### 2. The shape of the output
#
# An image of 34x34x3 goes through a convolution layer with 16 filters of 5x5x3 that moves 2 pixels
# at a time (its stride). What is the shape of the output (height, width, channels) without padding
# (`valid`), and with `SAME` padding, which adds just enough zeros round the image that every pixel
# can be under the middle of the filter?

# %%
valid = (15, 15, 16)
same = (17, 17, 16)

# %%
checks.output_shapes(valid, same, size=(34, 34, 3), filters=16, window=5, strides=2)

# %% [markdown]
# A filter 5 wide can begin at 34 - 5 + 1 = 30 places, of which every second is visited: 15. With
# padding there are 34 places, and 17 of them are visited. Each of the 16 filters looks at all
# three channels and gives one feature map. `jax.eval_shape` answers such questions without
# computing:

# %%
photo_shape = jax.ShapeDtypeStruct((1, 34, 34, 3), jnp.float32)
filter_shape = jax.ShapeDtypeStruct((5, 5, 3, 16), jnp.float32)
jax.eval_shape(functools.partial(ops.conv, strides=2, padding="VALID"), photo_shape, filter_shape)

# %% [markdown]
# ### 3. A feature detector for vertical edges
#
# "Averaging neighboring pixels" blurs, "subtracting neighboring" pixels finds edges. Write a 3x3
# kernel that gives large values (positive or negative) where the brightness changes from left to
# right, and 0 on plain areas and where it changes only from top to bottom.

# %%
vertical = [
    [-1, 0, 1],
    [-2, 0, 2],
    [-1, 0, 1],
]

# %%
checks.vertical_edges(vertical)

# %% [markdown]
# This is Sobel's kernel: the right neighbors less the left ones, the row in the middle counting
# twice. Each row sums to 0, so a plain area gives 0, and so does a change from top to bottom. The
# kernel of exercise 1 is another right answer. In the picture the vertical joints of the wall
# light up, the horizontal ones hardly.

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
maximum = [[7, 4], [8, 6]]
total = [[16, 8], [12, 8]]
average = [[4, 2], [3, 2]]

# %%
checks.pooling(maximum, total, average, feature_map)

# %% [markdown]
# The first window holds 1, 3, 5 and 7: the largest is 7, the sum 16, the average 16 / 4.
# `ops.max_pool`, `ops.sum_pool` and `ops.avg_pool` do this to every channel of a batch.

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
    "conv": 5 * 5 * 1 * 32 + 32,
    "hidden": (14 * 14 * 32) * 128 + 128,
    "output": 128 * 10 + 10,
}

# %%
checks.parameters(parameters, size=(28, 28, 1))

# %% [markdown]
# Pooling halves both sides, so Flatten gives 14 * 14 * 32 = 6,272 values, and each of them has a
# weight to each of the 128 neurons. Of all parameters 99.7% are there. Pooling, dropout and
# flatten have none.

# %%
classic = models.ClassicCNN(num_classes=10)
variables = classic.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)), train=False)
{name: sum(x.size for x in layer.values()) for name, layer in variables["params"].items()}

# %% [markdown]
# ### 6. The output layer
#
# The output layer is followed by an activation. Which one, `"sigmoid"` or `"softmax"`, for
# each kind of target? Binary: is there a tumor or not (one output)? Multi-class: which one of ten
# garments is it? Multi-label: which of these things are in the photograph (none, one or several)?

# %%
functions = {
    "binary": "sigmoid",
    "multi-class": "softmax",
    "multi-label": "sigmoid",
}

# %%
checks.output_layer(functions)

# %% [markdown]
# Softmax makes the outputs compete: they add up to 1, which is right when exactly one class is
# true. A sigmoid answers one question by itself. In jaxcnn the networks end with the plain numbers
# (logits), and the task (`train.binary()`, `train.multi_class()`, `train.multi_label()`) knows the
# function and the loss.

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
overfits = "B"
best_epoch = min(histories["B"], key=lambda row: row["validation_loss"])["epoch"]

# %%
checks.overfitting(overfits, best_epoch, histories)

# %% [markdown]
# B has seen 200 images only, and learns them by heart: its training loss goes to 0, while the
# validation loss stops falling early and then rises. (Its validation accuracy gets a little better
# for some epochs more: the network is not wrong more often, but more sure of its errors, which the
# loss counts.) A under-fits: both losses are still high, it learns too slowly. In C, with 4,000
# images, the curves stay together. `train.EarlyStopping(patience=3)` in `train.fit` stops in such
# a case and hands back the network of the best epoch.

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
unit = image.to_float(pixels)
symmetric = image.normalize(unit, mean=(0.5,) * 3, std=(0.5,) * 3)
standardized = (pixels - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))
small = image.resize(image.to_grayscale(image.crop_to_square(unit)), 64)

# %%
checks.preprocessing(unit, symmetric, standardized, small, pixels, size=64)

# %% [markdown]
# A mean over the axes 0, 1 and 2 leaves one number for each channel. Over a dataset
# `image.channel_statistics` gives mean and deviation once, and they become part of the network's
# `image.Preprocess`, so that new images are treated like those it has learned from.

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
turn = functools.partial(
    image.random_affine, max_angle=15, max_shear=10, scale=(0.9, 1.1), max_shift=0.1
)
augment = image.compose(image.random_flip_left_right, turn)

# %%
photographs = image.resize(image.crop_to_square(image.to_float(skimage.data.chelsea()[None])), 96)
checks.augmentation(augment, photographs)

# %% [markdown]
# The change is drawn from the key alone, so the same key gives the same images. Only changes that
# leave the label true make sense: a mirrored cat is a cat, a mirrored letter may be none.

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
cleaned = image.median_blur(noisy, 3)

# %%
checks.noise(cleaned, noisy, original)

# %% [markdown]
# The median takes the value in the middle of the sorted neighborhood, a value that is really
# there; wrong pixels stand at the ends of the row. An average mixes them into all of their
# neighbors, and blurs the edges besides.

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
four = 3
eight = 2

# %%
checks.components(four, eight, matrix)

# %% [markdown]
# The block on the left and the one below it touch at a corner alone. `image.connected_components`
# gives the count and a number for each pixel:

# %%
found = image.connected_components(jnp.array([matrix]), connectivity=4)
print("components:", found.count.item())
print(np.array(found.labels[0]))

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
smooth = image.gaussian_blur(coins, 2.0)
flat = smooth - image.box_blur(smooth, 101)
bright = image.threshold(flat, image.otsu(flat))[..., 0]
mask = image.remove_small_components(bright, 200)

# %%
checks.coins(mask, coins, 24)

# %% [markdown]
# Without the second step the table in the corner at the top is brighter than coins elsewhere, and
# no single threshold parts them. The mask is `[B, H, W]`; `image.region_properties` would give
# area, box and center of each coin.

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
        x = images
        for filters in (16, 32):
            x = layers.Conv(filters, 3, use_bias=False)(x)
            x = layers.BatchNorm()(x, train=train)
            x = ops.max_pool(nn.relu(x), 2)
        x = layers.Dropout(0.3)(ops.flatten(x), train=train)
        return layers.Dense(10)(x)


model = MyNetwork()

# %%
checks.network(model, size=(28, 28, 1), classes=10)

# %% [markdown]
# Two convolutions of 3x3 see as much as one of 5x5 with fewer weights, and the pooling in between
# makes the second one see more of the image. There is no large fully connected layer, so it has a
# fortieth of the classical network's parameters. The convolutions have no bias, because batch
# normalization would subtract it again.

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
remedies = [
    "batch normalization",
    "dropout",
    "pooling layers",
    "L2 regularization",
    "data augmentation",
    "early stopping",
]
shift = functools.partial(image.random_translate, max_shift=1)
vary = image.compose(image.random_flip_left_right, shift)
optimizer = optax.adam(3e-3)
step = train.make_train_step(
    model,
    optimizer,
    preprocess=preprocess,
    augment=lambda keys, batch: batch._replace(image=vary(keys, batch.image)),
    penalty=functools.partial(regularizers.penalty, l2=1e-4),
)
eval_step = train.make_eval_step(model, preprocess=preprocess)
state, history = train.fit(
    train.create_state(jax.random.key(0), model, optimizer, preprocess(training.images[:1])),
    step,
    data.batches(training.take(np.arange(6000)), 100, seed=0),
    epochs=6,
    validate=lambda state: train.evaluate(eval_step, state, data.batches(validation, 250)),
    monitors=[train.EarlyStopping(patience=2)],
)

# %%
checks.training(remedies, model, state, history, validation, preprocess, 0.80)

# %% [markdown]
# Garments may be mirrored and moved by a pixel, and stay what they are. The training loss lies
# above the validation loss here: it is measured while the epoch runs, with dropout and
# augmentation, and validation after it, with the whole network on plain images. That is no
# overfitting; the curves of B above are.

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
network, trained = model, state
_, outputs = train.predict(
    train.make_eval_step(network, preprocess=preprocess), trained, data.batches(validation, 250)
)
print(outputs.shape, labels.shape)
print(classes)

# %%
predicted = outputs.argmax(-1)
wrong = np.flatnonzero(predicted != labels)
matrix = metrics.confusion_matrix(labels, predicted, len(classes))
np.fill_diagonal(matrix, 0)
row, column = np.unravel_index(matrix.argmax(), matrix.shape)
confused = (classes[row], classes[column])

# %%
checks.mistakes(wrong, confused, outputs, labels, classes)

# %% [markdown]
# On the diagonal of the confusion matrix are the images that are right; the largest number off it
# names the pair. Look at the pictures before you blame the network: at 28x28 pixels some of these
# garments can be anything, and some labels are doubtful. When there is a pattern, more images of
# these classes or another augmentation help more than another layer.

# %%
if wrong is not ...:
    places = np.ravel(wrong)[:8]
    titles = [f"{classes[labels[i]]}\ntaken for {classes[outputs[i].argmax()]}" for i in places]
    show(validation.images[places] / 255, titles)
