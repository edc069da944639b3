"""Folds of the audit that are judged in tasks of their own, and then ranked."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.audit.audit import audit_examples
from components.audit.cross_validation import AuditSettings
from components.judge.judging import judge_examples
from components.shared.errors import UserError
from tests.conftest import BEAM, ROOT, contents

SETTINGS = AuditSettings(folds=2, repeats=2, epochs=1, seed=1)
FOLD = {"content": "auto", "folds": SETTINGS.folds, "epochs": SETTINGS.epochs, "seed": SETTINGS.seed}
FOLD |= {"beam_options": BEAM}


def audit(examples: Path, folder: Path, verdicts: list[Path]) -> dict[str, bytes | None]:
    """What the audit writes."""
    audit_examples(
        str(examples),
        SETTINGS,
        content="auto",
        review_size=100,
        gallery_size=5,
        beam_options=BEAM,
        verdicts_uris=list(map(str, verdicts)),
        **{f"{name}_output": str(folder / name) for name in ("issues", "review", "report")},
    )
    return contents(folder)


def judge_repeat(examples: Path, folder: Path, repeat: int, before: list[Path]) -> list[Path]:
    """Judges each fold in a process of this repeat, and returns the folders of their verdicts."""
    outputs = [folder / f"{repeat}-{fold}" for fold in range(SETTINGS.folds)]
    calls = [
        f"judge_examples({str(examples)!r}, repeat={repeat}, fold={fold}, verdicts_uris={list(map(str, before))},"
        f" verdicts_output={str(output)!r}, **{FOLD!r})"
        for fold, output in enumerate(outputs)
    ]
    code = "; ".join(["from components.judge.judging import judge_examples", *calls])
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    return outputs


def test_folds_that_are_judged_apart_give_the_same_ranking(
    examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    together = audit(examples, tmp_path / "together", [])
    first = judge_repeat(examples, tmp_path, 0, [])
    second = judge_repeat(examples, tmp_path, 1, first)
    verdicts = [len(list(folder.rglob("*.verdict"))) for folder in (*first, *second)]
    assert verdicts == [1, 1, 3, 1], "that of fold 0 has those of the repeat before"
    capfd.readouterr()
    assert audit(examples, tmp_path / "apart", second) == together
    said = capfd.readouterr().out
    assert said.count("audit: 2 of 2 folds were finished before\n") == 2
    assert not re.search("fold ./2 is finished", said)
    assert audit(examples, tmp_path / "one is missing", second[1:] + first) == together


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"fold": 2}, "fold is 2; it must be from 0 to 1, since folds is 2."),
        ({"fold": -1}, "fold is -1; it must be from 0 to 1, since folds is 2."),
        ({"repeat": -1}, "repeat is -1; it must be 0 or more."),
        ({"epochs": 0}, "epochs is 0; it must be 1 or more."),
        ({"content": "paint"}, "content is 'paint'; it must be auto, ink or pictures."),
        ({"verdicts_uris": ["nowhere"]}, "nowhere: no such folder; verdicts_uris names what judge has written."),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_written(
    changed: dict[str, Any], sentence: str, examples: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"repeat": 0, "fold": 0, "verdicts_uris": [], **FOLD, **changed}
    with pytest.raises(UserError) as caught:
        judge_examples(str(examples), **settings, verdicts_output=str(tmp_path / "verdicts"))
    assert str(caught.value) == sentence
    assert contents(tmp_path) == {}
