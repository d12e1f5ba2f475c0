# %% [markdown]
# # Images before the network: datasets, preprocessing, augmentation
#
# **You will learn** what an image dataset is; how real photographs are resized, cropped,
# normalized, converted to grayscale and filtered; how noise is removed; how objects are counted
# with connected components; what each augmentation does to a photograph; and how to use Keras's
# `ImageDataGenerator` with `jaxcnn`.
#
# **You need** the introduction to JAX in **Convolutional_Neural_Networks_Basic_Design**, which
# explains keys. (This is the first exercise notebook of "Image Dataset & Preprocessing" in the
# slides, but you do not need the slides.)
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

plt.rcParams["figure.dpi"] = 80  # small figures keep the file small

# %% [markdown]
# ## What is an image dataset?
#
# It consists of images, each with a label, divided into splits with different purposes: one for
# **training**, one for **validating** choices during training, and one for **testing** once at the
# end.
#
# `data.load` returns one split as arrays. Fashion-MNIST has 70,000 grayscale images of garments in
# ten classes, 28 x 28 pixels each. The first 10,000 images of its training split and 2,000 of its
# test split ship with `jaxcnn`.

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
# A batch of images is an array `[N, H, W, C]`: number of images, height, width, channels. A
# grayscale image has one channel; a color image has three: red, green, blue. Every function in
# `jaxcnn.image` takes a whole batch.
#
# ImageNet, Corel-1000, Caltech-256 and Caltech-101 are four well-known datasets of photographs.
# ImageNet's class names come from WordNet, whose groups of synonyms are called *synsets*.
# `data.prepare` can prepare each of them for `data.load`.
#
# The libraries OpenCV, Pillow and scikit-image process images one at a time on the CPU.
# `jaxcnn.image` does the same work on batches, inside a network's compiled program, and on a GPU if
# one is available.

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
# A network needs images of a single size. `image.resize` takes a size, or the scale factors `fx`
# and `fy` as in OpenCV's `cv2.resize(img, (0, 0), fx=0.1, fy=0.1)`. A factor of 0.1 gives a
# **tenth** of the height and width, and a hundredth of the pixels. (The result is sometimes named
# `half`, which is wrong.)

# %%
temple = jnp.asarray(photographs["temple"])[None]  # a batch of one
tenth = image.resize(temple, fx=0.1, fy=0.1)
print(temple.shape, "->", tenth.shape)
assert tenth.shape == (1, 43, 64, 3)

# %% [markdown]
# With a size, the OpenCV call is `cv2.resize(img, (1050, 1610))`. Be careful: OpenCV expects
# **(width, height)**, while the array that it returns has the shape (height, width, channels).
# `jaxcnn` uses (height, width) everywhere.

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
    (middle, tenth, "scaled by 0.1, enlarged"),
    (right, bigger, "1610 rows, 1050 columns"),
):
    axes.imshow(picture[0], interpolation="nearest" if picture is tenth else None)
    axes.set(title=title, xticks=[0, picture.shape[2]], yticks=[0, picture.shape[1]])

# %% [markdown]
# The middle image shows the individual pixels. The image on the right is stretched: its aspect
# ratio differs from that of the photograph. When images are made much smaller, fine patterns turn
# into false coarse patterns, unless each new pixel is an average of all the pixels that it covers.
# This averaging is what `antialias=True`, the default, does.

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
# Most networks expect square images. There are three ways to make them: crop the center
# (`image.crop_to_square`), add borders (`image.resize_with_pad`), or stretch. Cropping preserves
# shapes, but loses the edges of the image.

# %%
coffee = jnp.asarray(photographs["coffee"])[None]
print("square?", image.is_square(coffee), coffee.shape)
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
# `image.Preprocess` describes everything that a network expects of its input. Its method `resize`
# crops, resizes and converts to grayscale or color in one step, and `data.from_folder` does the
# same to image files. From here on we use six photographs of 96 x 96 pixels.

# %%
preprocess = image.Preprocess(size=(96, 96), channels=3)
photos = jnp.concatenate([preprocess.resize(jnp.asarray(p)[None]) for p in photographs.values()])
print(photos.shape, photos.dtype)
plots.pictures(np.asarray(photos), list(photographs), "Six photographs of the same size")

# %% [markdown]
# ## Normalization
#
# Pixel values from 0 to 255 are large for a network whose weights start near 0. Normalization
# scales all images to the same small range. Three methods are common (scikit-learn's names are in
# parentheses):
#
# 1. divide by 255: `image.to_float`;
# 2. min-max scaling (`MinMaxScaler`): the smallest value becomes 0 and the largest 1:
#    `image.min_max_scale`;
# 3. standardization (`StandardScaler`): subtract the mean and divide by the standard deviation. The
#    result has mean 0 and standard deviation 1, so its values are **not** between 0 and 1:
#    `image.standardize` for each image separately, `image.normalize` with the mean and standard
#    deviation of the whole dataset.
#
# (scikit-learn's scalers treat each pixel position separately, over all images; the functions here
# treat each image separately, or each channel over all images, so that an image still looks like an
# image.)
#
# For a range from -1 to 1, use `image.normalize` with mean 0.5 and standard deviation 0.5.

# %%
pixels = jnp.asarray(fashion.images)
unit = image.to_float(pixels)  # divided by 255
mean, std = image.channel_statistics(fashion.images)  # of all training images, in [0, 1]
versions = {
    "as stored (0 to 255)": pixels,
    "divided by 255": unit,
    "from -1 to 1": image.normalize(unit, (0.5,), (0.5,)),
    "min-max scaled": image.min_max_scale(unit),
    "standardized, per image": image.standardize(unit),
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
# The shape of the histogram stays the same when the same formula applies to all images; only the
# axis changes. Scaling each image by its own statistics is different: it also evens out differences
# in brightness between images.
#
# The statistics must come from the **training** images and are then used for the test images too,
# as in scikit-learn, where `fit` sees only the training data. `image.Preprocess` stores these
# numbers, and is saved with the network.

# %%
fashion_preprocess = image.Preprocess(size=(28, 28), channels=1, mean=tuple(mean), std=tuple(std))
seen = fashion_preprocess(fashion_test.images)
print("test images: mean", round(float(seen.mean()), 3), "deviation", round(float(seen.std()), 3))
assert abs(float(seen.mean())) < 0.05  # not exactly 0: the statistics are from other images
assert abs(float(versions["standardized, dataset"].mean())) < 1e-3

# %% [markdown]
# ## Grayscale
#
# Most objects can be recognized without color, and one channel is a third of the work. Gray is a
# weighted sum, because green looks brighter to our eyes than blue:
# `0.299 red + 0.587 green + 0.114 blue`. By hand, and with `image.to_grayscale`:

# %%
red_green_blue = image.to_float(photos)
by_hand = red_green_blue @ jnp.array([0.299, 0.587, 0.114])
gray = image.to_grayscale(red_green_blue)
assert gray.shape == (6, 96, 96, 1)
assert float(jnp.abs(gray[..., 0] - by_hand).max()) < 1e-5

# %% [markdown]
# The order of the channels matters. OpenCV's `imread` returns **blue, green, red**. A common
# mistake is to continue with `cv2.cvtColor(img, cv2.COLOR_RGB2GRAY)`, which assumes that the first
# channel is red. So blue gets red's weight, and red gets blue's. For an image read with
# `cv2.imread`, the right code is `COLOR_BGR2GRAY`.
#
# `image.reverse_channels` converts one order to the other, so that we can see the effect of the
# mistake. The two grayscale images look alike at first sight, so the last column shows their
# difference: red objects become too dark, blue ones too bright.

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
titles = ("color", "gray, right order", "gray, BGR read as RGB", "difference, -0.16 to 0.16")
for place, title in zip(axes[0], titles, strict=True):
    place.set_title(title, fontsize=9)
for place in axes.ravel():
    place.axis("off")

# %% [markdown]
# ## Filters
#
# A filter slides a small matrix, the kernel, over the image, multiplies element by element, and
# sums the products. This is the same convolution as in a network, but with weights chosen by
# people.
#
# - **Averaging** neighbors blurs. OpenCV's `cv2.blur(img, (5, 5))` is `image.box_blur(images, 5)`.
# - **Subtracting** neighbors finds edges: `image.sobel`, `image.laplacian`.
# - Adding the edges to the image sharpens it: `image.sharpen`.
#
# `image.filter2d` applies any kernel:

# %%
average = jnp.full((5, 5), 1 / 25)
blurred = image.filter2d(gray, average)
assert float(jnp.abs(blurred - image.box_blur(gray, 5)).max()) < 1e-5  # two ways to the same result
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
    "Five filters on a temple and a cat",
)

# %% [markdown]
# Sobel's filter computes two numbers for each pixel: how fast the brightness increases downward,
# and how fast it increases to the right. The length of this vector is the strength of the edge,
# whatever its direction.

# %% [markdown]
# ## Noise, and two filters against it
#
# There are two kinds of noise here: **Gaussian** noise (`image.add_gaussian_noise`) changes every
# pixel a little, like a sensor in low light. **Salt-and-pepper** noise (`image.add_salt_pepper`)
# turns a few pixels white or black, like a faulty transmission line.
#
# The remaining noise is measured by the PSNR, the peak signal-to-noise ratio: the mean squared
# error on a logarithmic scale, in decibels. Higher is better; an increase of 6 dB halves the
# typical error of a pixel.


# %%
def psnr(noisy, clean):
    """Return the peak signal-to-noise ratio of images in [0, 1], in decibels."""
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
plots.pictures(np.stack(tiles), titles, "Noise, and the results of two filters")

# %% [markdown]
# Against salt-and-pepper noise, the **median** is far better: a single white pixel is never the
# middle value of nine, so it disappears without a trace, while the average smears it over its
# neighbors. Against Gaussian noise, the average is the better of the two. Both blur fine detail; no
# filter can recover the original exactly.

# %%
spots = "salt and pepper"
assert ratios[spots, "median 3x3"] > ratios[spots, "average 3x3"] + 2
assert ratios[spots, "average 3x3"] > ratios[spots, spots]
assert ratios["Gaussian", "average 3x3"] > ratios["Gaussian", "median 3x3"]

# %% [markdown]
# ## Thresholding
#
# A threshold turns a grayscale image into a mask of the pixels brighter than a given value. Otsu's
# method chooses the value that separates the two groups of pixels as far as possible: `image.otsu`,
# then `image.threshold`.

# %%
coins = jnp.asarray(photographs["coins"])[None]
value = image.otsu(coins)
mask = image.threshold(coins, value)
print("Otsu's value:", int(value.item()), "- bright fraction:", round(float(mask.mean()), 2))
figure, axes = plt.subplots(1, 3, figsize=(8, 2.3), layout="constrained")
axes[0].imshow(coins[0, ..., 0], cmap="gray")
axes[1].hist(np.asarray(coins).ravel(), bins=64)
axes[1].axvline(value.item(), color="tab:red")
axes[2].imshow(mask[0, ..., 0], cmap="gray")
for place, title in zip(axes, ("coins", "values, Otsu's threshold", "mask"), strict=True):
    place.set_title(title, fontsize=10)

# %% [markdown]
# ## Connected components
#
# Pixels of a mask that touch each other form one object. With **4** neighbors, pixels touch if they
# share a side. With **8** neighbors, they also touch if they share a corner.
# `image.connected_components` numbers the objects.
#
# Here is an example small enough to count by hand. (If you have the slides: a zero is missing in
# the first row there.)

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
# By hand: the block on the left ends at row 3, column 2 (counting from 0), and the block in the
# middle begins at row 4, column 3. These two pixels share a corner but no side. So with 4 neighbors
# the two blocks are separate objects, and together with the object at the upper right there are
# three; with 8 neighbors the two blocks are one object, so there are two in total.

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
# Otsu's mask above is not good enough: the lighting is uneven, and the bright background at the
# upper left is connected to coins. So first subtract the background: `image.opening` with a window
# larger than a coin removes the coins and keeps the lighting. Then apply Otsu's threshold, fill
# small gaps with `image.closing`, and remove specks with `image.remove_small_components`.

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
# `image.region_properties` measures each component: box, area, center, brightness. Inside a
# compiled program, shapes must be known in advance, so it takes the largest possible number of
# components, `max_count`; `mask` marks the entries that exist.

# %%
regions = image.region_properties(components, coins, max_count=40)
exists = np.asarray(regions.mask[0])
areas = np.asarray(regions.area[0])[exists]
assert exists.sum() == count
print("pixels of the smallest and the largest coin:", areas.min(), areas.max())
boxes = np.asarray(regions.box[0])[exists]
plots.boxes(np.asarray(coins[0]), boxes, f"{count} coins found")

# %% [markdown]
# This example covers three classical tasks, detection, segmentation and feature extraction: the
# boxes specify **where** the objects are, the labels specify **which pixels** belong to each, and
# area and brightness are **features**. `image.crop_components` would crop each coin for a network.

# %% [markdown]
# ## Augmentation
#
# Data augmentation makes slightly modified copies of existing images: a cat that is mirrored or a
# little darker is still a cat. The network sees new images in every epoch, and cannot memorize
# them.
#
# A random transform is a function of a key and images. From one key it derives a separate key for
# every image, so five copies of one photograph are transformed in five different ways. Each row
# below shows the original image, followed by five results of one transform.

# %%
key = jax.random.key(1)
original = red_green_blue[1:2]
copies = jnp.repeat(original, 5, axis=0)


def gallery(transforms, heading):
    """Plot one row per transform: the original, and five random results."""
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
    "Geometry",
)

# %% [markdown]
# `image.random_affine` draws an angle, shear, scale and shift, and resamples the image only once
# for all four: this is faster, and blurs less, than applying them one after the other. Areas
# outside the original image are filled with black, unless `border=` specifies otherwise.

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
# Which transforms should you use, and how strong should they be? RandAugment draws a few of
# fourteen operations and uses the same strength for all; TrivialAugment draws one operation with a
# random strength, so there is nothing to tune. `image.compose` applies several transforms in
# sequence; `image.sometimes` and `image.one_of` choose at random.

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
# Two transforms combine **two** examples into one, and mix the labels in the same proportions.
# `image.mixup` averages the images; `image.cutmix` pastes in a rectangle from the other image. The
# titles below are the new labels. (The other image is drawn from the same batch: with most keys,
# some image draws itself and does not change. The key used here was chosen so that this does not
# happen.)

# %%
one_hot = jnp.eye(6)
names = np.array(list(photographs))
tiles, titles = [], []
for mix in (functools.partial(image.mixup, alpha=2.0), image.cutmix):
    mixed, targets = mix(jax.random.key(42), red_green_blue, one_hot)
    assert float(jnp.abs(targets.sum(1) - 1).max()) < 1e-5  # proportions of the classes
    tiles.append(np.asarray(mixed))
    for target in np.asarray(targets):
        parts = [f"{share:.0%} {name}" for share, name in zip(target, names, strict=True) if share]
        titles.append("\n".join(parts))
plots.pictures(np.concatenate(tiles), titles, "mixup (above) and cutmix (below)")

# %% [markdown]
# Be careful: the label must remain correct. An upside-down 6 is a 9, a mirrored "b" is a "d", and a
# shoe in Fashion-MNIST is never upside down. Choose changes that could occur in a real image.

# %% [markdown]
# ## `ImageDataGenerator`
#
# Keras's class produces an endless sequence of batches of transformed images.
# `data.ImageDataGenerator` has the same options. Here is an example with flips that contains a
# mistake:
#
# ```python
# samples = 10
# datagen = ImageDataGenerator(horizontal_flip=True, vertical_flip=True)
# it = datagen.flow(samples, batch_size=1)
# ```
#
# The argument of `flow` must be the **images**, an array `[N, H, W, C]`, rather than their number.
# With 10 it fails:

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
    "New random flips in every epoch",
)

# %% [markdown]
# The values are as in Keras: in the original range of 0 to 255, unless `rescale=1/255` is given.
# With labels, `flow(x, y)` yields pairs. Here is a generator with many options; each row shows one
# image and its transformed versions in five epochs:

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
# Each image in each epoch has its own random numbers, determined by the seed, the epoch and the
# image's index in the dataset. So the result depends on the seed, but not on the batch size. (In
# Keras, a different batch size produces different images.)


# %%
def one_epoch(batch_size, seed):
    """Return all images of an epoch, in order."""
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
# images, so `fit` must be called first. If it was not, Keras warns; `jaxcnn` raises an error.

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
# `flow_from_directory` reads files from a folder with one subfolder per class. We make a small one:
# square patches of five photographs, eight from each. The task would be to recognize the object
# from a patch.
#
# `validation_split` sets part of each class aside, the same part in every generator. Validation
# images should be unmodified, so they come from a **second generator** without transforms. (A
# single generator for both `subset`s would transform the validation images too, differently in each
# pass; the same is true in Keras.)

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
first, second = (next(validation)[0] for _ in range(2))  # two passes, one batch each
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
# - A dataset consists of images and labels, divided into splits for training, validation and
#   testing. A batch is an array `[N, H, W, C]`.
# - Preprocessing makes images uniform: `image.resize`, `image.crop_to_square`, `image.to_float`,
#   `image.normalize`, `image.to_grayscale`. `image.Preprocess` stores these settings, with
#   statistics computed from the training images.
# - Know your conventions: (height, width) or (width, height), RGB or BGR. Mixing them up raises no
#   error.
# - The median removes salt-and-pepper noise, and the average reduces Gaussian noise; thresholds and
#   connected components find objects.
# - An augmentation is a function of a key and images; `data.ImageDataGenerator` provides
#   augmentations through the Keras API.
#
# **Next notebook:** `DataAugmented_CNN`, which trains a network with and without augmentation, and
# then uses a pretrained network with very few images.
