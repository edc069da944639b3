"""Runs a pipeline, or one stage of it, on this machine."""

import argparse
import shutil
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.files import UserError, new_file

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

    from pipelines.stages import Contract

RESULTS = Path("results")  # the figures of the last run, for `dvc metrics`
EXIT_CODES = {"succeeded": 0, "failed": 1, "cancelled": 130}


def main() -> None:
    options = _options()
    warnings.simplefilter("ignore")  # the libraries' notes about Python versions

    from compile import PIPELINES, build_pipeline, write_pipeline
    from pipelines import display, local
    from pipelines.config import load_config, unknown
    from pipelines.stages import Stages

    stages = Stages(load_config(options.config))
    if options.component and options.component not in stages.contracts:
        raise UserError(unknown("the component", options.component, stages.contracts))
    name = options.component or PIPELINES[0]
    pipeline = build_pipeline(name, stages)
    given = _data(options)
    artifacts: dict[str, str] = {}
    if options.component and not (options.component == "ingest" and options.data):
        earlier = local.find_run(options.runs, options.experiment, options.from_run)
        artifacts = earlier["artifacts"]
        given = {**_from_run(stages.contracts[name], earlier), **given}
    arguments = _arguments(pipeline, given, options.param)

    local.check_paths(options.runs / options.experiment, arguments)
    run = local.new_run(options.runs, options.experiment, name)
    write_pipeline(pipeline, run / "pipeline.yaml")
    summary = display.run_with_progress(run, arguments, artifacts)
    _keep_results(run, summary)
    display.print_outcome(run, summary)
    sys.exit(EXIT_CODES[summary["state"]])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--local", action="store_true", required=True, help="run on this machine, through kfp.local")
    parser.add_argument("--data", type=Path, help="folder with train/<class>/ and val/<class>/: the parameter data_uri")
    parser.add_argument("--test-data", type=Path, help="folder of class folders, the test split: test_data_uri")
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the pipeline"
    )
    parser.add_argument("--experiment", default="default", help="the runs it belongs to (default: %(default)s)")
    parser.add_argument("--config", default="local", help="a name in pipelines/config (default: %(default)s)")
    parser.add_argument("--component", metavar="STAGE", help="run this stage alone, on the artifacts of an earlier run")
    parser.add_argument("--from-run", default="latest", metavar="RUN", help="that earlier run (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: %(default)s)")
    return parser.parse_args()


def _data(options: argparse.Namespace) -> dict[str, str]:
    folders = {"data_uri": options.data, "test_data_uri": options.test_data}
    for folder in folders.values():
        if folder and not folder.is_dir():
            raise UserError(f"{folder}: no such folder; --data and --test-data name folders of images.")
    return {name: str(folder.resolve()) for name, folder in folders.items() if folder}


def _from_run(contract: "Contract", earlier: dict[str, Any]) -> dict[str, Any]:
    """The arguments that repeat a stage: the parameters it had in that run, and the artifacts the run left."""
    arguments = dict(earlier["stages"].get(contract.name, {}).get("parameters", {}))
    for port in contract.inputs:
        if not port.is_parameter:
            if port.name not in earlier["artifacts"]:
                raise UserError(f"run {earlier['run']} has no artifact '{port.name}'; take one that came so far.")
            arguments[f"{port.name}_uri"] = earlier["artifacts"][port.name]
    return arguments


def _arguments(pipeline: "BaseComponent", given: dict[str, Any], params: list[str]) -> dict[str, Any]:
    """`given` and each NAME=VALUE of `params`, checked against the pipeline's parameters."""
    from pydantic import TypeAdapter, ValidationError

    from pipelines.config import unknown
    from pipelines.stages import PYTHON_TYPES

    inputs = pipeline.component_spec.inputs or {}
    known = [f"{name} ({spec.type})" for name, spec in inputs.items()]
    arguments = dict(given)
    for param in params:
        name, separator, text = param.partition("=")
        if not separator:
            raise UserError(f"--param {param}: must be NAME=VALUE. The parameters are: {', '.join(known)}.")
        if name not in inputs:
            raise UserError(unknown("the parameter", name, inputs))
        kind = {"List": "JsonArray", "Dict": "JsonObject"}.get(inputs[name].type, inputs[name].type)
        adapter: TypeAdapter[Any] = TypeAdapter(PYTHON_TYPES[kind])
        try:
            arguments[name] = adapter.validate_json(text) if kind.startswith("Json") else adapter.validate_strings(text)
        except ValidationError:
            raise UserError(f"--param {param}: not of type {kind}. The parameters are: {', '.join(known)}.") from None
    for name in arguments.keys() - inputs.keys():
        raise UserError(unknown("the parameter", name, inputs))
    missing = [name for name, spec in inputs.items() if not spec.optional and name not in arguments]
    if missing:
        raise UserError(f"{', '.join(missing)}: no value; give it with --data, or --param NAME=VALUE.")
    return arguments


def _keep_results(run: Path, summary: dict[str, Any]) -> None:
    """Copies the reports beside run.json, where a browser opens them, and the metrics to results/."""
    for stage, content in summary["stages"].items():
        if report := content["artifacts"].get("report"):
            shutil.copyfile(report["uri"], run / f"{stage}.html")
    evaluation = summary["stages"].get("evaluate", {"artifacts": {}})["artifacts"].get("evaluation")
    if evaluation and summary["state"] == "succeeded":
        metrics = Path(evaluation["uri"], "metrics.json").read_text()
        with new_file(run / "metrics.json") as path:
            path.write_text(metrics)
        with new_file(RESULTS / "metrics.json") as path:
            path.write_text(metrics)


if __name__ == "__main__":
    main()
