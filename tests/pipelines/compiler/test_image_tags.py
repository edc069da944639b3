"""The tags of the images, as `make images` and compile.py name them: what changes which of them."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipelines.compiler.image_tags import list_files
from tests.conftest import ROOT, copy_project, run_python

STAGES = {path.parent.name for path in ROOT.glob("components/*/component.yaml")}
EVERY = {"base", *STAGES}
KNOW_MODELS = {stage for stage in STAGES if "COPY models" in (ROOT / f"containers/{stage}/Dockerfile").read_text()}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, with what `make images` needs."""
    for name in (".dockerignore", "Makefile", "README.md"):
        (tmp_path / "project").mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "project")
    return copy_project(tmp_path / "project")


def find_tags(project: Path, *options: str) -> dict[str, str]:
    done = run_python("-m", "pipelines.compiler.image_tags", *options, cwd=project)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(image.split(":") for image in done.stdout.split())


def append(name: str) -> Callable[[Path], None]:
    def change(project: Path) -> None:
        with (project / name).open("a", encoding="utf-8") as file:
            file.write("# more\n")

    return change


def make(name: str) -> Callable[[Path], None]:
    def change(project: Path) -> None:
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).touch()

    return change


def rename(project: Path) -> None:
    (project / "components/audit/warp.py").rename(project / "components/audit/wrap.py")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(append("components/audit/ranking.py"), {"audit"}, id="code of a stage"),
        pytest.param(append("components/audit/component.yaml"), set(), id="a contract, which no image holds"),
        pytest.param(append("components/shared/files.py"), STAGES, id="what stages share"),
        pytest.param(append("models/resnet.py"), KNOW_MODELS, id="a model"),
        pytest.param(append("containers/curate/Dockerfile"), {"curate"}, id="a Dockerfile"),
        pytest.param(append("containers/curate/requirements.txt"), {"curate"}, id="packages of a stage"),
        pytest.param(append("containers/base/requirements.txt"), EVERY, id="packages of all"),
        pytest.param(append("containers/base/Dockerfile"), EVERY, id="the base"),
        pytest.param(append("containers/train/requirements-gpu.txt"), set(), id="packages for a GPU"),
        pytest.param(append("README.md"), set(), id="a document"),
        pytest.param(append("pipelines/training.py"), set(), id="a pipeline"),
        pytest.param(make("components/ingest/new.py"), {"ingest"}, id="a new file"),
        pytest.param(make("components/ingest/__pycache__/new.pyc"), set(), id="a compiled file"),
        pytest.param(rename, {"audit"}, id="another name"),
        pytest.param(
            lambda project: (project / "components/audit/warp.py").chmod(0o755), {"audit"}, id="a file that can be run"
        ),
    ],
)
def test_a_change_gives_new_tags_to_the_images_that_hold_it(
    project: Path, change: Callable[[Path], None], expected: set[str]
):
    before = find_tags(project)
    assert before.keys() == EVERY
    change(project)
    after = find_tags(project)
    assert {image for image in EVERY if before[image] != after[image]} == expected


def test_the_image_for_a_gpu_has_a_tag_of_its_own(project: Path):
    before, before_gpu = find_tags(project), find_tags(project, "--gpu")
    assert {image for image in EVERY if before[image] != before_gpu[image]} == {"train"}
    append("containers/train/requirements-gpu.txt")(project)
    after = find_tags(project, "--gpu")
    assert {image for image in EVERY if before_gpu[image] != after[image]} == {"train"}
    assert find_tags(project) == before
    (project / "pipelines/config/gpu.yaml").write_text("stages: {train: {accelerator: {type: nvidia.com/gpu}}}")
    assert run_python("compile.py", "--config", "gpu", cwd=project).returncode == 0
    assert read_images(project / "build/training.yaml")["train"] == after["train"]


def test_compile_and_make_agree_with_and_without_git(project: Path):
    tags = find_tags(ROOT)
    assert find_tags(project) == tags
    assert run_python("compile.py", cwd=project).returncode == 0
    compiled = {**read_images(project / "build/improvement.yaml"), **read_images(project / "build/training.yaml")}
    assert compiled == {stage: tags[stage] for stage in STAGES - {"notify"}}
    command = ["make", "--dry-run", "images", "push", "BUILDER=docker", "REGISTRY=here", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=project, check=True, capture_output=True, text=True)
    built, pushed = re.findall(r"^for image in (.+); do", done.stdout, re.MULTILINE)
    images = [f"{name}:{tag}" for name, tag in tags.items()]
    assert built.split() == images
    assert pushed.split() == images[1:]  # without the base, whose layers the others bring


def read_images(package: Path) -> dict[str, str]:
    executors = yaml.safe_load(package.read_text(encoding="utf-8"))["deploymentSpec"]["executors"]
    images = [each["container"]["image"] for each in executors.values() if "container" in each]
    return dict(image.split(":") for image in images)


def test_a_dockerfile_that_copies_what_is_not_there_is_named(project: Path):
    shutil.rmtree(project / "components/audit")
    shutil.rmtree(project / "containers/audit")
    append("containers/curate/Dockerfile")(project)
    text = (project / "containers/curate/Dockerfile").read_text(encoding="utf-8")
    (project / "containers/curate/Dockerfile").write_text(f"{text}COPY components/audit components/audit\n")
    done = run_python("-m", "pipelines.compiler.image_tags", cwd=project)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{project}/containers/curate/Dockerfile: copies components/audit, which is not there.\n"


@pytest.mark.parametrize("image", sorted(EVERY))
def test_the_files_of_a_tag_are_those_that_docker_sends(image: str, project: Path):
    """By Docker's own reading of .dockerignore."""
    from docker.utils.build import exclude_paths

    make("components/shared/__pycache__/old.pyc")(project)
    make("components/audit/__pycache__/old.pyc")(project)
    patterns = (project / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {path for path in exclude_paths(str(project), patterns) if (project / path).is_file()}
    dockerfile = ROOT / "containers" / image / "Dockerfile"
    listed = {path.relative_to(ROOT).as_posix() for path in list_files(dockerfile, for_gpu=False)}
    folders = {"components/shared", f"components/{image}"} if image != "base" else set()
    assert listed <= sent
    assert {path for path in sent if path.rpartition("/")[0] in folders} <= listed
