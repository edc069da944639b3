"""The figures of predictions as evaluate leaves them, by that stage's own code, for tests in the tools' environment."""

import functools
import json
from typing import Any

from tests.conftest import run_in_stages

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


@functools.cache  # a process with pandas takes seconds to start
def _called(arguments: str) -> str:
    return json.dumps(run_in_stages(CODE, json.loads(arguments)))
