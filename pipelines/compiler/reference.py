"""Writes docs/components.md from components/*/component.yaml: `python -m pipelines.compiler.reference [FILE]`."""

import html
import json
import sys
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineTaskSpec

from components.shared.errors import command_line
from components.shared.files import new_file
from pipelines.compiler.config import load_config
from pipelines.compiler.contracts import Contract, Port
from pipelines.compiler.packages import PIPELINES, build
from pipelines.compiler.stages import Stages

TARGET = Path(__file__).parents[2] / "docs" / "components.md"
IN_ORDER = ("training", "improvement")  # the pipelines whose stages come first, as the page says
HEAD = """\
# The stages

Made by `make docs` from `components/*/component.yaml`: edit those, and make it again.

First the stages of the training pipeline, in its order, then those that the improvement pipeline has beside them,
whose trainings are called `before` and `after`. At the end `judge`, one fold of the audit in a task of its own, if the
config has `parallel_folds`, and `notify`, which follows each pipeline if the config has `notify`, and takes its values
from there. A parameter marked with * is also one of the pipeline that has the stage, so that `--param NAME=VALUE` sets
it for one run. The others are set in `pipelines/config/*.yaml` under `stages`, or where a stage runs alone, by
`--component STAGE --param NAME=VALUE`.
"""


def main() -> None:
    """Writes the page to the file that is named on the command line, and prints its path."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    with new_file(target) as path:
        path.write_text(write_reference(Stages(load_config("local"))), encoding="utf-8")
    print(target)


def write_reference(stages: Stages) -> str:
    """The page in Markdown."""
    tasks: dict[str, Any] = {}
    for pipeline in dict.fromkeys([*IN_ORDER, *PIPELINES]):
        own = build(pipeline, stages).pipeline_spec.root.dag.tasks
        order = TopologicalSorter({name: sorted(own[name].dependent_tasks) for name in sorted(own)}).static_order()
        tasks |= {name: own[name] for name in order if name in stages.contracts.keys() - tasks}
    others = {name: PipelineTaskSpec() for name in stages.contracts if name not in tasks}
    sections = [_write_stage(stages.contracts[name], task) for name, task in {**tasks, **others}.items()]
    return "\n".join([HEAD, *sections])


def _write_stage(contract: Contract, task: Any) -> str:
    """A stage's section; `task` is its place in a pipeline, a PipelineTaskSpec, empty if it has none."""
    given = {name for name, spec in task.inputs.parameters.items() if spec.component_input_parameter}
    parameters = (
        (f"`{port.name}`{' *' if port.name in given else ''}", port.type, _write_default(port), port.description)
        for port in contract.inputs
        if port.is_parameter
    )
    producers = {name: spec.task_output_artifact.producer_task for name, spec in task.inputs.artifacts.items()}
    artifacts = (
        (f"`{port.name}`", port.type, producers.get(port.name, ""), port.description)
        for port in contract.inputs
        if not port.is_parameter
    )
    outputs = ((f"`{port.name}`", port.type, port.description) for port in contract.outputs)
    image = contract.implementation.container.image
    return "\n".join(
        [
            f"## {contract.name}\n",
            f"{contract.description}\n",
            f"Image `{image}`, contract `components/{contract.name}/component.yaml`.\n",
            *_write_table(("parameter", "type", "default", "meaning"), parameters),
            *_write_table(("input", "type", "from", "meaning"), artifacts),
            *_write_table(("output", "type", "meaning"), outputs),
        ]
    )


def _write_table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """The lines of a table, with an empty one after it; none if there are no rows."""
    # the last one is prose, in which <class> would be taken for a tag
    cells = [[cell.replace("|", r"\|") for cell in (*row[:-1], html.escape(row[-1], quote=False))] for row in rows]
    lines = [heading, ["---"] * len(heading), *cells]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""] if cells else []


def _write_default(port: Port) -> str:
    """As --param takes it, but with an empty text as `""`."""
    if port.default is None:
        return "required"
    return f"`{port.default if port.default and isinstance(port.default, str) else json.dumps(port.default)}`"


if __name__ == "__main__":
    with command_line():
        main()
