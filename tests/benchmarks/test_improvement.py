"""How the benchmark divides val, pools what the models of its folds say, and tabulates it; its runs are hand-made."""

import csv
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import improvement
from benchmarks.improvement import cross_validated, pool, table


def write_training(folder: Path, right: dict[str, bool], *, val: float, test: float, train: int = 90) -> dict[str, Any]:
    """The record of a run with these val images in its version, right or wrong, and these accuracies."""
    (folder / "evaluation").mkdir(parents=True, exist_ok=True)
    with (folder / "predictions").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "filename", "label", "prediction"])
        writer.writerow(["train", "train/i/a.png", "i", "v"])
        writer.writerows(["val", name, "i", "i" if is_right else "v"] for name, is_right in right.items())
    figures = {"train": {"images": train}, "val": {"accuracy": val}, "test": {"accuracy": test}}
    (folder / "evaluation/evaluation.json").write_text(json.dumps(figures), encoding="utf-8")
    artifacts = {name: str(folder / name) for name in ("evaluation", "predictions", "examples", "data")}
    return {"folder": str(folder), "artifacts": artifacts}


def test_each_image_counts_once_by_the_models_that_did_not_learn_from_it() -> None:
    folds = [{"a": True, "b": False, "c": True}, {"c": False, "d": True}]
    assert pool(folds, "abcd") == (1 + 0 + 0.5 + 1) / 4


def test_an_image_that_no_fold_has_in_val_is_named() -> None:
    with pytest.raises(SystemExit, match=r"^d is in no val split of the folds, as are 1 others\.$"):
        pool([{"a": True}, {"b": True}], "abde")


def test_folds_keep_one_part_of_val_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [{"val/i/1.png": True}, {"val/i/2.png": False}, {"val/i/3.png": True}]
    everything = {name: True for part in parts for name in part}
    ran: dict[str, dict[str, Any]] = {}

    def run(options: Namespace, name: str, *arguments: Any, param: dict[str, Any] | None = None) -> dict[str, Any]:
        ran[name] = {"arguments": arguments, "param": param}
        fold = int(name.split("-")[-2]) if name != "audit-2" else 0
        return write_training(tmp_path / name, parts[fold], val=0.9, test=0.7 + fold / 10, train=90 + fold)

    monkeypatch.setattr(improvement, "run", run)
    first = write_training(tmp_path / "first", everything, val=0.5, test=0.5)
    found = cross_validated(Namespace(folds=3, seeds=[2]), "moved", 2, [], first)
    assert found == {
        "variant": "moved in 3",
        "seed": 2,
        "train_images": 91,
        "test": pytest.approx(0.8),
        "own_val": 0.9,
        "val": pytest.approx(2 / 3),
    }
    shares = [ran[f"curate-moved-3-{fold}-2"]["param"] for fold in range(3)]
    assert shares == [{"val_to_train": pytest.approx(2 / 3), "seed": seed} for seed in (6, 7, 8)]
    data = str(tmp_path / "curate-moved-3-1-2/data")
    assert ran["moved-3-1-2"] == {"arguments": ("--data", data), "param": {"seed": 2}}


def test_the_table_has_a_row_for_each_variant_and_number_of_folds() -> None:
    figures = [
        {"variant": variant, "seed": seed, "train_images": images, "val": val, "test": 0.5, "own_val": val}
        for variant, seed, images, val in (
            ("moved in 2", 1, 9_593, 0.9),
            ("moved in 2", 2, 9_593, 0.92),
            ("moved in 5", 1, 9_700, 0.93),
            ("untouched", 1, 2_067, 0.68),
            ("strict", 1, 9_187, 0.91),
        )
    ]
    assert table(figures).splitlines() == [
        "| variant | train images | val, untouched | test | val of its own version | seeds |",
        "| --- | --- | --- | --- | --- | --- |",
        "| untouched | 2,067 | 0.680 (0.680 to 0.680) | 0.500 (0.500 to 0.500) | 0.680 (0.680 to 0.680) | 1 |",
        "| strict | 9,187 | 0.910 (0.910 to 0.910) | 0.500 (0.500 to 0.500) | 0.910 (0.910 to 0.910) | 1 |",
        "| moved in 2 | 9,593 | 0.910 (0.900 to 0.920) | 0.500 (0.500 to 0.500) | 0.910 (0.900 to 0.920) | 1, 2 |",
        "| moved in 5 | 9,700 | 0.930 (0.930 to 0.930) | 0.500 (0.500 to 0.500) | 0.930 (0.930 to 0.930) | 1 |",
    ]
