"""The folders of runs on this machine: named, written, found again."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.errors import UserError, cut
from pipelines.local.record import (
    RunRecord,
    TaskRecord,
    find_curated,
    find_last_task,
    find_measured_before,
    find_record,
    make_folder,
    write_record,
)
from tests.fakes.evaluation import write_evaluation
from tests.mutations import encode, is_same, mutated, read_or_refuse, torn


def make_task(stage: str) -> TaskRecord:
    return {"stage": stage, "state": "succeeded", "seconds": 1.0, "parameters": {}, "inputs": {}, "artifacts": {}}


def leave(runs: Path, name: str, state: str = "succeeded", **artifacts: str) -> RunRecord:
    """Writes the record of a run that was started at the minute that its name ends in."""
    record: RunRecord = {
        "run": name,
        "pipeline": "training",
        "state": state,
        "started": f"2026-01-01T00:{name[-2:]}:00+00:00",
        "arguments": {},
        "seconds": 1.0,
        "stages": {},
        "artifacts": artifacts,
    }
    (runs / "default" / name).mkdir(parents=True)
    write_record(runs / "default" / name, record)
    return record


def test_each_run_has_a_folder_of_its_own(tmp_path: Path):
    folders = [make_folder(tmp_path, "default", "training") for _ in range(3)]
    assert len(set(folders)) == 3
    assert all(folder.is_dir() and folder.parent == tmp_path / "default" for folder in folders)


def test_a_place_where_no_folder_can_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    for runs, experiment, reason in (
        (tmp_path / "file/runs", "default", "Not a directory"),
        (tmp_path / "file", "default", "Not a directory"),
        (tmp_path, "x" * 300, "File name too long"),
    ):
        with pytest.raises(UserError) as refused:
            make_folder(runs, experiment, "training")
        place, said = str(refused.value).split(": cannot be written (")
        assert (place, said) == (cut(str(runs / experiment)), f"{reason}); give another --runs or --experiment.")


def test_a_record_is_found_by_name_by_folder_and_as_the_latest_success(tmp_path: Path):
    first, second = leave(tmp_path, "run-01"), leave(tmp_path, "run-02")
    leave(tmp_path, "run-03", "failed")
    assert find_record(tmp_path, "default", "run-01") == first
    assert find_record(tmp_path, "default", str(tmp_path / "default/run-01")) == first
    assert find_record(tmp_path, "default", "latest") == second


def test_the_latest_curated_folder_is_that_of_the_latest_run_that_made_one(tmp_path: Path):
    leave(tmp_path, "run-01", data="/one")
    leave(tmp_path, "run-02", data="/two")
    leave(tmp_path, "run-03", "failed", data="/three")
    leave(tmp_path, "run-04")
    assert find_curated(tmp_path, "default", "latest") == "/two"
    assert find_curated(tmp_path, "default", "run-01") == "/one"
    with pytest.raises(UserError, match="^run-04: this run made no curated folder; take one of the improvement"):
        find_curated(tmp_path, "default", "run-04")
    with pytest.raises(UserError, match="no run made a curated folder yet; run the improvement pipeline"):
        find_curated(tmp_path, "others", "latest")


def test_the_latest_run_is_that_which_was_started_last_wherever_the_clock_was(tmp_path: Path):
    """Names hold local times, and so may times that another program wrote."""
    for name, started in (
        ("20261025-025500-training", "2026-10-25T00:55:00+00:00"),
        ("20261025-020500-training", "2026-10-25T01:05:00.250+00:00"),
        ("20261025-080500-training", "2026-10-25T02:59:00+02:00"),
    ):
        record = {**leave(tmp_path, name, data=f"/{name}"), "started": started}
        write_record(tmp_path / "default" / name, cast(RunRecord, record))
    assert find_record(tmp_path, "default", "latest")["run"] == "20261025-020500-training"
    assert find_curated(tmp_path, "default", "latest") == "/20261025-020500-training"


@pytest.mark.parametrize("started", ["yesterday", "2026-10-25T00:55:00"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, started: str):
    write_record(tmp_path / "default/run-01", cast(RunRecord, {**leave(tmp_path, "run-01"), "started": started}))
    with pytest.raises(UserError) as caught:
        find_record(tmp_path, "default", "latest")
    assert str(caught.value) == (
        f"{tmp_path}/default/run-01/run.json: started: is '{started}', which is no time with its zone, such as "
        "2026-11-28T21:46:38+00:00; delete or move that run, or name another."
    )


def test_the_last_task_of_a_stage_is_never_the_yardstick(tmp_path: Path):
    """The yardstick evaluates a model on the images of another version, so no run continues from it."""
    record = leave(tmp_path, "run-01")
    names = {"before-evaluate": "evaluate", "after-evaluate": "evaluate", "yardstick": "evaluate", "compare": "compare"}
    record["stages"] = {name: {**make_task(stage), "inputs": {"of": name}} for name, stage in names.items()}
    last = find_last_task(record, "evaluate")
    assert last is not None
    assert last["inputs"] == {"of": "after-evaluate"}
    assert find_last_task(record, "train") is None


@given(data=st.data())
def test_a_record_with_a_mistake_anywhere_is_read_as_it_is_or_refused(data: st.DataObject):
    with TemporaryDirectory() as folder:
        record = leave(Path(folder), "run-01", data="/one")
        record["stages"] = {"train": {**make_task("train"), "artifacts": {"model": {"uri": "/m", "metadata": {}}}}}
        path = Path(folder) / "default/run-01/run.json"
        document = data.draw(mutated(record))
        content = data.draw(st.just(encode(document)) | torn(encode(record)))
        read = read_or_refuse(lambda path: find_record(Path(folder), "default", path.parent.name), path, content)
        assert read is None or content != encode(document) or is_same(read, document)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[1]", "is [1], but should be an object"),
        ('{"run": "run-01"}', "pipeline: is missing"),
        ("", "is not JSON (EOF while parsing a value at line 1 column 0)"),
    ],
)
def test_a_record_of_something_else_is_named(tmp_path: Path, content: str, sentence: str):
    leave(tmp_path, "run-01")
    path = tmp_path / "default/run-01/run.json"
    path.write_text(content)
    for name in ("latest", "run-01"):
        with pytest.raises(UserError) as caught:
            find_record(tmp_path, "default", name)
        assert str(caught.value) == f"{path}: {sentence}; delete or move that run, or name another."


def test_the_run_measured_before_is_the_latest_whose_figures_are_whole(tmp_path: Path):
    """What is damaged beside it is passed over: the run that asks has ended, and must not fail for it."""
    runs = tmp_path / "runs"
    for name in ("01", "02", "03"):
        leave(runs, name)
    now = leave(runs, "04")
    assert find_measured_before(runs, "default", now) is None
    figures = write_evaluation(tmp_path / "figures", "1.dir", {"val": 4}, seed=1)
    shutil.copy(tmp_path / "figures/evaluation.json", runs / "default/01")
    (runs / "default/02/evaluation.json").write_text("{")
    (runs / "default/03/run.json").write_text("{")
    assert find_measured_before(runs, "default", now) == ("01", figures)
