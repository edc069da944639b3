"""A tiny data set, and what each stage makes of it: made once, and only as far as a test needs it.

The tests in tests/benchmarks, tests/components, tests/containers and tests/models run in the stages' environment, all
others in the tools'. This file is imported in both.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.fakes.gcs import EMULATOR, HANGS_WITHOUT, Gcs, open_bucket, running_server, unanswered_port

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# What the tests print and start must not depend on the terminal, or the CI system, that they run in.
for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"):
    os.environ.pop(name, None)
for name in [name for name in os.environ if name.startswith("MLFLOW_")]:  # no server hears of their trainings
    del os.environ[name]
# A command would compile all of the project's modules again, each time that it is started.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# The same examples in each run, and no limit of time, which a busy machine would exceed. `make fuzz` takes other ones.
settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", settings.get_profile("suite"), derandomize=False, max_examples=500, database=None)
settings.load_profile("suite")
os.environ.update(HANGS_WITHOUT)  # gcsfs reads it when it is imported, which may be before a test uses the server
# A shell's background job ignores Ctrl-C, and nohup hangups, and hands that down: what the tests start must take both.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

from tests.commands import run_command  # noqa: E402 (it keeps the environment as it is now)

ROOT = Path(__file__).parents[1]
# Tests run submit.py in copies of the project, which have no environment beside them.
os.environ.setdefault("STAGES_PYTHON", str(ROOT / ".venv-stages/bin/python"))
BEAM = ["--runner=FnApiRunner"]
PROCESSES = [*BEAM, "--direct_num_workers=2", "--direct_running_mode=multi_processing"]
CLASSES = ["i", "v", "x"]
IMAGES = {"train": 8, "val": 4, "test": 2}  # per class
PATIENCE = 1800  # seconds for what takes one minute on an idle machine, and would hang forever if it were broken


# What runs stages, servers or a browser, makes repositories of git and DVC, or starts a command in each test.
SLOW = {
    "benchmarks",
    "end_to_end",
    "fakes",
    "cluster",
    "test_adopt.py",
    "test_commands.py",
    "test_compile.py",
    "test_contributing.py",
    "test_dvc_version.py",
    "test_export.py",
    "test_makefile.py",
    "test_packages.py",
    "test_process.py",
    "test_results.py",
    "test_review.py",
    "test_sample.py",
    "test_submit.py",
}
SLOW_FIXTURES = {"podman", "examples", "validated", "transformed", "trained", "gcs_server"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that `make test-fast` runs."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if SLOW.isdisjoint(item.path.parts) and SLOW_FIXTURES.isdisjoint(fixtures):
            item.add_marker(pytest.mark.fast)


class Folders(NamedTuple):
    data: Path  # train/ and val/
    test: Path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """42 drawn numerals of three classes; tests that change them work on a copy."""
    return draw_folders(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def own(tiny: Folders, tmp_path: Path) -> Folders:
    """A copy of the tiny data that the test may change."""
    return copy_folders(tiny, tmp_path)


def copy_folders(folders: Folders, root: Path) -> Folders:
    return Folders(shutil.copytree(folders.data, root / "data"), shutil.copytree(folders.test, root / "test"))


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder with its bytes (a folder has none), what is hidden included."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in paths}


def outputs_in(folder: Path, *names: str) -> dict[str, str]:
    """The arguments `<name>_output` of a stage, for outputs that go to the folder under these names."""
    return {f"{name}_output": str(folder / name) for name in names}


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


def ingest_folder(data: Path, output: Path, *, classes: list[str] = CLASSES, test_data: str = "") -> Path:
    """Runs ingest on a folder of images, and returns the folder of the examples."""
    from components.ingest.ingestion import ingest_data

    ingest_data(
        str(data),
        test_data_uri=test_data,
        data_version="",
        classes=classes,
        on_bad_image="fail",
        max_images=10_000,
        max_pixels=50_000_000,
        shards=2,
        beam_options=BEAM,
        output=str(output),
    )
    return output


@pytest.fixture(scope="session")
def examples(tiny: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ingest makes of the tiny data."""
    return ingest_folder(tiny.data, tmp_path_factory.mktemp("ingest") / "examples", test_data=str(tiny.test))


@pytest.fixture(scope="session")
def validated(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what validate makes of the examples: statistics/, schema/, findings, report."""
    from components.validate.validation import Thresholds, validate_examples

    folder = tmp_path_factory.mktemp("validate")
    validate_examples(
        str(examples),
        thresholds=Thresholds(0.1, 0.9, 0.02, 3.0),
        severity={"schema": "warning"},
        beam_options=BEAM,
        **outputs_in(folder, "statistics", "schema", "findings", "report"),
    )
    return folder


@pytest.fixture(scope="session")
def transformed(examples: Path, validated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what transform makes of the examples: examples/, graph/."""
    from components.transform.transformation import transform_examples

    folder = tmp_path_factory.mktemp("transform")
    transform_examples(
        str(examples),
        schema=str(validated / "schema"),
        model="resnet",
        batch_size=16,
        beam_options=BEAM,
        **outputs_in(folder, "examples", "graph"),
    )
    return folder


@pytest.fixture(scope="session")
def trained(transformed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what train makes of the examples in two epochs: model/, history, event_files/, report."""
    from components.train.settings import TrainingSettings
    from components.train.training import train_model

    folder = tmp_path_factory.mktemp("train")
    train_model(
        str(transformed / "examples"),
        str(transformed / "graph"),
        settings=TrainingSettings(epochs=2, batch_size=8, learning_rate=1e-3, seed=1),
        **outputs_in(folder, "model", "history", "event_files", "report"),
    )
    return folder


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Cloud Storage server on this machine, one for all tests."""
    with running_server(tmp_path_factory.mktemp("gcs") / "objects") as url:
        yield url


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine where nobody answers as long as the test runs."""
    with unanswered_port() as port:
        yield port


@pytest.fixture
def gcs(gcs_server: str, monkeypatch: pytest.MonkeyPatch) -> Gcs:
    """A client, an empty bucket, and the environment in which this process and its children use that server."""
    for name, value in {EMULATOR: gcs_server, **HANGS_WITHOUT}.items():
        monkeypatch.setenv(name, value)
    return open_bucket(gcs_server)


def run_python(*arguments: str | Path, cwd: Path = ROOT, timeout: float = PATIENCE):  # -> CompletedProcess[str]
    """Runs a script of the project as a user does, and captures what it prints."""
    import subprocess

    words = list(map(str, arguments))
    if words[0].endswith(".py"):
        return run_command(words, folder=cwd, environment=os.environ, timeout=timeout)
    return subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=timeout)


def run_in_stages(code: str, given: Any) -> Any:
    """What Python code prints as JSON in the stages' environment, where it finds `given` as JSON on standard input."""
    import subprocess

    command = [os.environ["STAGES_PYTHON"], "-W", "ignore", "-c", code]
    result = subprocess.run(
        command, input=json.dumps(given), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def copy_project(target: Path) -> Path:
    """The project as `compile.py`, `submit.py` and the notebooks need it, for tests that edit it."""
    for name in ("components", "containers", "models", "pipelines"):
        # What is compiled goes with it, but for files that a command is just writing.
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("*.pyc.*"))
    for name in ("compile.py", "submit.py", "sample.py"):
        shutil.copy(ROOT / name, target)
    return target


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(tmp_path / "project")


def run_killed(code: str, when: str, *arguments: str | Path) -> int:
    """Runs Python code that is killed the moment it prints something with `when`; returns its process group."""
    import subprocess

    kill = (
        "import builtins, os, signal, sys\n"
        f"builtins.print = lambda *texts, **_: {when!r} in str(texts) and os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", kill + code, *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            process.wait(timeout=PATIENCE)
        finally:
            process.kill()  # or the end of the block would wait forever
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    return process.pid


def ends_soon(group: int, seconds: float = 60) -> bool:
    """Whether every process of the group ends; if not, it is killed."""
    import time

    end = time.monotonic() + seconds
    while _is_running(group):
        if time.monotonic() > end:
            os.killpg(group, signal.SIGKILL)
            return False
        time.sleep(0.1)
    return True


def _is_running(group: int) -> bool:
    """Zombies do not count: in a container perhaps nobody collects them."""
    import psutil

    for process in psutil.process_iter(["status"]):
        try:
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                return True
        except ProcessLookupError:
            continue
    return False
