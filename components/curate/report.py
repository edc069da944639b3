"""What curation did: counts, galleries of what it changed, and samples of what it augmented."""

from collections import Counter
from pathlib import Path
from typing import Any

from components.curate.planning import Outcome
from components.curate.writing import Target
from components.shared.report import thumbnail, thumbnails, write_report

GALLERY = 60  # images of each kind of change
SOURCES = 2  # images of each class whose augmented images are shown
SHOWN = 6  # of these


def write_curation_report(
    output: str,
    examples: str,
    manifest: dict[str, Any],
    outcomes: list[Outcome],
    found: dict[str, Target],
    folder: Path,
) -> None:
    """`folder` has the images of the new version, `examples` those before."""
    galleries = {
        action: [outcome for outcome in outcomes if outcome.action == action]
        for action in ("relabelled", "dropped", "moved")
    }
    montages = {name: _montage(found, name) for name in manifest["classes"]}
    shown = {outcome.image.filename for gallery in galleries.values() for outcome in gallery[:GALLERY]}
    shown |= {target.outcome.image.filename for targets in montages.values() for target in targets}
    write_report(
        output,
        "curate/report.html.j2",
        data_version=manifest["data_version"],
        splits=list(manifest["splits"]),
        classes=manifest["classes"],
        before=Counter((outcome.image.split, outcome.image.label) for outcome in outcomes),
        after=Counter((outcome.split, outcome.label) for outcome in outcomes),
        augmented=_augmented(found),
        deciders=Counter((outcome.action, outcome.decided_by) for outcome in outcomes),
        galleries=galleries,
        gallery_size=GALLERY,
        montages=montages,
        shown=SHOWN,
        pictures=thumbnails(examples, manifest, shown),
        copies={
            filename: thumbnail((folder / filename).read_bytes())
            for targets in montages.values()
            for target in targets
            for filename in target.copies[:SHOWN]
        },
    )


def _augmented(found: dict[str, Target]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for target in found.values():
        counts[target.outcome.label] += len(target.copies)
    return counts


def _montage(found: dict[str, Target], name: str) -> list[Target]:
    """A few of the augmented images of a class, as if drawn by lot."""
    sources = [target for target in found.values() if target.copies and target.outcome.label == name]
    return sorted(sources, key=lambda target: target.outcome.image.sha256)[:SOURCES]
