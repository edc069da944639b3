import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, copy_project, run_python
from tests.fakes.gcs import EMULATOR, HANGS_WITHOUT, Gcs, open_bucket
from tests.fakes.kfp_server import KfpServer
from tests.fakes.registry import Registry
from tests.pipelines.cluster.lab import CLASSES, MANIFEST, PICTURES, Lab, clean_environment, commit, git


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project in a git repository, all of it committed."""
    project = copy_project(tmp_path_factory.mktemp("lab") / "project")
    shutil.copy(ROOT / ".gitignore", project)
    git(project, "init", "--quiet", "--initial-branch=main")
    commit(project, "first")
    assert run_python("compile.py", cwd=project).returncode == 0
    return project


@pytest.fixture(scope="session")
def bucket(gcs_server: str) -> Gcs:
    """One for all tests: each run has a folder of its own. Beside it, `images` has the data of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(EMULATOR, gcs_server)
        gcs = open_bucket(gcs_server)
    images = gcs.client.create_bucket("images")
    for name, content in {**PICTURES, MANIFEST: b"[]"}.items():
        images.blob(name).upload_from_string(content)
    return gcs


@pytest.fixture
def server() -> Iterator[KfpServer]:
    with KfpServer() as server:
        yield server


@pytest.fixture
def image_registry() -> Iterator[Registry]:
    registry = Registry()
    yield registry
    registry.close()


@pytest.fixture
def lab(committed: Path, bucket: Gcs, server: KfpServer, image_registry: Registry, tmp_path: Path) -> Lab:
    config = {
        "pipeline_root": f"{bucket.uri}/runs",
        "registry": f"{image_registry.host}/pipelines",
        "service_account": "lab-runner",
        "stages": {"ingest": {"parameters": {"classes": CLASSES}}, "evaluate": {"caching": False}},
    }
    (committed / "pipelines/config/lab.yaml").write_text(yaml.safe_dump(config))
    workplace = tmp_path / "workplace"
    workplace.mkdir()
    environment = clean_environment(tmp_path, {EMULATOR: bucket.url, **HANGS_WITHOUT})
    return Lab(committed, server, bucket, workplace, environment, image_registry)
