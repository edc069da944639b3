from pathlib import Path

import pytest

from components.shared import code
from components.shared.code import hash_code


def test_each_change_of_the_code_and_its_libraries_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "ROOT", tmp_path)
    (tmp_path / "stage/formats").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    seen = []

    def look() -> None:
        seen.append(hash_code(["stage"], ["numpy"]))

    look()
    for name, content in (("stage/a.py", "1"), ("stage/a.py", "2"), ("stage/formats/b.py", "2")):
        (tmp_path / name).write_text(content)
        look()
    (tmp_path / "stage/a.py").rename(tmp_path / "stage/c.py")
    look()
    monkeypatch.setattr(code, "version", lambda name: "0.0")
    look()
    assert len(set(seen)) == len(seen)
    for name in ("other/a.py", "stage/component.yaml"):
        (tmp_path / name).write_text("1")
        assert hash_code(["stage"], ["numpy"]) == seen[-1]
