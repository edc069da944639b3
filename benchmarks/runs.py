"""The runs on this machine that benchmarks started."""

import json
from pathlib import Path
from typing import Any


def find_finished(experiment: Path) -> dict[str, Any] | None:
    """The content of run.json, with its `folder`, of the first run of an experiment that succeeded, if any did."""
    for path in sorted(experiment.glob("*/run.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["state"] == "succeeded":
            return {**record, "folder": path.parent}
    return None
