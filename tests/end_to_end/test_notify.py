"""Who is told how a run on this machine ended: by submit.py, and by the exit handler under kfp.local itself."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import CLASSES, PATIENCE, Folders, copy_project, run_python
from tests.fakes.gcs import unanswered_port
from tests.fakes.webhook import PATH, Webhook, open_webhook

INGEST = ("--component", "ingest", "--param", f"classes={json.dumps(CLASSES).replace(' ', '')}")


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with open_webhook() as webhook:
        yield webhook


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """With a configuration whose runs on a cluster tell a webhook."""
    project = copy_project(tmp_path / "project")
    content = {"notify": {"secret": "pipeline-webhook"}, "endpoint": {"ui": "https://kfp.example.com"}}
    (project / "pipelines/config/told.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return project


def submit(project: Path, data: Path, address: str) -> subprocess.CompletedProcess[str]:
    """Runs ingest; the exit handler of the configuration is for a cluster, and is left out here."""
    options = ("--local", "--config", "told", *INGEST, "--data", data, "--notify", address)
    return run_python(project / "submit.py", *options, cwd=project.parent)


def run_folder(project: Path) -> Path:
    (folder,) = (project.parent / "runs/default").iterdir()
    return folder


def check_hidden(folder: Path, output: str) -> None:
    """Nothing that is printed or kept shows the address."""
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {"run.json", "run.log", "command.json", "index.html"} <= {path.name for path in kept}
    assert [path for path, content in kept.items() if b"hush" in content] == []
    assert "hush" not in output


def test_a_run_here_tells_of_its_success(project: Path, tiny: Folders, webhook: Webhook):
    done = submit(project, tiny.data, webhook.url)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    folder = run_folder(project)
    assert webhook.texts == [f"default/{folder.name}: succeeded"]
    assert list(json.loads((folder / "run.json").read_text())["stages"]) == ["ingest"]
    check_hidden(folder, done.stdout)


@pytest.mark.parametrize("is_there", [True, False], ids=["told", "dead webhook"])
def test_a_run_here_tells_of_its_failure(project: Path, own: Folders, webhook: Webhook, is_there: bool):
    (own.data / "val/v/02.png").write_bytes(b"no image")
    with unanswered_port() as port:
        done = submit(project, own.data, webhook.url if is_there else f"http://127.0.0.1:{port}{PATH}")
    assert (done.returncode, done.stderr) == (1, ""), done.stdout
    folder = run_folder(project)
    assert webhook.texts == ([f"default/{folder.name}: failed in ingest"] if is_there else [])
    assert ("nobody was told" in done.stdout) != is_there
    assert "ingest failed: 1 bad image" in done.stdout
    check_hidden(folder, done.stdout)


# Runs a package by kfp.local alone, as no user does: its exit handler is meant for a cluster.
RUN = """
import sys
from kfp import components, local
from pipelines.local.stages_environment import find_python, start_stages_with

package, root, data = sys.argv[1:]
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=root, raise_on_error=False)
with start_stages_with(find_python()):
    components.load_component_from_file(package)(data_uri=data)
"""


@pytest.mark.parametrize("fails", [False, True], ids=["success", "failure"])
def test_kfp_runs_the_exit_handler_whatever_becomes_of_the_pipeline(
    project: Path, own: Folders, webhook: Webhook, fails: bool, tmp_path: Path
):
    """Nobody answers for the API here, so that kfp's own word for the state is told."""
    if fails:
        shutil.rmtree(own.data / "train")
        shutil.rmtree(own.data / "val")
    assert run_python("compile.py", "--config", "told", "--tag", "x", cwd=project).returncode == 0
    command = [sys.executable, "-W", "ignore", "-c", RUN, "build/components/ingest.yaml", tmp_path / "root", own.data]
    environment = {**os.environ, "WEBHOOK": webhook.url, "PYTHONPATH": str(project)}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert len(webhook.texts) == 1, done.stdout + done.stderr
    (text,) = webhook.texts
    name, _, rest = text.partition(": ")
    assert name.startswith("single-ingest")
    assert rest.startswith("failed, https://kfp.example.com/#/" if fails else "succeeded, https://kfp.example.com/#/")
    assert "hush" not in done.stdout + done.stderr
