"""How far the yardstick of a comparison is to be trusted: what the audit says about the labels of val."""

import contextlib
from pathlib import Path

from components.shared.errors import UserError
from components.shared.formats.changes import read_changes
from components.shared.formats.issues import LABEL_KINDS, Issue, read_issues


def describe_doubt(issues: Path, changes: Path | None) -> str:
    """Says how many labels of val the audit doubts that nobody has decided about; empty if there are none.

    Both models of an improvement are measured on these labels.

    Args:
        issues: issues.csv, as audit writes it.
        changes: the output `changes` of curate, which knows who decided; None if it is not known.
    """
    with contextlib.suppress(UserError):  # what is damaged says nothing
        val = [issue for _, issue in read_issues(issues) if issue.split == "val"]
        rows = read_changes(changes) if changes else []
        decided = {change.filename for change in rows if change.decided_by == "person"}
        doubted = sum(_is_doubted(issue) and issue.filename not in decided for issue in val)
        if doubted:
            return (
                f"Labels of val that the audit doubts and nobody has decided about: {doubted:,} of {len(val):,}. As far"
                " as they are wrong, so are the figures on val."
            )
    return ""


def _is_doubted(issue: Issue) -> bool:
    return issue.action in ("relabel", "drop", "look") and not LABEL_KINDS.isdisjoint(issue.kinds)
