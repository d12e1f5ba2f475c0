"""The network of an experiment: its settings, its model, and the compiled steps."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxcnn import image, models, train
from jaxcnn.experiment.augment import View
from jaxcnn.experiment.fields import Relations, Section
from jaxcnn.experiment.user_model import model_from_file

Option = int | float | bool | str | tuple[int, ...]
Source = Literal["auto", models.WeightSource]


@dataclasses.dataclass(frozen=True)
class ModelConfig(Section):
    """Settings for the model and its initial weights."""

    model: str = "classic_cnn"
    """Network: a name (classic_cnn, resnet18, ...), or file.py:function for a custom network."""
    model_options: Mapping[str, Option] = dataclasses.field(default_factory=dict)
    """Options for the network, as name-value pairs: dropout 0.5 norm batch."""
    pretrained: str | None = None
    """Weights to start from: a file from torchvision, timm, Keras or `jaxcnn export`, or
    hf-hub:timm/...; the last layer is reinitialized unless the classes are the same."""
    pretrained_source: Source = "auto"
    """Library that wrote the weights, if it cannot be inferred from the file."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Computation dtype of the network; parameters, statistics, outputs and loss stay float32."""

    RELATIONS: ClassVar[Relations] = (
        (
            "precision",
            lambda c: c.precision == "float32" or "dtype" not in c.model_options,
            "float32 when model_options sets dtype",
        ),
        (
            "pretrained_source",
            lambda c: c.pretrained_source == "auto" or c.pretrained is not None,
            "omitted unless pretrained is set",
        ),
    )

    @property
    def is_custom(self) -> bool:
        """True if the model comes from a Python file."""
        return ":" in self.model

    @property
    def label(self) -> str:
        """Name of the model for error messages."""
        options = f" with options {dict(self.model_options)}" if self.model_options else ""
        return f"model {self.model}{options}"


def make_model(config: ModelConfig, outputs: int) -> Any:
    """Make a model with the given number of outputs, by name or from a Python file.

    Example:
      >>> make_model(ModelConfig("lenet5", precision="bfloat16"), 10).dtype
      'bfloat16'
    """
    options = dict(config.model_options)
    if config.precision != "float32":
        options["dtype"] = config.precision
    if config.is_custom:
        return model_from_file(config.model, outputs, **options)
    return models.create(config.model, outputs, **options)


@contextlib.contextmanager
def model_errors(config: ModelConfig) -> Iterator[None]:
    """Convert any error raised by the model or its options to a ``ValueError``."""
    try:
        yield
    except ValueError:
        raise
    except (Exception, SystemExit) as error:
        raise ValueError(f"{config.label} raised {type(error).__name__}: {error}") from error


class Network(NamedTuple):
    """A model with everything its steps need.

    Attributes:
      model: a Linen module or a pair of functions.
      optimizer: the optax transformation.
      preprocess: converts pixels to the model's input.
      task: the task, which defines the meaning of the outputs.
      classes: names of the classes, labels or targets.
      settings: task settings derived from the data (class weights, mean and standard deviation of
        the targets), as JSON values.
      augment: augmentation for training batches; None disables it.
      views: additional views for test-time augmentation.
      penalty: function of the parameters that is added to the objective; None adds nothing.
      accumulate: number of microbatches per batch.
      on_nonfinite: what happens if a step is not finite.
      ema_decay: decay rate of the exponential moving average of the variables; None disables it.
      frozen: name patterns of parameters that are never trained.
      pretrained: pretrained variables to start from; None to initialize all variables.
    """

    model: Any
    optimizer: optax.GradientTransformation
    preprocess: image.Preprocess
    task: train.Task
    classes: tuple[str, ...]
    settings: dict[str, Any]
    augment: train.Augment | None = None
    views: Sequence[View] = ()
    penalty: Callable[[chex.ArrayTree], jax.Array] | None = None
    accumulate: int = 1
    on_nonfinite: train.OnNonfinite = "raise"
    ema_decay: float | None = None
    frozen: tuple[str, ...] = ()
    pretrained: dict[str, Any] | None = None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the model's input."""
        return (*self.preprocess.size, self.preprocess.channels)

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of the model's input for one image."""
        return jax.ShapeDtypeStruct((1, *self.input_shape), jnp.float32)

    def initial_state(self, seed: int) -> train.TrainState:
        """Return the state at step 0."""
        return train.create_state(
            jax.random.key(seed),
            self.model,
            self.optimizer,
            self.example,
            ema=self.ema_decay is not None,
            pretrained=self.pretrained,
        )

    def train_step(self, *, frozen: Sequence[str] = ()) -> train.TrainStep:
        """Make the training step; ``frozen`` adds patterns to the network's own."""
        return train.make_train_step(
            self.model,
            self.optimizer,
            task=self.task,
            preprocess=self.preprocess,
            augment=self.augment,
            penalty=self.penalty,
            accumulate=self.accumulate,
            on_nonfinite=self.on_nonfinite,
            ema_decay=self.ema_decay,
            frozen=(*self.frozen, *frozen),
        )

    def eval_step(self) -> train.EvalStep:
        """Make the evaluation step, including test-time augmentation."""
        return train.make_eval_step(
            self.model, task=self.task, preprocess=self.preprocess, views=self.views
        )

    def predict_step(self) -> Callable[[train.TrainState, Any], jax.Array]:
        """Make the prediction step, including test-time augmentation."""
        return train.make_predict_step(self.model, preprocess=self.preprocess, views=self.views)

    def metadata(self) -> dict[str, Any]:
        """Return the metadata to store with the weights, as JSON values."""
        preprocess = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self.preprocess).items()
        }
        return {
            "preprocess": preprocess,
            "classes": list(self.classes),
            "task": {"name": self.task.name, **self.settings},
        }
