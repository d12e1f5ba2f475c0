"""Splitting a source by rules that depend only on its examples, never on a seed."""

import warnings

import numpy as np

from jaxcnn import shapes
from jaxcnn.data.groups import group_folds, hold_out_groups
from jaxcnn.data.sources import ArraySource
from jaxcnn.messages import printable


def hold_out(
    source: ArraySource, fraction: float, *, stratified: bool = False
) -> tuple[ArraySource, ArraySource]:
    """Split a source into a training and a validation source.

    The held-out examples depend only on the size of the source and the fraction (and on the
    labels, if stratified), so runs with different seeds are validated on the same images. If all
    images of a class would be held out, one of them is swapped for an image of another class.

    If the source has groups, whole groups are held out. The number of held-out examples then
    differs from the fraction by at most half the largest group.

    Args:
      source: the source to split.
      fraction: fraction of the examples to hold out, in [0, 1).
      stratified: hold out this fraction of every class, rounded to the nearest example, with at
        least one example of each class in both sources; requires one class per image, at least
        two images of each class, and no groups.

    Returns:
      The training and validation sources; the latter is empty if ``fraction`` is 0.

    Raises:
      ValueError: if ``fraction`` is outside [0, 1) or leaves one source without examples, the
        labels cannot be stratified, or there are too few groups.

    Example:
      >>> from jaxcnn.data import load
      >>> train, validation = hold_out(load("fashion_mnist_slice"), 0.1)
      >>> len(train), len(validation)
      (9000, 1000)
      >>> _, validation = hold_out(load("fashion_mnist_slice"), 0.1, stratified=True)
      >>> np.bincount(validation.labels).tolist()
      [94, 103, 102, 102, 97, 99, 102, 102, 99, 100]
    """
    shapes.check_probability(fraction, "fraction")
    count = round(len(source) * fraction)
    if fraction and not 0 < count < len(source):
        raise ValueError(
            f"fraction must split {len(source)} examples into two nonempty parts, got {fraction!r}"
        )
    order = permutation(len(source), 0)
    held = order[:count]
    labels = source.labels if source.labels.ndim == 1 else None
    if source.groups is not None and fraction:
        if stratified:
            raise ValueError("stratified must be False if the source has groups, got True")
        held = hold_out_groups(source.groups, order, count, labels)
        _warn_of_lost_classes(source, held)
    elif stratified and fraction:
        held = _of_each_class(source, order, fraction)
    elif labels is not None:
        held = _leaving_each_class(labels, order, count)
    # Keep the source's own order, so that reading stays sequential.
    rest = np.setdiff1d(np.arange(len(source)), held)
    return source.take(rest), source.take(np.sort(held))


def take_fold(source: ArraySource, folds: int, fold: int) -> tuple[ArraySource, ArraySource]:
    """Split a source for cross-validation, holding out one fold for validation.

    The fold sizes differ by at most one example. The folds depend only on the size of the source,
    and every example is in exactly one fold. If the source has groups, each group is in one fold,
    and the sizes differ by at most the largest group.

    Args:
      source: the source to split.
      folds: number of folds, from 2 to the number of examples.
      fold: index of the fold to hold out, starting at 0.

    Returns:
      The training and validation sources.

    Raises:
      ValueError: if ``folds`` or ``fold`` is out of range, or there are fewer groups than folds.

    Example:
      >>> from jaxcnn.data import load
      >>> train, validation = take_fold(load("fashion_mnist_slice"), 5, 0)
      >>> len(train), len(validation)
      (8000, 2000)
    """
    shapes.check_integer(folds, "folds", minimum=2, maximum=len(source))
    shapes.check_integer(fold, "fold", minimum=0, maximum=folds - 1)
    order = permutation(len(source), 0)
    if source.groups is None:
        parts = np.array_split(order, folds)
    else:
        parts = group_folds(source.groups, order, folds)
    rest = np.concatenate(parts[:fold] + parts[fold + 1 :])
    return source.take(np.sort(rest)), source.take(np.sort(parts[fold]))


def permutation(size: int, *address: int) -> np.ndarray:
    """Return a random order of ``range(size)`` that is a pure function of ``address``.

    It sorts raw Philox output, because NumPy guarantees that this stream never changes, while
    `Generator.permutation` may change with any release.

    Args:
      size: number of elements.
      *address: integers in [0, 2**32).

    Returns:
      The permutation, ``[size]`` int32.

    Example:
      >>> permutation(5, 0, 3)
      array([1, 3, 2, 4, 0], dtype=int32)
    """
    bits = np.random.Philox(np.random.SeedSequence(address)).random_raw(size)
    return np.argsort(bits, kind="stable").astype(np.int32)


def balanced_order(labels: np.ndarray, *address: int) -> np.ndarray:
    """Return indices that sample every class equally often, a pure function of ``address``.

    No example is repeated before its class is exhausted. Large classes are subsampled, differently
    for each ``address``.

    Args:
      labels: ``[N]`` class indices.
      *address: integers in [0, 2**32).

    Returns:
      The indices, ``[N]`` int32.

    Example:
      >>> order = balanced_order(np.array([0, 0, 0, 0, 0, 1]), 7)
      >>> np.bincount(np.array([0, 0, 0, 0, 0, 1])[order]).tolist()
      [3, 3]
    """
    present = np.unique(labels)
    # The classes that get the remainder also vary with the address.
    turns = permutation(len(present), *address, 1)
    shares = np.full(len(present), len(labels) // len(present))
    shares[turns[: len(labels) % len(present)]] += 1
    chosen = []
    for label, share in zip(present, shares, strict=True):
        members = np.flatnonzero(labels == label)
        rounds = [
            members[permutation(len(members), *address, 2, int(label), number)]
            for number in range(-(-int(share) // len(members)))
        ]
        chosen.append(np.concatenate(rounds)[:share])
    return np.concatenate(chosen)[permutation(len(labels), *address)].astype(np.int32)


def with_test_split(
    splits: dict[str, ArraySource], fraction: float, where: str
) -> dict[str, ArraySource]:
    """Return the splits of a dataset, adding a test split if there is none.

    If there is no ``test``, ``validation`` takes its place, as is usual for ImageNet; if there is
    neither, ``fraction`` of each class, or of the groups, is held out from ``train``.

    Args:
      splits: the existing splits, including ``train``.
      fraction: fraction of each class to hold out, in [0, 1).
      where: name of the dataset, for messages.

    Raises:
      ValueError: if the test split must be taken from ``train``, and ``fraction`` is 0 or
        ``train`` has too few examples.
    """
    if "test" in splits:
        return splits
    if "validation" in splits:
        return {"train": splits["train"], "test": splits["validation"]}
    whole = splits["train"]
    by_class = whole.labels.ndim == 1 and whole.groups is None
    if by_class:
        _check_two_of_each(whole, where)
    training, test = hold_out(whole, fraction, stratified=by_class)
    if not len(test):
        raise ValueError(f"test_fraction must be > 0 if there is no test split, got {fraction}")
    return {"train": training, "test": test}


def _check_two_of_each(whole: ArraySource, where: str) -> None:
    if (alone := np.flatnonzero(np.bincount(whole.labels) == 1)).size:
        raise ValueError(
            f"{where} has only one image of class {whole.classes[alone[0]]!r}, so none would "
            "remain for training once part of each class is held out as the test split: add "
            "images, remove the class, or provide separate splits (train/ and test/ folders, or a "
            '"split" column)'
        )


def _leaving_each_class(labels: np.ndarray, order: np.ndarray, count: int) -> np.ndarray:
    """Return the first ``count`` indices of an order, but leave one of each class in the rest.

    An index moved to the rest is replaced with the next one of a class that occurs more than once
    there, if any.
    """
    held, rest = order[:count].copy(), order[count:].copy()
    left = np.bincount(labels[rest], minlength=labels.max(initial=0) + 1)
    for place in np.flatnonzero(left[labels[held]] == 0):
        if left[labels[held[place]]]:
            continue
        spare = np.flatnonzero(left[labels[rest]] > 1)
        if not spare.size:
            break
        left[labels[[held[place], rest[spare[0]]]]] += [1, -1]
        held[place], rest[spare[0]] = rest[spare[0]], held[place]
    return held


def _warn_of_lost_classes(source: ArraySource, held: np.ndarray) -> None:
    if source.labels.ndim != 1:
        return
    left = np.setdiff1d(np.arange(len(source)), held)
    lost = np.setdiff1d(source.labels[held], source.labels[left])
    if lost.size:
        names = ", ".join(source.classes[label] for label in lost)
        warnings.warn(
            f"all groups with an example of class {printable(names)} are held out, so none is left "
            "for training",
            stacklevel=3,
        )


def _of_each_class(source: ArraySource, order: np.ndarray, fraction: float) -> np.ndarray:
    if source.labels.ndim != 1:
        raise ValueError(
            f"stratified requires one class per image, got labels of shape {source.labels.shape}"
        )
    held = []
    for label in np.unique(source.labels):
        members = order[source.labels[order] == label]
        if len(members) < 2:
            raise ValueError(
                "stratified requires at least two images of each class, got one of "
                f"{source.classes[label]!r}"
            )
        count = min(max(round(len(members) * fraction), 1), len(members) - 1)
        held.append(members[:count])
    return np.concatenate(held)
