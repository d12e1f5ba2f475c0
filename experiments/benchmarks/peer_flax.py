"""Plain Flax: `flax.linen` layers and the training step of Flax's examples, with donated state."""

import functools
import itertools
from typing import Any

import flax
import jax
import jax.numpy as jnp
import jaxlib
import networks_flax
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from peer import serve
from workloads import Workload


class FlaxPeer:
    """See `peer.Peer`."""

    def load(
        self,
        workload: Workload,
        precision: str,
        weights: dict[str, np.ndarray] | None,
        data: list[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        """Build the network, the state and both steps."""
        options = workload.options | ({} if weights is None else workload.regularizers)
        model = networks_flax.build(workload, options, jnp.dtype(precision))
        if workload.optimizer == "adam":
            optimizer = optax.adam(1e-3)
        else:
            optimizer = optax.sgd(0.01, momentum=0.9)
        initialize = jax.jit(functools.partial(model.init, train=False))
        variables = initialize(jax.random.key(0), data[0][0])
        self.params, self.batch_stats = variables["params"], variables.get("batch_stats", {})
        if weights is not None:
            self.params = jax.tree.map(jnp.asarray, unflatten_dict(weights, sep="/"))
        self.opt_state = optimizer.init(self.params)
        self.key = jax.random.key(0)
        self.steps_taken = 0
        self.batches = itertools.cycle(jax.device_put(data))

        def loss(params: Any, batch_stats: Any, images: Any, labels: Any, key: Any) -> Any:
            logits, updated = model.apply(
                {"params": params, "batch_stats": batch_stats},
                images,
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), updated.get("batch_stats", {})

        self.value_and_grad = jax.jit(jax.value_and_grad(loss, has_aux=True))

        @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
        def step(
            params: Any, batch_stats: Any, opt_state: Any, images: Any, labels: Any, key: Any
        ) -> Any:
            gradient = jax.value_and_grad(loss, has_aux=True)
            (value, batch_stats), grads = gradient(params, batch_stats, images, labels, key)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), batch_stats, opt_state, value

        self.step = step
        self.predict = jax.jit(
            lambda params, batch_stats, images: model.apply(
                {"params": params, "batch_stats": batch_stats}, images, train=False
            )
        )

    def gradients(self) -> tuple[float, dict[str, np.ndarray]]:
        """Return the loss and gradients for the first batch."""
        images, labels = next(self.batches)
        (value, _), grads = self.value_and_grad(
            self.params, self.batch_stats, images, labels, self.key
        )
        # The two squeeze-and-excitation layers are auto-named by Flax, as in jaxcnn.
        return float(value), jax.tree.map(np.asarray, flatten_dict(grads, sep="/"))

    def train(self, steps: int) -> None:
        """Take optimizer steps."""
        for _ in range(steps):
            images, labels = next(self.batches)
            key = jax.random.fold_in(self.key, self.steps_taken)
            self.steps_taken += 1
            self.params, self.batch_stats, self.opt_state, _ = self.step(
                self.params, self.batch_stats, self.opt_state, images, labels, key
            )
        jax.block_until_ready(self.params)

    def forward(self, steps: int) -> None:
        """Compute logits in evaluation mode."""
        for _ in range(steps):
            logits = self.predict(self.params, self.batch_stats, next(self.batches)[0])
        logits.block_until_ready()

    def weights(self) -> dict[str, np.ndarray]:
        """Return the parameters by name, after one step, so that no bias is zero."""
        self.train(1)
        return jax.tree.map(np.asarray, flatten_dict(self.params, sep="/"))

    def versions(self) -> str:
        """Return the versions."""
        return f"flax {flax.__version__}, jax {jax.__version__}, jaxlib {jaxlib.__version__}"


if __name__ == "__main__":
    serve(FlaxPeer)
