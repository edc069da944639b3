"""The runs on this machine that benchmarks started."""

import json
from pathlib import Path
from typing import Any


def find_finished(experiment: Path, pipeline: str = "") -> dict[str, Any] | None:
    """The content of run.json, with its `folder`, of the first run that succeeded, of that pipeline if one is named."""
    for path in sorted(experiment.glob("*/run.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["state"] == "succeeded" and pipeline in ("", record["pipeline"]):
            return {**record, "folder": path.parent}
    return None
