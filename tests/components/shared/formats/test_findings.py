import json
from pathlib import Path

from components.shared.formats.findings import KINDS, SEVERITIES, Finding, write_findings


def test_findings_are_a_list_in_their_order(tmp_path: Path) -> None:
    findings: list[Finding] = [
        {"kind": "skew", "message": "train is darker", "images": [], "severity": "warning"},
        {"kind": "blank", "message": "no ink: ½", "images": ["train/i/b.png", "train/i/a.png"]},
    ]
    write_findings(tmp_path / "findings", findings)
    assert json.loads((tmp_path / "findings").read_text()) == findings
    assert {finding["kind"] for finding in findings} < KINDS.keys()
    assert findings[0]["severity"] in SEVERITIES


def test_no_findings_are_an_empty_list(tmp_path: Path) -> None:
    write_findings(tmp_path / "findings", [])
    assert (tmp_path / "findings").read_text() == "[]\n"
