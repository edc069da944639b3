"""Configurations and contracts with a mistake anywhere: read, or refused in a sentence."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines.compiler import config
from pipelines.compiler.contracts import read_contract
from tests.conftest import ROOT
from tests.mutations import mutated, read_or_refuse, torn

CONTRACTS = sorted(path.parent.name for path in ROOT.glob("components/*/component.yaml"))
CONFIGS = sorted(path.stem for path in config.CONFIGS.glob("*.yaml"))
# What people put into YAML by mistake, and what has a meaning of its own there.
PIECES = st.sampled_from(
    [
        "\t",
        ": ",
        "- ",
        "&a ",
        "*a",
        "<<: ",
        "!!python/object:os.system ",
        "{",
        "]",
        "'",
        "|\n",
        "%",
        "no",
        "007",
        "1e-3",
    ]
    + ["2024-01-01", ".nan", "\0", "\u2028", "\ufeff", "---\n", "...\n", "?" * 50, "[" * 400, "9" * 5000]
)


@st.composite
def mutated_yaml(draw: st.DrawFn, text: str) -> bytes:
    """The text with something put into it, or with another value in its document, or torn."""
    kind = draw(st.sampled_from(["piece", "value", "torn"]))
    if kind == "torn":
        return draw(torn(text.encode()))
    if kind == "value":
        document: Any = draw(mutated(yaml.safe_load(text)))
        try:
            return yaml.safe_dump(document).encode()
        except yaml.YAMLError:  # such as for a lone surrogate
            return repr(document).encode(errors="replace")
    place = draw(st.integers(0, len(text)))
    return (text[:place] + draw(PIECES) + text[place:]).encode()


@given(stage=st.sampled_from(CONTRACTS), data=st.data())
def test_a_contract_with_a_mistake_anywhere_is_read_or_refused(stage: str, data: st.DataObject) -> None:
    source = ROOT / "components" / stage
    with TemporaryDirectory() as folder:
        path = Path(folder) / stage / "component.yaml"
        path.parent.mkdir()
        shutil.copy(source / "component.py", path.parent)
        content = (source / "component.yaml").read_text(encoding="utf-8")
        read_or_refuse(read_contract, path, data.draw(mutated_yaml(content)))


@given(name=st.sampled_from(CONFIGS), data=st.data())
def test_a_configuration_with_a_mistake_anywhere_is_read_or_refused(name: str, data: st.DataObject) -> None:
    content = (config.CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "CONFIGS", Path(folder))
        path = Path(folder) / f"{name}.yaml"
        read_or_refuse(lambda _: config.load_config(name), path, data.draw(mutated_yaml(content)))
