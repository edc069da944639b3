"""The report of curation: counts, galleries of the images that it changed, and examples of augmented ones."""

import heapq
import itertools
from collections import Counter
from pathlib import Path

from components.curate.agreement import Agreement
from components.curate.planning import Outcome
from components.curate.voting import Settlement, Voting
from components.curate.writing import ImageTarget
from components.shared.formats.examples import ExampleSet
from components.shared.report import write_report
from components.shared.thumbnails import draw_thumbnail, draw_thumbnails

GALLERY = 60  # the most images that are shown of each kind of change
MONTAGES = 40  # the most classes whose augmented images are shown
SOURCES = 2  # images of each class whose augmented images are shown
SHOWN = 6  # the most augmented images that are shown of each of them


def write_curation_report(
    output: str,
    *,
    examples: ExampleSet,
    outcomes: list[Outcome],
    targets: dict[str, ImageTarget],
    folder: Path,
    left: list[str],
    people: Settlement,
    agreement: Agreement | None,
    voting: Voting,
    hard_weight: float,
) -> None:
    """Writes the report.

    Args:
        output: The HTML file to write.
        examples: The examples of the previous version.
        outcomes: What became of each of its images.
        targets: The files of the images that were not dropped, by the file name before.
        folder: The folder of the new version.
        left: What people should know of it and what is left for them to decide, a sentence each.
        people: What people decided together.
        agreement: How far they agree; None if there are fewer than two.
        voting: What counts where they disagree.
        hard_weight: As in Augmentation.
    """
    manifest = examples.manifest
    galleries = {  # an image may be both relabelled and moved
        "relabelled": [outcome for outcome in outcomes if outcome.is_relabelled],
        "dropped": [outcome for outcome in outcomes if not outcome.split],
        "moved": [outcome for outcome in outcomes if outcome.is_moved],
    }
    all_montages = _choose_montages(targets, manifest.classes)
    montages = dict(itertools.islice(all_montages.items(), MONTAGES))
    disagreements = sorted(people.disagreements.items(), key=lambda pair: bool(pair[1].settled))  # undecided ones first
    shown = {outcome.image.filename for gallery in galleries.values() for outcome in gallery[:GALLERY]}
    shown |= {filename for filename, _ in disagreements[:GALLERY]}
    shown |= {target.outcome.image.filename for montage in montages.values() for target in montage}
    write_report(
        output,
        "curate/report.html.j2",
        data_version=manifest.data_version,
        splits=list(manifest.splits),
        classes=manifest.classes,
        before=Counter((outcome.image.split, outcome.image.label) for outcome in outcomes),
        after=Counter((outcome.split, outcome.label) for outcome in outcomes),
        augmented=_count_augmented(targets),
        deciders=Counter(
            (action, f"to {outcome.split}" if action == "moved" else outcome.decided_by)
            for action, changed in galleries.items()
            for outcome in changed
        ),
        galleries=galleries,
        left=left,
        disagreements=disagreements,
        undecided=len(people.undecided),
        agreement=agreement,
        voting=voting,
        hard_weight=hard_weight,
        gallery_size=GALLERY,
        montages=montages,
        augmented_classes=len(all_montages),
        shown=SHOWN,
        pictures=draw_thumbnails(examples, shown),
        copies={filename: draw_thumbnail((folder / filename).read_bytes()) for filename in _list_copies(montages)},
    )


def _list_copies(montages: dict[str, list[ImageTarget]]) -> list[str]:
    return [filename for montage in montages.values() for target in montage for filename in target.copies[:SHOWN]]


def _count_augmented(targets: dict[str, ImageTarget]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for target in targets.values():
        counts[target.outcome.label] += len(target.copies)
    return counts


def _choose_montages(targets: dict[str, ImageTarget], classes: list[str]) -> dict[str, list[ImageTarget]]:
    """Chooses a few sources of augmented images of each class that has some, by hash and so pseudo-randomly."""
    sources: dict[str, list[ImageTarget]] = {name: [] for name in classes}
    for target in targets.values():
        if target.copies:
            sources[target.outcome.label].append(target)
    return {
        name: heapq.nsmallest(SOURCES, of_class, key=lambda target: target.outcome.image.sha256)
        for name, of_class in sources.items()
        if of_class
    }
