"""Dividing a source into parts, by rules that depend on its examples alone, never on a seed."""

import numpy as np

from jaxcnn import shapes
from jaxcnn.data.sources import ArraySource


def hold_out(
    source: ArraySource, fraction: float, *, stratified: bool = False
) -> tuple[ArraySource, ArraySource]:
    """Split a source into a training part and a validation slice of ``fraction`` of it.

    Which examples are held out depends on the size of the source and the fraction alone (and on
    the labels, if stratified), so runs with other seeds are validated on the same images. Where
    all images of a class would be held out, one of it is left to train on, for another image.

    Args:
      source: what to split.
      fraction: share to hold out, in [0, 1).
      stratified: hold out that share of every class, to the nearest example, and leave at least
        one of each on both sides; needs one class per image, and two images of each.

    Returns:
      The training and the validation source; the latter is empty for ``fraction`` 0.

    Raises:
      ValueError: if ``fraction`` is outside [0, 1) or leaves one part without examples, or the
        labels cannot be stratified.

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
            f"fraction must leave examples on both sides of {len(source)}, got {fraction!r}"
        )
    order = permutation(len(source), 0)
    held = order[:count]
    if stratified and fraction:
        held = _of_each_class(source, order, fraction)
    elif source.labels.ndim == 1:
        held = _leaving_each_class(source.labels, order, count)
    # In the source's own order, so that reading them stays sequential.
    rest = np.setdiff1d(np.arange(len(source)), held)
    return source.take(rest), source.take(np.sort(held))


def take_fold(source: ArraySource, folds: int, fold: int) -> tuple[ArraySource, ArraySource]:
    """Split a source for cross-validation: all but one of ``folds`` equal parts, and that part.

    The parts depend on the size of the source alone, and every example is in exactly one.

    Args:
      source: what to split.
      folds: number of parts, from 2 to the number of examples.
      fold: which part to hold out, from 0.

    Returns:
      The training and the validation source.

    Raises:
      ValueError: if a number is out of range.

    Example:
      >>> from jaxcnn.data import load
      >>> train, validation = take_fold(load("fashion_mnist_slice"), 5, 0)
      >>> len(train), len(validation)
      (8000, 2000)
    """
    if not 2 <= folds <= len(source):
        raise ValueError(f"folds must be from 2 to {len(source)}, got {folds!r}")
    if not 0 <= fold < folds:
        raise ValueError(f"fold must be from 0 to {folds - 1}, got {fold!r}")
    parts = np.array_split(permutation(len(source), 0), folds)
    rest = np.concatenate(parts[:fold] + parts[fold + 1 :])
    return source.take(np.sort(rest)), source.take(np.sort(parts[fold]))


def permutation(size: int, *address: int) -> np.ndarray:
    """A random order of ``range(size)``, int32, that is a pure function of ``address``.

    It sorts raw Philox output, whose stream NumPy guarantees for good; `Generator.permutation`
    may change from release to release.

    Example:
      >>> permutation(5, 0, 3)
      array([1, 3, 2, 4, 0], dtype=int32)
    """
    bits = np.random.Philox(np.random.SeedSequence(address)).random_raw(size)
    return np.argsort(bits, kind="stable").astype(np.int32)


def balanced_order(labels: np.ndarray, *address: int) -> np.ndarray:
    """As many examples as there are, every class equally often, in an order that ``address`` fixes.

    Examples of a rare class come several times, and none of a class twice before all of it came
    once; of a frequent class only some come, which ones changes with ``address``.

    Args:
      labels: ``[N]`` class indices.
      address: non-negative integers.

    Returns:
      ``[N]`` int32 positions.

    Example:
      >>> order = balanced_order(np.array([0, 0, 0, 0, 0, 1]), 7)
      >>> np.bincount(np.array([0, 0, 0, 0, 0, 1])[order]).tolist()
      [3, 3]
    """
    present = np.unique(labels)
    # Whom the remainder goes to changes too.
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
    """The splits of a data set, with one to measure on at the end.

    Without ``test``, ``validation`` takes its place, as is the custom with ImageNet; without
    either, ``fraction`` of each class of ``train`` does.

    Args:
      splits: those that there are.
      fraction: share of each class.
      where: what the data set is called, for messages.

    Raises:
      ValueError: if there is no ``train``, or too little of it.
    """
    if "test" in splits:
        return splits
    if "validation" in splits:
        return {"train": splits["train"], "test": splits["validation"]}
    whole = splits["train"]
    _check_two_of_each(whole, where)
    training, test = hold_out(whole, fraction, stratified=whole.labels.ndim == 1)
    if not len(test):
        raise ValueError(f"test_fraction must be > 0 without a test split, got {fraction}")
    return {"train": training, "test": test}


def _check_two_of_each(whole: ArraySource, where: str) -> None:
    if whole.labels.ndim == 1 and (alone := np.flatnonzero(np.bincount(whole.labels) == 1)).size:
        raise ValueError(
            f"{where} has one image of the class {whole.classes[alone[0]]!r}, and none is left to "
            "train on when a share of each class is held out as test split: add images of it, "
            "remove it, or make splits of your own (train/ and test/, or a column split)"
        )


def _leaving_each_class(labels: np.ndarray, order: np.ndarray, count: int) -> np.ndarray:
    """The first of an order, but for one of each class that the others would lack.

    The next ones of classes that are there more than once take their places, if there are such.
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


def _of_each_class(source: ArraySource, order: np.ndarray, fraction: float) -> np.ndarray:
    if source.labels.ndim != 1:
        raise ValueError(
            f"stratified needs one class per image, got labels of shape {source.labels.shape}"
        )
    held = []
    for label in np.unique(source.labels):
        members = order[source.labels[order] == label]
        if len(members) < 2:
            raise ValueError(
                f"stratified needs two images of each class, got one of {source.classes[label]!r}"
            )
        count = min(max(round(len(members) * fraction), 1), len(members) - 1)
        held.append(members[:count])
    return np.concatenate(held)
