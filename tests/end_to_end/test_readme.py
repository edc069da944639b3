"""The README's loop, typed in its order, with the sample's configuration made small."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from components.shared.formats.names import SPLIT_NAMES
from tests.conftest import PATIENCE, ROOT
from tests.pages import Page, read_plots

SMALL = {
    "train": {"epochs": 1, "batch_size": 64},
    "audit": {"folds": 2, "repeats": 1, "epochs": 1},
    "curate": {"augment_to": 0, "policy_splits": []},  # an audit of one epoch is no ground for a policy
}


def read_section(name: str) -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8").split(f"\n## {name}\n")[1].split("\n## ")[0]


def list_commands() -> list[str]:
    """The code of the section `The loop` up to its last numbered step, a command each, as one types it."""
    section = read_section("The loop")
    steps = re.split(r"\n(?=[^\s\d])", section[section.index("\n1. ") + 1 :])[0]
    code = "\n".join(re.findall(r"^ {7}(\S.*)$", steps, re.MULTILINE))
    return [re.sub(r"\s+#.*", "", line) for line in code.replace("\\\n", " ").splitlines()]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of the project as it is on disk, on a machine where nothing has run yet."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    project = tmp_path / "project"
    for name in filter(None, files.split("\0")):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    config = project / "pipelines/config/sample.yaml"
    content = yaml.safe_load(config.read_text())
    for stage, parameters in SMALL.items():
        content["stages"][stage]["parameters"] |= parameters
    config.write_text(yaml.safe_dump(content))
    (project / ".venv").symlink_to(ROOT / ".venv")
    environment = {
        "HOME": str(tmp_path / "home"),
        "DVC_SITE_CACHE_DIR": str(tmp_path / "dvc"),
        "DVC_NO_ANALYTICS": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": "tests" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "home").mkdir()
    for command in ("init --quiet", "add .", "commit --quiet --message begin"):
        subprocess.run(["git", *command.split()], cwd=project, check=True, capture_output=True)
    return project


def test_own_images_take_two_commands_and_few_lines():
    code, prose, *_ = read_section("Your own images").split("\n\n")
    assert len(code.strip().splitlines()) == 2
    assert len(prose.splitlines()) <= 5
    named = set(re.findall(r"`(\w+)(?:/<class>/)?`", read_section("Your own images")))
    assert named >= SPLIT_NAMES.keys()


def test_the_loop_as_one_types_it(project: Path):
    commands = list_commands()
    said = {}
    activate = commands[0]
    assert activate == ". .venv/bin/activate"
    for command in commands[1:]:
        result = subprocess.run(
            ["bash", "-c", f"{activate} && {command}"],
            cwd=project,
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
        said[command] = result.stdout
    training = next(output for command, output in said.items() if "submit.py" in command)
    assert "    git add data.dvc .gitignore results && git commit\n" in training
    improvement = next(output for command, output in said.items() if "--pipeline improvement" in command)
    (decided,) = re.findall(r"^ +(python submit\.py .*--decisions .*)$", improvement, re.MULTILINE)
    assert decided == (
        "python submit.py --local --config sample --pipeline improvement --data data --test-data build/sample/test "
        "--decisions decisions.csv"
    )
    (run,) = (project / "runs/default").glob("*-improvement")
    assert f"    python adopt.py --data data --from-run {run.name}\n" in improvement
    check_index(project, run)
    check_figures(project, run, said["dvc metrics diff v1 v2"])
    check_plots(project / "dvc_plots/index.html")


def check_index(project: Path, run: Path) -> None:
    """The index of the improvement has its reports in order, its command, and what has changed."""
    page = Page(run / "index.html")
    links = page.values("href")
    assert links[-2:] == ["run.log", "run.json"]
    reports = links[:-2]
    assert "What has changed" in page.text
    assert "run before" not in page.text
    before_audit = ["before-validate.html", "before-schema.pbtxt", "before-train.html", "before-evaluate.html"]
    assert reports[:5] == [*before_audit, "audit.html"]
    assert reports[-2:] == ["yardstick.html", "compare.html"]
    assert all((run / name).is_file() for name in links)
    command = json.loads((run / "run.json").read_text())["command"]
    assert command in page.text
    assert command.endswith("--pipeline improvement --data data --test-data build/sample/test")


def check_figures(project: Path, run: Path, diff: str) -> None:
    """Both versions' figures are in git, each of the run that measured it."""
    (before,) = (project / "runs/default").glob("*-training")
    for split in ("val", "test"):
        (row,) = re.findall(rf"^results/metrics\.json +{split}\.log_loss +(\S+) +(\S+) +\S+$", diff, re.MULTILINE)
        measured = [json.loads((folder / "evaluation.json").read_text()) for folder in (before, run)]
        assert [float(cell) for cell in row] == pytest.approx([each[split]["log_loss"] for each in measured], abs=1e-5)


def check_plots(path: Path) -> None:
    """The page has a plot of each kind with other points for each version, and loads what the README names."""
    hosts = re.findall(r'src="https://([^/"]+)', path.read_text(encoding="utf-8"))
    assert hosts
    assert set(hosts) == {"cdn.jsdelivr.net"}
    plots = read_plots(path)
    assert {"Accuracy per epoch", "Loss per epoch"} < plots.keys()
    for split in ("val", "test"):
        assert {f"results/plots/{table}/{split}.csv" for table in ("confusion", "classes")} < plots.keys()
    for title, plot in plots.items():
        assert {row["rev"] for row in plot["data"]["values"]} == {"v1", "v2"}, title
    losses = [(row["rev"], row["val_loss"]) for row in plots["Loss per epoch"]["data"]["values"]]
    assert {loss for rev, loss in losses if rev == "v1"} != {loss for rev, loss in losses if rev == "v2"}
