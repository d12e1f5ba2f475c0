"""jaxcnn as users run it: a network created by name, and the library's own training step."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from peer import serve
from workloads import Workload

from jaxcnn import losses, models, train
from jaxcnn.batch import Batch
from jaxcnn.experiment import keep_freed_memory
from jaxcnn.train.state import to_variables
from jaxcnn.view import costs
from jaxcnn.view.benchmark import count_operations


class JaxcnnPeer:
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
        self.workload = workload
        self.model = self.build(workload, options, jnp.dtype(precision))
        optimizer = make_optimizer(workload.optimizer)
        self.state = train.create_state(jax.random.key(0), self.model, optimizer, data[0][0])
        if weights is not None:
            params = unflatten_dict(weights, sep="/")
            self.state = dataclasses.replace(self.state, params=jax.tree.map(jnp.asarray, params))
        self.step = train.make_train_step(self.model, optimizer)
        self.predict = train.make_predict_step(self.model)
        rows = np.arange(len(data[0][0]), dtype=np.int32)
        self.batches = itertools.cycle(
            jax.device_put([Batch(*pair, rows >= 0, rows, np.int32(0)) for pair in data])
        )

    def build(self, workload: Workload, options: dict[str, object], dtype: jnp.dtype) -> Any:
        """Return the network."""
        return models.create(workload.model, workload.classes, dtype=dtype, **options)

    def gradients(self) -> tuple[float, dict[str, np.ndarray]]:
        """Return the loss and gradients for the first batch."""
        batch = next(self.batches)

        @jax.jit
        def compute(state: train.TrainState) -> tuple[jax.Array, dict]:
            def loss(params: dict) -> jax.Array:
                logits, _ = self.model.apply(
                    to_variables(params, state.batch_stats),
                    batch.image,
                    train=True,
                    rngs={"dropout": state.key},
                    mutable=["batch_stats"],
                )
                return losses.cross_entropy(logits, batch.label).mean()

            return jax.value_and_grad(loss)(state.params)

        value, gradients = compute(self.state)
        return float(value), jax.tree.map(np.asarray, flatten_dict(gradients, sep="/"))

    def train(self, steps: int) -> None:
        """Take steps with `jaxcnn.train.make_train_step`."""
        for _ in range(steps):
            self.state, _ = self.step(self.state, next(self.batches))
        jax.block_until_ready(self.state)

    def forward(self, steps: int) -> None:
        """Compute logits with `jaxcnn.train.make_predict_step`."""
        for _ in range(steps):
            logits = self.predict(self.state, next(self.batches).image)
        logits.block_until_ready()

    def costs(self) -> dict[str, Any]:
        """Return the costs of both passes, and this machine's current peak rates."""
        ceilings = costs.measure_ceilings()
        found = count_operations(self.model, self.workload.shape, batch_size=self.workload.batch)
        passes = {
            name: {
                "flops": sum(operation.flops for operation in operations),
                "bytes": sum(operation.bytes for operation in operations),
                "floor_milliseconds": 1000 * costs.floor_seconds(operations, ceilings),
            }
            for name, operations in zip(("train", "forward"), found.values(), strict=True)
        }
        return {"passes": passes, "ceilings": ceilings._asdict()}

    def versions(self) -> str:
        """Return the versions."""
        return f"jax {jax.__version__}, jaxlib {jaxlib.__version__}"


def make_optimizer(name: str) -> optax.GradientTransformation:
    """Return the workload's optimizer."""
    return optax.adam(1e-3) if name == "adam" else optax.sgd(0.01, momentum=0.9)


if __name__ == "__main__":
    keep_freed_memory()
    serve(JaxcnnPeer)
