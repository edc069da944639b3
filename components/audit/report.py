"""The audit's report: how many images of each kind and class are doubted, and a gallery by kind."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from components.shared.report import thumbnails, write_report

# In the order of the report; each image is in the gallery of every kind that it is of.
KINDS = {
    "label": "Another label fits better",
    "blank": "No ink",
    "ambiguous": "No class fits",
    "outlier": "Unlike the other images of their label",
    "conflicting_duplicate": "The same picture under two labels",
    "exact_duplicate": "Byte for byte the same",
    "near_duplicate": "The same ink, moved or saved again",
}
RARE = 0.1  # of the images that a class would have if all had as many: cleanlab's threshold of class imbalance


def write_audit_report(
    output: str, examples: str, manifest: dict[str, Any], rows: list[dict[str, Any]], gallery_size: int
) -> None:
    """`rows` as issues.csv has them; `examples` holds their images."""
    classes = manifest["classes"]
    galleries = {kind: [row for row in rows if kind in kinds_of(row)] for kind in KINDS}
    shown = {row["filename"] for gallery in galleries.values() for row in gallery[:gallery_size]}
    write_report(
        output,
        "audit/report.html.j2",
        data_version=manifest["data_version"],
        images=len(rows),
        doubted=sum(bool(kinds_of(row)) for row in rows),
        actions=Counter(row["action"] for row in rows if row["action"]),
        classes=[_class(name, rows, len(classes)) for name in classes],
        titles=KINDS,
        galleries={kind: found for kind, found in galleries.items() if found},
        gallery_size=gallery_size,
        pictures=thumbnails(examples, manifest, shown),
    )


def kinds_of(row: Mapping[str, Any]) -> list[str]:
    return [kind for kind in row["kinds"].split(";") if kind]


def _class(name: str, rows: list[dict[str, Any]], classes: int) -> dict[str, Any]:
    own = [row for row in rows if row["label"] == name]
    suggested = Counter(row["new_label"] for row in own if "label" in kinds_of(row) and row["new_label"])
    return {
        "name": name,
        "images": len(own),
        "rare": len(own) < RARE * len(rows) / classes,
        "doubted": sum(bool(kinds_of(row)) for row in own),
        "suggested": suggested.most_common(3),
    }
