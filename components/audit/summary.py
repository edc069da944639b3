"""The summary of the audit: how many images it doubts, and why."""

from components.audit.audit import AuditSummary
from components.shared.formats.issues import KINDS
from components.shared.summary import count, write_summary


def write_audit_summary(output: str, summary: AuditSummary) -> None:
    """Writes the Markdown file.

    Args:
        output: The file to write.
        summary: What the audit says, in figures.
    """
    figures = {KINDS[kind]: summary.kinds[kind] for kind in KINDS if summary.kinds[kind]}
    write_summary(
        output,
        f"{count(summary.doubted, 'image')} of {summary.images:,} should be looked at.",
        figures | {"data version": summary.data_version},
        "decide on the page review, which saves decisions.csv, and give that file to submit.py with --decisions. What "
        "nobody decides, the policy of curate does if it is sure enough.",
    )
