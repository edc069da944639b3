"""A tiny data set, and what each stage makes of it: made once, and only as far as a test needs it."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
ROOT = Path(__file__).parents[1]
BEAM = ["--runner=FnApiRunner"]
CLASSES = ["i", "v", "x"]
IMAGES = {"train": 8, "val": 4, "test": 2}  # per class


class Folders(NamedTuple):
    data: Path  # train/ and val/
    test: Path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """42 drawn numerals of three classes; tests that change them work on a copy."""
    return draw_folders(tmp_path_factory.mktemp("tiny"))


def draw_folders(root: Path) -> Folders:
    from sample import draw_page

    for split, count in IMAGES.items():
        for name in CLASSES:
            folder = root / ("test" if split == "test" else f"data/{split}") / name
            folder.mkdir(parents=True)
            for number in range(count):
                rng = np.random.default_rng([list(IMAGES).index(split), CLASSES.index(name), number])
                draw_page(rng, name).save(folder / f"{number:02d}.png")
    return Folders(root / "data", root / "test")


@pytest.fixture(scope="session")
def examples(tiny: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ingest makes of the tiny data."""
    from components.ingest.ingestion import ingest_folders

    output = tmp_path_factory.mktemp("ingest") / "examples"
    ingest_folders(str(tiny.data), str(tiny.test), "", CLASSES, "fail", 10_000, 50_000_000, 2, 1, str(output))
    return output


@pytest.fixture(scope="session")
def validated(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what validate makes of the examples: statistics/, schema/, findings, report."""
    from components.validate.validation import Thresholds, validate_examples

    folder = tmp_path_factory.mktemp("validate")
    outputs = [str(folder / name) for name in ("statistics", "schema", "findings", "report")]
    validate_examples(str(examples), Thresholds(0.1, 0.9, 0.02, 3.0), {"schema": "warning"}, BEAM, *outputs)
    return folder


@pytest.fixture(scope="session")
def transformed(examples: Path, validated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what transform makes of the examples: examples/, graph/."""
    from components.transform.transformation import transform_examples

    folder = tmp_path_factory.mktemp("transform")
    transform_examples(
        str(examples), str(validated / "schema"), 16, BEAM, str(folder / "examples"), str(folder / "graph")
    )
    return folder


@pytest.fixture(scope="session")
def trained(transformed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what train makes of the transformed examples in two epochs: model/, history, report."""
    from components.train.training import Settings, train_model

    folder = tmp_path_factory.mktemp("train")
    outputs = [str(folder / name) for name in ("model", "history", "report")]
    train_model(str(transformed / "examples"), str(transformed / "graph"), Settings(2, 8, 1e-3, 1), *outputs)
    return folder


def run_python(*arguments: str | Path, cwd: Path = ROOT, timeout: float = 600):  # -> subprocess.CompletedProcess[str]
    """Runs a script of the project as a user does, and captures what it prints."""
    import subprocess

    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)


def copy_project(target: Path) -> Path:
    """The project as `compile.py` and `submit.py` need it, for tests that edit it."""
    import shutil

    for name in ("components", "models", "pipelines"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("compile.py", "submit.py"):
        shutil.copy(ROOT / name, target)
    return target


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(tmp_path / "project")
