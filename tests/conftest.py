"""Strict settings: warnings are errors, rank promotion raises, failures print their seeds."""

import os
from pathlib import Path

import hypothesis
import jax
import numpy as np
import pytest

# Many tests, and the processes they start, compile the same initialization or the same step.
COMPILED = Path(__file__).parents[1] / ".pytest_cache" / "compiled"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(COMPILED)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
# Compilation takes most of the time; .ci/run repeats many tests with all passes, on Python 3.13.
os.environ.setdefault("XLA_FLAGS", "--xla_llvm_disable_expensive_passes=true")
jax.config.update("jax_compilation_cache_dir", str(COMPILED))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Compiling for new shapes takes a while, so a deadline would measure XLA and the machine.
hypothesis.settings.register_profile(
    "jaxcnn", deadline=None, max_examples=20, derandomize=True, print_blob=True
)
hypothesis.settings.load_profile("jaxcnn")


@pytest.fixture
def key(request: pytest.FixtureRequest) -> jax.Array:
    """A random key unique to each test; its seed is printed if the test fails."""
    seed = sum(request.node.nodeid.encode())
    print(f"key: jax.random.key({seed})")
    return jax.random.key(seed)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A NumPy generator unique to each test, so that values do not depend on the order of tests."""
    return np.random.default_rng(list(request.node.nodeid.encode()))


@pytest.fixture(scope="session")
def few_images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data file with 400 small images in three classes, for tests where any data will do."""
    rng = np.random.default_rng(0)
    levels = rng.uniform(0, 1, 400)
    images = np.round(255 * levels[:, None, None, None] * np.ones((1, 8, 8, 1))).astype(np.uint8)
    labels = (levels * 2.999).astype(int)
    path = tmp_path_factory.mktemp("few") / "few_images.npz"
    np.savez(
        path,
        train_images=images[:300],
        train_labels=labels[:300],
        test_images=images[300:],
        test_labels=labels[300:],
    )
    return str(path)
