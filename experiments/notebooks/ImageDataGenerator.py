# %% [markdown]
# # Images before the network: datasets, preprocessing, augmentation
#
# **You will learn** what an image dataset is; how real photographs are resized, cropped,
# normalized, made gray and filtered; how noise is removed; how objects are counted with connected
# components; what every augmentation does to a photograph; and how Keras's `ImageDataGenerator`
# is used with `jaxcnn`.
#
# **You need** the first lines about JAX in **Convolutional_Neural_Networks_Basic_Design**: what a
# key is. (In the slides, which you do not need, this is "Image Dataset & Preprocessing", first
# exercise notebook.)
#
# **Time:** about 40 minutes to read, one to two minutes to run. Nothing is downloaded.

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["jpeg"]
import functools
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import skimage.data
from skimage.io import imsave
from sklearn.datasets import load_sample_image

from jaxcnn import data, image
from jaxcnn.view import plots

plt.rcParams["figure.dpi"] = 80  # small pictures, for a small file

# %% [markdown]
# ## What is an image dataset?
#
# Images, with a label for each, in parts that are used for different things: one to **train**,
# one to **validate** choices while training, one to **test** once at the end.
#
# `data.load` gives one part as arrays. Fashion-MNIST has 70,000 pictures of garments in ten
# classes, 28 x 28 pixels each, gray. The first 10,000 of its training part and 2,000 of its test
# part ship with `jaxcnn`.

# %%
fashion = data.load("fashion_mnist_slice")
fashion_test = data.load("fashion_mnist_slice", split="test")
print("training images:", fashion.images.shape, fashion.images.dtype)
print("training labels:", fashion.labels.shape, "of", len(fashion.classes), "classes")
print("test images:    ", fashion_test.images.shape)
plots.pictures(
    fashion.images[:12],
    [fashion.classes[label] for label in fashion.labels[:12]],
    "The first twelve images of Fashion-MNIST",
)

# %% [markdown]
# A batch of images is an array `[N, H, W, C]`: how many, height, width, channels. A gray image
# has one channel, a color image three: red, green, blue. Every function of `jaxcnn.image` takes
# a whole batch.
#
# ImageNet, Corel-1000, Caltech-256 and Caltech-101 are four well-known datasets of photographs.
# ImageNet's words for its classes come from WordNet, whose groups of synonyms are called *synsets*.
# `data.prepare` can make each of them ready for `data.load`.
#
# The libraries OpenCV, Pillow and scikit-image process images one by one on the processor.
# `jaxcnn.image` does the same work on batches, inside the compiled program of a network, and on a
# GPU where there is one.

# %% [markdown]
# ## Some real photographs
#
# They come with scikit-image and scikit-learn. Pixels are integers from 0 to 255 (`uint8`).

# %%
photographs = {
    "astronaut": skimage.data.astronaut(),
    "coffee": skimage.data.coffee(),
    "cat": skimage.data.chelsea(),
    "temple": load_sample_image("china.jpg"),
    "flower": load_sample_image("flower.jpg"),
    "coins": skimage.data.coins()[..., None],
}
for name, photograph in photographs.items():
    low, high = photograph.min(), photograph.max()
    print(f"{name:10}", photograph.shape, photograph.dtype, "values", low, "to", high)

# %% [markdown]
# ## Resizing
#
# A network needs images of one size. `image.resize` takes a size, or the factors `fx` and `fy` as
# OpenCV's `cv2.resize(img, (0, 0), fx=0.1, fy=0.1)` does. A factor of 0.1 gives a **tenth** of each
# side, a hundredth of the pixels. (It is no `half`, as the result is sometimes called.)

# %%
temple = jnp.asarray(photographs["temple"])[None]  # a batch of one
tenth = image.resize(temple, fx=0.1, fy=0.1)
print(temple.shape, "->", tenth.shape)
assert tenth.shape == (1, 43, 64, 3)

# %% [markdown]
# With a size it is `cv2.resize(img, (1050, 1610))`. Take care: OpenCV wants
# **(width, height)**, while the array that it gives has the shape (height, width, channels).
# `jaxcnn` says (height, width) everywhere.

# %%
bigger = image.resize(temple, (1610, 1050))  # cv2.resize(img, (1050, 1610))
print(temple.shape, "->", bigger.shape)
assert bigger.shape == (1, 1610, 1050, 3)

# %%
figure, (left, middle, right) = plt.subplots(
    1, 3, figsize=(11, 3.4), width_ratios=(1, 1, 0.43), layout="constrained"
)
for axes, picture, title in (
    (left, temple, "original"),
    (middle, tenth, "a tenth of each side, enlarged"),
    (right, bigger, "1610 rows, 1050 columns"),
):
    axes.imshow(picture[0], interpolation="nearest" if picture is tenth else None)
    axes.set(title=title, xticks=[0, picture.shape[2]], yticks=[0, picture.shape[1]])

# %% [markdown]
# In the middle one sees the single pixels. The picture on the right is stretched: its shape is not
# that of the photograph. And where images get much smaller, fine patterns turn into false coarse
# ones, unless each new pixel is an average of all that it covers. This is what `antialias=True`,
# the default, does.

# %%
wall = jnp.asarray(skimage.data.brick())[None, ..., None]
plots.pictures(
    np.concatenate(
        [image.resize(wall, 64, antialias=True), image.resize(wall, 64, antialias=False)]
        + [image.resize(wall, 64, method=method) for method in ("nearest", "area")]
        + [image.resize(wall, 64, method=method) for method in ("bicubic", "lanczos")]
    ),
    ["bilinear (default)", "without antialias", "nearest", "area", "bicubic", "lanczos"],
    "A brick wall of 512 x 512 pixels resized to 64 x 64",
)

# %% [markdown]
# ## Square crops
#
# Most networks want squares. There are three ways: cut out the middle (`image.crop_to_square`),
# add borders (`image.resize_with_pad`), or stretch. Cutting keeps shapes as they are, but loses
# the sides.

# %%
coffee = jnp.asarray(photographs["coffee"])[None]
print("is it a square?", image.is_square(coffee), coffee.shape)
square = image.crop_to_square(coffee)
assert image.is_square(square)
figure, axes = plt.subplots(1, 4, figsize=(8, 2.4), layout="constrained")
for place, picture, title in (
    (axes[0], coffee, "original"),
    (axes[1], image.resize(square, 128), "crop_to_square"),
    (axes[2], image.resize_with_pad(coffee, 128), "resize_with_pad"),
    (axes[3], image.resize(coffee, 128), "stretched"),
):
    place.imshow(picture[0])
    place.set_title(title, fontsize=10)
    place.axis("off")

# %% [markdown]
# `image.Preprocess` describes all of what a network expects. Its `fit` crops, resizes and makes
# gray in one step, and `data.from_folder` does the same to files. From here on we use six
# photographs of 96 x 96 pixels.

# %%
preprocess = image.Preprocess(size=(96, 96), channels=3)
photos = jnp.concatenate([preprocess.resize(jnp.asarray(p)[None]) for p in photographs.values()])
print(photos.shape, photos.dtype)
plots.pictures(np.asarray(photos), list(photographs), "Six photographs of one size")

# %% [markdown]
# ## Normalization
#
# Pixels from 0 to 255 are large numbers for a network whose weights begin near 0. Normalization
# brings all images to the same small range. Three ways are common (scikit-learn's names are in
# brackets):
#
# 1. divide by 255: `image.to_float`;
# 2. min-max scaling (`MinMaxScaler`): the smallest value becomes 0, the largest 1:
#    `image.min_max_scale`;
# 3. standardizing (`StandardScaler`): subtract the mean, divide by the standard deviation. The
#    mean becomes 0 and the deviation 1, so values are **not** between 0 and 1 then:
#    `image.standardize` for each image by itself, `image.normalize` with the numbers of the whole
#    dataset.
#
# (scikit-learn's scalers take each pixel's place by itself, over all images; the functions here
# take each image by itself, or each channel over all images, so that the picture stays a
# picture.)
#
# A range from -1 to 1 is `image.normalize` with mean 0.5 and deviation 0.5.

# %%
pixels = jnp.asarray(fashion.images)
unit = image.to_float(pixels)  # divided by 255
mean, std = image.channel_statistics(fashion.images)  # of all training images, in [0, 1]
versions = {
    "as stored (0 to 255)": pixels,
    "divided by 255": unit,
    "from -1 to 1": image.normalize(unit, (0.5,), (0.5,)),
    "min-max scaled": image.min_max_scale(unit),
    "standardized, each image": image.standardize(unit),
    "standardized, dataset": image.normalize(unit, mean, std),
}
print(f"{'':26}{'min':>9}{'max':>9}{'mean':>9}{'std':>9}")
for name, values in versions.items():
    numbers = np.asarray(values, np.float32)
    row = numbers.min(), numbers.max(), numbers.mean(), numbers.std()
    print(f"{name:26}" + "".join(f"{number:9.3f}" for number in row))

# %%
figure, axes = plt.subplots(2, 3, figsize=(8, 4), layout="constrained")
for place, (name, values) in zip(axes.ravel(), versions.items(), strict=True):
    place.hist(np.asarray(values[:1000]).ravel(), bins=50, color="tab:blue")
    place.set_title(name, fontsize=9)
    place.set_yscale("log")
figure.suptitle("Pixel values of 1,000 images of Fashion-MNIST (counts, logarithmic)")
plt.show()

# %% [markdown]
# The shape of the histogram stays the same where one rule holds for all images; only the axis
# changes. Scaling each image by its own numbers is another thing: it also evens out bright and
# dark images.
#
# The rule must come from the **training** images and is then used for the test images too, as in
# scikit-learn, where `fit` sees the training part alone. `image.Preprocess` stores the numbers,
# and travels with the network.

# %%
fashion_preprocess = image.Preprocess(size=(28, 28), channels=1, mean=tuple(mean), std=tuple(std))
seen = fashion_preprocess(fashion_test.images)
print("test images: mean", round(float(seen.mean()), 3), "deviation", round(float(seen.std()), 3))
assert abs(float(seen.mean())) < 0.05  # near 0, not exactly: the numbers are of other images
assert abs(float(versions["standardized, dataset"].mean())) < 1e-3

# %% [markdown]
# ## Grayscale
#
# Most things are recognized without color, and one channel is a third of the work. Gray is a
# weighted sum, because our eyes take green for brighter than blue: `0.299 red + 0.587 green +
# 0.114 blue`. By hand, and by `image.to_grayscale`:

# %%
red_green_blue = image.to_float(photos)
by_hand = red_green_blue @ jnp.array([0.299, 0.587, 0.114])
gray = image.to_grayscale(red_green_blue)
assert gray.shape == (6, 96, 96, 1)
assert float(jnp.abs(gray[..., 0] - by_hand).max()) < 1e-5

# %% [markdown]
# The order of the channels matters. OpenCV's `imread` gives **blue, green, red**. A common mistake
# is to continue with `cv2.cvtColor(img, cv2.COLOR_RGB2GRAY)`, which takes the first channel for
# red. So blue gets red's weight, and red gets blue's. For an image that `cv2.imread` gave, the
# right code is `COLOR_BGR2GRAY`.
#
# `image.reverse_channels` turns one order into the other, so that we can see the mistake. The two
# grays look alike at first sight, so the last column is their difference: red things become too
# dark, blue ones too bright.

# %%
swapped = image.to_grayscale(image.reverse_channels(red_green_blue))
difference = swapped - gray
figure, axes = plt.subplots(2, 4, figsize=(8, 4.3), layout="constrained")
for places, number in zip(axes, (0, 4), strict=True):  # the astronaut's orange suit, and a flower
    largest = float(jnp.abs(difference[number]).max())
    print(list(photographs)[number], "differs by up to", round(largest, 2))
    places[0].imshow(red_green_blue[number])
    places[1].imshow(gray[number], cmap="gray", vmin=0, vmax=1)
    places[2].imshow(swapped[number], cmap="gray", vmin=0, vmax=1)
    places[3].imshow(difference[number], cmap="gray", vmin=-0.16, vmax=0.16)
titles = ("color", "gray, right order", "gray, BGR taken for RGB", "difference, -0.16 to 0.16")
for place, title in zip(axes[0], titles, strict=True):
    place.set_title(title, fontsize=9)
for place in axes.ravel():
    place.axis("off")

# %% [markdown]
# ## Filters
#
# A filter slides a small matrix, the kernel, over the image, multiplies element by element, and
# adds up: the same convolution as in a network, but with weights that people chose.
#
# - **Averaging** neighbors blurs. OpenCV's `cv2.blur(img, (5, 5))` is `image.box_blur(images, 5)`.
# - **Subtracting** neighbors finds edges: `image.sobel`, `image.laplacian`.
# - Adding the edges to the image sharpens it: `image.sharpen`.
#
# `image.filter2d` takes any kernel:

# %%
average = jnp.full((5, 5), 1 / 25)
blurred = image.filter2d(gray, average)
assert float(jnp.abs(blurred - image.box_blur(gray, 5)).max()) < 1e-5  # the same, by another way
cat = gray[2]
print("variance of the cat:", float(cat.var()), "blurred:", float(blurred[2].var()))
assert blurred[2].var() < cat.var()  # high frequencies are gone

# %%
down, right = image.sobel(gray)
edges = jnp.sqrt(down**2 + right**2)
filtered = {
    "original": gray,
    "box_blur 5x5": image.box_blur(gray, 5),
    "gaussian_blur": image.gaussian_blur(gray, 1.5),
    "sharpen": jnp.clip(image.sharpen(gray), 0, 1),
    "sobel: edges": edges / edges.max(),
    "laplacian": image.min_max_scale(image.laplacian(gray)),
}
plots.pictures(
    np.concatenate([np.stack([picture[n] for picture in filtered.values()]) for n in (3, 2)]),
    list(filtered) * 2,
    "Six views of a temple and a cat",
)

# %% [markdown]
# Sobel's filter gives two numbers for each pixel: how fast the image rises downwards and to the
# right. Their length is the strength of the edge, whatever its direction.

# %% [markdown]
# ## Noise, and two filters against it
#
# Two kinds of noise: **Gaussian** (`image.add_gaussian_noise`) moves every pixel a little, as a
# sensor in the dark does. **Salt and pepper** (`image.add_salt_pepper`) makes a few pixels white
# or black, as a faulty line does.
#
# How much noise is left is measured by the PSNR, the peak signal-to-noise ratio: the mean squared
# error, on a logarithmic scale, in decibel. Higher is better; 6 dB more is half the typical error
# of a pixel.


# %%
def psnr(noisy, clean):
    """Peak signal-to-noise ratio of images in [0, 1], in decibel."""
    return float(-10 * jnp.log10(jnp.mean((noisy - clean) ** 2)))


key_normal, key_spots = jax.random.split(jax.random.key(0))
clean = gray[3:4]
noises = {
    "Gaussian": image.add_gaussian_noise(key_normal, clean, 0.1),
    "salt and pepper": image.add_salt_pepper(key_spots, clean, 0.1),
}
tiles, titles, ratios = [], [], {}
for name, noisy in noises.items():
    for filter_name, result in (
        (name, noisy),
        ("average 3x3", image.box_blur(noisy, 3)),
        ("median 3x3", image.median_blur(noisy, 3)),
    ):
        ratios[name, filter_name] = psnr(result, clean)
        tiles.append(jnp.clip(result[0], 0, 1))
        titles.append(f"{filter_name}: {ratios[name, filter_name]:.1f} dB")
plots.pictures(np.stack(tiles), titles, "Noise, and what two filters leave of it")

# %% [markdown]
# Against salt and pepper the **median** is far better: a single white pixel is never the middle
# value of nine, so it is gone without a trace, while the average smears it over its neighbors.
# Against Gaussian noise the average is the better of the two. Both blur fine detail; no filter
# knows what was there.

# %%
spots = "salt and pepper"
assert ratios[spots, "median 3x3"] > ratios[spots, "average 3x3"] + 2
assert ratios[spots, "average 3x3"] > ratios[spots, spots]
assert ratios["Gaussian", "average 3x3"] > ratios["Gaussian", "median 3x3"]

# %% [markdown]
# ## Thresholding
#
# A threshold turns a gray image into a mask: which pixels are brighter than a value. Otsu's
# method chooses the value such that the two groups of pixels are as far apart as possible:
# `image.otsu`, then `image.threshold`.

# %%
coins = jnp.asarray(photographs["coins"])[None]
value = image.otsu(coins)
mask = image.threshold(coins, value)
print("Otsu's value:", int(value.item()), "- share of bright pixels:", round(float(mask.mean()), 2))
figure, axes = plt.subplots(1, 3, figsize=(8, 2.3), layout="constrained")
axes[0].imshow(coins[0, ..., 0], cmap="gray")
axes[1].hist(np.asarray(coins).ravel(), bins=64)
axes[1].axvline(value.item(), color="tab:red")
axes[2].imshow(mask[0, ..., 0], cmap="gray")
for place, title in zip(axes, ("coins", "values, Otsu's line", "brighter than it"), strict=True):
    place.set_title(title, fontsize=10)

# %% [markdown]
# ## Connected components
#
# Pixels of a mask that touch each other are one object. With **4** neighbors, pixels touch where
# they share a side. With **8**, also where they share a corner. `image.connected_components`
# numbers the objects.
#
# An example that one can count by hand. (If you have the slides: there the first row lacks a zero.)

# %%
matrix = jnp.array(
    [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 1, 1, 1],
        [0, 1, 1, 0, 0, 0, 1, 1],
        [0, 1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]
)
four = image.connected_components(matrix[None], connectivity=4)
eight = image.connected_components(matrix[None], connectivity=8)
print("with 4 neighbors:", four.count.item(), "\n", np.asarray(four.labels[0]))
print("with 8 neighbors:", eight.count.item(), "\n", np.asarray(eight.labels[0]))
assert four.count.item() == 3
assert eight.count.item() == 2

# %% [markdown]
# By hand: the block on the left ends at row 3, column 2 (counted from 0); the block in the middle
# begins at row 4, column 3. These two pixels share a corner and no side. So with 4 neighbors
# they are two objects, and three in all with the one at the upper right; with 8 neighbors they
# are one, and two in all.

# %%
figure, axes = plt.subplots(1, 2, figsize=(6, 3), layout="constrained")
for place, found, title in ((axes[0], four, "4 neighbors"), (axes[1], eight, "8 neighbors")):
    shown = np.ma.masked_equal(np.asarray(found.labels[0]), 0)
    place.imshow(shown, cmap="Set1", vmin=1, vmax=9)
    place.set(title=f"{title}: {found.count.item()} components")
    place.set_xticks(np.arange(-0.5, 8), [])
    place.set_yticks(np.arange(-0.5, 8), [])
    place.grid(color="lightgray")

# %% [markdown]
# ## Counting coins
#
# Otsu's mask above would not do: the light is uneven, and the bright background at the upper left
# hangs together with coins. So first subtract the background: `image.opening` with a window
# larger than a coin removes the coins and leaves the light. Then Otsu's threshold,
# `image.closing` against small gaps, and `image.remove_small_components` against specks.

# %%
background = image.gaussian_blur(image.opening(image.to_float(coins), 75), 10)
even = image.to_float(coins) - background
mask = image.threshold(even, image.otsu(even))
mask = image.closing(mask.astype(jnp.float32), 5)[..., 0] > 0
mask = image.remove_small_components(mask, 100)
components = image.connected_components(mask, connectivity=8)
count = components.count.item()
print(count, "coins")
assert count == 24  # four rows of six: count them in the picture

# %% [markdown]
# `image.region_properties` measures each component: box, area, middle, brightness. Inside a
# compiled program shapes must be known, so it wants the largest number there could be,
# `max_count`; `mask` tells which entries exist.

# %%
regions = image.region_properties(components, coins, max_count=40)
exists = np.asarray(regions.mask[0])
areas = np.asarray(regions.area[0])[exists]
assert exists.sum() == count
print("pixels of the smallest and the largest coin:", areas.min(), areas.max())
boxes = np.asarray(regions.box[0])[exists]
plots.boxes(np.asarray(coins[0]), boxes, f"{count} coins found")

# %% [markdown]
# Detection, segmentation and features, three classical tasks, are all here: the boxes say
# **where** the objects are, the labels say **which pixels** belong to each, and area and
# brightness are **features**. `image.crop_components` would cut out each coin for a network.

# %% [markdown]
# ## Augmentation
#
# Data augmentation makes slightly changed copies of images that are there: a cat that is mirrored
# or a little darker is still a cat. The network sees new images in every epoch, and cannot learn
# them by heart.
#
# A random transform is a function of a key and images. From one key it makes a separate key for
# every image, so five copies of one photograph get five different draws. Each row below is one
# transform, after the original.

# %%
key = jax.random.key(1)
original = red_green_blue[1:2]
copies = jnp.repeat(original, 5, axis=0)


def gallery(transforms, heading):
    """A row for each transform: the original, and five draws."""
    rows = [jnp.concatenate([original, draw(key, copies)]) for draw in transforms.values()]
    names = [title for name in transforms for title in ("original", name, *[""] * 4)]
    figure = plots.pictures(np.concatenate(rows).clip(0, 1), names, heading)
    figure.set_size_inches(0.75 * figure.get_size_inches())
    return figure


gallery(
    {
        "random_rotation": functools.partial(image.random_rotation, max_angle=40),
        "shear": functools.partial(image.random_affine, max_shear=30),
        "scale": functools.partial(image.random_affine, scale=(0.6, 1.5)),
        "random_translate": functools.partial(image.random_translate, max_shift=25),
        "random_flip_left_right": image.random_flip_left_right,
        "random_flip_up_down": image.random_flip_up_down,
        "random_crop": functools.partial(image.random_crop, size=96, padding=20),
        "random_resized_crop": functools.partial(image.random_resized_crop, size=96),
    },
    "Geometry: where things are",
)

# %% [markdown]
# `image.random_affine` draws angle, shear, scale and shift, and samples the image once for all
# four: faster, and less blurred, than one after the other. What comes in from outside is black,
# or what `border=` says.

# %%
gallery(
    {
        "random_brightness": functools.partial(image.random_brightness, max_delta=0.4),
        "random_contrast": functools.partial(image.random_contrast, factors=(0.3, 2.0)),
        "random_gamma": functools.partial(image.random_gamma, gammas=(0.4, 2.5)),
        "random_hue": functools.partial(image.random_hue, max_delta=0.5),
        "random_saturation": functools.partial(image.random_saturation, factors=(0.0, 3.0)),
        "random_grayscale": functools.partial(image.random_grayscale, probability=0.5),
    },
    "Light and color",
)


# %%
gallery(
    {
        "add_gaussian_noise": functools.partial(image.add_gaussian_noise, stddev=0.15),
        "add_salt_pepper": functools.partial(image.add_salt_pepper, amount=0.1),
        "random_blur": functools.partial(image.random_blur, sigmas=(0.0, 3.0), window=9),
        "random_sharpness": functools.partial(image.random_sharpness, amounts=(-0.125, 6.0)),
        "random_erasing": functools.partial(image.random_erasing, probability=1.0),
        "random_solarize": image.random_solarize,
        "random_posterize": functools.partial(image.random_posterize, bits=(1, 3)),
    },
    "Noise, blur, holes, and fewer tones",
)

# %% [markdown]
# Which ones, and how strong? RandAugment draws a few of fourteen operations with one strength for
# all; TrivialAugment draws one operation of any strength, so that nothing is left to tune.
# `image.compose` applies your transforms one after the other, `image.sometimes` and
# `image.one_of` choose.

# %%
gallery(
    {
        "rand_augment": image.rand_augment,
        "trivial_augment": image.trivial_augment,
        "compose": image.compose(
            image.random_flip_left_right,
            functools.partial(image.random_affine, max_angle=15, scale=(0.9, 1.3)),
            functools.partial(image.random_brightness, max_delta=0.2),
            image.random_erasing,
        ),
    },
    "Policies",
)

# %% [markdown]
# Two transforms make one example of **two**, and mix the labels in the same shares. `image.mixup`
# averages the images, `image.cutmix` pastes a rectangle of the other one. The titles below are
# the new labels. (The other image is drawn from the batch: with most keys some image draws itself
# and stays as it is. This key was chosen so that none does.)

# %%
one_hot = jnp.eye(6)
names = np.array(list(photographs))
tiles, titles = [], []
for mix in (functools.partial(image.mixup, alpha=2.0), image.cutmix):
    mixed, targets = mix(jax.random.key(42), red_green_blue, one_hot)
    assert float(jnp.abs(targets.sum(1) - 1).max()) < 1e-5  # shares of the classes
    tiles.append(np.asarray(mixed))
    for target in np.asarray(targets):
        parts = [f"{share:.0%} {name}" for share, name in zip(target, names, strict=True) if share]
        titles.append("\n".join(parts))
plots.pictures(np.concatenate(tiles), titles, "mixup (above) and cutmix (below)")

# %% [markdown]
# A word of care: the label must stay true. An upside-down 6 is a 9, a mirrored "b" is a "d", and
# a shoe of Fashion-MNIST is never upside down. Choose what could have happened to a real image.

# %% [markdown]
# ## `ImageDataGenerator`
#
# Keras's class gives batches of transformed images without end. `data.ImageDataGenerator` has the
# same options. Here is an example with flips, and with a mistake:
#
# ```python
# samples = 10
# datagen = ImageDataGenerator(horizontal_flip=True, vertical_flip=True)
# it = datagen.flow(samples, batch_size=1)
# ```
#
# What `flow` gets must be the **images**, an array `[N, H, W, C]`, and not their number. With 10 it
# cannot work:

# %%
datagen = data.ImageDataGenerator(horizontal_flip=True, vertical_flip=True)
try:
    datagen.flow(10, batch_size=1)
except ValueError as error:
    print("ValueError:", error)

# %%
samples = np.asarray(photos)  # [N, H, W, C]
it = datagen.flow(samples, batch_size=1, shuffle=False, seed=0)
flipped = np.concatenate([next(it) for _ in range(12)])  # two epochs of six images
print(flipped.shape, flipped.dtype, "values", flipped.min(), "to", flipped.max())
plots.pictures(
    flipped / 255,
    [f"epoch {epoch}: {name}" for epoch in (1, 2) for name in names],
    "Each image flips anew in every epoch",
)

# %% [markdown]
# Values are those of Keras: 0 to 255 as they came, unless `rescale=1/255` is given. With labels,
# `flow(x, y)` gives pairs. Here is a generator with many options, each row one image and what
# five epochs see of it:

# %%
generator = data.ImageDataGenerator(
    rotation_range=25,
    width_shift_range=0.1,
    height_shift_range=0.1,
    shear_range=10,
    zoom_range=0.2,
    brightness_range=(0.7, 1.3),
    horizontal_flip=True,
    rescale=1 / 255,
)
labels = np.arange(6)
flow = generator.flow(samples, labels, batch_size=6, shuffle=False, seed=0)
batches = [next(flow) for _ in range(5)]
assert all(np.array_equal(batch_labels, labels) for _, batch_labels in batches)
columns = [red_green_blue, *(batch_images for batch_images, _ in batches)]
plots.augmentations(np.stack([np.asarray(column).clip(0, 1) for column in columns], 1)[:4])

# %% [markdown]
# ### The same seed, the same images
#
# Each image of each epoch has its own random numbers, addressed by the seed, the epoch and its
# place in the data. So the seed decides everything, and the batch size nothing. (In Keras another
# batch size draws other images.)


# %%
def one_epoch(batch_size, seed):
    """All images of an epoch, in order."""
    flow = generator.flow(samples, batch_size=batch_size, shuffle=False, seed=seed)
    return np.concatenate([np.asarray(images) for images in flow.epoch(0)])


by_two, by_six, by_four = (one_epoch(batch_size, seed=7) for batch_size in (2, 6, 4))
assert np.allclose(by_two, by_six, atol=1e-5)
assert np.allclose(by_two, by_four, atol=1e-5)
assert not np.allclose(by_two, one_epoch(2, seed=8), atol=0.1)
print("largest difference:", max(np.abs(by_two - by_six).max(), np.abs(by_two - by_four).max()))

# %% [markdown]
# ### Normalization in the generator
#
# `featurewise_center` and `featurewise_std_normalization` need the statistics of the training
# images, so `fit` comes first. Without it Keras warns; `jaxcnn` raises.

# %%
standardizer = data.ImageDataGenerator(
    featurewise_center=True, featurewise_std_normalization=True, rescale=1 / 255
)
try:
    standardizer.flow(fashion.images)
except ValueError as error:
    print("ValueError:", error)
standardizer.fit(fashion.images)
batch = next(standardizer.flow(fashion.images, batch_size=512, seed=0))
print("a batch: mean", round(float(batch.mean()), 2), "deviation", round(float(batch.std()), 2))
assert abs(float(batch.mean())) < 0.1
assert abs(float(batch.std()) - 1) < 0.1

# %% [markdown]
# ### A folder of photographs
#
# `flow_from_directory` reads files: a folder with one folder per class. We make a small one:
# square pieces of five photographs, eight of each. The task would be to know a thing from a piece
# of it.
#
# `validation_split` takes a part of each class away, the same in every generator. The images to
# validate should be as they are, so they come from a **second generator** without transforms. (One
# generator for both `subset`s would change the validation images too, in every pass in another way;
# in Keras likewise.)

# %%
folder = tempfile.TemporaryDirectory()
random = np.random.default_rng(0)
for name in ("astronaut", "cat", "coffee", "flower", "temple"):
    photograph = photographs[name]
    (Path(folder.name) / name).mkdir()
    for number in range(8):
        top, left = (random.integers(0, side - 150) for side in photograph.shape[:2])
        piece = photograph[top : top + 150, left : left + 150]
        imsave(Path(folder.name) / name / f"{number}.png", piece, check_contrast=False)

# %%
both = {"rescale": 1 / 255, "validation_split": 0.25}
changing = data.ImageDataGenerator(horizontal_flip=True, rotation_range=15, **both)
unchanged = data.ImageDataGenerator(**both)
options = {"target_size": (64, 64), "class_mode": "sparse", "interpolation": "bilinear"}
training = changing.flow_from_directory(
    folder.name, subset="training", batch_size=12, seed=3, **options
)
validation = unchanged.flow_from_directory(
    folder.name, subset="validation", shuffle=False, **options
)
print("classes:", training.class_indices)
print("training:", training.samples, "images in", len(training), "batches an epoch")
print("validation:", validation.samples, "images, such as", validation.filenames[0])
assert (training.samples, validation.samples) == (30, 10)
assert not set(training.filenames) & set(validation.filenames)
first, second = (next(validation)[0] for _ in range(2))  # two passes of one batch
assert np.array_equal(first, second)
images, labels = next(training)
assert images.shape == (12, 64, 64, 3)
class_names = list(training.class_indices)
plots.pictures(
    np.asarray(images), [class_names[int(label)] for label in labels], "A batch from the folder"
)

# %%
folder.cleanup()

# %% [markdown]
# ## Summary
#
# - A dataset is images and labels, in parts for training, validation and test. A batch is `[N,
#   H, W, C]`.
# - Preprocessing makes images alike: `image.resize`, `image.crop_to_square`, `image.to_float`,
#   `image.normalize`, `image.to_grayscale`; `image.Preprocess` holds it all. Its numbers come
#   from the training images.
# - Know your order: (height, width) or (width, height), RGB or BGR. No error tells you.
# - The median removes spots, the average removes fine noise; thresholds and connected components
#   find objects.
# - Augmentation is a function of a key and images; `data.ImageDataGenerator` gives it in Keras's
#   words.
#
# **Next notebook:** `DataAugmented_CNN`, in which a network is trained with and without
# augmentation, and then a pretrained one on very few images.
