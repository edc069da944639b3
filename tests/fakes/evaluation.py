"""The figures of predictions as evaluate writes them, by that stage's own code, for tests in the tools' environment."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.conftest import CLASSES, run_in_stages

CODE = """
import json, sys
import pandas as pd
from components.evaluate.metrics import measure_split
rows, classes, slice_bins = json.load(sys.stdin)
print(json.dumps(measure_split(pd.DataFrame(rows), classes, slice_bins)))
"""


def split_metrics(rows: dict[str, Any], classes: list[str], slice_bins: int) -> dict[str, Any]:
    """`components.evaluate.metrics.measure_split` of a table given as columns."""
    return json.loads(_called(json.dumps([rows, classes, slice_bins])))


def write_evaluation(
    folder: Path, version: str, splits: dict[str, int], seed: int, *, classes: list[str] = CLASSES
) -> dict[str, Any]:
    """An evaluation artifact of so many images per split, its figures by the evaluate stage's own code."""
    rng = np.random.default_rng(seed)
    result: dict[str, Any] = {
        "data_version": version,
        "trained_on": version,
        "settings": {"epochs": 2, "learning_rate": 0.001},
        "classes": classes,
        "train": {"images": 10 + seed},
    }
    for split, images in splits.items():
        label = rng.choice(classes, images)
        rows = {
            "label": label.tolist(),
            "prediction": np.where(rng.random(images) < 0.2 + 0.3 * seed, label, classes[0]).tolist(),
            "confidence": rng.random(images).tolist(),
            "loss": rng.random(images).tolist(),
            "ink_fraction": rng.random(images).tolist(),
            "width": 20,
            "height": 20,
            "aspect_ratio": 1.0,
        }
        result[split] = split_metrics(rows, classes, 2)
    folder.mkdir()
    (folder / "evaluation.json").write_text(json.dumps(result))
    return result


def write_history(path: Path, seed: int) -> Path:
    path.write_text(
        f"epoch,accuracy,loss,val_accuracy,val_loss\n1,0.5,2,0.25,2.5\n2,0.625,1,0.375,{seed}\n", encoding="utf-8"
    )
    return path


@functools.cache  # a process with pandas takes seconds to start
def _called(arguments: str) -> str:
    return json.dumps(run_in_stages(CODE, json.loads(arguments)))
