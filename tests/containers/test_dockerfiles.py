"""What each Dockerfile brings into its image: what all stages share, and the modules that the stage imports."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.conftest import ROOT

STAGES = sorted(path.parent.name for path in ROOT.glob("components/*/component.yaml"))
SHARED = ROOT / "components/shared"


def dockerfile(stage: str) -> str:
    return (ROOT / "containers" / stage / "Dockerfile").read_text()


def copied_files(stage: str) -> set[Path]:
    """The files below the root that its COPY lines take from the working tree, folders unfolded."""
    lines = re.findall(r"^COPY (?!--from)(.+) (\S+)$", dockerfile(stage), re.MULTILINE)
    patterns = [name for names, _ in lines for name in names.split() if not name.startswith("containers")]
    found = {pattern: list(ROOT.glob(pattern)) for pattern in patterns}  # a name is a pattern of itself
    assert all(found.values()), found
    sources = [source for paths in found.values() for source in paths]
    unfolded = [file for source in sources for file in ([source] if source.is_file() else source.rglob("*"))]
    return {file for file in unfolded if file.is_file() and "__pycache__" not in file.parts}


def imports(path: Path) -> set[str]:
    """Every module that the file imports at any place, and what it imports from them: `a.b` and `a.b.c`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def project_files(stage: str) -> tuple[set[Path], set[str]]:
    """The project's modules that the stage's step leads to, and every module from elsewhere that those import."""
    files, foreign = set(), set()
    left = [ROOT / "components" / stage / "component.py"]
    while left:
        files.add(path := left.pop())
        for name in imports(path):
            file = ROOT / f"{name.replace('.', '/')}.py"
            if file.is_file():
                left += {file} - files
            elif name.split(".")[0] not in ("components", "models"):
                foreign.add(name)
    return files, foreign


@pytest.mark.parametrize("stage", STAGES)
def test_image_holds_what_stages_share_and_of_the_rest_only_the_modules_that_the_stage_imports(stage: str):
    copied = {path for path in copied_files(stage) if path.suffix == ".py"}
    imported = project_files(stage)[0]
    models = set((ROOT / "models").glob("*.py"))  # what knows one of them takes the name of any, which a run gives
    assert copied == imported | set(SHARED.rglob("*.py")) | (models if imported & models else set())


@pytest.mark.parametrize("stage", STAGES)
def test_image_holds_the_templates_of_its_reports(stage: str):
    templates = {path for path in copied_files(stage) if path.suffix == ".j2"}
    assert templates == {path for folder in (SHARED, ROOT / "components" / stage) for path in folder.rglob("*.j2")}


OLD_ALONE = {"pyarrow_hotfix"}  # imported with versions of other packages that no image has


@pytest.mark.parametrize("stage", STAGES)
def test_lock_of_the_image_holds_every_package_that_the_stage_imports(stage: str):
    lock = (ROOT / "containers" / stage / "requirements.txt").read_text()
    locked = {name.lower().replace("_", "-") for name in re.findall(r"^([\w.-]+)(?:\[.+\])?==", lock, re.MULTILINE)}
    known = packages_distributions()
    packages = {name.split(".")[0] for name in project_files(stage)[1]} - sys.stdlib_module_names - OLD_ALONE
    assert "kfp" in packages
    for package in packages:
        distributions = {name.lower().replace("_", "-") for name in known[package]}
        assert distributions & locked, f"{package} is not in containers/{stage}/requirements.txt"


@pytest.mark.parametrize("stage", STAGES)
def test_image_stands_on_the_base_and_does_not_run_as_root(stage: str):
    text = dockerfile(stage)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE}"}
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["65532:65532"]


def test_common_packages_have_the_same_version_in_every_lock():
    def versions(path: Path) -> set[str]:
        return set(re.findall(r"^[^\s#]+==\S+", path.read_text(encoding="utf-8"), re.MULTILINE))

    common = versions(ROOT / "containers/base/requirements.txt")
    assert any(line.startswith("tensorflow==") for line in common)
    for lock in (ROOT / "containers").glob("*/requirements*.txt"):
        assert common <= versions(lock), lock


def test_the_tests_of_the_images_install_with_the_locked_uv():
    (locked,) = re.findall(r"^uv==(\S+)", (ROOT / "locks/dev.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert f" pip install -q uv=={locked} " in dockerfile("tests").replace("/venv/bin/pip", "pip")


def test_no_image_has_the_cache_of_dvc():
    """SECURITY.md says so of diskcache."""
    locks = [path.read_text(encoding="utf-8") for path in ROOT.glob("containers/*/requirements*.txt")]
    assert len(locks) > len(STAGES)
    assert not any("diskcache" in lock for lock in locks)
