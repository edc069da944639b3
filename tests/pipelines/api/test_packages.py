from pathlib import Path

import pytest

from components.shared.errors import UserError
from pipelines.api.packages import compile_packages
from tests.conftest import ROOT, contents, run_python


def test_packages_are_those_of_compile(tmp_path: Path) -> None:
    made = compile_packages(registry="eu.example/x", tag="v1", output=tmp_path / "here")
    options = ("--registry", "eu.example/x", "--tag", "v1", "--output", tmp_path / "there")
    result = run_python(ROOT / "compile.py", *options)
    assert result.returncode == 0
    assert sorted(made) == sorted((tmp_path / "here").rglob("*.yaml"))
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_a_template_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gke.yaml: still has BUCKET, REGION, PROJECT in place of your names"):
        compile_packages("gke", output=tmp_path)
    assert list(tmp_path.iterdir()) == []
