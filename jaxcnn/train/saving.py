"""The policy for saving snapshots during training, and the thread that writes them.

A snapshot is copied to the host between two steps. Its digest is computed and its files are written
in the background, while training continues.
"""

import concurrent.futures
import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from jaxcnn.train import checkpoint
from jaxcnn.train.checkpoint import Snapshot


@dataclasses.dataclass(frozen=True)
class Saving:
    """Policy for saving snapshots in `jaxcnn.train.fit`.

    Attributes:
      folder: folder for the run's checkpoints.
      seconds: maximum age of the last snapshot; once it is older, a new one is saved during the
        epoch. This limits the training time lost in a crash.
      keep: number of recent snapshots to keep, >= 1.
      keep_best: metric whose best snapshot is also kept (see `jaxcnn.train.save`), or None.
      after: called as ``after(snapshot)`` after each save, in the thread that saves.

    Example:
      >>> Saving("runs/one/checkpoints", seconds=60).keep
      2
    """

    folder: str | Path
    seconds: float = 300.0
    keep: int = 2
    keep_best: str | None = None
    after: Callable[[Snapshot], None] | None = None


class Saver:
    """A thread that saves snapshots, one at a time; leaving its context waits for the last one.

    Example:
      >>> import tempfile
      >>> import jax
      >>> import optax
      >>> from jaxcnn import train
      >>> images = jax.numpy.zeros((1, 2))
      >>> model = train.from_functions(lambda key, images: images[0], None)
      >>> state = train.create_state(jax.random.key(0), model, optax.sgd(0.1), images)
      >>> folder = tempfile.mkdtemp()
      >>> with Saver(Saving(folder)) as saver:
      ...     saver.save(Snapshot(state))
      >>> train.has_snapshots(folder)
      True
    """

    def __init__(self, saving: Saving):
        self._saving = saving
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "save")
        self._pending: concurrent.futures.Future[None] | None = None
        self._exists = Path(saving.folder).is_dir()

    def save(self, snapshot: Snapshot) -> None:
        """Wait for the previous save, copy a snapshot to the host, and start saving it.

        Raises:
          OSError, DivergedError: if the previous save failed, as in `jaxcnn.train.save`.
        """
        self.check(wait=True)
        self._pending = self._thread.submit(self._save, snapshot.on_host())

    def check(self, *, wait: bool = False) -> None:
        """Raise the error from a failed save; with ``wait``, finish the save in progress first."""
        if self._pending is not None and (wait or self._pending.done()):
            pending, self._pending = self._pending, None
            pending.result()

    def _save(self, snapshot: Snapshot) -> None:
        policy = self._saving
        if self._exists and not Path(policy.folder).is_dir():
            raise OSError(
                f"cannot save step {int(snapshot.state.step)}: {policy.folder} was removed"
            )
        checkpoint.save(policy.folder, snapshot, keep=policy.keep, keep_best=policy.keep_best)
        self._exists = True
        if self._saving.after is not None:
            self._saving.after(snapshot)

    def __enter__(self) -> Self:
        """Return the saver."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the save in progress, and raise its error unless another is being raised."""
        self._thread.shutdown(wait=True)
        if error is None:
            self.check()
