"""Parameters by name: paths such as ``conv1/kernel``, patterns that match them, fingerprints."""

import fnmatch
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import numpy as np


def parameter_names(tree: chex.ArrayTree) -> list[str]:
    """Return the path of every leaf, in the order of ``jax.tree.leaves``.

    Example:
      >>> parameter_names({"conv": {"kernel": 1, "bias": 2}})
      ['conv/bias', 'conv/kernel']
    """
    return [_name(path) for path, _ in jax.tree.leaves_with_path(tree)]


def select(tree: chex.ArrayTree, patterns: Sequence[str]) -> chex.ArrayTree:
    """Return a tree of booleans that marks the leaves whose names match a pattern.

    Args:
      tree: parameters; only their names are used.
      patterns: shell patterns (``*``, ``?``, ``[ab]``). A pattern matches a leaf if it matches the
        whole path or the path of a module that contains the leaf: ``conv*`` selects everything in
        ``conv1``, and ``*kernel`` selects every kernel.

    Returns:
      A tree with the structure of ``tree``, True where a pattern matches.

    Raises:
      ValueError: if a pattern matches nothing.

    Example:
      >>> tree = {"conv": {"kernel": 1, "bias": 2}, "output": {"kernel": 3}}
      >>> select(tree, ["conv"])
      {'conv': {'bias': True, 'kernel': True}, 'output': {'kernel': False}}
    """
    names = parameter_names(tree)
    for pattern in patterns:
        if not any(matches(name, pattern) for name in names):
            raise ValueError(
                f"pattern {pattern!r} matches no parameter; the parameters are {', '.join(names)}"
            )
    return map_with_name(lambda name, _: matches_any(name, patterns), tree)


def map_with_name(function: Callable[[str, Any], Any], tree: chex.ArrayTree) -> chex.ArrayTree:
    """Apply ``function(name, leaf)`` to every leaf.

    Example:
      >>> map_with_name(lambda name, leaf: f"{name}={leaf}", {"conv": {"bias": 2}})
      {'conv': {'bias': 'conv/bias=2'}}
    """
    return jax.tree_util.tree_map_with_path(lambda path, leaf: function(_name(path), leaf), tree)


def matches(name: str, pattern: str) -> bool:
    """Return whether a pattern matches a path, or the path of a module that contains it.

    Example:
      >>> matches("conv1/kernel", "conv*"), matches("hidden/kernel", "conv*")
      (True, False)
    """
    parts = name.split("/")
    prefixes = ("/".join(parts[: end + 1]) for end in range(len(parts)))
    return any(fnmatch.fnmatchcase(prefix, pattern) for prefix in prefixes)


def matches_any(name: str, patterns: Sequence[str]) -> bool:
    """Return whether any of several patterns `matches`.

    Example:
      >>> matches_any("conv1/kernel", ["hidden", "conv*"])
      True
    """
    return any(matches(name, pattern) for pattern in patterns)


def other_modules(tree: chex.ArrayTree, modules: Sequence[str]) -> list[str]:
    """Return the smallest list of modules that covers all parameters outside ``modules``.

    Example:
      >>> tree = {"conv": {"kernel": 1}, "aux": {"conv": {"kernel": 2}, "fc": {"kernel": 3}}}
      >>> other_modules(tree, ["aux/fc"])
      ['aux/conv', 'conv']
    """
    found: dict[str, None] = {}
    for name in parameter_names(tree):
        parts = name.split("/")
        owners = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        if not set(owners) & set(modules):
            # Take the outermost module that contains none of `modules`.
            outermost = next(
                owner for owner in owners if not any(m.startswith(f"{owner}/") for m in modules)
            )
            found[outermost] = None
    return list(found)


def fingerprint(tree: chex.ArrayTree) -> str:
    """Return the SHA-256 of the names, dtypes, shapes and bytes of all leaves, sorted by name.

    Example:
      >>> fingerprint({"b": np.zeros(2), "a": 1}) == fingerprint({"a": 1, "b": np.zeros(2)})
      True
    """
    digest = hashlib.sha256()
    leaves = [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree)]
    for name, leaf in sorted(leaves, key=lambda item: item[0]):
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _name(path: jax.tree_util.KeyPath) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
