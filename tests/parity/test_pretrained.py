"""Model families against torchvision, timm and Keras with the same random weights.

The weights are loaded from files, so this also tests readers, names, conventions and preprocessing.
torch and Keras are imported when a test runs.
"""

import functools
import importlib
import os

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from jaxcnn import models

pytestmark = pytest.mark.parity

CLOSE = 1e-4  # relative to the largest value
# (our name, source, their name, height and width of the images)
TORCH = [
    ("vgg11", "torchvision", "vgg11", 64),
    ("resnet18", "torchvision", "resnet18", 97),
    ("resnet50", "torchvision", "resnet50", 224),
    ("inception_v3", "torchvision", "inception_v3", 299),
    ("efficientnet_b0", "torchvision", "efficientnet_b0", 224),
    ("vgg13_bn", "timm", "vgg13_bn", 96),
    ("resnet34", "timm", "resnet34", 96),
    ("efficientnet_b0", "timm_tf", "tf_efficientnet_b0", 96),
    ("efficientnet_lite0", "timm", "efficientnet_lite0", 96),
]
KERAS = [
    ("vgg16", "VGG16", "vgg16", 224),
    ("resnet50", "ResNet50", "resnet", 224),
    ("inception_v3", "InceptionV3", "inception_v3", 299),
    ("efficientnet_b0", "EfficientNetB0", "efficientnet", 224),
]
# Other depths, and other combinations of a family with a library.
MORE_TORCH = [
    ("vgg16", "torchvision", "vgg16", 128),
    ("vgg19_bn", "torchvision", "vgg19_bn", 96),
    ("resnet152", "torchvision", "resnet152", 128),
    ("efficientnet_b1", "torchvision", "efficientnet_b1", 97),
    ("efficientnet_b5", "torchvision", "efficientnet_b5", 128),
    ("vgg13_bn", "timm", "vgg13_bn", 224),
    ("resnet101", "timm", "resnet101", 128),
    ("inception_v3", "timm", "inception_v3", 160),
    ("efficientnet_b0", "timm", "efficientnet_b0", 96),
    ("efficientnet_b2", "timm_tf", "tf_efficientnet_b2", 129),
    ("efficientnet_lite0", "timm_tf", "tf_efficientnet_lite0", 224),
    ("efficientnet_lite4", "timm_tf", "tf_efficientnet_lite4", 160),
]
MORE_KERAS = [
    ("vgg19", "VGG19", "vgg19", 224),
    ("resnet101_v1", "ResNet101", "resnet", 96),
    ("efficientnet_b1", "EfficientNetB1", "efficientnet", 97),
]


def and_more(cases, more):
    """Return the cases, and more that are exhaustive."""
    return [*cases, *(pytest.param(*case, marks=pytest.mark.exhaustive) for case in more)]


def pixels(side, count=None):
    """Return ``[B, H, W, 3]`` uint8 images of color patches with noise; fewer if they are large."""
    count = count or (4 if side > 200 else 8)
    rng = np.random.default_rng(1)
    fields = rng.integers(0, 200, (count, 4, 4, 3))
    nearest = np.arange(side) * 4 // side
    noise = rng.integers(0, 56, (count, side, side, 3))
    return (fields[:, nearest][:, :, nearest] + noise).astype(np.uint8)


def assert_near(ours, theirs, tolerance=CLOSE):
    """Check that the difference is within a fraction of the largest value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def random_like(name, array, rng):
    """Return random values: weights as after initialization, statistics that are not 0 or 1."""
    if name.endswith(("running_var", "moving_variance", "variance")):
        return rng.uniform(0.8, 1.2, array.shape)
    if name.endswith(("running_mean", "moving_mean", "mean", "bias", "beta")):
        return rng.normal(0, 0.1, array.shape)
    if array.ndim < 2:
        # Residual branches contribute little, as in trained networks; otherwise, in every library,
        # a random network with 100 layers amplifies float32 rounding errors.
        is_last = (name.startswith("layer") and "bn3" in name) or "_3_bn" in name
        return rng.uniform(0.8, 1.2, array.shape) * (0.1 if is_last else 1)
    fan = np.prod(array.shape) / max(array.shape[0], array.shape[-1])
    return rng.normal(0, np.sqrt(1.5 / fan), array.shape)


def torch_model(source, name):
    """Return a network with random weights and without dropout."""
    torch = importlib.import_module("torch")
    if source == "torchvision":
        make = getattr(importlib.import_module("torchvision.models"), name)
        options = {"transform_input": True, "init_weights": False} if "inception" in name else {}
        model = make(weights=None, **options)
    else:
        model = importlib.import_module("timm").create_model(name)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if type(module).__name__ == "StochasticDepth":
            module.p = 0.0
        if type(module).__name__ == "DropPath":
            module.drop_prob = 0.0
        if hasattr(module, "drop_rate"):
            module.drop_rate = 0.0
    rng = np.random.default_rng(0)
    state = {
        key: torch.as_tensor(random_like(key, value.numpy(), rng), dtype=value.dtype)
        for key, value in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model


def without_dropout(name, **options):
    """Return the options that disable every kind of dropout."""
    network = models.info(name).network
    return options | {rate: 0.0 for rate in ("dropout", "drop_path") if hasattr(network, rate)}


def as_torchvision(images, preprocess, source):
    """Return normalized ``[B, C, H, W]`` images for torch; torchvision's Inception renormalizes."""
    x = images.astype(np.float64) / 255
    mean, std = preprocess.mean, preprocess.std
    if source == "torchvision":
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return np.moveaxis((x - np.array(mean)) / np.array(std), -1, 1)


@functools.cache
def case(name, source, theirs, folder):
    """Return the other library's network, and jaxcnn's loaded from its file."""
    torch = importlib.import_module("torch")
    model = torch_model(source, theirs)
    path = folder / f"{source}-{theirs}.pth"
    torch.save(model.state_dict(), path)
    return model, models.load_pretrained(name, path, source=source, **without_dropout(name))


@pytest.fixture(autouse=True)
def few_programs():
    """Clear compiled networks after each test; together they take up gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.mark.parametrize(("name", "source", "theirs", "side"), and_more(TORCH, MORE_TORCH))
def test_torch(name, source, theirs, side, folder):
    torch = importlib.import_module("torch")
    model, ours = case(name, source, theirs, folder)
    case.cache_clear()  # otherwise two networks of 500 MB each stay in memory
    images = pixels(side)
    planes = torch.from_numpy(as_torchvision(images, ours.preprocess, source)).float()
    x = ours.preprocess.normalize(ours.preprocess.to_float(resized(images, ours.preprocess)))

    def apply(variables, x, train):
        return ours.model.apply(variables, x, train=train, mutable=["batch_stats", "intermediates"])

    apply = jax.jit(apply, static_argnames="train")
    with torch.no_grad():
        expected = model.eval()(planes)
    assert_near(apply(ours.variables, x, train=False)[0], expected)

    counts = {}

    def count(name, module, inputs):
        counts[name] = inputs[0].numel() / inputs[0].shape[1]

    for key, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_pre_hook(
                lambda module, inputs, key=key: count(key, module, inputs)
            )
    # torch uses float64, because batch statistics amplify rounding errors; some of torch's float32
    # results are further from float64 than ours.
    model, planes = model.double().train(), planes.double()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        expected = model(planes)
    logits, updated = apply(ours.variables, x, train=True)
    if isinstance(expected, tuple):  # Inception's auxiliary head
        expected, auxiliary = expected
        assert_near(updated["intermediates"]["aux_logits"][0], auxiliary)
    assert_near(logits, expected)
    if not counts:
        return
    # torch stores the unbiased variance; convert its statistics to the biased variance.
    state = model.state_dict()
    for key, number in counts.items():
        old, new = before[f"{key}.running_var"], state[f"{key}.running_var"]
        kept = 1 - dict(model.named_modules())[key].momentum
        state[f"{key}.running_var"] = kept * old + (new - kept * old) * (number - 1) / number
    path = folder / "after.pth"
    torch.save(state, path)
    after = models.load_pretrained(name, path, source=source, **without_dropout(name))
    moved, wanted = flatten_dict(updated["batch_stats"]), after.variables["batch_stats"]
    for key, value in flatten_dict(wanted).items():
        assert_near(moved[key], value)
    path.unlink()


def resized(images, preprocess):
    """Set the preprocessing size to the height and width of the images, and return the images."""
    object.__setattr__(preprocess, "size", images.shape[1:3])
    return images


@pytest.fixture(scope="module")
def keras():
    """Return Keras with torch as its backend."""
    os.environ["KERAS_BACKEND"] = "torch"
    return importlib.import_module("keras")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras on torch
@pytest.mark.parametrize(("name", "theirs", "module", "side"), and_more(KERAS, MORE_KERAS))
def test_keras(name, theirs, module, side, keras, tmp_path):
    applications = getattr(keras.applications, module)
    fixed = {} if "VGG" in theirs else {"input_shape": (side, side, 3)}
    model = getattr(keras.applications, theirs)(weights=None, classifier_activation=None, **fixed)
    side = model.input_shape[1]
    rng = np.random.default_rng(0)
    for layer in model.layers:
        values = [
            random_like(variable.path, keras.ops.convert_to_numpy(variable), rng)
            for variable in layer.weights
        ]
        if layer.name != "normalization":
            layer.set_weights(values)
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    path = tmp_path / "network.weights.h5"
    model.save_weights(path)
    ours = models.load_pretrained(name, path, **without_dropout(name))
    assert_same_in_other_files(ours, name, model, tmp_path)
    images = pixels(side)
    theirs_in = applications.preprocess_input(images.astype(np.float32))
    x = ours.preprocess.normalize(ours.preprocess.to_float(resized(images, ours.preprocess)))
    apply = jax.jit(
        functools.partial(ours.model.apply, mutable=["batch_stats"]), static_argnames="train"
    )
    for train in (False, True):
        expected = keras.ops.convert_to_numpy(model(theirs_in, training=train))
        logits, updated = apply(ours.variables, x, train=train)
        assert_near(logits, expected)
    if "batch_stats" not in ours.variables:
        return
    after = tmp_path / "after.weights.h5"
    model.save_weights(after)
    after = models.load_pretrained(name, after).variables["batch_stats"]
    moved = flatten_dict(updated["batch_stats"])
    for key, value in flatten_dict(after).items():
        assert_near(moved[key], value)


def assert_same_in_other_files(ours, name, model, folder):
    """Check that Keras's other two file formats yield the same network."""
    model.save(folder / "network.keras")
    legacy = importlib.import_module("keras.src.legacy.saving.legacy_h5_format")
    with importlib.import_module("h5py").File(folder / "network.h5", "w") as file:
        legacy.save_weights_to_hdf5_group(file, model)
    for path in (folder / "network.keras", folder / "network.h5"):
        found = models.load_pretrained(name, path, **without_dropout(name))
        chex.assert_trees_all_equal(found.variables, ours.variables)
        assert found._replace(variables=None) == ours._replace(variables=None)
        path.unlink()


@pytest.mark.parametrize(
    ("name", "side"),
    and_more([("resnet50", 64), ("efficientnet_b0", 64)], [("vgg16", 32), ("inception_v3", 299)]),
)
def test_gradients_in_float64(name, side, tmp_path):
    torch = importlib.import_module("torch")
    model = torch_model("torchvision", name).double().train()
    images, labels = pixels(side, 2), np.array([3, 5])
    path = tmp_path / "network.pth"
    torch.save(model.state_dict(), path)
    with jax.enable_x64(True):
        options = without_dropout(name, dtype=jnp.float64)
        ours = models.load_pretrained(name, path, source="torchvision", **options)
        planes = as_torchvision(images, ours.preprocess, "torchvision")
        outputs = model(torch.from_numpy(planes))
        expected = outputs[0] if isinstance(outputs, tuple) else outputs
        loss = torch.nn.functional.cross_entropy(expected, torch.from_numpy(labels))
        if isinstance(outputs, tuple):
            loss = loss + 0.3 * torch.nn.functional.cross_entropy(
                outputs[1], torch.from_numpy(labels)
            )
        loss.backward()
        state = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
        state |= {key: value.grad for key, value in model.named_parameters()}
        torch.save(state, path)
        wanted = models.load_pretrained(name, path, source="torchvision", **options)
        del model, state

        def objective(params, x):
            outputs, updated = ours.model.apply(
                ours.variables | {"params": params},
                x,
                train=True,
                mutable=["batch_stats", "intermediates"],
            )
            losses = optax.softmax_cross_entropy_with_integer_labels
            total = losses(outputs, labels).mean()
            for aux in updated.get("intermediates", {}).get("aux_logits", ()):
                total += 0.3 * losses(aux, labels).mean()
            return total

        x = (images / 255 - np.array(ours.preprocess.mean)) / np.array(ours.preprocess.std)
        value, gradients = jax.jit(jax.value_and_grad(objective))(ours.variables["params"], x)
        loss = float(loss.detach())
        assert abs(float(value) - loss) < 1e-9 * abs(loss)
        expected = flatten_dict(wanted.variables["params"])
        # The gradient of a bias before a normalization consists only of rounding errors.
        least = 1e-13 * max(float(jnp.abs(gradient).max()) for gradient in expected.values())
        for key, gradient in flatten_dict(gradients).items():
            assert gradient.dtype == jnp.float64
            largest = float(jnp.abs(expected[key]).max())
            assert float(jnp.abs(gradient - expected[key]).max()) <= 1e-6 * largest + least
