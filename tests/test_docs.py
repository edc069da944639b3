"""The documents say what is there: links, paths, flags, targets, settings, messages, and the stages' reference."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from pipelines.compiler.config import Config, Endpoint
from tests.conftest import ROOT, run_python

DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
GKE = ROOT / "docs" / "gke.md"
STAGES = ["ingest", "validate", "transform", "train", "evaluate", "audit", "curate", "compare", "notify"]
SCRIPTS = (
    *("adopt.py", "submit.py", "compile.py", "export.py", "sample.py"),
    *("benchmarks/run.py", "benchmarks/improvement.py"),
)
TOP_FOLDERS = "benchmarks|components|containers|docs|models|pipelines|tests"

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def code_lines(document: Path) -> Iterator[str]:
    """The lines of code blocks, fenced or indented, with continued ones joined, and what stands `like this`."""
    fenced = False
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.split("  #")[0].strip()
    prose = re.sub(r"^```.*?^```|^ {4}.*?$", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose))


@cache
def flags_of(script: str) -> set[str]:
    return set(re.findall(r"--[a-z][\w-]*", run_python(ROOT / script, "--help").stdout))


@cache
def messages() -> str:
    """Every text in the code of pipelines/ and of what it shares, adjacent ones joined as Python joins them."""
    paths = [*ROOT.glob("pipelines/**/*.py"), *ROOT.glob("components/shared/*.py")]
    trees = [ast.parse(path.read_text()) for path in paths]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


@every_document
def test_links_lead_somewhere(document: Path):
    def slug(heading: str) -> str:
        return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")

    links = re.findall(r"\]\((?!https?:)([^)\s]+)\)", document.read_text(encoding="utf-8"))
    for link in links:
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in {slug(heading) for heading in re.findall(r"^#+ (.+)$", target.read_text(), re.M)}, link


@every_document
def test_paths_exist(document: Path):
    text = document.read_text(encoding="utf-8")
    paths = re.findall(rf"(?<![\w/.-])((?:{TOP_FOLDERS})/[\w./*<>-]+)", text)
    made = re.findall(r"^`([\w/.]+)`\n\n```", text, re.MULTILINE)  # which the page has in full
    missing = [
        path for path in paths if path not in made and not any(ROOT.glob(re.sub(r"<\w+>", "*", path).rstrip("./")))
    ]
    assert missing == []


@every_document
def test_commands_exist(document: Path):
    for line in code_lines(document):
        for script, rest in re.findall(r"\bpython ([\w/]+\.py)(.*)", line):
            assert (ROOT / script).is_file(), line
            assert set(re.findall(r"(?<!\S)--[a-z][\w-]*", rest)) <= flags_of(script), line
        if line.startswith("--"):
            assert any(line.split()[0] in flags_of(script) for script in SCRIPTS), line
        for module in re.findall(r"\bpython -m ((?:pipelines|components)[\w.]*)", line):
            assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), line


@every_document
def test_make_targets_exist(document: Path):
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.M))
    for line in code_lines(document):
        for words in re.findall(r"(?:^|&& )make ([^&#;|]+)", line):
            assert {word for word in words.split() if "=" not in word} <= targets, line


@every_document
def test_variables_and_settings_exist(document: Path):
    variables = {f"KFP_{field.upper()}" for field in Endpoint.model_fields}
    assert set(re.findall(r"\bKFP_\w+", document.read_text(encoding="utf-8"))) <= variables
    for block in re.findall(r"^```yaml\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        config = Config.model_validate({"name": "in-the-document", **yaml.safe_load(block)})
        assert set(config.stages) <= set(STAGES)


def test_troubles_quote_what_the_code_says():
    troubles = GKE.read_text().split("\n### What `submit.py` says\n")[1].split("\n### ")[0]
    quotes = re.findall(r'"([^"]+)"', " ".join(troubles.split()))
    assert len(quotes) >= 10
    assert [quote for quote in quotes if quote not in messages()] == []


def test_shell_blocks_are_shell():
    blocks = re.findall(r"^```sh\n(.*?)^```", GKE.read_text(), re.DOTALL | re.MULTILINE)
    result = subprocess.run(["bash", "-n"], input="\n".join(blocks), capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_shell_blocks_use_variables_that_were_set_before():
    blocks = re.findall(r"^```sh\n(.*?)^```", GKE.read_text(), re.DOTALL | re.MULTILINE)
    names = {"1", "2"}  # of a function's arguments
    for line in "\n".join(blocks).splitlines():
        assert set(re.findall(r"\$(\w+)", line)) - names == set(), line
        names |= set(re.findall(r"^(?:for )?([A-Za-z]\w*)(?:=| in )", line))


def test_reference_is_what_the_contracts_say_today(tmp_path: Path):
    result = run_python("-m", "pipelines.compiler.reference", tmp_path / "components.md")
    assert result.returncode == 0, result.stderr
    current = (tmp_path / "components.md").read_text() == (ROOT / "docs" / "components.md").read_text()
    assert current, "docs/components.md is old; run: make docs"


def test_the_reference_of_the_python_api_is_current(tmp_path: Path) -> None:
    result = run_python("-m", "pipelines.api.reference", tmp_path / "api.md")
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "api.md").read_text() == (ROOT / "docs" / "api.md").read_text(), "it is old; run: make docs"


def test_reference_has_every_stage_in_order_with_every_port_and_default():
    text = (ROOT / "docs" / "components.md").read_text()
    places = [text.index(f"\n## {stage}\n") for stage in STAGES]
    assert places == sorted(places)
    for stage, (start, end) in zip(STAGES, pairwise([*places, len(text)]), strict=True):
        contract = yaml.safe_load((ROOT / "components" / stage / "component.yaml").read_text())
        rows = dict(re.findall(r"^\| `(\w+)`(.*)$", text[start:end], re.M))
        assert contract["description"] in text[start:end]
        for port in contract["inputs"] + contract["outputs"]:
            assert port["type"] in rows[port["name"]]
            if "default" in port:
                assert f"| `{port['default']}` |" in rows[port["name"]] or port["default"] == ""
