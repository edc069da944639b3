"""Who may import whom; CONTRIBUTING.md explains the rules."""

import ast
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_python

ROOMS = ("components", "models", "pipelines")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted([*ROOT.glob("*.py"), *(file for room in ROOMS for file in (ROOT / room).rglob("[!_]*.py"))])
}
STAGES = sorted(path.parent.name for path in ROOT.glob("components/*/component.yaml"))


def imported_modules(path: Path) -> set[str]:
    """The project's modules that a file imports at any place, also inside functions and for types alone."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports relative to its folder; name the module in full"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    assert not {name.split(".")[0] for name in names} & {"tests", "benchmarks"}, f"{path}: imports what only uses it"
    return names & MODULES.keys()


IMPORTS = {name: imported_modules(path) for name, path in MODULES.items()}


def room(module: str) -> str:
    """What a rule is about: components.train, components.shared, pipelines.cluster, models, submit."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "components" or len(parts) > 2 else parts[0]


def allowed_rooms(module: str) -> set[str]:
    own, top = room(module), module.split(".")[0]
    if own == "components.shared":
        return {own}
    if own == "components.judge":  # a part of the audit in a task of its own
        return {own, "components.audit", "components.shared"}
    if top == "components":
        return {own, "components.shared", "models"}
    if top == "models":
        return {own, "components.shared"}
    return {"components.shared", "pipelines", *(room(name) for name in MODULES if name.startswith("pipelines."))}


def test_the_rules_are_about_the_whole_project() -> None:
    assert len(MODULES) > 80
    assert {f"components.{stage}.component" for stage in STAGES} < MODULES.keys()
    assert "components.shared.errors" in IMPORTS["components.train.component"]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_room_may(module: str) -> None:
    assert {name for name in IMPORTS[module] if room(name) not in allowed_rooms(module)} == set()


LAYERS = {  # the folders of pipelines/, each with those that it may import; "pipelines" are the pipelines themselves
    "pipelines.compiler": set(),
    "pipelines": {"pipelines.compiler"},
    "pipelines.output": set(),
    "pipelines.data": {"pipelines.compiler", "pipelines.output"},
    "pipelines.submission": {"pipelines.compiler", "pipelines.data", "pipelines.output"},
    "pipelines.local": {"pipelines.compiler", "pipelines.data", "pipelines.output", "pipelines.submission"},
    "pipelines.cluster": {"pipelines.compiler", "pipelines.data", "pipelines.output", "pipelines.submission"},
    "pipelines.api": {"pipelines.compiler", "pipelines.submission", "pipelines.local", "pipelines.cluster"},
}


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("pipelines.")])
def test_folders_of_pipelines_build_on_each_other_one_way(module: str) -> None:
    own = room(module)
    assert own in LAYERS, f"{module}: say in LAYERS what {own} may import"
    others = {room(name) for name in IMPORTS[module] if name.startswith("pipelines.")} - {own}
    assert others <= LAYERS[own], f"{module} imports {others - LAYERS[own]}"


def test_no_circle_not_even_one_hidden_in_functions() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' -> '.join(error.args[1])}")


def test_tools_and_formats_start_without_the_packages_of_the_stages_and_of_notebooks() -> None:
    """It imports them all, and none of these packages is loaded, which may be there for notebooks."""
    chosen = [
        name for name in MODULES if name.startswith(("pipelines", "components.shared.formats")) or "." not in name
    ]
    packages = (
        "tensorflow",
        "keras",
        "apache_beam",
        "pandas",
        "cv2",
        "sklearn",
        "scipy",
        "matplotlib",
        "jinja2",
        "joblib",
        "IPython",
        "tensorflow_metadata",
    )
    importing = f"import importlib, sys; [importlib.import_module(name) for name in {chosen}]"
    result = run_python("-c", f"{importing}; print([name for name in {packages} if name in sys.modules])")
    assert (result.returncode, result.stderr, result.stdout) == (0, "", "[]\n")


@pytest.mark.parametrize("name", ROOMS)
def test_another_package_of_the_same_name_on_the_path_does_not_come_first(name: str, tmp_path: Path) -> None:
    """In the tools, and in the stages, which start in the project's folder."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("", encoding="utf-8")
    script = "import components.shared.errors, models, pipelines; print(components.__path__, models.__path__)"
    for python in (sys.executable, os.environ["STAGES_PYTHON"]):
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run([python, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert (done.stderr, done.stdout) == ("", f"['{ROOT / 'components'}'] ['{ROOT / 'models'}']\n")
    command = [sys.executable, ROOT / "submit.py", "--local", "--data", "nowhere"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stderr == "nowhere: no such folder; --data and --test-data name folders or a table of images.\n"


# Interrupts its process when the part of pydantic that is written in Rust is imported, as a person's Ctrl-C may. Only
# some moments of that import panic, so it also says whether they are safe.
INTERRUPTING = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "pydantic_core._pydantic_core":
            if signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, []):
                print("it can be interrupted", file=sys.stderr)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
"""


@pytest.mark.parametrize(
    "command",
    [
        "compile.py",
        "submit.py --local --data x",
        "submit.py --experiment x --data x",
        "adopt.py --data x",
        "export.py fiftyone x --local",
    ],
)
def test_an_interrupt_while_packages_are_imported_ends_a_command_without_a_trace(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = run_python(*command.split())
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")
