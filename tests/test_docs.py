"""The documents say what is there: links, paths, flags, targets, settings, messages, and the stages' reference."""

import ast
import base64
import json
import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise, takewhile
from pathlib import Path

import pytest
import yaml

from pipelines.compiler.config import Config, Endpoint
from tests.conftest import ROOT, run_python

DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
GKE = ROOT / "docs" / "gke.md"
VERTEX = ROOT / "docs" / "vertex.md"
STAGES = ["ingest", "validate", "transform", "train", "evaluate", "audit", "curate", "compare", "judge", "notify"]
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


def shell_blocks(document: Path) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def block_with(text: str) -> str:
    """The shell block of docs/gke.md that has a text."""
    (block,) = [block for block in shell_blocks(GKE) if text in block]
    return block


def run_shell(script: str, folder: Path, *search: Path) -> subprocess.CompletedProcess[str]:
    """Runs a script that ends at the first command that fails; it finds commands in `search` first."""
    environment = {**os.environ, "PATH": ":".join([*map(str, search), os.environ["PATH"]])}
    command = ["bash", "-eu", "-o", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("document", [GKE, VERTEX], ids=lambda path: path.name)
def test_shell_blocks_are_shell(document: Path):
    script = "\n".join(shell_blocks(document))
    result = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="apt-get install shellcheck")
@pytest.mark.parametrize("document", [GKE, VERTEX], ids=lambda path: path.name)
def test_shell_blocks_pass_shellcheck(document: Path):
    """But for variables without quotes, which have no spaces here, and those that env.sh has."""
    script = "\n".join(shell_blocks(document))
    command = ["shellcheck", "--shell=bash", "--exclude=SC1091,SC2086,SC2154", "-"]
    result = subprocess.run(command, input=script, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("document", [GKE, VERTEX], ids=lambda path: path.name)
def test_shell_blocks_use_variables_that_were_set_before(document: Path):
    names = {"1", "2"}  # of a function's arguments
    for line in "\n".join(shell_blocks(document)).splitlines():
        if line.startswith(". ./env.sh"):
            names |= set(re.findall(r"^(\w+)=", block_with("cat > env.sh"), re.MULTILINE))
        assert set(re.findall(r"\$(\w+)", line)) - names == set(), line
        names |= set(re.findall(r"^(?:for )?([A-Za-z]\w*)(?:=| in )", line))


def test_the_names_survive_a_new_terminal(tmp_path: Path):
    assert run_shell(block_with("cat > env.sh"), tmp_path).returncode == 0
    read = run_shell('. ./env.sh; echo "$REGISTRY $NODES $BUCKET $KFP"', tmp_path)
    assert read.stdout == (
        "europe-west4-docker.pkg.dev/my-project/pipelines gke-nodes@my-project.iam.gserviceaccount.com "
        "my-project-images 2.17.3\n"
    )


# Says what it was asked to do, and knows which accounts there are, as gcloud does: it makes none twice.
CLOUD = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >> calls
account="${4:-}"
case "$*" in
  "iam service-accounts describe "*) grep -qx "${account%%@*}" accounts ;;
  "iam service-accounts create "*)
    if grep -qx "$account" accounts; then echo "ERROR: Service account $account already exists" >&2; exit 1; fi
    echo "$account" >> accounts ;;
esac
"""


def test_accounts_are_made_once_however_often_the_blocks_are_run(tmp_path: Path):
    for name in ("gcloud", "kubectl"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(CLOUD)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "accounts").touch()
    assert run_shell(block_with("cat > env.sh"), tmp_path).returncode == 0
    for _ in range(2):
        blocks = f"{block_with('create gke-nodes')}\n{block_with('lend()')}"
        done = run_shell(f". ./env.sh\n{blocks}", tmp_path, tmp_path / "bin")
        assert (done.returncode, done.stderr) == (0, "")
    calls = (tmp_path / "calls").read_text().splitlines()
    made = [call for call in calls if "service-accounts create" in call]
    assert [call.split()[-1] for call in made] == ["gke-nodes", "pipeline-runs", "pipeline-ui"]
    annotated = [call for call in calls if " annotate " in call]
    assert (
        annotated[2:]
        == annotated[:2]
        == [
            f"kubectl -n kubeflow annotate --overwrite serviceaccount {there} "
            f"iam.gke.io/gcp-service-account={here}@my-project.iam.gserviceaccount.com"
            for here, there in (("pipeline-runs", "pipeline-runner"), ("pipeline-ui", "ml-pipeline-ui"))
        ]
    )


@pytest.mark.parametrize("tool", ["gcloud", "kubectl"])
def test_commands_and_flags_are_those_of_the_tool_itself(tool: str):
    """Where it is installed, it is asked for its own help on each command; nothing is done."""
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    script = "\n".join(block for document in (GKE, VERTEX) for block in shell_blocks(document)).replace("\\\n", " ")
    commands = {
        command.strip()
        for line in script.splitlines()
        for command in re.findall(rf"\b{tool} [^|&>;]+", line.split("  #")[0])
    }
    assert len(commands) >= 10

    flags = defaultdict[tuple[str, ...], set[str]](set)  # of each command, which is asked once
    for command in commands:
        words = command.replace("-n kubeflow ", "").split()[1:]
        named = tuple(takewhile(lambda word: re.fullmatch(r"[a-z][a-z-]*", word), words))
        flags[named] |= set(re.findall(r"(?<!\S)--[a-z][a-z-]*", command))

    def find_unknown_flags(named: tuple[str, ...]) -> list[str]:
        asked = subprocess.run([tool, *named, "--help"], capture_output=True, text=True)
        assert asked.returncode == 0, (named, asked.stderr)
        return [f"{named}: {flag}" for flag in sorted(flags[named]) if not re.search(rf"{flag}\b", asked.stdout)]

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(find_unknown_flags, sorted(flags)), []) == []


def test_a_secret_for_a_registry_is_one_that_kubernetes_knows(tmp_path: Path):
    """kubectl makes it here and sends it nowhere."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    auths = {"registry.example.com": {"auth": base64.b64encode(b"me:secret").decode()}}
    (tmp_path / "registry.json").write_text(json.dumps({"auths": auths}))
    (tmp_path / "project").mkdir()
    create = block_with("registry-login").replace("\\\n", " ").splitlines()[1]
    done = run_shell(f"{create} --dry-run=client --output=json", tmp_path / "project")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert (made["type"], made["metadata"]["name"]) == ("kubernetes.io/dockerconfigjson", "registry-login")
    assert json.loads(base64.b64decode(made["data"][".dockerconfigjson"])) == {"auths": auths}
    (patch,) = re.findall(r"--patch '(.*)'", block_with("registry-login"))
    assert json.loads(patch) == {"imagePullSecrets": [{"name": made["metadata"]["name"]}]}


def test_kubeflow_pipelines_is_fetched_with_patience_and_its_large_definitions_on_the_server():
    block = block_with("MANIFESTS=")
    urls = re.findall(r'kubectl apply (--server-side )?-k "\$MANIFESTS/([\w/-]+)\?ref=\$KFP&timeout=5m"', block)
    assert urls == [("--server-side ", "cluster-scoped-resources"), ("", "env/platform-agnostic")]


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
