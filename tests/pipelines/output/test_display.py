import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.shared.formats.comparison import SeedChange, write_comparison
from pipelines.compiler.spec import Task
from pipelines.local.kfp_log import Watcher
from pipelines.output.console import OutputConsole, count_on_terminal
from pipelines.output.display import print_comparison, show_progress
from tests.components.shared.formats.test_comparison import COMPARISON


def close_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives stdout to a pipe of which nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w", encoding="utf-8", buffering=1))


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", open("/dev/full", "w", encoding="utf-8", buffering=1))  # noqa: SIM115


@pytest.mark.parametrize("spoil", [close_reader, fill_disk])
def test_a_run_goes_on_where_its_progress_cannot_be_shown(spoil, monkeypatch: pytest.MonkeyPatch):
    spoil(monkeypatch)
    watcher = Watcher([Task("ingest", "ingest", "image", ())])
    with show_progress(watcher):
        watcher.take_line("Executing task 'ingest'")
        watcher.take_line("Task 'ingest' finished with status SUCCESS")
    assert watcher.states == {"ingest": "succeeded"}


@pytest.mark.parametrize(("spoil", "code"), [(close_reader, errno.EPIPE), (fill_disk, errno.ENOSPC)])
def test_what_cannot_be_printed_is_the_error_that_print_raises(spoil, code, monkeypatch: pytest.MonkeyPatch):
    spoil(monkeypatch)
    with pytest.raises(OSError, match=f"Errno {code}]"):
        OutputConsole().print("x")


def test_a_long_listing_shows_how_far_it_is_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def list_slowly() -> Iterator[int]:
        for number in range(100_000):
            if number == 42_500:
                time.sleep(0.5)  # in which the line is drawn again
            yield number

    assert list(count_on_terminal(list_slowly(), "listing gs://images")) == list(range(100_000))
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(count_on_terminal(list_slowly(), "listing gs://images")) == list(range(100_000))
    shown, errors = capsys.readouterr()
    assert errors == ""
    assert "listing gs://images: 42,000" in shown
    assert shown.endswith("\x1b[2K"), "the line is gone at the end"


def test_a_comparison_tells_what_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", "120")
    why = "Left out, since a model learned from them: 5 of the 9 val images; the new version has 5 in train."
    val = COMPARISON["splits"]["val"] | {"left_out": {"images": 5, "why": why}}
    write_comparison(tmp_path, {**COMPARISON, "splits": {"val": val}})
    print_comparison(tmp_path)
    assert f"The accuracy went from 0.500 to 0.750.\n{why}\n" in capsys.readouterr().out


def test_a_comparison_shows_corrected_images_in_a_row_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", "120")
    accuracy = {"before": 0.25, "after": 0.75, "change": 0.5, "low": -0.1, "high": 0.9}
    change = {"accuracy": accuracy, "newly_right": 2, "newly_wrong": 0, "mcnemar_p": 0.5}
    val = COMPARISON["splits"]["val"] | {
        "corrected": {**change, "images": 3, "relabelled": 1, "verdict": "It went from 0.250 to 0.750."}
    }
    write_comparison(tmp_path, {**COMPARISON, "splits": {"val": val}})
    print_comparison(tmp_path)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert [row[:5] for row in rows if row and row[0].startswith("val")] == [
        ["val, corrected", "3", "0.250", "0.750", "+0.500"],
        ["val", "4", "0.500", "0.750", "+0.250"],
    ]


def test_the_figures_on_other_labels_come_first_and_those_without_an_image_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", "140")
    val, corrected = COMPARISON["splits"]["val"], "On those that stayed it went from 0.250 to 0.750."
    seeds: SeedChange = {
        "before": [0.25, 0.5],
        "after": [0.75, 0.75],
        "change": 0.375,
        "margin": 0.125,
        "p": 0.25,
        "low": 0.2,
        "high": 0.5,
    }
    change = {"accuracy": val["accuracy"], "seeds": seeds, "newly_right": 2, "newly_wrong": 0, "mcnemar_p": 0.5}
    for relabelled, order in ((2, ["corrected", "old"]), (0, ["old", "corrected"])):
        split = val | {"corrected": {**change, "images": 3, "relabelled": relabelled, "verdict": corrected}}
        write_comparison(tmp_path, {**COMPARISON, "splits": {"val": split}})
        print_comparison(tmp_path)
        said = capsys.readouterr().out
        names = [line.split("│")[1].strip() for line in said.splitlines() if line.startswith("│ val")]
        rows = {"corrected": ["val, corrected", "val, corrected, mean of seeds"], "old": ["val"]}
        assert names == [name for part in order for name in rows[part]]
        verdicts = {"corrected": corrected, "old": val["verdict"]}
        assert "\n".join(verdicts[part] for part in order) in said


def test_a_comparison_shows_the_mean_of_several_seeds_and_says_what_it_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", "120")
    seeds: SeedChange = {
        "before": [0.5, 0.25],
        "after": [0.75, 0.75],
        "change": 0.375,
        "margin": 0.2,
        "p": 0.041,
        "low": 0.1,
        "high": 0.6,
    }
    val = {**COMPARISON["splits"]["val"], "seeds": seeds}
    write_comparison(tmp_path, {**COMPARISON, "splits": {"val": val}, "seed_noise": "One cannot tell."})
    print_comparison(tmp_path)
    shown = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines()]
    assert ["val, mean of seeds", "4", "0.375", "0.750", "+0.375", "± 0.200", "0.041", ""] in rows
    assert shown.endswith("The accuracy went from 0.500 to 0.750.\nOne cannot tell.\n")
