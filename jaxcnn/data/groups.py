"""Groups of examples that must stay together, such as all images of one patient.

If examples of a group are on both sides of a split, the network is tested on what it has seen.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np


def group_indices(names: Iterable[object]) -> np.ndarray:
    """Number groups in the order in which they first appear, ``[N]`` int32.

    Args:
      names: the group of each example, strings or integers.

    Example:
      >>> group_indices(["ann", "bob", "ann"])
      array([0, 1, 0], dtype=int32)
    """
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int32)


def groups_of_names(names: Sequence[str], pattern: str) -> list[str]:
    r"""Return the group of each file: what the pattern's parentheses match, or the whole match.

    Args:
      names: file names.
      pattern: regular expression that matches part of each name.

    Raises:
      ValueError: if the pattern is invalid, or does not match a name.

    Example:
      >>> groups_of_names(["cat/ann_1.png", "dog/ann_2.png", "dog/bob_1.png"], r"(\w+)_")
      ['ann', 'ann', 'bob']
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"group must be a column or a regular expression, got {pattern!r}: {error}"
        ) from error
    found = []
    for name in names:
        match = expression.search(name)
        if match is None:
            raise ValueError(
                f"group must be a column, or a regular expression that matches each file name, got "
                f"{pattern!r}, which does not match {name}"
            )
        found.append("/".join(part or "" for part in match.groups()) or match.group())
    return found


def check_groups_apart(splits: Mapping[str, np.ndarray]) -> None:
    """Check that no group is in two splits.

    Args:
      splits: the groups of the examples in each split, by the split's name.

    Raises:
      ValueError: if two splits share a group.

    Example:
      >>> check_groups_apart({"train": np.array([0, 0, 1]), "test": np.array([2])})
    """
    for (name, groups), (other, others) in itertools.combinations(splits.items(), 2):
        shared = np.intersect1d(groups, others)
        if shared.size:
            raise ValueError(
                f"each group must be in one split, got {shared.size} groups in both {name} and "
                f"{other}"
            )


def hold_out_groups(
    groups: np.ndarray, order: np.ndarray, count: int, labels: np.ndarray | None
) -> np.ndarray:
    """Choose whole groups with about ``count`` examples in all.

    The number of examples differs from ``count`` by at most half the size of the largest group.
    Where possible, each class keeps an example outside of the chosen groups.

    Args:
      groups: ``[N]`` integers, the group of each example.
      order: ``[N]``, a permutation of the examples; groups are considered in this order.
      count: number of examples to choose, > 0.
      labels: ``[N]`` class indices, or None if the labels are of another kind.

    Returns:
      The indices of the chosen examples, in the order of the source.

    Raises:
      ValueError: if there are too few groups.
    """
    names, groups, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError(
            f"groups must be at least 2 to hold out {count} of {len(groups)} examples, got 1 group "
            "with all of them"
        )
    turns = np.array(list(dict.fromkeys(groups[order].tolist())))
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(sizes)[:-1])
    # Without classes, any group may be chosen.
    classes = np.zeros_like(groups) if labels is None else labels
    left = np.bincount(classes)
    chosen, total, postponed = [], 0, []

    def brings_closer(group: int) -> bool:
        # Adding a group that does not fit misses the count by at most half the group's size.
        return sizes[group] <= 2 * (count - total)

    for group in turns:
        if not brings_closer(group):
            continue
        own, counts = np.unique(classes[members[group]], return_counts=True)
        if (counts == left[own]).any():
            postponed.append(group)
            continue
        left[own] -= counts
        chosen.append(group)
        total += sizes[group]
    for group in postponed:
        if brings_closer(group) and (not chosen or abs(total - count) > sizes.max() / 2):
            chosen.append(group)
            total += sizes[group]
    if not chosen:
        chosen = [np.abs(sizes - count).argmin()]
    elif len(chosen) == len(names):
        chosen.remove(np.abs(sizes - (len(groups) - count)).argmin())
    missed = abs(sizes[chosen].sum() - count)
    if missed > sizes.max() / 2:
        nearest = sizes[np.abs(sizes - count).argmin()]
        raise ValueError(
            f"groups must be smaller, or more numerous, to hold out {count} of {len(groups)} "
            f"examples; with {len(names)} groups, the nearest number is {nearest}, so choose a "
            "larger fraction, or folds"
        )
    return np.flatnonzero(np.isin(groups, chosen))


def group_folds(groups: np.ndarray, order: np.ndarray, folds: int) -> list[np.ndarray]:
    """Distribute whole groups over folds whose sizes differ by at most the largest group.

    Args:
      groups: ``[N]`` integers, the group of each example.
      order: ``[N]``, a permutation of the examples, which decides between groups of equal size.
      folds: number of folds.

    Returns:
      The indices of each fold's examples, in the order of the source.

    Raises:
      ValueError: if there are fewer groups than folds.

    Reference:
      Graham 1969, "Bounds on multiprocessing timing anomalies" (largest first).
    """
    names, groups, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < folds:
        raise ValueError(f"folds must be at most the number of groups ({len(names)}), got {folds}")
    turns = np.array(list(dict.fromkeys(groups[order].tolist())))
    totals, fold_of = np.zeros(folds, np.int64), np.zeros(len(names), np.int64)
    for group in turns[np.argsort(-sizes[turns], kind="stable")]:
        fold_of[group] = totals.argmin()
        totals[fold_of[group]] += sizes[group]
    return [np.flatnonzero(fold_of[groups] == fold) for fold in range(folds)]
