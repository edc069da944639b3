"""The page docs/models.md, followed on a copy of the project, and how a model is chosen."""

import json
import re
from pathlib import Path

import pytest

from components.shared import fixed_models
from components.shared.errors import UserError
from tests.conftest import CLASSES, ROOT, Folders, copy_project, run_python

CHOICE = "it must be mobilenet or resnet"


def read_blocks() -> dict[str, str]:
    """The content of each file that the page has in full, by the path that stands before it."""
    text = (ROOT / "docs/models.md").read_text()
    return dict(re.findall(r"^`([\w/.]+)`\n\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def test_model_of_the_page_is_trained_and_says_so(tiny: Folders, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    blocks = read_blocks()
    assert blocks.keys() == {"models/tiny.py", "pipelines/config/tiny.yaml"}
    for name, content in blocks.items():
        (project / name).write_text(content)
    classes = f"  ingest: {{parameters: {{classes: {CLASSES}}}}}\n"
    with (project / "pipelines/config/tiny.yaml").open("a") as file:
        file.write(classes)
    data = ["--config", "tiny", "--data", tiny.data, "--test-data", tiny.test]
    result = run_python("submit.py", "--local", *data, cwd=project)
    assert result.returncode == 0, result.stdout + result.stderr
    (run,) = (project / "runs/default").iterdir()
    (training,) = run.glob("artifacts/*/train/model/training.json")
    settings = json.loads(training.read_text())["settings"]
    assert settings == {
        "model": "tiny",
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 0.01,
        "seed": 123,
        "learning_rate_schedule": 'CosineDecay {"decay_steps": 100}',
        "optimizer": 'SGD {"momentum": 0.9}',
        "loss": 'CategoricalCrossentropy {"label_smoothing": 0.1}',
    }
    assert json.loads((project / "results/metrics.json").read_text())["settings"] == settings
    (inferred,) = run.glob("artifacts/*/validate/schema/schema.pbtxt")
    assert (run / "schema.pbtxt").read_text() == inferred.read_text()
    assert "schema.pbtxt" in result.stdout


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("model: resnett\n", f"transform.model is 'resnett'; {CHOICE}."),
        ("stages: {transform: {parameters: {model: vgg}}}\n", f"transform.model is 'vgg'; {CHOICE}."),
        ("model: preprocessing\n", f"transform.model is 'preprocessing'; {CHOICE}."),
    ],
)
def test_unknown_model_of_a_config_is_refused_by_compile(project: Path, config: str, sentence: str) -> None:
    path = project / "pipelines/config/wrong.yaml"
    path.write_text(config)
    result = run_python("compile.py", "--config", "wrong", cwd=project)
    assert (result.returncode, result.stderr) == (1, f"{path}: {sentence}\n")
    assert not (project / "build").exists()


def test_unknown_model_of_a_run_is_refused_by_submit(tiny: Folders, project: Path) -> None:
    options = ["--local", "--data", tiny.data, "--test-data", tiny.test, "--param", "model=vgg"]
    result = run_python("submit.py", *options, cwd=project)
    assert (result.returncode, result.stderr) == (1, f"--param model=vgg: model is 'vgg'; {CHOICE}.\n")


def test_model_of_the_config_is_the_default_of_each_pipeline(project: Path) -> None:
    (project / "pipelines/config/mine.yaml").write_text("model: mobilenet\n")
    assert run_python("compile.py", "--config", "mine", cwd=project).returncode == 0
    for name in ("training", "improvement", "components/transform"):
        text = (project / f"build/{name}.yaml").read_text()
        assert re.search(r"^#    model: str \[Default: 'mobilenet'\]$", text, re.MULTILINE), name


def test_models_are_the_files_that_define_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert fixed_models.list_models() == ["mobilenet", "resnet"]
    for name, text in {"b": "def build_model(classes):", "a": "def build_model(", "_c": "def build_model("}.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "blocks.py").write_text("def block(): ...")
    monkeypatch.setattr(fixed_models, "MODELS", tmp_path)
    assert fixed_models.list_models() == ["a", "b"]
    with pytest.raises(UserError) as caught:
        fixed_models.load_model("c")
    assert str(caught.value) == "model is 'c'; it must be a or b, the files of models/."
