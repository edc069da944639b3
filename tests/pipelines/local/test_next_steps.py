"""What a run says to do next."""

from pathlib import Path

import pytest

from pipelines.local.next_steps import list_steps, write_command
from pipelines.output.display import print_steps
from pipelines.submission.request import RunRequest

SAMPLE = RunRequest("default", "sample", data="my data", test_data="t", params=("epochs=2",))


def list_what_is_said(request: RunRequest, folder: Path, state: str = "succeeded", *, has_curated: bool = False):
    steps = list_steps(request, runner="subprocess", folder=folder, state=state, has_curated=has_curated)
    return [(step.reason, step.command or step.page) for step in steps]


@pytest.mark.parametrize(
    ("request_", "runner", "command"),
    [
        (RunRequest("default", "local", data="d"), "subprocess", "--local --data d"),
        (
            RunRequest("e", "sample", pipeline="improvement", data="d", rev="v1", runs=Path("/r")),
            "docker",
            "--local --runner docker --config sample --experiment e --runs /r --pipeline improvement --data d --rev v1",
        ),
        (
            RunRequest("default", "local", component="train", params=("epochs=2", "seed=3"), from_run="run-1"),
            "subprocess",
            "--local --component train --param epochs=2 --param seed=3 --from-run run-1",
        ),
        (RunRequest("default", "gke", pipeline="comparison", before="b", no_cache=True), "", "--pipeline comparison"),
        (RunRequest("default", "sample", data="my data"), "subprocess", "--local --config sample --data 'my data'"),
    ],
)
def test_a_command_has_the_options_that_are_not_usual(request_: RunRequest, runner: str, command: str):
    more = " --before b --no-cache" if request_.before else ""
    assert write_command(request_, runner=runner) == f"python submit.py {command}{more}"


def test_a_training_leads_to_the_improvement_with_its_own_options(tmp_path: Path):
    assert list_what_is_said(SAMPLE, tmp_path) == [
        ("look at its pages", tmp_path / "index.html"),
        (
            "audit the images and try the next version",
            "python submit.py --local --config sample --pipeline improvement --data 'my data' --test-data t "
            "--param epochs=2",
        ),
    ]


def test_an_improvement_leads_to_the_review_and_to_adopt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run-1"
    run.mkdir()
    (run / "review.html").touch()
    request = RunRequest("mine", "local", pipeline="improvement", data="data/")
    said = list_what_is_said(request, run, has_curated=True)
    assert said == [
        ("look at its pages", run / "index.html"),
        ("decide on the doubted images; the page saves decisions.csv", run / "review.html"),
        (
            "run again with your decisions",
            "python submit.py --local --experiment mine --pipeline improvement --data data/ --decisions decisions.csv",
        ),
        ("or keep the new images", "python adopt.py --data data --new --experiment mine --from-run run-1"),
    ]
    (tmp_path / "data").mkdir()
    assert list_what_is_said(request, run, has_curated=True)[-1][1] == (
        "python adopt.py --data DIR --new --experiment mine --from-run run-1"
    )
    (tmp_path / "data.dvc").touch()
    assert list_what_is_said(request, run, has_curated=True)[-1][1] == (
        "python adopt.py --data data/ --experiment mine --from-run run-1"
    )


def test_a_failure_leads_to_the_log(tmp_path: Path):
    assert [said for _, said in list_what_is_said(SAMPLE, tmp_path, "failed")][1:] == [
        tmp_path / "run.log",
        "python submit.py --local --config sample --data 'my data' --test-data t --param epochs=2",
    ]


def test_paths_are_links_where_the_terminal_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "a [b]"
    steps = list(list_steps(SAMPLE, runner="subprocess", folder=folder, state="succeeded", has_curated=False))
    print_steps(steps)
    plain = capsys.readouterr().out
    assert plain.splitlines()[:3] == ["", "Next:", "  look at its pages:"]
    assert plain.splitlines()[3] == "    a [b]/index.html"
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    print_steps(steps)
    assert f";file://{tmp_path}/a%20%5Bb%5D/index.html\x1b\\a [b]/index.html" in capsys.readouterr().out
