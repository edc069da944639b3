"""What makes a comparison doubtful: labels of val that the audit doubts and nobody has decided about."""

from pathlib import Path

from components.shared.formats.changes import Change, write_changes
from components.shared.formats.issues import write_issues
from pipelines.output.doubt import describe_doubt
from tests.rows import make_issue


def test_doubted_labels_of_val_are_counted_until_a_person_decides(tmp_path: Path):
    """Neither those of train, nor pictures whose state is doubted, nor duplicates with one label."""
    cases = {
        "val/i/a.png": ("label", "relabel"),
        "val/i/b.png": ("outlier;fragmented", "look"),
        "val/i/c.png": ("fragmented", "look"),
        "val/i/d.png": ("near_duplicate", "keep_one"),
        "val/i/e.png": ("", ""),
        "train/i/f.png": ("label", "drop"),
    }
    issues, changes = tmp_path / "issues.csv", tmp_path / "changes.csv"
    write_issues(
        issues,
        [
            make_issue(filename=name, split=name.split("/")[0], label="i", kinds=tuple(kinds.split(";")), action=action)
            for name, (kinds, action) in cases.items()
        ],
    )
    rest = "As far as they are wrong, so are the figures on val."
    said = f"Labels of val that the audit doubts and nobody has decided about: 2 of 5. {rest}"
    assert describe_doubt(issues, None) == said

    def decide(**deciders: str) -> str:
        rows = [
            Change(f"val/i/{name}.png", "0" * 64, "i", f"val/i/{name}.png", "i", "kept", decider, "")
            for name, decider in deciders.items()
        ]
        write_changes(changes, rows)
        return describe_doubt(issues, changes)

    assert decide(a="policy", b="", c="person") == said
    assert decide(a="person", b="") == said.replace("2 of 5", "1 of 5")
    assert decide(a="person", b="person") == ""
    changes.write_text("damaged", encoding="utf-8")
    assert describe_doubt(issues, changes) == ""
