"""The first page of a run."""

from pathlib import Path
from typing import Any

import pytest

from components.shared.formats.changes import Change, write_changes
from components.shared.formats.comparison import DIFFERENCES, write_comparison
from components.shared.formats.evaluation import read_evaluation
from components.shared.formats.issues import write_issues
from pipelines.local.overview import describe_run
from pipelines.local.record import RunRecord, TaskRecord
from pipelines.output.index import EarlierFigures, write_index
from tests.components.shared.formats.test_comparison import COMPARISON
from tests.fakes.evaluation import write_evaluation
from tests.pages import Page
from tests.rows import make_issue

EVIL = "<script>alert('1')</script>"


def make_task(stage: str, **artifacts: dict[str, Any]) -> TaskRecord:
    uris = {name: {"uri": f"/{stage}/{name}", "metadata": metadata} for name, metadata in artifacts.items()}
    return {
        "stage": stage,
        "state": "succeeded",
        "seconds": 1.0,
        "parameters": {},
        "inputs": {},
        "artifacts": uris,  # type: ignore[typeddict-item]
    }


def make_record(**stages: TaskRecord) -> RunRecord:
    return {
        "run": "run-2",
        "pipeline": "improvement",
        "command": f"python submit.py --local --data '{EVIL}'",
        "config": "sample",
        "state": "succeeded",
        "started": "2026-01-01T10:11:12.000+00:00",
        "arguments": {"data_uri": f"/{EVIL}"},
        "seconds": 1234.5,
        "stages": {name.replace("_", "-"): task for name, task in stages.items()},
        "artifacts": {},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with the evaluation of version 2.dir and its reports."""
    write_evaluation(tmp_path / "run-2", "2.dir", {"val": 40, "test": 20}, seed=1)
    for name in (
        "before-validate.html",
        "before-schema.pbtxt",
        "audit.html",
        "review.html",
        "issues.csv",
        "compare.html",
    ):
        (tmp_path / "run-2" / name).touch()
    return tmp_path / "run-2"


RECORD = make_record(
    before_ingest=make_task("ingest", examples={"data_version": "1.dir"}),
    before_validate=make_task("validate", report={}, schema={}),
    audit=make_task("audit", report={}, review={}, issues={}),
    after_ingest=make_task("ingest", examples={"data_version": "2.dir"}),
    compare=make_task("compare", report={}),
)


def read_page(folder: Path) -> tuple[Page, str]:
    page = Page(folder / "index.html")
    return page, " ".join(page.text.split())


def test_says_what_the_run_was_and_links_its_reports_in_order(folder: Path):
    write_index(folder, describe_run(folder, RECORD, "images & more"))
    page, text = read_page(folder)
    reports = ["before-validate.html", "before-schema.pbtxt", "audit.html", "review.html", "issues.csv", "compare.html"]
    assert page.values("href") == [*reports, "run.log", "run.json"]
    assert page.values("src") == []
    assert "started 2026-01-01 10:11 UTC, succeeded after 1,234 s" in text
    for said in ("run-2", "images & more", "1.dir → 2.dir", "sample", f"--data '{EVIL}'", f"/{EVIL}"):
        assert said in text
    assert not {"script", "link"} & page.tags
    assert "before-validate.html : the images as they were: what the images are like" in text
    assert "run before" not in text.lower()


@pytest.mark.parametrize("version", ["2.dir", "1.dir"])
def test_compares_the_figures_with_the_run_before(folder: Path, version: str):
    before = write_evaluation(folder.parent / "run-1", version, {"val": 40}, seed=2)
    now = read_evaluation(folder)
    earlier = EarlierFigures("run-1", "../run-1/index.html", read_evaluation(folder.parent / "run-1"))
    write_index(folder, describe_run(folder, RECORD, "e"), earlier)
    page, text = read_page(folder)
    change = now["val"]["accuracy"] - before["val"]["accuracy"]
    assert f"val {now['val']['accuracy']:.3f} {before['val']['accuracy']:.3f} {change:+.3f}" in text
    assert f"test {now['test']['accuracy']:.3f} {now['test']['accuracy_interval'][0]:.3f} to" in text
    assert page.values("href")[0] == "../run-1/index.html"
    assert ("on the same data version." in text) == (version == "2.dir")
    assert ("so the change is no fair comparison of the two models" in text) == (version == "1.dir")


def test_an_improvement_begins_with_what_it_changed(folder: Path):
    split: dict[str, Any] = {"verdict": "On 9 val images the accuracy stayed at <1>."}
    split["corrected"] = {"verdict": "On 8 it went.", "relabelled": 0}
    split["left_out"] = {"images": 3, "why": "Left out: 3."}
    comparison = {"splits": {"val": split}, "data": dict.fromkeys(DIFFERENCES, 0) | {"relabelled": 1_234, "dropped": 2}}
    overview = describe_run(folder, RECORD, "e")._replace(comparison={**comparison, "training_length": "Longer."})
    write_index(folder, overview, make_earlier(folder))
    page, text = read_page(folder)
    assert "run before" not in text.lower(), "its own comparison is the fair one"
    assert (
        "What has changed Images: 1,234 relabelled, 2 dropped. "
        "On 9 val images the accuracy stayed at <1>. On 8 it went. Left out: 3. Longer. Figures "
    ) in text
    write_index(folder, overview._replace(doubt="One label of val is doubted."))
    assert " Longer. One label of val is doubted. Figures " in read_page(folder)[1]
    unchanged = {"splits": {}, "data": dict.fromkeys(DIFFERENCES, 0)}
    write_index(folder, overview._replace(comparison=unchanged))
    assert "What has changed Images: none changed. Figures " in read_page(folder)[1]


def test_an_improvement_says_how_many_labels_of_val_are_doubted(folder: Path):
    """By issues.csv, which lies beside its reports, and by what curate says that a person has decided."""
    names = [f"val/i/{number}.png" for number in range(3)]
    write_issues(
        folder / "issues.csv",
        [make_issue(filename=name, split="val", kinds=("label",), action="relabel", new_label="v") for name in names],
    )
    write_changes(folder / "changes.csv", [Change(names[0], "0" * 64, "i", names[0], "i", "kept", "person", "")])
    record: RunRecord = {**RECORD, "artifacts": {"changes": str(folder / "changes.csv")}}
    assert describe_run(folder, record, "e").doubt == "", "it compares nothing"
    write_comparison(folder, COMPARISON)
    assert describe_run(folder, record, "e").doubt == (
        "Labels of val that the audit doubts and nobody has decided about: 2 of 3. As far as they are wrong, so are the"
        " figures on val."
    )
    (folder / "issues.csv").unlink()
    assert describe_run(folder, record, "e").doubt == ""


def make_earlier(folder: Path, **facts: Any) -> EarlierFigures:
    now = read_evaluation(folder)
    now["val"]["accuracy"] -= 0.1
    return EarlierFigures("run-1", "../run-1/index.html", {**now, **facts})


def test_a_run_of_other_classes_is_no_run_before(folder: Path):
    classes = read_evaluation(folder)["classes"]
    overview = describe_run(folder, RECORD, "e")
    write_index(folder, overview, make_earlier(folder, classes=classes[::-1]))
    assert "run before" in read_page(folder)[1]
    write_index(folder, overview, make_earlier(folder, classes=[*classes, "other"]))
    assert "run before" not in read_page(folder)[1]


def test_only_a_change_on_the_same_data_is_good_or_bad(folder: Path):
    overview = describe_run(folder, RECORD, "e")
    for version, tone in (("2.dir", "good"), ("1.dir", "soft")):
        write_index(folder, overview, make_earlier(folder, data_version=version))
        assert f'<td class="{tone}">+0.100</td>' in (folder / "index.html").read_text()


def test_other_settings_of_the_run_before_are_named(folder: Path):
    settings = read_evaluation(folder)["settings"]
    write_index(folder, describe_run(folder, RECORD, "e"), make_earlier(folder, settings={**settings, "epochs": 777}))
    assert (
        f"It was trained with other settings: epochs 777 (now {settings.get('epochs', 'not set')})."
        in (read_page(folder)[1])
    )
    write_index(folder, describe_run(folder, RECORD, "e"), make_earlier(folder))
    assert "other settings" not in read_page(folder)[1]


def test_a_failure_is_named(tmp_path: Path):
    failed: TaskRecord = {**make_task("ingest"), "state": "failed", "message": f"{EVIL}: no such folder."}
    write_index(tmp_path, describe_run(tmp_path, make_record(ingest=failed) | {"state": "failed"}, "e"))
    page, text = read_page(tmp_path)
    assert f"ingest failed: {EVIL}: no such folder." in text
    assert "none: no stage that writes one has ended well" in text
    assert "script" not in page.tags
