"""Each component.yaml against the function it names, as kfp reads both."""

import importlib.util
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import MessageToDict
from kfp import components, dsl

from tests.conftest import ROOT, run_python

FILES = sorted((ROOT / "components").glob("*/component.yaml"))
EACH = pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)


def function_of(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"contract_{path.parent.name}", path.with_name("component.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, path.parent.name)


def interface(component: Any, kind: str) -> dict[str, str]:
    """Names and types in kfp's compiled form, which is what a cluster sees."""
    (definition,) = component.pipeline_spec.components.values()
    content = MessageToDict(getattr(definition, kind))
    return {
        **{name: value["parameterType"] for name, value in content.get("parameters", {}).items()},
        **{name: value["artifactType"]["schemaTitle"] for name, value in content.get("artifacts", {}).items()},
    }


def test_every_stage_has_a_contract():
    assert [path.parent.name for path in FILES] == [
        *("audit", "compare", "curate", "evaluate", "ingest", "judge", "notify", "train", "transform", "validate")
    ]


@EACH
def test_plain_yaml_loads_and_equals_the_functions_interface(path: Path):
    declared = components.load_component_from_file(str(path))
    derived = dsl.component(function_of(path), base_image="python")
    assert declared.name == path.parent.name
    for kind, ports in (("input_definitions", "inputs"), ("output_definitions", "outputs")):
        names = [port["name"] for port in yaml.safe_load(path.read_text(encoding="utf-8"))[ports]]
        assert sorted(interface(declared, kind)) == sorted(names)  # none is named twice
        assert interface(declared, kind) == interface(derived, kind)


@EACH
def test_function_leaves_defaults_to_the_yaml(path: Path):
    parameters = inspect.signature(function_of(path)).parameters.values()
    assert [parameter.name for parameter in parameters if parameter.default is not inspect.Parameter.empty] == []


@EACH
def test_command_is_kfps_executor_on_this_components_function(path: Path):
    container = yaml.safe_load(path.read_text(encoding="utf-8"))["implementation"]["container"]
    assert container["image"] == path.parent.name
    assert container["command"] == ["python3", "-u", "-m", "kfp.dsl.executor_main"]
    assert container["args"] == [
        "--component_module_path",
        f"components/{path.parent.name}/component.py",
        "--function_to_execute",
        path.parent.name,
        "--executor_input",
        {"executorInput": None},
    ]


def test_importing_a_component_imports_nothing_beside_kfp():
    script = (
        "import importlib, json, sys; from kfp import dsl; known = set(sys.modules); new = {}\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(f'components.{name}.component')\n"
        "    new[name] = sorted({module.partition('.')[0] for module in sys.modules.keys() - known} - {'components'})\n"
        "print(json.dumps([new, 'tensorflow' in known, 'pandas' in known]))"
    )
    result = run_python("-c", script, *(path.parent.name for path in FILES))
    assert json.loads(result.stdout) == [{path.parent.name: [] for path in FILES}, False, False], result.stderr
