"""Fine-tuning from a weights file, plus prediction, feature extraction and export."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from flax.traverse_util import flatten_dict

from jaxcnn import data, models, train
from jaxcnn.commands import main as command_line
from jaxcnn.experiment import Experiment, open_run, run
from jaxcnn.experiment.build import assemble
from jaxcnn.experiment.finetune import as_resolved, resolve
from jaxcnn.experiment.optimizer import OptimizerConfig, make_optimizer
from jaxcnn.experiment.saved import features, open_weights, to_pretrained
from jaxcnn.image import Preprocess

pytestmark = pytest.mark.usefixtures("without_figures")
OPTIONS = {"depths": (1, 1), "width": 4, "stem": "cifar"}
MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A weights file for a small residual network with seven classes and shifted statistics."""
    model = models.create("resnet18", 7, **OPTIONS)
    init = jax.jit(lambda key: model.init(key, jnp.zeros((1, 8, 8, 3)), train=False))
    variables = init(jax.random.key(3))
    draw = jax.tree.map(lambda leaf: leaf + 0.3, variables["batch_stats"])
    path = tmp_path_factory.mktemp("weights") / "network.safetensors"
    models.save_pretrained(
        path,
        models.Pretrained(
            model,
            variables | {"batch_stats": draw},
            Preprocess((8, 8), 3, MEAN, STD),
            tuple("abcdefg"),
            "resnet18",
            OPTIONS,
        ),
    )
    return path


@pytest.fixture
def experiment(weights, few_images):
    return Experiment(
        model="resnet18", pretrained=str(weights), data=few_images, batch_size=30, epochs=2
    )


def body_of(variables):
    return {path: leaf for path, leaf in flatten_dict(variables).items() if path[1] != "fc"}


@pytest.mark.slow
def test_weights_fill_in_the_settings(experiment, weights):
    resolved, network = resolve(experiment)
    assert resolved.model_options == OPTIONS and resolved.normalization == MEAN + STD
    assert resolved.channels == 3 and resolved.image_size == (8, 8)
    assert network.classes == tuple("abcdefg")
    # The experiment's own settings take precedence.
    own = dataclasses.replace(experiment, image_size=(12, 10), channels=1)
    own = dataclasses.replace(own, model_options={"drop_path": 0.1})
    resolved, network = resolve(own)
    assert resolved.image_size == (12, 10) and resolved.channels == 1
    assert resolved.model_options == OPTIONS | {"drop_path": 0.1}
    assert resolved.normalization == pytest.approx((0.2, 0.5))
    chex.assert_shape(network.variables["params"]["conv1"]["kernel"], (3, 3, 1, 4))
    # A resumed run takes the settings from its own configuration, without the weights file.
    assert as_resolved(own, resolved) == resolved
    assert as_resolved(resolved, resolved) == resolved
    plain = dataclasses.replace(experiment, pretrained=None)
    assert resolve(plain) == (plain, None)
    other = dataclasses.replace(own, pretrained="other.pth")
    assert as_resolved(other, resolved) == other


def test_initial_state_has_the_weights(experiment):
    resolved, network = resolve(experiment)
    parts = assemble(resolved, network)
    state = parts.network.initial_state(0)
    chex.assert_trees_all_equal(body_of(state.variables), body_of(network.variables))
    chex.assert_shape(state.params["fc"]["kernel"], (8, 3))
    images = next(iter(parts.train)).image
    assert images.shape[1:] == (8, 8, 3)
    np.testing.assert_allclose(
        parts.network.preprocess(images[:1]), (images[:1] / 255 - MEAN) / np.array(STD), rtol=1e-5
    )


@pytest.mark.slow
def test_equal_classes_keep_the_last_layer(few_images, frozen_run, tmp_path):
    experiment, folder, result, _ = frozen_run
    assert command_line.main(["export", str(folder), f"{tmp_path}/own.safetensors"]) == 0
    again = dataclasses.replace(experiment, pretrained=f"{tmp_path}/own.safetensors")
    state = assemble(*resolve(again)).network.initial_state(0)
    assert train.fingerprint(state.variables) == result["params_sha256"]
    # A regression task does not keep the last layer.
    several = dict(np.load(few_images))
    for split in ("train", "test"):
        several[f"{split}_labels"] = np.eye(3)[several[f"{split}_labels"]].astype(np.float32)
    np.savez(tmp_path / "targets.npz", **several)
    again = dataclasses.replace(again, data=f"{tmp_path}/targets.npz", task="regression")
    other = assemble(*resolve(again)).network.initial_state(0)
    assert not np.array_equal(other.params["fc"]["kernel"], state.params["fc"]["kernel"])
    chex.assert_trees_all_equal(body_of(other.variables), body_of(state.variables))


def test_arrays_without_a_place_are_rejected():
    model = models.create("lenet5", 10)
    given = {"params": {"conv1": {"kernel": jnp.zeros((5, 5, 3, 6))}}}
    images = jnp.zeros((1, 28, 28, 1))
    with pytest.raises(ValueError, match=r"conv1/kernel .*\(5, 5, 3, 6\)"):
        train.create_state(jax.random.key(0), model, train_optimizer(), images, pretrained=given)
    given = {"params": {"conv9": {"kernel": jnp.zeros(3)}}}
    with pytest.raises(ValueError, match="conv9/kernel"):
        train.create_state(jax.random.key(0), model, train_optimizer(), images, pretrained=given)
    given = {"params": {"conv1": {"bias": jnp.ones(6, jnp.bfloat16)}}}
    state = train.create_state(
        jax.random.key(0), model, train_optimizer(), images, pretrained=given
    )
    assert state.params["conv1"]["bias"].tolist() == [1.0] * 6
    assert state.params["conv1"]["bias"].dtype == jnp.float32
    assert state.params["conv1"]["kernel"].any()


def train_optimizer():
    return make_optimizer(OptimizerConfig(), epochs=1, steps_per_epoch=1)


FROZEN = {"frozen_epochs": 2, "epochs": 4, "layer_decay": 0.5, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def frozen_run(weights, few_images, tmp_path_factory):
    """A run with two frozen and two unfrozen epochs, and the state at the end of each epoch."""
    experiment = Experiment(
        model="resnet18", pretrained=str(weights), data=few_images, batch_size=30, **FROZEN
    )
    folder = tmp_path_factory.mktemp("frozen") / "run"
    states, save = {}, train.save

    def keep(path, snapshot, **options):
        save(path, snapshot, **options)
        states[len(snapshot.history)] = jax.device_get(snapshot.state.variables)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.checkpoint, "save", keep)
        result = run(experiment, folder)
    return experiment, folder, result, states


def test_body_and_its_statistics_stay_frozen(frozen_run):
    experiment, _, _, states = frozen_run
    begin = resolve(experiment)[1].variables
    for epoch in (1, 2):
        chex.assert_trees_all_equal(body_of(states[epoch]), body_of(begin))
    before, after = (states[epoch]["params"]["fc"]["kernel"] for epoch in (1, 2))
    assert not np.array_equal(before, after)
    moved = body_of(states[3])
    assert all(not np.array_equal(leaf, moved[path]) for path, leaf in body_of(begin).items())


@pytest.mark.slow
@pytest.mark.parametrize("stop", [2, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 3))])
def test_stopped_run_resumes_to_the_same_bytes_without_the_file(
    stop, frozen_run, weights, tmp_path
):
    experiment, _, result, _ = frozen_run
    experiment = dataclasses.replace(experiment, pretrained=str(tmp_path / "copy.safetensors"))
    (tmp_path / "copy.safetensors").write_bytes(weights.read_bytes())
    folder, save, saved = tmp_path / "run", train.save, []

    def stop_after(path, snapshot, **options):
        save(path, snapshot, **options)
        saved.append(snapshot)
        if len(snapshot.history) == stop:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.checkpoint, "save", stop_after)
        with pytest.raises(KeyboardInterrupt):
            run(experiment, folder)
    (tmp_path / "copy.safetensors").unlink()
    again = run(experiment, folder, resume=True)
    assert again["params_sha256"] == result["params_sha256"]
    assert again["steps"] == result["steps"]


@pytest.mark.slow
def test_frozen_epochs_do_not_count_for_early_stopping(experiment, tmp_path):
    experiment = dataclasses.replace(
        experiment, epochs=5, frozen_epochs=2, early_stopping=1, learning_rate=1e-9
    )
    result = run(experiment, tmp_path / "run")
    # The third epoch is the first that may be kept, and the fourth does not improve on it.
    assert result["best_epoch"] >= 3 and result["last_epoch"]["epoch"] >= 4


@pytest.mark.slow
def test_late_adam_starts_the_body_at_its_rate():
    params = {"conv": {"kernel": jnp.ones((2, 2))}, "fc": {"kernel": jnp.ones((2, 2))}}
    rates = {"conv": {"kernel": 0.25}, "fc": {"kernel": 1.0}}
    optimizer = make_optimizer(
        OptimizerConfig(frozen_epochs=1, learning_rate=0.1),
        epochs=2,
        steps_per_epoch=3,
        output_layers=("fc",),
        rates=rates,
    )
    state = optimizer.init(params)
    ones = jax.tree.map(jnp.ones_like, params)
    frozen = {"conv": {"kernel": jnp.zeros((2, 2))}, "fc": ones["fc"]}
    for step in range(6):
        updates, state = optimizer.update(ones if step >= 3 else frozen, state, params)
        if step >= 3:  # with equal gradients, each Adam step equals the learning rate
            np.testing.assert_allclose(updates["conv"]["kernel"], -0.1 * 0.25, rtol=1e-4)
        np.testing.assert_allclose(updates["fc"]["kernel"], -0.1, rtol=1e-4)


def test_layer_rates():
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    rates = train.layer_rates(models.create("resnet18", 5, **OPTIONS), images, 0.5)
    found = {path[0]: rate for path, rate in flatten_dict(rates).items()}
    assert found == {"conv1": 0.125, "bn1": 0.125, "layer1_0": 0.25, "layer2_0": 0.5, "fc": 1.0}
    model = models.create("inception_v3", 5)
    images = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
    rates = train.layer_rates(model, images, 0.9, output_layers=model.output_layers)
    assert rates["AuxLogits"]["fc"]["kernel"] == rates["fc"]["kernel"] == 1
    assert rates["AuxLogits"]["conv0"]["conv"]["kernel"] < 1
    assert rates["Conv2d_1a_3x3"]["conv"]["kernel"] == min(jax.tree.leaves(rates)) > 0
    for decay in (0, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"decay must be in \(0, 1\]"):
            train.layer_rates(model, images, decay)
    pair = train.from_functions(lambda key, images: {}, lambda *_, **__: None)
    with pytest.raises(ValueError, match="model must be a Linen module"):
        train.layer_rates(pair, images, 0.5)


@pytest.mark.slow
def test_features_are_the_input_of_the_last_layer(weights, few_images, tmp_path, capsys):
    output = tmp_path / "features.npz"
    flags = ["--data", few_images, "--output", str(output), "--batch-size", "64"]
    assert command_line.main(["features", str(weights), *flags]) == 0
    assert "train: 300 examples with 8 features" in capsys.readouterr().out
    with np.load(output) as arrays:
        assert set(arrays) == {
            *("train_features", "train_labels", "test_features", "test_labels", "classes")
        }
        test, labels = arrays["test_features"], arrays["test_labels"]
    source = data.load_splits(few_images, size=(8, 8), channels=3)["test"]
    np.testing.assert_array_equal(labels, source.labels)
    network = models.load_pretrained(None, weights)
    images = network.preprocess(source.images)
    logits = network.model.apply(network.variables, images, train=False)
    last = network.variables["params"]["fc"]
    expected = test @ np.asarray(last["kernel"]) + np.asarray(last["bias"])
    np.testing.assert_allclose(expected, logits, atol=1e-4)
    # Features do not depend on the batch size, and unreadable images are skipped.
    other, _ = features(open_weights(weights), source, batch_size=7)
    np.testing.assert_allclose(other, test, atol=1e-5)
    folder = tmp_path / "photos"
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(5):
            PIL.Image.new("RGB", (9, 9), (40 * number, 9, 9)).save(folder / label / f"{number}.png")
    (folder / "cat" / "0.png").write_bytes(b"none")
    flags = ["--data", str(folder), "--output", str(output)]
    assert command_line.main(["features", str(weights), *flags]) == 2
    assert "0.png" in capsys.readouterr().err
    flags += ["--on-bad-example", "skip"]
    assert command_line.main(["features", str(weights), *flags]) == 0
    with np.load(output) as arrays:
        assert len(arrays["train_labels"]) + len(arrays["test_labels"]) == 9
        assert arrays["classes"].tolist() == ["cat", "dog"]
    assert not list(tmp_path.glob(".features*"))


@pytest.mark.slow
def test_predict_and_inspect_of_a_weight_file(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PIL.Image.new("RGB", (20, 30), "red").save("red.png")
    for flags in ((), ("--model", "resnet18")):
        assert command_line.main(["predict", str(weights), "red.png", "--json", *flags]) == 0
        predictions = json.loads(capsys.readouterr().out)[0]["predictions"]
        assert {prediction["class"] for prediction in predictions} < set("abcdefg")
    assert command_line.main(["inspect", str(weights), "--image", "red.png"]) == 0
    folder = tmp_path / "runs" / "resnet18-figures"
    assert {path.stem for path in folder.iterdir()} == {
        *("attribution", "kernels", "feature_maps_conv1", "feature_maps_layer2_0")
    }
    output = ("--output", str(tmp_path / "elsewhere"))
    assert command_line.main(["inspect", str(weights), "--image", "red.png", *output]) == 0
    assert (tmp_path / "elsewhere" / "attribution.png").is_file()


def test_exported_run_gives_the_same_predictions(frozen_run, tmp_path, capsys):
    _, folder, _, _ = frozen_run
    path = tmp_path / "network.safetensors"
    assert command_line.main(["export", str(folder), str(path)]) == 0
    PIL.Image.new("RGB", (20, 30), (200, 90, 10)).save(tmp_path / "image.png")
    outputs = []
    for network in (folder, path):
        capsys.readouterr()
        image = str(tmp_path / "image.png")
        assert command_line.main(["predict", str(network), image, "--json"]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    trained = open_run(folder)
    chex.assert_trees_all_equal(open_weights(path).state.variables, trained.state.variables)
    assert to_pretrained(trained).classes == ("0", "1", "2")


BAD = [
    ("train --frozen-epochs 2", "frozen_epochs must be smaller than epochs, and 0 unless pretra"),
    ("train --pretrained {weights} --model resnet18 --frozen-epochs 10", "frozen_epochs must be"),
    (
        "train --pretrained-source timm",
        "pretrained_source must be omitted unless pretrained is set",
    ),
    ("train --layer-decay 0", "layer_decay must be in (0, 1], got 0.0"),
    ("train --pretrained {tmp}/none.pth", "weights file {tmp}/none.pth"),
    ("train --pretrained {weights}", "resnet18"),
    (
        "train --pretrained {weights} --model {tmp}/my.py:net",
        "must be omitted for a custom network",
    ),
    (
        "train --normalization 0.5 0.5 0.5",
        "finite means, then standard deviations > 0, for 1 or 3 channels, got (0.5,",
    ),
    (
        "train --normalization 0 0 0 1 1 1",
        "normalization must be 1 means and 1 standard deviations for these",
    ),
    ("predict {weights} {tmp}/none.png", "image {tmp}/none.png"),
    ("predict {weights}", "needs at least one image"),
    ("predict {tmp}/none.safetensors x.png", "is not a run folder"),
    ("predict {weights} x.png --source keras --model vgg16", "resnet18"),
    ("predict {run} x.png --source keras", "--source must be omitted for a run, got keras"),
    ("inspect {weights}", "--image must be given for a weights file"),
    ("features {weights} --data fashion_mnist_slice --output x.txt", "--output must end in .npz"),
    ("features {weights} --data {tmp}/none --output {tmp}/x.npz", "none"),
    ("export {run} {tmp}/x.pth", "the file must end in .safetensors"),
    ("export {tmp} {tmp}/x.safetensors", "is not a run folder"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_reported_in_one_line(
    arguments, message, weights, frozen_run, tmp_path, capsys
):
    (tmp_path / "my.py").write_text("def net(num_classes): ...")
    places = {"weights": weights, "tmp": tmp_path, "run": frozen_run[1]}
    before = sorted(tmp_path.iterdir())
    assert command_line.main([part.format(**places) for part in arguments.split()]) == 2
    error = capsys.readouterr().err
    assert message.format(**places) in error and error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_export_and_features_reject_other_networks(frozen_run, few_images):
    trained = open_run(frozen_run[1])
    custom = dataclasses.replace(
        trained.experiment, pretrained=None, frozen_epochs=0, model="a.py:b"
    )
    with pytest.raises(ValueError, match=r"model must be one of .* to be exported, got a.py:b"):
        to_pretrained(trained._replace(experiment=custom))
    other = trained.network._replace(task=train.regression())
    with pytest.raises(ValueError, match="task must be multi_class to be exported, got regression"):
        to_pretrained(trained._replace(network=other))
    pair = train.from_functions(lambda key, images: {}, lambda *_, **__: None)
    source = data.load_splits(few_images)["test"]
    with pytest.raises(ValueError, match="model must have a num_classes attribute"):
        features(trained._replace(network=trained.network._replace(model=pair)), source)
