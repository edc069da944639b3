"""Every table with a mistake somewhere: read, or refused with a sentence that names the file."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.formats import manifest
from components.shared.formats.decisions import read_decisions
from components.shared.formats.issues import read_issues, write_issues
from components.shared.formats.manifest import CuratedImage, read_manifest, write_manifest
from components.shared.formats.predictions import read_predictions, write_predictions
from components.shared.formats.training import read_history, write_history
from tests.mutations import mutated_table, read_or_refuse, torn
from tests.rows import make_issue, make_prediction

CLASSES = ["i", "v"]
SHA256 = "0" * 64
DECISIONS = {(SHA256, "train/i/0.png"): "i", ("1" * 64, "train/i/1.png"): "i"}


def write_all_decisions(path: Path) -> None:
    path.write_text(
        "sha256,filename,label,decision,new_label,decided_at\n"
        f"{SHA256},train/i/0.png,i,relabel,v,2026\n{'1' * 64},train/i/1.png,i,drop,,2026\n",
        encoding="utf-8",
    )


def write_all_predictions(path: Path) -> None:
    rows = [make_prediction(), make_prediction(filename="val/i/1.png", prediction="v")]
    write_predictions(pd.DataFrame(rows).assign(probability_i=0.9, probability_v=0.1), path)


def write_all_images(path: Path) -> None:
    image = CuratedImage("train/i/0.png", SHA256, "train/i/0.png", SHA256, "i/0.png", "i", [{"operation": "crop"}], 1)
    write_manifest(path.parent, [image, image._replace(filename="train/i/1.png", operations=[], seed=None)])


EPOCH: Any = {"epoch": 1, "accuracy": 0.5, "loss": 1.5, "val_accuracy": 0.25, "val_loss": 2.0}
TABLES: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
    "issues.csv": (
        lambda path: write_issues(path, [make_issue(), make_issue(rank=2, action="relabel", new_label="v", group=1)]),
        lambda path: list(read_issues(path, CLASSES)),
    ),
    "decisions.csv": (write_all_decisions, lambda path: read_decisions(path, DECISIONS, CLASSES)[""]),
    "predictions.csv": (write_all_predictions, lambda path: read_predictions(str(path), CLASSES)),
    manifest.FILE: (write_all_images, lambda path: read_manifest(path.parent)),
    "history.csv": (lambda path: write_history(path, [EPOCH, {**EPOCH, "epoch": 2}]), read_history),
}


@pytest.mark.parametrize("name", TABLES)
@given(data=st.data())
def test_table_with_a_mistake_anywhere_is_read_or_refused(name: str, data: st.DataObject) -> None:
    write, read = TABLES[name]
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        assert len(read(path)) == 2
        content = path.read_bytes()
        read_or_refuse(read, path, data.draw(mutated_table(content.decode()) | torn(content)))
