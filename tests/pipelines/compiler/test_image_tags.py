"""The tags of the images, as `make images` and compile.py name them: what changes which of them."""

import os
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
    (project / "components/audit/summary.py").rename(project / "components/audit/summery.py")


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
        pytest.param(append(".dockerignore"), EVERY, id="what is left out"),
        pytest.param(append("pipelines/training.py"), set(), id="a pipeline"),
        pytest.param(make("components/ingest/new.py"), {"ingest"}, id="a new file"),
        pytest.param(make("components/ingest/__pycache__/new.pyc"), set(), id="a compiled file"),
        pytest.param(rename, {"audit"}, id="another name"),
        pytest.param(
            lambda project: (project / "components/audit/warp.py").chmod(0o755),
            {"audit", "judge"},
            id="a file that can be run",
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
    assert compiled == {stage: tags[stage] for stage in STAGES - {"judge", "notify"}}
    command = ["make", "--dry-run", "images", "push", "BUILDER=docker", "REGISTRY=here", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=project, check=True, capture_output=True, text=True)
    built, pushed = re.findall(r"^for image in (.+); do", done.stdout, re.MULTILINE)
    images = [f"{name}:{tag}" for name, tag in tags.items()]
    assert built.split() == images
    assert pushed.split() == images[1:]  # without the base, whose layers the others bring


# Takes the place of Docker's command: it writes down what it is asked for, and has the images of a file.
BUILDER = """\
#!/bin/sh
echo "$*" >> {home}/asked
case $1 in
  inspect) grep -qx "$4" {home}/there ;;
  build) {meanwhile} ;;
esac
"""


class Builder:
    def __init__(self, home: Path, project: Path) -> None:
        self.home, self.project = home, project
        (home / "bin").mkdir()
        (home / "there").touch()
        self.write("true")

    def write(self, meanwhile: str) -> None:
        """What happens while an image is built."""
        path = self.home / "bin/docker"
        path.write_text(BUILDER.format(home=self.home, meanwhile=meanwhile))
        path.chmod(0o755)

    def make(self, *words: str) -> tuple["subprocess.CompletedProcess[str]", list[str]]:
        """What make says, and what it asked the builder to do besides looking for images."""
        (self.home / "asked").write_text("")
        command = ["make", "--silent", *words, "BUILDER=docker", "REGISTRY=here", f"PYTHON={sys.executable}"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        environment["PATH"] = f"{self.home}/bin:{environment['PATH']}"
        done = subprocess.run(command, cwd=self.project, env=environment, capture_output=True, text=True, timeout=120)
        lines = (self.home / "asked").read_text().splitlines()
        return done, [line for line in lines if not line.startswith("inspect")]


@pytest.fixture
def builder(tmp_path: Path, project: Path) -> Builder:
    return Builder(tmp_path, project)


def test_make_builds_what_is_not_there_yet(builder: Builder):
    tags = find_tags(builder.project)
    done, asked = builder.make("images", "STAGES=audit train")
    assert (done.returncode, done.stderr) == (0, "")
    images = [f"here/{name}:{tags[name]}" for name in ("base", "audit", "train")]
    assert [re.findall(r" -t (\S+)", line) for line in asked] == [[image] for image in images]
    assert [re.findall(r"BASE=(\S+)", line) for line in asked] == [[], [images[0]], [images[0]]]
    (builder.home / "there").write_text("\n".join(images[:2]))
    done, asked = builder.make("images", "STAGES=audit train")
    assert done.stdout == "".join(f"{image} is there; FORCE=1 builds it again\n" for image in images[:2])
    assert [re.findall(r" -t (\S+)", line) for line in asked] == [[images[2]]]
    assert len(builder.make("images", "STAGES=audit train", "FORCE=1")[1]) == 3
    assert len(builder.make("images", "STAGES=audit train", "TAG=v1")[1]) == 3
    done, asked = builder.make("push", "STAGES=audit train")
    assert asked == [f"push {image}" for image in images[1:]]


def test_an_image_whose_files_change_while_it_is_built_is_dropped(builder: Builder):
    tag = find_tags(builder.project)["audit"]
    builder.write("echo '# more' >> components/audit/ranking.py")
    (builder.home / "there").write_text(f"here/base:{find_tags(builder.project)['base']}")
    done, asked = builder.make("images", "STAGES=audit")
    assert done.returncode == 2
    assert done.stdout.splitlines()[1:] == ["audit: its files were changed while it was built; make images again."]
    assert asked[1:] == [f"rmi here/audit:{tag}"]


def test_a_stage_that_is_not_there_is_refused(builder: Builder):
    for target in ("images", "push"):
        done, asked = builder.make(target, "STAGES=audit trian")
        assert (done.returncode, done.stdout, asked) == (2, "STAGES: there is no stage trian.\n", [])


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


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("copy models models", True),
        ("  COPY   models   models", True),
        ("ADD models models", True),
        ("COPY --chown=65532:65532 models models", True),
        ("COPY README.md \\\n  models ./", True),
        ("ARG WHERE=models\nCOPY ${WHERE} models", True),
        ("COPY models/resn?t.py models/", True),
        ("COPY --from=packages /packages /venv", False),
        ("# COPY models models", False),
    ],
)
def test_what_is_copied_counts_however_that_is_written(project: Path, line: str, expected: bool):
    with (project / "containers/curate/Dockerfile").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    before = find_tags(project)
    append("models/resnet.py")(project)
    assert (find_tags(project)["curate"] != before["curate"]) == expected


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ('COPY ["models", "models"]', "write it as COPY SOURCE... TARGET, with plain paths."),
        ('COPY "models" models', "write it as COPY SOURCE... TARGET, with plain paths."),
        ("COPY $WHERE models", "write it as COPY SOURCE... TARGET, with plain paths."),
        ("COPY <<EOF /file", "write it as COPY SOURCE... TARGET, with plain paths."),
        ("ADD https://example.org/file /file", "write it as COPY SOURCE... TARGET, with plain paths."),
        ("COPY . .", "write it as COPY SOURCE... TARGET, with plain paths."),
        ("COPY /models /models", "write it as COPY SOURCE... TARGET, with plain paths."),
        ("COPY ../secret /secret", "write it as COPY SOURCE... TARGET, with plain paths."),
        ("COPY models/**/x models", "write it as COPY SOURCE... TARGET, with plain paths."),
        ("ONBUILD COPY models models", "leave this to the images that are to be built."),
        ("RUN --mount=type=bind,source=models,target=/models ls", "takes files by a mount; take them by COPY."),
    ],
)
def test_a_line_that_may_copy_anything_is_refused(project: Path, line: str, advice: str):
    with (project / "containers/curate/Dockerfile").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    done = run_python("-m", "pipelines.compiler.image_tags", cwd=project)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{project}/containers/curate/Dockerfile: '{line}': {advice}\n"


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
