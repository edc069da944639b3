"""What a contract does not allow, the stage refuses as well: the Kubeflow Pipelines UI does not ask the contract."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.components.test_contracts import FILES, function_of
from tests.conftest import ROOT

CONTRACTS = {path.parent.name: yaml.safe_load(path.read_text(encoding="utf-8"))["inputs"] for path in FILES}
# What the stage may do with any value; the contract refuses those that make no sense.
UNCHECKED = {"max_images", "max_pixels", "label_threshold", "scalar_threshold", "blank_contrast", "imbalance_ratio"}


def parse(port: dict[str, Any]) -> Any:
    value = port.get("default", "")
    return json.loads(value) if port["type"].startswith("Json") else value


def outside(limits: dict[str, Any]) -> list[Any]:
    """Values beside the limits."""
    values = [
        limits[name] + step
        for name, step in (("minimum", -1), ("exclusiveMinimum", 0), ("exclusiveMaximum", 0))
        if name in limits
    ]
    values += [limits["maximum"] + 1] if isinstance(limits.get("maximum"), int) else []
    values += ["other"] if "enum" in limits else []
    for name, wrap in (
        ("items", lambda value: [value]),
        ("propertyNames", lambda value: {value: "error"}),
        ("additionalProperties", lambda value: {"schema": value}),
    ):
        values += map(wrap, outside(limits[name]) if name in limits else [])
    for key, own in limits.get("properties", {}).items():
        values += [{key: value} for value in outside(own)]
    return values


CASES = [
    (stage, port["name"], value)
    for stage, ports in CONTRACTS.items()
    for port in ports
    for value in outside(port.get("annotations", {}))
    if port["name"] not in UNCHECKED or stage == "curate"
]


@pytest.mark.parametrize(
    ("stage", "name", "value"), CASES, ids=[f"{stage}-{name}-{value}" for stage, name, value in CASES]
)
def test_a_stage_refuses_what_its_contract_does_not_allow(stage: str, name: str, value: Any, tmp_path):
    function = function_of(ROOT / "components" / stage / "component.yaml")
    names = function.__signature__.parameters
    artifacts = {each: SimpleNamespace(path=str(tmp_path / each), uri=str(tmp_path / each)) for each in names}
    parameters = {
        port["name"]: parse(port) for port in CONTRACTS[stage] if "default" in port or port["type"] == "String"
    }
    with pytest.raises(SystemExit, match=rf"^{name}\b"):
        function(**{**artifacts, **parameters, name: value})
