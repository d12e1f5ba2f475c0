# %% [markdown]
# # Convolutional neural networks: training, overfitting, remedies
#
# **You will learn** how to train the classical network on real images, how to look inside it, how
# to recognize overfitting, what seven remedies against it do, and how four famous architectures
# differ.
#
# **You need** the notebook before this one, **Convolutional_Neural_Networks_Basic_Design**. (This
# notebook covers "A Classical CNN Architecture" and "Overfitting and Regularization in CNNs" in the
# slides, but you do not need the slides.)
#
# **Time**: about an hour to read and try; the whole notebook runs in two to three minutes.

# %%
# %matplotlib inline
import functools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcnn import data, image, metrics, models, ops, regularizers, train
from jaxcnn.experiment import Experiment, run
from jaxcnn.view import inspection, plots, predictions
from jaxcnn.view.model_table import describe

# %% [markdown]
# ## 1. The images
#
# `data.load` returns the subset of Fashion-MNIST that ships with the package: 10,000 real images of
# clothing for training and 2,000 for testing, each 28x28 pixels and grayscale, in ten classes.
#
# `data.hold_out` sets a tenth of the training images aside as **validation** images. Every decision
# is based on these. The test images are used only once, at the end.

# %%
training, validation = data.hold_out(data.load("fashion_mnist_slice"), 0.1)
test = data.load("fashion_mnist_slice", split="test")
print(len(training), "for training,", len(validation), "for validation,", len(test), "for testing")
plots.pictures(
    training.images[:12], [training.classes[k] for k in training.labels[:12]], "Training images"
)

# %% [markdown]
# ## 2. Training with the building blocks
#
# Training needs six objects:
#
# - the **model**;
# - `image.Preprocess`, which specifies the input that the network expects: its size, and values
#   from 0 to 1;
# - the **optimizer**, from optax: Adam, with the epsilon that Keras uses;
# - the **state** (`train.create_state`): the parameters and everything else that changes during
#   training;
# - the **step** (`train.make_train_step`), a compiled pure function
#   `step(state, batch) -> (state, counts)`, where the counts are the sums needed for loss and
#   accuracy;
# - the **batches** (`data.batches`), in an order determined by the seed.

# %%
model = models.create("classic_cnn", 10)
preprocess = image.Preprocess(size=(28, 28), channels=1)
optimizer = optax.adam(1e-3, eps=1e-7)
state = train.create_state(jax.random.key(0), model, optimizer, preprocess(training.images[:1]))
train_step = train.make_train_step(model, optimizer, preprocess=preprocess)
eval_step = train.make_eval_step(model, preprocess=preprocess)
batches = data.batches(training, 128, seed=0)
validation_batches = data.batches(validation, 128)

kernel_before = inspection.first_kernel(model, state.params, 1)
assert kernel_before is not None

# %% [markdown]
# `train.fit` calls the step for every batch of every epoch, and after each epoch evaluates the
# network on the validation images with `train.evaluate`. An **epoch** is one pass over the training
# images. Three epochs are enough to see the network learn.

# %%
state, history = train.fit(
    state,
    train_step,
    batches,
    epochs=3,
    validate=lambda now: train.evaluate(eval_step, now, validation_batches),
)
for row in history:
    print(
        f"epoch {row['epoch']}: training accuracy {row['train_accuracy']:.3f}, "
        f"validation accuracy {row['validation_accuracy']:.3f}"
    )
assert history[-1]["validation_accuracy"] > 0.8

# %% [markdown]
# ## 3. The same with one call
#
# `run` does all of this, and saves the run in a folder: configuration, history, checkpoints,
# figures and result. `Experiment` contains every setting; by default it trains the classical
# network.

# %%
with tempfile.TemporaryDirectory() as folder:
    result = run(Experiment(epochs=3, seed=0), Path(folder) / "run")
    names = sorted(path.name for path in (Path(folder) / "run").iterdir())
print(names)
print(f"test accuracy {result['test_accuracy']:.4f} after {result['steps']} steps")

# %% [markdown]
# Is this the same training? The seed determines the initial parameters, the order of the images and
# the dropout masks. So both runs produce the same parameters, bit for bit. `train.fingerprint` is a
# checksum over all of them.

# %%
print(train.fingerprint(state.eval_variables)[:16], result["params_sha256"][:16])
assert train.fingerprint(state.eval_variables) == result["params_sha256"]

# %% [markdown]
# ## 4. What it gets wrong
#
# `train.predict` returns the metrics and the logits for the test images. The **confusion matrix**
# has a row for each true class and a column for each predicted class: correct predictions are on
# the diagonal.

# %%
measured, logits = train.predict(eval_step, state, data.batches(test, 500))
probabilities = np.asarray(jax.nn.softmax(logits))
matrix = metrics.confusion_matrix(test.labels, probabilities.argmax(-1), 10)
assert abs(measured["accuracy"] - np.trace(matrix) / matrix.sum()) < 1e-9
assert measured["accuracy"] == result["test_accuracy"]
plots.confusion_matrix(matrix, test.classes)

# %% [markdown]
# Shoes, bags and trousers are easy. Most mistakes are among the garments for the upper body, which
# look alike at 28x28 pixels. The mistakes that the network made with the highest confidence are the
# most informative: `inspection.confident_mistakes` finds them.

# %%
upper = np.isin(test.classes, ("T-shirt/top", "Pullover", "Dress", "Coat", "Shirt"))
mistakes = matrix - np.diag(np.diag(matrix))
share = mistakes[np.ix_(upper, upper)].sum() / mistakes.sum()
print(f"{share:.0%} of the mistakes confuse one upper-body garment with another")
recall = np.diag(matrix) / matrix.sum(1)
assert share > 0.5 and recall[~upper].min() > recall[upper].mean()
wrong = inspection.confident_mistakes(probabilities, test.labels, 12)
titles = [
    f"{test.classes[probabilities[k].argmax()]} {probabilities[k].max():.0%}\n"
    f"is {test.classes[test.labels[k]]}"
    for k in wrong
]
plots.pictures(test.images[wrong], titles, "Confident mistakes: predicted and true classes")

# %% [markdown]
# ## 5. What it has learned
#
# Before training, the kernels were random. Three epochs do not change them completely, but they do
# change their shape and increase their weights. Both figures use the same color scale, so you can
# compare each kernel with itself in the second figure. A kernel that is red on one side and blue on
# the other detects an edge. Nobody designed these weights: the network learned them.

# %%
kernel_after = inspection.first_kernel(model, state.params, 1)
assert kernel_after is not None
limit = float(np.abs(kernel_after).max())
print(f"largest weight before {np.abs(kernel_before).max():.3f}, after {limit:.3f}")
print(f"standard deviation before {kernel_before.std():.3f}, after {kernel_after.std():.3f}")
likeness = np.corrcoef(kernel_before.reshape(-1), kernel_after.reshape(-1))[0, 1]
print(f"correlation of the weights before and after: {likeness:.2f}")
assert 0.5 < likeness < 0.99 and kernel_after.std() > kernel_before.std()
plots.kernels(kernel_before, limit=limit, title="Before training")

# %%
plots.kernels(kernel_after, limit=limit, title="After three epochs")

# %% [markdown]
# `inspection.feature_maps` returns each layer's output for an image. Each of the 32 maps responds
# to something different: some to the outline, some to one side of it, some to bright areas. The
# first figure shows the maps of the convolution before ReLU, the second the maps after ReLU and
# pooling.

# %%
picture = preprocess(test.images[:1])
layers = inspection.feature_maps(model, state.eval_variables, picture)
print({name: layer.shape for name, layer in layers.items()})
plots.feature_maps(np.asarray(picture[0]), np.asarray(layers["conv"][0]), "conv")

# %%
plots.feature_maps(np.asarray(picture[0]), np.asarray(layers["drop"][0]), "ReLU and pooling")

# %% [markdown]
# ## 6. Overfitting
#
# A network **overfits** when it memorizes its training images, including their noise and outliers.
# The sign of this is that it does **better on the training images than on the validation images**.
# (Sometimes this is stated the other way around, by mistake.)
#
# Overfitting is easy to provoke: use few images (500) and a network without any remedy, that is,
# without pooling and without dropout.

# %%
few = training.take(np.arange(500))
few_batches = data.batches(few, 50, seed=0)
bare = models.create("classic_cnn", 10, pool="none", dropout=0.0)

# %% [markdown]
# The function below trains a network on these images with the building blocks of section 2, so that
# each remedy is a single changed argument. The accuracies it prints are those of the final network
# on whole splits, without dropout or noise; the **gap** is the training accuracy minus the
# validation accuracy.

# %%
EPOCHS = 12
table: dict[str, dict[str, float]] = {}
histories: dict[str, list[dict[str, float]]] = {}


def measure(
    name: str,
    model: Any,
    *,
    monitors: Sequence[train.Monitor] = (),
    **options: Any,
) -> None:
    """Train on the few images, and add a row to the table and the history to the histories."""
    start = train.create_state(jax.random.key(0), model, optimizer, preprocess(few.images[:1]))
    step = train.make_train_step(model, optimizer, preprocess=preprocess, **options)
    check = train.make_eval_step(model, preprocess=preprocess)
    last, histories[name] = train.fit(
        start,
        step,
        few_batches,
        epochs=EPOCHS,
        validate=lambda now: train.evaluate(check, now, data.batches(validation, 500)),
        monitors=monitors,
    )
    on_train = train.evaluate(check, last, data.batches(few, 500))["accuracy"]
    on_validation = train.evaluate(check, last, data.batches(validation, 500))["accuracy"]
    table[name] = {"train": on_train, "validation": on_validation, "gap": on_train - on_validation}
    print(f"{name}: training {on_train:.3f}, validation {on_validation:.3f}")


measure("none", bare)
assert table["none"]["train"] > table["none"]["validation"] + 0.1

# %% [markdown]
# The learning curves show when overfitting starts. The training loss keeps decreasing, while the
# validation loss stops decreasing and then rises. From that point on, the network memorizes. The
# gap is on the right.
#
# In the first epoch, training accuracy looks worse than validation accuracy. This does not mean
# anything: it is a mean over the whole epoch, while the network was still learning.

# %%
losses = {
    part: [row[f"{part}_loss"] for row in histories["none"]] for part in ("train", "validation")
}
assert losses["train"][-1] < 0.1 and losses["validation"][-1] > min(losses["validation"])
plots.learning_curves(histories["none"])

# %% [markdown]
# ## 7. Seven remedies
#
# Each remedy is described in a sentence, implemented, and evaluated on 500 images for 12 epochs
# with **one seed**. The validation split has 1,000 images, so the standard error of an accuracy
# near 0.8 is about 0.013, and another seed gives different numbers. Differences of one or two
# percentage points mean nothing here. Section 8 has more reliable results.

# %% [markdown]
# ### Dropout
#
# At each step, a random subset of the values is set to zero, so that no neuron can rely on any
# single other neuron. The remaining values are scaled up. During evaluation nothing is dropped.

# %%
print(ops.dropout(jax.random.key(1), jnp.ones(10), 0.5))
measure("dropout", models.create("classic_cnn", 10, pool="none", dropout=0.5))

# %% [markdown]
# ### Batch normalization
#
# Each channel is shifted and scaled to mean 0 and standard deviation 1 over the batch. The noise
# that this adds may act as a remedy, but above all it speeds up training.

# %%
channels = 5 + 3 * jax.random.normal(jax.random.key(0), (8, 4, 4, 2))
zeros, ones = jnp.zeros(2), jnp.ones(2)
normal, _ = ops.batch_norm(channels, ones, zeros, mean=zeros, var=ones, train=True)
print("mean", channels.mean().round(2), "->", normal.mean().round(2), end=", ")
print("deviation", channels.std().round(2), "->", normal.std().round(2))
measure("batch norm", models.create("classic_cnn", 10, pool="none", dropout=0.0, norm="batch"))

# %% [markdown]
# ### Pooling layers
#
# Pooling keeps a quarter of the values, so the dense layer has a quarter of the weights. The exact
# position of a feature, which is easy to memorize, is lost.

# %%
pooled = models.create("classic_cnn", 10, pool="max", dropout=0.0)
for network in (bare, pooled):
    shapes = jax.eval_shape(
        functools.partial(network.init, train=False), jax.random.key(0), preprocess(few.images[:1])
    )
    print(f"pool={network.pool}: {sum(leaf.size for leaf in jax.tree.leaves(shapes)):,} parameters")
measure("pooling", pooled)

# %% [markdown]
# ### Early stopping
#
# Stop when the validation loss no longer improves, and keep the network from the best epoch.
# `train.EarlyStopping` is a function of the history, so it can also be applied to the run above.

# %%
stopping = train.EarlyStopping(patience=2)
print("best of", EPOCHS, "epochs:", stopping.best_epoch(histories["none"]))
measure("early stopping", bare, monitors=[stopping])
print("stopped after epoch", len(histories["early stopping"]))
assert len(histories["early stopping"]) < EPOCHS

# %% [markdown]
# ### Noise injection
#
# During training, random numbers are added to the images and to the feature maps, so that no image
# is seen twice in the same form and its details cannot be memorized.


# %%
def add_noise(keys: jax.Array, batch: data.Batch) -> data.Batch:
    """Add noise to the images; the step passes a separate key for each image."""
    return batch._replace(image=image.add_gaussian_noise(keys, batch.image, 0.1))


print(ops.gaussian_noise(jax.random.key(1), jnp.zeros(5), 0.2))
noisy = models.create("classic_cnn", 10, pool="none", dropout=0.0, noise=0.2)
measure("noise injection", noisy, augment=add_noise)

# %% [markdown]
# ### L1 and L2 regularization
#
# A penalty on large weights is added to the loss: L1 is the sum of their absolute values and pushes
# weights to zero; L2 is the sum of their squares and keeps all weights small.

# %%
penalty = functools.partial(regularizers.penalty, l1=1e-5, l2=1e-4)
example = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([5.0])}
print(regularizers.penalty(example, l1=0.5, l2=0.1), "= 0.5 * (1 + 2) + 0.1 * (1 + 4); no bias")
assert regularizers.penalty(example, l1=0.5, l2=0.1) == 2
measure("L1 and L2", bare, penalty=penalty)
norm_without, norm_with = (histories[n][-1]["parameter_norm"] for n in ("none", "L1 and L2"))
print(f"norm of all parameters: {norm_without:.1f} without, {norm_with:.1f} with the penalty")
assert norm_with < norm_without

# %% [markdown]
# ### Data augmentation
#
# The network sees slightly changed images in every epoch, here mirrored and shifted by up to two
# pixels, so that it trains on many more images than were collected. The next two notebooks are
# about augmentation.

# %%
transform = image.compose(
    image.random_flip_left_right, functools.partial(image.random_translate, max_shift=2)
)


def augment(keys: jax.Array, batch: data.Batch) -> data.Batch:
    """Transform each image of a batch with its own key."""
    return batch._replace(image=transform(keys, batch.image))


originals = image.to_float(few.images[:3])
seen = [originals, *(transform(jax.random.key(epoch), originals) for epoch in range(1, 6))]
measure("augmentation", bare, augment=augment)
plots.augmentations(np.stack(seen, axis=1))

# %% [markdown]
# ### Results of the small runs

# %%
print(f"{'':16} {'train':>7} {'valid.':>7} {'gap':>7}")
for name, values in table.items():
    print(f"{name:16} {values['train']:7.3f} {values['validation']:7.3f} {values['gap']:7.3f}")
error = np.sqrt(0.8 * 0.2 / len(validation))
print(f"standard error of a validation accuracy near 0.8: {error:.3f}")
assert round(error, 3) == 0.013 and len(table) == 8

# %% [markdown]
# With so few images, half of these networks still memorize nearly all of them. Pooling, early
# stopping, noise and augmentation narrow the gap. But look at the validation column too: in 12
# epochs, the validation accuracy with augmentation is no better than without any remedy; only the
# training accuracy is worse. **A narrow gap alone does not make a good network.**

# %%
for name in ("pooling", "early stopping", "noise injection", "augmentation"):
    assert table[name]["gap"] < table["none"]["gap"]
assert table["augmentation"]["validation"] < table["none"]["validation"]

# %% [markdown]
# ## 8. The seven remedies, evaluated more carefully
#
# The script `remedies.py` in the folder `experiments` trained each network with five seeds, for ten
# epochs on 9,000 training images. Its results are stored in a file. Here are the means and, after
# ±, the standard deviations over the seeds:

# %%
records = json.loads(Path("../results/remedies.json").read_text())
splits = ("train_accuracy", "validation_accuracy", "test_accuracy", "gap")
means: dict[str, dict[str, float]] = {}
print(f"{'':16} {'train':>15} {'validation':>15} {'test':>15} {'gap':>15}")
for name, record in records.items():
    columns = {split: np.array([row[split] for row in record["rows"]]) for split in splits}
    means[name] = {split: float(column.mean()) for split, column in columns.items()}
    cells = [f"{column.mean():.3f} ± {column.std(ddof=1):.3f}" for column in columns.values()]
    print(f"{name:16} " + " ".join(f"{cell:>15}" for cell in cells))
assert all(len(record["rows"]) == 5 for record in records.values())

# %% [markdown]
# ![Training, validation and test accuracy with each remedy](../results/remedies.png)

# %% [markdown]
# Conclusions from these numbers, which the next cell verifies:
#
# - without a remedy, the gap is nearly ten percentage points: the network overfits;
# - **every remedy except batch normalization narrows the gap**. Batch norm fits the training images
#   even better: it does not act as a remedy here, and the test accuracy is no better;
# - a narrow gap is not the goal. **Pooling and dropout have the highest test accuracy**, by less
#   than one percentage point, which is about the spread over seeds; but pooling also needs only a
#   quarter of the weights;
# - augmentation leaves less than a quarter of the gap, but the test accuracy is no better either:
#   in ten epochs, this small network sees too few unmodified images;
# - **all seven together are too much**: the gap is almost gone, but so are nearly six percentage
#   points of accuracy. The network now underfits.
#
# So use the gap to see *whether* a network overfits, choose the remedy by validation accuracy, and
# use more than one seed.

# %%
bare_means = means["none"]
narrower = {name for name in means if means[name]["gap"] < bare_means["gap"]}
assert bare_means["gap"] > 0.08
assert narrower == set(means) - {"none", "batch norm"}
best = sorted(means, key=lambda name: -means[name]["test_accuracy"])
assert set(best[:2]) == {"pooling", "dropout"}
assert means[best[0]]["test_accuracy"] - bare_means["test_accuracy"] < 0.01
assert means["augmentation"]["gap"] < bare_means["gap"] / 4
assert (
    max(means[n]["test_accuracy"] for n in ("batch norm", "augmentation"))
    < bare_means["test_accuracy"]
)
assert min(means, key=lambda name: means[name]["gap"]) == "all seven" == best[-1]
assert bare_means["test_accuracy"] - means["all seven"]["test_accuracy"] > 0.05
print("by test accuracy:", ", ".join(best))

# %% [markdown]
# ## 9. Other tasks, other heads
#
# The same network can solve other tasks, given another number of outputs and another task object.
# So far the task was multi-class. Here are the other three, trained on 2,000 images for three
# epochs:
#
# - **binary**: is it footwear?
# - **multi-label**: is it footwear, does it have long sleeves, is it for winter? Any number of
#   these may apply;
# - **regression**: by how many degrees was the image rotated?

# %%
some = training.take(np.arange(2000))
held = validation.take(np.arange(500))
attributes = {
    "footwear": ("Sandal", "Sneaker", "Ankle boot"),
    "long sleeves": ("Pullover", "Coat"),
    "winter": ("Pullover", "Coat", "Ankle boot"),
}
holds = np.stack([np.isin(some.classes, names) for names in attributes.values()], axis=1)


def with_footwear(source: data.ArraySource) -> data.ArraySource:
    """Relabel with one label, 0 or 1."""
    labels = holds[source.labels, 0].astype(int)
    return data.from_arrays(np.asarray(source.images), labels, classes=("other", "footwear"))


def with_attributes(source: data.ArraySource) -> data.ArraySource:
    """Relabel with three labels, each 0 or 1."""
    labels = holds[source.labels].astype(int)
    return data.from_arrays(np.asarray(source.images), labels, classes=tuple(attributes))


def with_angles(source: data.ArraySource) -> data.ArraySource:
    """Rotate each image by a random angle, and use the angle as its target."""
    degrees = np.random.default_rng(len(source)).uniform(-45, 45, len(source))
    turned = image.rotate(image.to_float(np.asarray(source.images)), degrees)
    return data.from_arrays(np.asarray(turned), degrees[:, None], classes=("degrees",))


share_of_footwear = holds[held.labels, 0].mean()
print(f"{share_of_footwear:.0%} of these validation images are footwear")
assert abs(share_of_footwear - 1 / 3) < 0.05

tasks = {
    "binary": (train.binary(), 1, with_footwear),
    "multi-label": (train.multi_label(), 3, with_attributes),
    "regression": (train.regression(mean=[0.0], std=[26.0]), 1, with_angles),
}

# %% [markdown]
# Only `task=` and the number of outputs change. Each task has its own score (`task.score`), and
# `task.overall` adds the metrics that need all predictions at once. For comparison: always
# predicting "no" is right for two out of three images when the question is footwear; on the
# multi-label task it finds no label, so its F1 is 0; and always predicting the mean angle has an R2
# of 0.

# %%
for name, (task, outputs, relabel) in tasks.items():
    to_learn, to_check = relabel(some), relabel(held)
    network = models.create("classic_cnn", outputs)
    start = train.create_state(
        jax.random.key(0), network, optimizer, preprocess(to_learn.images[:1])
    )
    step = train.make_train_step(network, optimizer, task=task, preprocess=preprocess)
    check = train.make_eval_step(network, task=task, preprocess=preprocess)
    trained, rows = train.fit(start, step, data.batches(to_learn, 50, seed=0), epochs=3)
    scores, answers = train.predict(
        check, trained, data.batches(to_check, 500), overall=task.overall
    )
    first = predictions.describe(task, np.asarray(task.activate(answers[:1])[0]), to_check.classes)
    said = ", ".join(f"{word} {value:.2f}" for word, value in first)
    print(f"{name:12} {task.score} {scores[task.score]:.3f}; first image: {said}")
    assert scores[task.score] > {"binary": 0.9, "multi-label": 0.6, "regression": 0.2}[name]

# %% [markdown]
# ## 10. Four famous architectures
#
# One idea from each:
#
# - **VGG-16** (2014): only 3x3 convolutions, many of them; two consecutive ones see 5x5 with fewer
#   weights;
# - **ResNet-50** (2015): each block adds its result to its input, so the gradient has a short path
#   back and very deep networks can be trained;
# - **InceptionV3** (2015): kernels of several sizes side by side, with large ones split into small
#   ones;
# - **EfficientNet-B0** (2019): convolutions of each channel separately (depthwise), with width,
#   depth and image size scaled up together by a single rule.
#
# `describe` summarizes them without running the networks: the number of trainable parameters, the
# multiply-adds for one image, and the memory per image that a training step needs for the backward
# pass.

# %%
famous = ("classic_cnn", "vgg16", "resnet50", "inception_v3", "efficientnet_b0")
descriptions = {name: describe(name) for name in famous}
print(f"{'':16} {'image':>12} {'parameters':>12} {'multiply-adds':>14} {'memory':>11}")
for name, found in descriptions.items():
    size = "x".join(map(str, found.size))
    print(
        f"{name:16} {size:>12} {found.parameters:>12,} {found.multiply_adds / 1e6:>12,.1f} M "
        f"{found.kept_bytes / 2**20:>7.1f} MiB"
    )
assert descriptions["classic_cnn"].parameters == 805_066
assert descriptions["vgg16"].parameters == 138_357_544
assert descriptions["resnet50"].parameters == 25_557_032
assert descriptions["efficientnet_b0"].parameters == 5_288_548

# %% [markdown]
# EfficientNet-B0 has a twenty-sixth of VGG-16's parameters and a fortieth of its multiply-adds. But
# it keeps as much memory for the backward pass: few operations do not imply little memory.
# (InceptionV3 is counted with the second head that it has during training.) Fashion-MNIST's 28x28
# images do not need any of these networks; they were designed for photographs in a thousand
# classes, and are normally used with weights trained on such photographs.

# %%
vgg, efficient = descriptions["vgg16"], descriptions["efficientnet_b0"]
print(f"parameters {vgg.parameters / efficient.parameters:.0f} to 1", end=", ")
print(f"multiply-adds {vgg.multiply_adds / efficient.multiply_adds:.0f} to 1", end=", ")
print(f"memory {vgg.kept_bytes / efficient.kept_bytes:.1f} to 1")
assert round(vgg.parameters / efficient.parameters) == 26
assert round(vgg.multiply_adds / efficient.multiply_adds) == 40
assert 0.8 < vgg.kept_bytes / efficient.kept_bytes < 1.2

# %% [markdown]
# ## Summary
#
# - Training is `create_state`, `make_train_step`, `fit`, `evaluate`; `experiment.run` does all of
#   it and produces the same parameters, bit for bit.
# - To look inside a network, use `plots.kernels`, `inspection.feature_maps`,
#   `metrics.confusion_matrix` and `inspection.confident_mistakes`.
# - Better results on training images than on validation images mean overfitting;
#   `plots.learning_curves` shows the gap.
# - There are seven remedies, each a single argument. They narrow the gap (batch norm does not
#   here); whether they help must be decided on the validation images, with several seeds.
# - The task makes a network binary, multi-class, multi-label or regression.
#
# Next: **ImageDataGenerator**, about images and their preparation.
