"""What the benchmark of scale draws, tabulates and compares; its runs are hand-made."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import scale
from benchmarks.scale import count_splits, draw, table
from tests.conftest import contents


def test_fewer_pictures_are_the_beginning_of_more(tmp_path: Path) -> None:
    draw(tmp_path / "few", 1500)
    draw(tmp_path / "many", 2500)
    few, many = ({name: data for name, data in contents(tmp_path / of).items() if data} for of in ("few", "many"))
    assert (len(few), len(many)) == (1500, 2500)
    assert few.items() <= many.items()
    assert len(set(many.values())) == 2500
    splits = [name.split("/")[0] for name in few]
    assert {split: splits.count(split) for split in set(splits)} == count_splits(1500)


def test_each_stage_has_its_figures_and_the_power_of_its_growth() -> None:
    small = {"seconds": 12, "cpu_seconds": 10, "peak_mib": 200, "anonymous_mib": 150, "written_mib": 5.4}
    large = {"seconds": 80, "cpu_seconds": 100, "peak_mib": 1200, "anonymous_mib": 900, "written_mib": 54}
    assert table({1000: {"ingest": small}, 10_000: {"ingest": large}}).splitlines() == [
        "| stage: s, CPU s, peak MiB, without pages of files, MiB written | 1,000 | 10,000 | power, 1,000 to 10,000 |",
        "| --- | --- | --- | --- |",
        "| ingest | 12, 10, 200, 150, 5 | 80, 100, 1,200, 900, 54 | 1.00 |",
    ]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"b": "2", "c": "3"}, "evaluate, 3 images: has 2 and not 3 of them."),
        ({"a": "1", "b": "other", "c": "3"}, "evaluate, 3 images: b is not the same as in the smaller set."),
        ({"b": "2", "c": "3", "d": "4"}, "evaluate, 3 images: a is not there, but is in the smaller set."),
    ],
    ids=["missing", "other content", "other image"],
)
def test_sizes_that_disagree_end_the_benchmark(
    changed: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"2": {"a": "1", "b": "2"}, "3": changed}
    monkeypatch.setattr(scale, "list_contents", lambda stage, outputs, examples: made[outputs["size"]].items())
    figures: dict[int, dict[str, Any]] = {
        size: {"ingest": {"outputs": {"examples": ""}}, "evaluate": {"outputs": {"size": str(size)}}} for size in (2, 3)
    }
    monkeypatch.setattr(scale, "STAGES", {"evaluate": {}})
    with pytest.raises(SystemExit) as ended:
        scale.check(figures)
    assert str(ended.value) == sentence
