"""What a run says to do next, wherever it took place."""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.shared.formats.comparison import Comparison
from components.shared.formats.decisions import EARLIER_FILE, SavedDecision, write_decisions
from pipelines.output.display import print_steps
from pipelines.submission.commands import Command
from pipelines.submission.next_steps import Ending, list_steps, write_adoption, write_next_turn
from pipelines.submission.request import ClusterOptions, LocalOptions, RunRequest
from pipelines.submission.turns import LeftOut
from tests.conftest import ROOT
from tests.pipelines.submission.test_turns import across_seeds, compare, of_one_seed

SAMPLE = Command(RunRequest("default", "sample", data="my data", test_data="t", params=("epochs=2",)), LocalOptions())
TURN = Command(RunRequest("mine", "local", pipeline="improvement", data="data/"), LocalOptions())
DECIDED = (
    "move decisions.csv here, and run again with it",
    "python submit.py --local --experiment mine --pipeline improvement --data data/ --decisions decisions.csv",
)


def list_what_is_said(command: Command | None, ending: Ending) -> list[tuple[str, object]]:
    return [(step.reason, step.command or step.page) for step in list_steps(ending, command)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run whose audit has ended well."""
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-1/review.html").touch()
    return tmp_path / "run-1"


def test_a_training_leads_to_the_improvement_with_its_own_options(tmp_path: Path):
    assert list_what_is_said(SAMPLE, Ending("succeeded", tmp_path, "", "")) == [
        ("look at its pages", tmp_path / "index.html"),
        (
            "audit the images and try the next version",
            "python submit.py --local --config sample --pipeline improvement --data 'my data' --test-data t "
            "--param epochs=2",
        ),
    ]


def test_a_training_on_what_dvc_tracks_leads_to_the_commit_of_what_git_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=tests", "-c", "user.email=tests@localhost"]
    training = SAMPLE.change(data="my data/")

    def list_commits(command: Command = training) -> list[object]:
        said = dict(list_what_is_said(command, Ending("succeeded", tmp_path, "", "")))
        return [said[reason] for reason in said if reason == "commit this version with its figures"]

    (tmp_path / "results").mkdir()
    (tmp_path / "results/metrics.json").write_text(json.dumps({"data_version": "0123.dir"}))
    (tmp_path / "my data.dvc").write_text("outs:\n- md5: 0123.dir\n  path: my data\n")
    (tmp_path / ".gitignore").write_text("/my data\n")
    assert list_commits() == [], "git has no repository here"
    subprocess.run([*git, "init", "--quiet"], check=True)
    assert list_commits() == ["git add 'my data.dvc' .gitignore results && git commit"]
    assert list_commits(training.change(data=".")) == list_commits(training.change(data="gs://b/data")) == []
    assert list_commits(training.change(rev="v1")) == list_commits(training.change(pipeline="improvement")) == []
    subprocess.run([*git, "add", "my data.dvc", ".gitignore"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "data"], check=True)
    assert list_commits() == ["git add results && git commit"]
    (tmp_path / "my data.dvc").write_text("outs:\n- md5: 4567.dir\n  path: my data\n")
    assert list_commits() == [], "the figures are of another version"


def test_an_improvement_leads_to_the_review_and_to_adopt(folder: Path):
    assert list_what_is_said(TURN, Ending("succeeded", folder, "succeeded", "python adopt.py …")) == [
        ("look at its pages", folder / "index.html"),
        ("decide on the doubted images; the page saves decisions.csv", folder / "review.html"),
        DECIDED,
        ("or keep the new images", "python adopt.py …"),
    ]


@pytest.mark.parametrize(
    ("change", "lack"),
    [
        (across_seeds(0.003, 0.011), "no gain beyond the seed (+0.003 ± 0.011 on val)"),
        (across_seeds(-0.05, 0.01), "no gain beyond the seed (-0.050 ± 0.010 on val)"),
        (
            across_seeds(0.04, 0.01, within=0.05),
            "no gain beyond the choice of images (+0.040 on val, 95 %: -0.010…+0.090)",
        ),
        (of_one_seed(0.05, -0.1, 0.2), "no gain beyond the choice of images (+0.050 on val, 95 %: -0.100…+0.200)"),
    ],
)
def test_without_a_gain_the_new_images_are_kept_only_all_the_same(folder: Path, change: dict[str, Any], lack: str):
    """Decisions may bring one, also beside those that did not."""
    for command, again in (
        (TURN, DECIDED[1]),
        (
            TURN.change(decisions=("decisions-anna.csv",)),
            DECIDED[1].replace(" --decisions", " --decisions decisions-anna.csv --decisions"),
        ),
    ):
        ending = Ending("succeeded", folder, "succeeded", "python adopt.py …", compare(val=change))
        assert list_what_is_said(command, ending) == [
            ("look at its pages", folder / "index.html"),
            ("decide on the doubted images; the page saves decisions.csv", folder / "review.html"),
            ("move decisions.csv here, and run again with it", again),
            (f"the comparison shows {lack}; to keep the new images all the same", "python adopt.py …"),
        ]


def test_with_a_gain_the_new_images_are_kept(folder: Path):
    gain = Ending("succeeded", folder, "succeeded", "python adopt.py …", compare(val=across_seeds(0.05, 0.01)))
    assert list_what_is_said(TURN, gain)[-1] == ("or keep the new images", "python adopt.py …")
    said = list_what_is_said(TURN.change(decisions=("decisions.csv",)), gain)
    assert said[1:] == [("keep the new images", "python adopt.py …")]


def test_what_a_longer_training_explains_is_tried_with_two_commands(folder: Path):
    """The training on the images as they were has the options that it knows, and as many epochs as are as long."""
    turn = TURN.change(
        test_data="t",
        decisions=("decisions.csv",),
        params=("epochs=9", "seeds=2", "val_to_train=0.5", "model=resnet50"),
    )
    longer: Comparison = {**compare(val=across_seeds(0.05, 0.01)), "length_may_explain": True, "equal_epochs": 1_234}
    ending = Ending("succeeded", folder, "succeeded", "python adopt.py …", longer)
    submit = "python submit.py --local --experiment mine"
    assert list_what_is_said(turn, ending)[1:] == [
        (
            "see what 1,234 epochs bring on the images as they were, since a longer training may explain the gain",
            f"{submit} --data data/ --test-data t --param seeds=2 --param model=resnet50 --param epochs=1234",
        ),
        (
            "and, when that has ended, compare with it",
            f"{submit} --pipeline comparison --from-run run-1 --before latest",
        ),
        ("keep the new images", "python adopt.py …"),
    ]
    same: Comparison = {**longer, "length_may_explain": False, "equal_epochs": 0}
    assert len(list_what_is_said(turn, ending._replace(comparison=same))) == 2
    chance: Comparison = {**longer, **compare(val=across_seeds(0.003, 0.01))}
    said = list_what_is_said(turn, ending._replace(comparison=chance))
    comparing = turn.change(pipeline="comparison", before="run-0")
    said += list_what_is_said(comparing, Ending("succeeded", folder, "", "", longer))
    assert not any("--param epochs=1234" in str(command) for _, command in said), (
        "no gain is to be explained, nor are the images known"
    )


@pytest.mark.parametrize("name", ["validate.html", "before-validate.html"])
def test_what_ingest_left_out_is_counted_and_listed(tmp_path: Path, name: str):
    (tmp_path / name).touch()

    def list_counted(duplicates: int, unreadable: int = 0) -> list[tuple[str, object]]:
        ending = Ending("succeeded", tmp_path, "", "", left_out=LeftOut(duplicates, unreadable))
        return list_what_is_said(SAMPLE, ending)[1:-1]

    same = "as the same picture as one of val or test: simple shapes may only look alike"
    assert list_counted(0) == []
    assert list_counted(1) == [(f"check the image that ingest left out, {same}", tmp_path / name)]
    assert list_counted(1234) == [(f"check the 1,234 images that ingest left out, each {same}", tmp_path / name)]
    unreadable = "see which 2 files ingest left out, and why"
    assert list_counted(0, 2) == [(unreadable, tmp_path / name)]
    assert [reason for reason, _ in list_counted(1, 2)] == [f"check the image that ingest left out, {same}", unreadable]
    (tmp_path / name).unlink()
    assert list_counted(3, 3) == [], "no page lists them"


def test_a_turn_of_several_that_fails_is_repeated_with_those_that_are_left(folder: Path):
    (folder / "review.html").unlink()
    steps = [(step.reason, step.command) for step in list_steps(Ending("failed", folder, "waiting", ""), TURN, 2)]
    turn = "python submit.py --local --experiment mine --pipeline improvement --data data/"
    assert steps[1:] == [("once the cause is corrected, run it again", f"{turn} --turns 2")]
    (folder / "review.html").touch()
    *_, last = list_steps(Ending("failed", folder, "failed", ""), TURN, 1)
    assert last.command == f"{turn} --decisions decisions.csv --turns 1"


def test_a_training_on_what_was_adopted_leads_to_a_turn_that_keeps_to_what_people_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs/default"

    def decide(run: str, seconds: int, **images: bytes) -> None:
        (runs / run).mkdir(parents=True, exist_ok=True)
        rows = [
            SavedDecision(hashlib.sha256(content).hexdigest(), f"train/i/{name}.png", "i", "keep", "", "")
            for name, content in images.items()
        ]
        write_decisions(runs / run / EARLIER_FILE, rows)
        os.utime(runs / run / EARLIER_FILE, (seconds, seconds))

    def find(command: Command = SAMPLE) -> str:
        steps = list(list_steps(Ending("succeeded", runs / "training", "", ""), command))
        return steps[-1].command.partition("--decisions ")[2].partition(" ")[0]

    (tmp_path / "my data/train/i").mkdir(parents=True)
    (tmp_path / "my data/train/i/a.png").write_bytes(b"a")
    decide("nothing", 4)
    decide("other-content", 3, a=b"other")
    decide("not-adopted", 2, a=b"a", b=b"b")
    assert find() == ""
    decide("older", 0, a=b"a")
    assert find() == f"runs/default/older/{EARLIER_FILE}"
    decide("adopted", 1, a=b"a")
    assert find() == f"runs/default/adopted/{EARLIER_FILE}"
    assert find(SAMPLE.change(rev="v1")) == ""
    (runs / "adopted" / EARLIER_FILE).write_text("damaged")
    os.utime(runs / "adopted" / EARLIER_FILE, (5, 5))
    assert find() == f"runs/default/older/{EARLIER_FILE}"


def test_what_was_decided_in_earlier_turns_does_not_end_the_questions(folder: Path):
    earlier = TURN.change(decisions=(f"runs/a/{EARLIER_FILE}",))
    said = list_what_is_said(earlier, Ending("succeeded", folder, "succeeded", "python adopt.py …"))
    again = DECIDED[1].replace(" --decisions", f" --decisions runs/a/{EARLIER_FILE} --decisions")
    assert said[1:] == [
        ("decide on the doubted images; the page saves decisions.csv", folder / "review.html"),
        ("move decisions.csv here, and run again with it", again),
        ("or keep the new images", "python adopt.py …"),
    ]


def test_what_the_policy_leaves_to_people_leads_to_the_review(folder: Path):
    (folder / "run.log").touch()
    assert list_what_is_said(TURN, Ending("failed", folder, "failed", "python adopt.py …")) == [
        ("look at its pages", folder / "index.html"),
        ("read what was said", folder / "run.log"),
        ("decide on the doubted images; the page saves decisions.csv", folder / "review.html"),
        DECIDED,
    ]


def test_what_was_decided_is_not_asked_again(folder: Path):
    decided = TURN.change(decisions=("mine.csv",))
    assert list_what_is_said(decided, Ending("succeeded", folder, "succeeded", "python adopt.py …")) == [
        ("look at its pages", folder / "index.html"),
        ("keep the new images", "python adopt.py …"),
    ]


def test_what_the_policy_still_leaves_to_people_is_asked_again(folder: Path):
    """The command names the file that the page saves now, not the one from the run before."""
    again = TURN.change(decisions=("old/decisions.csv",))
    assert list_what_is_said(again, Ending("failed", folder, "failed", "")) == [
        ("look at its pages", folder / "index.html"),
        ("decide on the doubted images; the page saves decisions.csv", folder / "review.html"),
        DECIDED,
    ]


@pytest.mark.parametrize("files", [("anna.csv", "ben.csv"), ("anna.csv", "old/decisions-settled.csv", "ben.csv")])
def test_what_people_disagree_about_is_asked_again(folder: Path, files: tuple[str, ...]):
    (folder / "disputed.html").touch()
    decided = TURN.change(decisions=files)
    assert list_what_is_said(decided, Ending("succeeded", folder, "succeeded", "python adopt.py …")) == [
        ("look at its pages", folder / "index.html"),
        (
            "decide on the images that people disagree about; the page saves decisions-settled.csv",
            folder / "disputed.html",
        ),
        (
            "move decisions-settled.csv here, and run again with it",
            "python submit.py --local --experiment mine --pipeline improvement --data data/ --decisions anna.csv "
            "--decisions ben.csv --decisions decisions-settled.csv",
        ),
        ("or keep the new images", "python adopt.py …"),
    ]
    loss = Ending("succeeded", folder, "succeeded", "python adopt.py …", compare(val=across_seeds(-0.05, 0.01)))
    assert list_what_is_said(decided, loss)[:-1] == list_what_is_said(decided, loss._replace(comparison=None))[:-1]


def test_what_the_policy_leaves_to_people_adds_to_what_another_tool_exported(folder: Path):
    for files, kept in (
        (("team.json",), "--decisions team.json "),
        (("issues.csv",), "--decisions issues.csv "),
        (("anna/decisions-anna.csv",), "--decisions anna/decisions-anna.csv "),
        (("old/decisions.csv",), ""),
        (("decisions (1).csv",), ""),
    ):
        (*_, (_, command)) = list_what_is_said(TURN.change(decisions=files), Ending("failed", folder, "failed", ""))
        assert str(command).endswith(f"--data data/ {kept}--decisions decisions.csv")


def test_what_the_policy_leaves_to_several_people_adds_to_what_they_decided(folder: Path):
    turn = TURN.change(decisions=("anna.csv", "old/decisions.csv", "ben.csv"))
    (*_, (_, command)) = list_what_is_said(turn, Ending("failed", folder, "failed", ""))
    assert str(command).endswith("--decisions anna.csv --decisions ben.csv --decisions decisions.csv")


def test_a_run_without_a_review_page_asks_for_no_decisions(tmp_path: Path):
    alone = TURN.change(component="curate", pipeline=None)
    assert list_what_is_said(alone, Ending("succeeded", tmp_path, "succeeded", "python adopt.py …")) == [
        ("look at its pages", tmp_path / "index.html"),
        ("keep the new images", "python adopt.py …"),
    ]


@pytest.mark.parametrize(("state", "curation"), [("failed", ""), ("failed", "succeeded"), ("cancelled", "cancelled")])
def test_another_failure_leads_to_the_log_and_to_the_same_command(folder: Path, state: str, curation: str):
    (folder / "run.log").touch()
    assert list_what_is_said(SAMPLE, Ending(state, folder, curation, "python adopt.py …"))[1:] == [
        ("read what was said", folder / "run.log"),
        (
            "once the cause is corrected, run it again" if state == "failed" else "run it again",
            "python submit.py --local --config sample --data 'my data' --test-data t --param epochs=2",
        ),
    ]


def test_what_somebody_else_has_started_leads_to_no_command_of_submit(folder: Path):
    assert list_what_is_said(None, Ending("succeeded", folder, "succeeded", "python adopt.py …"))[1:] == [
        ("decide on the doubted images; the page saves decisions.csv", folder / "review.html"),
        ("keep the new images", "python adopt.py …"),
    ]
    assert list_what_is_said(None, Ending("succeeded", folder, "", ""))[1:] == []


def test_adopt_is_told_the_folder_that_dvc_tracks_or_that_it_is_to_be_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)

    def write(data: str | None) -> str:
        return write_adoption(RunRequest("mine", "local", data=data), "--curated", "gs://b/a b")

    adopt = f"python {os.path.relpath(ROOT / 'adopt.py', tmp_path)}"
    rest = "--experiment mine --curated 'gs://b/a b'"
    assert write("data/") == f"{adopt} --data data --new {rest}"
    assert write("gs://b/data") == f"{adopt} --data data --new {rest}"
    assert write(None) == f"{adopt} --data DIR {rest}"
    (tmp_path / "data").mkdir()
    assert write("data/") == f"{adopt} --data DIR --new {rest}"
    (tmp_path / "data.dvc").touch()
    assert write("data/") == f"{adopt} --data data/ {rest}"


def test_the_next_turn_is_where_the_last_was_with_its_options_on_the_new_data():
    request = RunRequest(
        "mine",
        "lab",
        pipeline="improvement",
        data="old",
        test_data="test",
        rev="v1",
        decisions=("decisions.csv",),
        schema="own.pbtxt",
        params=("epochs=2",),
    )
    kept = "--experiment mine --pipeline improvement --data new --schema own.pbtxt --param epochs=2"
    here = write_next_turn(Command(request, LocalOptions("docker")), "new")
    assert here == f"python submit.py --local --runner docker --config lab {kept}"
    there = write_next_turn(Command(request, ClusterOptions({"host": "http://h"}, wait=True)), "new")
    assert there == f"python submit.py --config lab {kept} --host http://h --wait"
    decided = write_next_turn(Command(request, LocalOptions()), "new", "runs/a/decisions-earlier.csv")
    assert " --data new --decisions runs/a/decisions-earlier.csv --schema own.pbtxt " in decided


def test_the_next_turn_moves_no_more_of_val():
    request = RunRequest("mine", "local", pipeline="improvement", data="old", params=("epochs=2", "val_to_train=0.5"))
    turn = write_next_turn(Command(request, LocalOptions()), "new")
    assert turn == "python submit.py --local --experiment mine --pipeline improvement --data new --param epochs=2"


def test_the_next_turn_after_a_stage_alone_is_a_whole_one_without_the_parameters_of_the_stage():
    request = RunRequest("default", "local", component="curate", params=("duplicates=keep",), from_run="run-1")
    turn = write_next_turn(Command(request, LocalOptions()), "new")
    assert turn == "python submit.py --local --pipeline improvement --data new"


def test_paths_are_links_where_the_terminal_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "a [b]"
    steps = list(list_steps(Ending("succeeded", folder, "", ""), SAMPLE))
    print_steps(steps)
    plain = capsys.readouterr().out
    assert plain.splitlines()[:3] == ["", "Next:", "  look at its pages:"]
    assert plain.splitlines()[3] == "    a [b]/index.html"
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    print_steps(steps)
    assert f";file://{tmp_path}/a%20%5Bb%5D/index.html\x1b\\a [b]/index.html" in capsys.readouterr().out
