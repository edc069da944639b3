"""The steps of CONTRIBUTING.md, done on a copy of the project."""

import csv
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import CLASSES, IMAGES, ROOT, Folders, copy_project, run_python

FILES = {
    "components/shared/formats/counts.py",
    "components/count/component.yaml",
    "components/count/component.py",
    "components/count/counting.py",
    "containers/count/Dockerfile",
    "pipelines/counting.py",
}


class Extended(NamedTuple):
    project: Path
    data: Folders


def read_blocks() -> dict[str, str]:
    """The content of each file that the page has in full, by the path that stands last before it."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    blocks = {}
    for match in re.finditer(r"^```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        paths = re.findall(r"`([\w/.]+\.\w+|[\w/]+/Dockerfile)`", text[: match.start()])
        blocks[paths[-1]] = match[1]
    return blocks


@pytest.fixture(scope="module")
def extended(tiny: Folders, tmp_path_factory: pytest.TempPathFactory) -> Extended:
    project = copy_project(tmp_path_factory.mktemp("contributing") / "project")
    for name, content in read_blocks().items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (project / "pipelines/config/tiny.yaml").write_text(f"stages: {{ingest: {{parameters: {{classes: {CLASSES}}}}}}}\n")
    return Extended(project, tiny)


def test_page_has_each_file_in_full() -> None:
    assert read_blocks().keys() == FILES


def test_what_is_added_is_compiled(extended: Extended) -> None:
    result = run_python("compile.py", "--output", "build", cwd=extended.project)
    assert result.returncode == 0, result.stderr
    assert {"build/counting.yaml", "build/components/count.yaml"} < set(result.stdout.split())


def test_new_pipeline_and_stage_run_here(extended: Extended) -> None:
    data = ["--config", "tiny", "--data", extended.data.data, "--test-data", extended.data.test]
    result = run_python("submit.py", "--local", "--pipeline", "counting", *data, cwd=extended.project)
    assert result.returncode == 0, result.stdout + result.stderr
    (run,) = (extended.project / "runs/default").iterdir()
    (counts,) = run.glob("artifacts/*/count/counts")
    with counts.open(newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert rows == [(split, name, str(IMAGES[split])) for split in ("train", "val") for name in CLASSES]

    again = ["--config", "tiny", "--component", "count", "--param", 'splits=["test", "other"]']
    result = run_python("submit.py", "--local", *again, cwd=extended.project)
    assert result.returncode == 1
    assert "splits has 'other'; the examples have train, val, test." in result.stdout


def test_dockerfile_copies_what_the_stage_imports(extended: Extended) -> None:
    copied = re.findall(r"^COPY (components\S+)", (extended.project / "containers/count/Dockerfile").read_text(), re.M)
    for line in re.findall(r"^from (components\S+)", read_blocks()["components/count/counting.py"], re.MULTILINE):
        assert any(line.replace(".", "/").startswith(path) for path in copied), line
