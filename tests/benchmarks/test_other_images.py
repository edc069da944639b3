"""What the benchmark of other images draws, commits and measures; its runs are hand-made here, as they take an hour."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.other_images import (
    DataSet,
    Labelled,
    compare_versions,
    format_table,
    go_round,
    list_misses,
    measure,
    write_set,
)
from components.ingest.pairs import merge_pairs, write_pairs
from components.shared.formats.dvc_manifest import compute_version
from components.shared.formats.examples import open_examples, read_paths
from components.shared.formats.issues import write_issues
from components.shared.formats.manifest import CuratedImage, write_manifest
from pipelines.output.results import keep_results
from tests.conftest import contents, ingest_folder
from tests.fakes.evaluation import write_evaluation, write_history
from tests.rows import make_issue


def draw(rng: np.random.Generator, split: str, count: int) -> list[Labelled]:
    """Blocks of colour, which differ much, half of each class."""
    blocks = rng.integers(0, 256, (count, 4, 4, 3), np.uint8)
    return [
        Labelled(split, "ab"[number % 2], np.kron(block, np.ones((5, 5, 1), np.uint8)))
        for number, block in enumerate(blocks)
    ]


DIVIDED = DataSet(lambda rng: draw(rng, "train", 20) + draw(rng, "val", 10))
UNDIVIDED = DataSet(lambda rng: draw(rng, "", 300))


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What DVC keeps per machine goes into a temporary folder; git knows nobody here."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "dvc"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def read_faults(folder: Path) -> list[dict[str, str]]:
    with (folder / "faults.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_faults_name_the_original_of_each_copy(tmp_path: Path) -> None:
    write_set(tmp_path / "set", DIVIDED)
    faults = read_faults(tmp_path / "set")
    assert [row["fault"] for row in faults if not row["original"]].count("wrong label") == 3
    copies = [row for row in faults if row["fault"] == "copy"]
    assert len(copies) == 3
    for row in copies:
        assert row["original"].startswith("data/val/")
        assert row["path"].split("/")[:3] == ["data", "train", row["original"].split("/")[2]]
        one, other = (np.asarray(Image.open(tmp_path / "set" / row[name]), float) for name in ("path", "original"))
        assert 0 < np.abs(one - other).mean() < 25  # saved as JPEG in between


def test_what_is_drawn_stays_and_faults_are_written_again(tmp_path: Path) -> None:
    write_set(tmp_path / "set", DIVIDED)
    drawn = contents(tmp_path / "set")
    (tmp_path / "set/faults.csv").write_text("path,fault\n")  # as before originals were recorded
    kept = next((tmp_path / "set/data").rglob("*.png"))
    kept.write_text("not drawn again")
    write_set(tmp_path / "set", DIVIDED)
    again = contents(tmp_path / "set")
    assert [name for name in drawn if drawn[name] != again[name]] == [str(kept.relative_to(tmp_path / "set"))]


def test_a_copy_is_found_if_it_or_its_original_was_left_out(tmp_path: Path) -> None:
    """Nothing is named as a duplicate here, and half of the other faults come first."""
    folder = tmp_path / "set"
    write_set(folder, UNDIVIDED)
    examples = ingest_folder(folder / "data", tmp_path / "examples", classes=[])
    made = open_examples(examples).manifest.made_split
    assert made
    left_out = {f"data/{entry.path}" for entry in made.duplicates}
    faults = read_faults(folder)
    pairs = [{row["path"], row["original"]} for row in faults if row["fault"] == "copy"]
    assert 0 < len(left_out) < len(pairs)
    assert left_out < set.union(*pairs)
    to_find = [row["path"] for row in faults if row["fault"] != "copy"]
    places = {f"data/{path}": name for name, path in read_paths(examples).items()}
    clean = sorted(places.keys() - {*to_find})
    order = [*to_find[: len(to_find) // 2], *clean, *to_find[len(to_find) // 2 :]]
    run = tmp_path / "run"
    run.mkdir()
    write_issues(run / "issues.csv", [make_issue(rank=n, filename=places[path]) for n, path in enumerate(order, 1)])
    split = {"accuracy": {"before": 0.5, "after": 0.75}, "mcnemar_p": 0.125, "images": 60}
    (run / "comparison.json").write_text(json.dumps({"splits": {"val": split}}))
    stage = {"artifacts": {"examples": {"uri": str(examples)}}}
    row = measure("blocks", folder, {"stages": {"before-ingest": stage}, "folder": run, "seconds": 1.4})
    assert row == {
        "set": "blocks",
        "images": 306,
        "wrong labels and junk": 21,
        "found in twice as many rows": 10 / 21,
        "duplicates": 6,
        "of them found": len(left_out) / 6,
        "val": "0.500 to 0.750 (p 0.12, 60)",
        "test": "",
        "seconds": 1,
    }
    assert list_misses([row, {**row, "found in twice as many rows": 0.9, "of them found": 1.0}]) == [
        "blocks: 0.476 of the 21 wrong labels and junk were found, but at least 0.9 are to be.",
        f"blocks: {len(left_out) / 6:.3f} of the 6 duplicates were found, but at least 0.9 are to be.",
    ]
    assert format_table([row]).splitlines()[2].startswith("| blocks | 306 | 21 | 0.48 | 6 | 0.")


def version_of(data: Path, pairs: Path) -> str:
    files = [path for path in data.rglob("*") if path.is_file()]
    write_pairs(
        [(path.relative_to(data).as_posix(), hashlib.md5(path.read_bytes()).hexdigest()) for path in files], pairs
    )
    return compute_version(merge_pairs([pairs]))


def curate(data: Path, target: Path) -> None:
    """The images of a folder without the first of train."""
    shutil.copytree(data, target)
    dropped, *_ = sorted((target / "train/a").iterdir())
    dropped.unlink()
    names = sorted(path.relative_to(target).as_posix() for path in target.rglob("*.png"))
    shas = {name: hashlib.sha256((target / name).read_bytes()).hexdigest() for name in names}
    rows = [CuratedImage(name, shas[name], name, shas[name], name, name.split("/")[1], [], None) for name in names]
    write_manifest(target, rows)


def leave_run(folder: Path, pipeline: str, **artifacts: Path) -> Path:
    run = folder / "runs/default" / f"20260101-000000-{pipeline}"
    task = {"stage": "evaluate", "state": "succeeded", "seconds": 1.0, "parameters": {}, "inputs": {}, "artifacts": {}}
    stages = {"evaluate": task} if "evaluation" in artifacts else {}
    record: dict[str, Any] = {"run": run.name, "pipeline": pipeline, "state": "succeeded", "stages": stages}
    record |= {"artifacts": {name: str(path) for name, path in artifacts.items()}}
    record |= {"started": "2026-01-01T00:00:00+00:00", "arguments": {}, "seconds": 1.0}
    run.mkdir(parents=True, exist_ok=True)
    (run / "run.json").write_text(json.dumps(record))
    return run


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_the_loop_commits_both_versions_with_their_figures(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_set(folder, DIVIDED)
    before = write_evaluation(tmp_path / "before", version_of(folder / "data", tmp_path / "pairs"), {"val": 40}, 1)
    leave_run(folder, "training", evaluation=tmp_path / "before")
    keep_results(tmp_path / "before", write_history(tmp_path / "history", 1), folder / "results")  # as submit.py does
    curate(folder / "data", folder / "runs/curated")
    version = version_of(folder / "runs/curated", tmp_path / "pairs")
    after = write_evaluation(tmp_path / "after", version, {"val": 40}, 2)
    improvement = leave_run(folder, "improvement", evaluation=tmp_path / "after", data=folder / "runs/curated")
    record = go_round(folder, DIVIDED, [])
    assert record["folder"] == improvement
    change = f"val {before['val']['accuracy']:.3f} to {after['val']['accuracy']:.3f}"
    assert compare_versions(folder) == change
    assert before["val"]["accuracy"] != after["val"]["accuracy"]
    assert version in git(folder, "show", "v2:data.dvc")
    assert contents(folder / "data") == contents(folder / "runs/curated")
    assert git(folder, "status", "--porcelain") == ""
    log = git(folder, "log", "--format=%s")
    assert log.splitlines()[-1] == "Version v1"
    go_round(folder, DIVIDED, [])  # finished work stays
    assert git(folder, "log", "--format=%s") == log
    assert compare_versions(folder) == change


def test_a_command_that_fails_ends_the_benchmark(tmp_path: Path) -> None:
    write_set(tmp_path / "set", DIVIDED)
    leave_run(tmp_path / "set", "training")
    leave_run(tmp_path / "set", "improvement")  # which has left no curated folder
    with pytest.raises(SystemExit) as caught:
        go_round(tmp_path / "set", DIVIDED, [])
    assert str(caught.value.code).startswith(f"{tmp_path}/set: ")
    assert str(caught.value.code).endswith("--yes --commit --tag v2 has failed; it has said why.")
