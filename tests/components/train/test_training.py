import csv
import inspect
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from google.protobuf import text_format
from tensorflow_metadata.proto.v0.schema_pb2 import Schema

from components.shared.errors import UserError
from components.shared.formats.examples import ASPECT_RATIO, open_examples
from components.train.images import load_split
from components.train.serving import Classifier, transform_images
from components.train.settings import LOSSES, TrainingSettings, check_loss, check_settings, make_loss, make_optimizer
from components.train.training import train_model
from components.transform.transformation import transform_examples
from models import mobilenet
from models.preprocessing import IMAGE, LABEL
from models.resnet import CHANNELS, SIZE, build_model
from tests.conftest import BEAM, CLASSES, ROOT, contents, outputs_in
from tests.pages import Page
from tests.shards import edit_record

SETTINGS = TrainingSettings(epochs=2, batch_size=8, learning_rate=1e-3, seed=1)  # those of the fixture `trained`


class Trained(NamedTuple):
    folder: Path

    @property
    def training(self) -> dict[str, Any]:
        return json.loads((self.folder / "model" / "training.json").read_text())

    @property
    def history(self) -> list[dict[str, float]]:
        with (self.folder / "history").open(newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]

    def weights(self, model: str = "model") -> dict[str, np.ndarray]:
        reader = tf.train.load_checkpoint(str(self.folder / model / "variables" / "variables"))
        return {
            name: reader.get_tensor(name)
            for name, dtype in reader.get_variable_to_dtype_map().items()
            if dtype == tf.float32
        }

    def predict(self, examples: Path, split: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The outputs for the encoded images of a split, and their labels."""
        images = list(open_examples(examples).read(split))
        model = tf.saved_model.load(str(self.folder / "model"))
        encoded = tf.constant([image.encoded for image in images])
        outputs = model.signatures["serving_default"](image_bytes=encoded)
        labels = np.array([image.label for image in images])
        return {name: tensor.numpy() for name, tensor in outputs.items()}, labels


def train(transformed: Path, folder: Path, settings: TrainingSettings, **changed: int) -> Trained:
    train_model(
        str(transformed / "examples"),
        str(transformed / "graph"),
        settings=settings,
        **changed,
        **outputs_in(folder, "model", "history", "event_files", "report"),
    )
    return Trained(folder)


@pytest.fixture(scope="module")
def first(trained: Path) -> Trained:
    return Trained(trained)


@pytest.fixture(scope="module")
def other_seed(transformed: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One epoch more than `first`, which changes nothing in the epochs before."""
    return train(transformed, tmp_path_factory.mktemp("other"), SETTINGS._replace(seed=2, epochs=3))


def test_signature_gives_probabilities_label_and_class(first: Trained, examples: Path) -> None:
    outputs, labels = first.predict(examples, "train")
    assert outputs.keys() == {"probabilities", "label", "class"}
    assert outputs["probabilities"].shape == (len(labels), len(CLASSES))
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, rtol=1e-5)
    assert np.ptp(outputs["probabilities"], axis=0).min() > 0, "the images make no difference"
    np.testing.assert_array_equal(outputs["label"], outputs["probabilities"].argmax(axis=1))
    assert [name.decode() for name in outputs["class"]] == [CLASSES[label] for label in outputs["label"]]


@pytest.mark.parametrize("run", ["first", "other_seed"])
def test_saved_model_scores_on_raw_images_what_the_best_epoch_scored(
    run: str, examples: Path, request: pytest.FixtureRequest
) -> None:
    trained: Trained = request.getfixturevalue(run)
    outputs, labels = trained.predict(examples, "val")
    history = trained.history
    best = max(history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    assert best["val_accuracy"] == pytest.approx((outputs["label"] == labels).mean())
    loss = -np.log(outputs["probabilities"][np.arange(len(labels)), labels])
    assert best["val_loss"] == pytest.approx(loss.mean(), rel=1e-3)
    for row in history:
        if row is not best:
            assert row["val_loss"] != pytest.approx(loss.mean(), rel=1e-3), "the epochs cannot be told apart"
    recorded = trained.training
    assert recorded["best_epoch"] == best["epoch"]
    assert recorded["val_accuracy"] == pytest.approx(best["val_accuracy"])
    assert recorded["val_loss"] == pytest.approx(best["val_loss"])


def test_best_epoch_is_not_always_the_last(first: Trained, other_seed: Trained) -> None:
    """Otherwise the test above could not tell the best weights from the last."""
    assert any(trained.training["best_epoch"] < len(trained.history) for trained in (first, other_seed))


def test_record_says_what_was_trained_on_what(first: Trained, transformed: Path) -> None:
    manifest = open_examples(transformed / "examples").manifest
    training = first.training
    assert training["classes"] == manifest.classes
    assert training["data_version"] == manifest.data_version
    assert training["settings"] == {
        "model": "resnet",
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "seed": 1,
        "optimizer": "Adam",
        "loss": "SparseCategoricalCrossentropy",
    }
    assert training["parameters"] == build_model(len(CLASSES)).count_params()


def test_history_has_a_row_per_epoch(first: Trained) -> None:
    assert [row["epoch"] for row in first.history] == [1, 2]
    for row in first.history:
        assert row.keys() >= {"loss", "accuracy", "val_loss", "val_accuracy"}
        assert 0 <= row["accuracy"] <= 1
        assert row["loss"] > 0


def test_same_seed_gives_the_same_model(first: Trained, transformed: Path, tmp_path: Path) -> None:
    again = train(transformed, tmp_path, SETTINGS)
    assert contents(tmp_path)["history"] == contents(first.folder)["history"]
    assert again.training == first.training
    expected, actual = first.weights(), again.weights()
    assert expected.keys() == actual.keys()
    assert sum(weight.size for weight in expected.values()) >= first.training["parameters"]
    for name, weight in expected.items():
        np.testing.assert_array_equal(actual[name], weight, err_msg=name)


def test_other_seed_gives_another_model(first: Trained, other_seed: Trained) -> None:
    assert first.history[0]["loss"] != other_seed.history[0]["loss"]
    actual = other_seed.weights()
    assert any((weight != actual[name]).any() for name, weight in first.weights().items())


def test_each_seed_of_several_gives_the_model_that_it_gives_alone(
    first: Trained, transformed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = train(transformed, tmp_path / "both", SETTINGS, seeds=2)
    said = capsys.readouterr().out
    alone = train(transformed, tmp_path / "alone", SETTINGS._replace(seed=2))
    for expected, model in ((first, "model"), (alone, "model/seeds/2")):
        actual = both.weights(model)
        assert actual.keys() == expected.weights().keys()
        for name, weight in expected.weights().items():
            np.testing.assert_array_equal(actual[name], weight, err_msg=name)
    assert contents(both.folder)["history"] == contents(first.folder)["history"]
    assert os.listdir(both.folder / "model/seeds") == ["2"]
    accuracies = [first.training["val_accuracy"], alone.training["val_accuracy"]]
    assert both.training == first.training | {
        "settings": first.training["settings"] | {"seeds": 2},
        "val_accuracies": accuracies,
    }
    assert json.loads((both.folder / "model/seeds/2/training.json").read_text()) == alone.training
    assert {path.name for path in (both.folder / "event_files").iterdir()} == {"train", "validation", "seed-2"}
    range_of_both = f"{np.mean(accuracies):.3f} ({min(accuracies):.3f} to {max(accuracies):.3f})"
    assert f"train: seed 2, epoch 1/2, val_accuracy {alone.history[0]['val_accuracy']:.3f}" in said
    assert f"train: val_accuracy of 2 seeds {range_of_both}\n" in said
    assert range_of_both in Page(both.folder / "report").text


@pytest.mark.parametrize(
    ("seed", "seeds", "sentence"),
    [
        (1, 0, "seeds is 0; it must be from 1 to 100."),
        (1, 101, "seeds is 101; it must be from 1 to 100."),
    ],
)
def test_number_of_seeds_out_of_range_is_refused(
    seed: int, seeds: int, sentence: str, transformed: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        train(transformed, tmp_path, SETTINGS._replace(seed=seed), seeds=seeds)
    assert str(caught.value) == sentence
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0),
        ("batch_size", -1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("seed", -1),
        ("seed", 2**32 - 99),  # the last of a hundred would have 33 bits
    ],
)
def test_setting_out_of_range_is_refused(setting: str, value: float, transformed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{setting} is {value}; it must be"):
        train(transformed, tmp_path, SETTINGS._replace(**{setting: value}))
    assert os.listdir(tmp_path) == []


def test_training_that_diverges_ends_with_a_sentence_and_no_output(transformed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        train(transformed, tmp_path, SETTINGS._replace(learning_rate=1e10))
    assert str(caught.value) == "the loss is not a number from epoch 1 on; lower learning_rate (it is 1e+10)."
    assert os.listdir(tmp_path) == []


def test_report_is_one_file_with_curves_and_figures(first: Trained) -> None:
    page = Page(first.folder / "report")
    page.check_self_contained()
    assert "svg" in page.tags
    for text in ("accuracy", "loss", "best epoch", f"{first.training['val_accuracy']:.3f}", "learning rate", "0.001"):
        assert text in page.text


def test_feature_that_the_schema_lets_be_absent_changes_nothing(
    transformed: Path, examples: Path, validated: Path, tmp_path: Path
) -> None:
    schema = text_format.Parse((validated / "schema" / "schema.pbtxt").read_text(), Schema())
    (feature,) = [feature for feature in schema.feature if feature.name == ASPECT_RATIO]
    feature.ClearField("shape")
    feature.value_count.max = 1
    (tmp_path / "schema.pbtxt").write_text(text_format.MessageToString(schema))
    transform_examples(
        str(examples),
        schema=str(tmp_path),
        model="resnet",
        batch_size=16,
        beam_options=BEAM,
        **outputs_in(tmp_path, "examples", "graph"),
    )
    encoded = tf.constant([example.encoded for example in open_examples(examples).read("val")])
    images = [
        transform_images(tf.saved_model.load(str(folder / "transform_fn")).transform_fn, encoded)
        for folder in (tmp_path / "graph", transformed / "graph")
    ]
    np.testing.assert_array_equal(*images)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda features: features.pop(IMAGE), "a shard is not as transform writes it"),
        (
            lambda features: features[IMAGE].float_list.value.__setitem__(0, float("nan")),
            "an image has a value that is no number",
        ),
        (
            lambda features: features[LABEL].int64_list.value.__setitem__(0, 3),
            "an image has a label that is none of the classes",
        ),
    ],
)
def test_transformed_images_that_were_edited_are_refused(
    edit: Callable[[Any], None], sentence: str, transformed: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(transformed / "examples", tmp_path / "examples")
    edit_record(folder, edit)
    with pytest.raises(UserError) as caught:
        load_split(open_examples(folder), "val", (*SIZE, CHANNELS))
    assert str(caught.value) == f"{folder}, val: {sentence}; rerun transform."


def test_transform_graph_that_is_missing_or_damaged_is_named(transformed: Path, tmp_path: Path) -> None:
    graph = shutil.copytree(transformed / "graph", tmp_path / "graph") / "transform_fn"
    for damage in (lambda path: path.write_bytes(b"no model"), Path.unlink):
        damage(graph / "saved_model.pb")
        with pytest.raises(UserError) as caught:
            Classifier(build_model(len(CLASSES)), str(tmp_path / "graph"), CLASSES)
        assert str(caught.value).startswith(f"{graph}: cannot be read as a SavedModel (")
        assert str(caught.value).endswith("); give the output `transform_graph` of transform.")


# --- models and settings -----------------------------------------------------------------------


def test_examples_and_graph_of_two_models_are_refused(transformed: Path, tmp_path: Path) -> None:
    shutil.copytree(transformed / "examples", tmp_path / "examples")
    graph = shutil.copytree(transformed / "graph", tmp_path / "graph")
    (graph / "model.json").write_text('{"model": "mobilenet"}')
    with pytest.raises(UserError) as caught:
        train(tmp_path, tmp_path / "out", SETTINGS)
    assert str(caught.value) == (
        f"{tmp_path}/examples: is for the model resnet, but {graph} for mobilenet; give both outputs of one run of "
        "transform."
    )
    assert not (tmp_path / "out").exists()


def test_examples_that_do_not_name_their_model_are_refused(transformed: Path, tmp_path: Path) -> None:
    shutil.copytree(transformed, tmp_path, dirs_exist_ok=True)
    (tmp_path / "graph/model.json").unlink()
    with pytest.raises(UserError, match=r"graph/model.json: .*; rerun transform\.$"):
        train(tmp_path, tmp_path / "out", SETTINGS)


def test_another_model_is_trained_and_served_at_its_size(examples: Path, validated: Path, tmp_path: Path) -> None:
    transform_examples(
        str(examples),
        schema=str(validated / "schema"),
        model="mobilenet",
        batch_size=16,
        beam_options=BEAM,
        **outputs_in(tmp_path, "examples", "graph"),
    )
    settings = SETTINGS._replace(
        epochs=1,
        optimizer={"class_name": "AdamW", "config": {"weight_decay": 0.01}},
        loss={"class_name": "CategoricalCrossentropy", "config": {"label_smoothing": 0.1}},
        learning_rate_schedule={"class_name": "ExponentialDecay", "config": {"decay_steps": 2, "decay_rate": 0.5}},
    )
    trained = train(tmp_path, tmp_path / "out", settings)
    assert trained.training["settings"]["model"] == "mobilenet"
    assert trained.training["parameters"] == mobilenet.build_model(len(CLASSES)).count_params()
    outputs, labels = trained.predict(examples, "val")
    assert trained.history[0]["val_accuracy"] == pytest.approx((outputs["label"] == labels).mean())
    right = np.eye(len(CLASSES))[labels] * 0.9 + 0.1 / len(CLASSES)
    loss = -(right * np.log(outputs["probabilities"])).sum(axis=1).mean()
    assert trained.history[0]["val_loss"] == pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"optimizer": {"class_name": "Adm"}},
            "optimizer: the class_name 'Adm' does not exist. Did you mean Adam?",
        ),
        ({"optimizer": {"config": {}}}, 'optimizer: has no class_name; write it as Keras does, such as {"class_name"'),
        ({"optimizer": {"class_name": "SGD", "config": 3}}, "optimizer: config is 3; it must hold names with values."),
        (
            {"optimizer": {"class_name": "SGD", "config": {"momentun": 0.9}}},
            "optimizer: Keras does not take this SGD (Argument(s) not recognized: {'momentun': 0.9}).",
        ),
        (
            {"optimizer": {"class_name": "SGD", "config": {"momentum": 7}}},
            "optimizer: Keras does not take this SGD (`momentum` must be",
        ),
        (
            {"optimizer": {"class_name": "Adam", "config": {"beta_1": "much"}}},
            "optimizer: Keras does not take this Adam",
        ),
        (
            {"optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.1}}},
            "optimizer: config has learning_rate; leave it out, and set train's learning_rate or its schedule.",
        ),
        ({"loss": {"class_name": "Hinge"}}, "loss: the class_name 'Hinge' does not exist. There are: CategoricalCross"),
        (
            {"loss": {"class_name": "CategoricalCrossentropy", "config": {"from_logits": False}}},
            "loss: config has from_logits false; leave that out, since the models give logits.",
        ),
        (
            {"loss": {"class_name": "SparseCategoricalCrossentropy", "config": {"smoothing": 0.1}}},
            "loss: Keras does not take this SparseCategoricalCrossentropy (",
        ),
        (
            {"learning_rate_schedule": {"class_name": "CosineDecay"}},
            "learning_rate_schedule: Keras does not take this CosineDecay (",
        ),
        (
            {"learning_rate_schedule": {"class_name": "CosineDecay", "config": {"decay_steps": "ten"}}},
            "learning_rate_schedule: Keras does not take this CosineDecay (",
        ),
        (
            {
                "learning_rate_schedule": {
                    "class_name": "CosineDecay",
                    "config": {"decay_steps": 10, "initial_learning_rate": 0.1},
                }
            },
            "learning_rate_schedule: config has initial_learning_rate; leave it out, and set train's learning_rate.",
        ),
        (
            {"optimizer": {"class_name": "SGD", "momentum": 0.9}},
            "optimizer: has 'momentum' beside class_name and config; put it into config.",
        ),
        (
            {
                "learning_rate_schedule": {
                    "class_name": "PolynomialDecay",
                    "config": {"decay_steps": 10, "end_learning_rate": -5.0},
                }
            },
            "learning_rate_schedule: gives -0.4991 at step 1; it must be 0 or more.",
        ),
        (
            {
                "learning_rate_schedule": {
                    "class_name": "PiecewiseConstantDecay",
                    "config": {"boundaries": [], "values": [0.1]},
                }
            },
            "learning_rate_schedule: Keras does not take this PiecewiseConstantDecay (",
        ),
        ({"learning_rate_schedule": {"class_name": "Cosine"}}, "learning_rate_schedule: the class_name 'Cosine' does"),
    ],
)
def test_what_keras_does_not_take_is_refused_before_anything_is_read(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        train(Path("nowhere"), Path("nowhere"), SETTINGS._replace(**settings))
    assert str(caught.value).startswith(sentence)


def list_names(parameter: str) -> list[str]:
    """The names of objects of Keras that the contract allows for the parameter."""
    ports = yaml.safe_load((ROOT / "components/train/component.yaml").read_text(encoding="utf-8"))["inputs"]
    limits = next(port["annotations"] for port in ports if port["name"] == parameter)
    names: list[str] = limits["properties"]["class_name"]["enum"]
    return names


@pytest.mark.parametrize("name", list_names("optimizer"))
def test_an_optimizer_of_the_contract_is_made_from_its_name(name: str) -> None:
    settings = SETTINGS._replace(optimizer={"class_name": name})
    check_settings(settings)
    assert type(make_optimizer(settings)).__name__ == name


def test_the_contract_has_every_optimizer_schedule_and_loss() -> None:
    """A new version of Keras may bring others."""

    def list_classes(module: Any, base: type) -> set[str]:
        classes = {name: kind for name, kind in vars(module).items() if inspect.isclass(kind)}
        return {name for name, kind in classes.items() if issubclass(kind, base) and kind is not base}

    made_of_others = {"LossScaleOptimizer", "MultiOptimizer"}
    assert {*list_names("optimizer")} == list_classes(keras.optimizers, keras.Optimizer) - made_of_others
    schedules = keras.optimizers.schedules
    assert {*list_names("learning_rate_schedule")} == list_classes(schedules, schedules.LearningRateSchedule)
    assert {*list_names("loss")} == {*LOSSES}


def test_whole_numbers_reach_keras_as_integers() -> None:
    """Kubeflow Pipelines hands them on as floats."""
    optimizer = {"class_name": "Adam", "config": {"gradient_accumulation_steps": 2.0}}
    settings = SETTINGS._replace(optimizer=optimizer)
    check_settings(settings)
    assert make_optimizer(settings).gradient_accumulation_steps == 2


def test_a_loss_is_tried_on_as_many_classes_as_there_are() -> None:
    loss = {"class_name": "CategoricalFocalCrossentropy", "config": {"alpha": [0.2, 0.3, 0.5]}}
    check_loss(SETTINGS._replace(loss=loss), 3)
    with pytest.raises(UserError, match="^loss: Keras does not take this CategoricalFocalCrossentropy"):
        check_loss(SETTINGS._replace(loss=loss), 4)


def test_defaults_are_those_of_the_competition() -> None:
    settings = TrainingSettings(1, 8, 1e-4, 1)
    check_settings(settings)
    chosen, known = make_optimizer(settings).get_config(), keras.optimizers.Adam(1e-4).get_config()
    assert chosen | {"name": ""} == known | {"name": ""}  # Keras numbers them
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True).get_config()
    assert make_loss(settings).get_config() == expected


def test_settings_are_described_as_they_were_written() -> None:
    schedule = {"class_name": "PiecewiseConstantDecay", "config": {"boundaries": [100.0], "values": [0.1, 0.01]}}
    described = SETTINGS._replace(learning_rate_schedule=schedule).describe()
    expected = 'PiecewiseConstantDecay {"boundaries": [100], "values": [0.1, 0.01]}'
    assert described["learning_rate_schedule"] == expected
    assert "learning_rate" not in described, "the schedule has rates of its own"
    cosine = {"class_name": "CosineDecay", "config": {"decay_steps": 10}}
    assert SETTINGS._replace(learning_rate_schedule=cosine).describe()["learning_rate"] == SETTINGS.learning_rate
