"""Turns of the loop, one after the other: what each has brought, whether another one is worth it, how it begins."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from components.shared.errors import UserError
from components.shared.formats.changes import Change, read_changes
from components.shared.formats.comparison import AccuracyChange, Comparison
from components.shared.formats.decisions import EARLIER_FILE, SavedDecision, write_decisions
from components.shared.formats.manifest import read_manifest
from pipelines.output.display import TurnFigures
from pipelines.submission.request import RunRequest

SEEDS = 3  # models of each version, where nobody has said how many
OF_FIRST = ("on_bad_image", "val_to_train")  # the parameters of the first turn alone


class Gain(NamedTuple):
    """How much more often a new model is right than another, on the images of the earlier version."""

    split: str  # val, or test where there is no val
    change: float
    low: float  # this and the next bound the change
    high: float
    is_across_seeds: bool  # whether they are bounds of the means of several seeds, and not of the draw of the images

    @property
    def is_real(self) -> bool:
        """Whether it is above 0 by more than chance."""
        return self.low > 0

    def __str__(self) -> str:
        """Such as +0.021 ± 0.011, or with one seed +0.021 (+0.003…+0.039)."""
        if self.is_across_seeds:
            return f"{self.change:+.3f} ± {self.high - self.change:.3f}"
        return f"{self.change:+.3f} ({self.low:+.3f}…{self.high:+.3f})"


class Turn(NamedTuple):
    """A turn that was taken to its end."""

    run: str  # its name
    folder: Path  # of the run
    data: str  # the folder that it has curated
    comparison: Comparison  # with the version that it began with
    since_first: Comparison  # with the version that the first turn began with

    @property
    def gain(self) -> Gain:
        """What it has brought."""
        return read_gain(self.comparison)


def read_gain(comparison: Comparison) -> Gain:
    """How the accuracy changed: with several seeds the mean, and else that of the two models."""
    split = "val" if "val" in comparison["splits"] else "test"
    figures = comparison["splits"][split]
    if seeds := figures.get("seeds"):
        change, margin = seeds["change"], seeds["margin"]
        return Gain(split, change, change - margin, change + margin, is_across_seeds=True)
    accuracy = figures["accuracy"]
    return Gain(split, accuracy["change"], accuracy["low"], accuracy["high"], is_across_seeds=False)


def describe_gain(number: int, gain: Gain) -> str:
    """What a turn has brought, and whether it is therefore the last, in a sentence."""
    if gain.is_across_seeds:
        shown, limit = f"({gain} on {gain.split})", "the seed"
    else:
        shown, limit = f"({gain.change:+.3f} on {gain.split}, 95 %: {gain.low:+.3f}…{gain.high:+.3f})", "chance"
    if not gain.is_real:
        return f"Turn {number} brought no gain beyond {limit} {shown}, so this is the last."
    doubt = "" if gain.is_across_seeds else "; with one seed, the seed alone may explain it"
    return f"Turn {number} brought a gain beyond {limit} {shown}{doubt}."


def choose_seeds(request: RunRequest, default: int) -> RunRequest:
    """The request with several seeds, unless the command or the config says how many.

    Args:
        request: of the first turn.
        default: how many the config says; 1 if it says nothing.
    """
    if default > 1 or any(param.partition("=")[0] == "seeds" for param in request.params):
        return request
    return replace(request, params=(*request.params, f"seeds={SEEDS}"))


def continue_from(request: RunRequest, turn: Turn) -> RunRequest:
    """The request of the next turn, on what a turn has curated.

    The test images are in that folder too. What people decided counts on, as the file of the turn has it. What to do
    with images that cannot be read, of which curate writes none, and which share of val moves to train, is a question
    about the first version alone.
    """
    decided = os.path.relpath(turn.folder / EARLIER_FILE)
    return replace(
        request,
        data=os.path.relpath(turn.data),
        test_data=None,
        rev=None,
        decisions=(decided,) if Path(decided).is_file() else (),
        params=tuple(param for param in request.params if param.partition("=")[0] not in OF_FIRST),
    )


def find_adoptable(turns: Iterable[Turn]) -> Turn | None:
    """The last turn that brought a gain; None if no turn did."""
    return next((turn for turn in reversed([*turns]) if turn.gain.is_real), None)


def tabulate_turns(turns: list[Turn]) -> Iterator[TurnFigures]:
    """Yields the figures of the first version, and of the one that each turn has made; nothing without turns."""
    for turn in turns[:1]:
        images, copies = _count_images(turn.since_first, "before")
        yield TurnFigures("first", images, copies, _read_accuracies(turn.since_first, "before"), "", "")
    for number, turn in enumerate(turns, start=1):
        images, copies = _count_images(turn.since_first, "after")
        accuracies = _read_accuracies(turn.since_first, "after")
        since_first = str(read_gain(turn.since_first))
        yield TurnFigures(f"turn {number}", images, copies, accuracies, str(turn.gain), since_first)


def _count_images(comparison: Comparison, version: str) -> tuple[int, int]:
    """The images of train in one of the two versions, and how many of them are copies that curate made."""
    counts = comparison["data"]["images"].get("train", {}).values()
    if version == "before":
        images, copies = sum(each["before"] for each in counts), sum(each["augmented_before"] for each in counts)
    else:
        images, copies = sum(each["after"] for each in counts), sum(each["augmented_after"] for each in counts)
    return images + copies, copies


def _read_accuracies(comparison: Comparison, version: str) -> dict[str, float]:
    """The accuracy of one of the two versions on each split of the earlier one; of several seeds the mean."""
    return {split: _read_accuracy(figures, version) for split, figures in comparison["splits"].items()}


def _read_accuracy(figures: AccuracyChange, version: str) -> float:
    seeds, accuracy = figures.get("seeds"), figures["accuracy"]
    if version == "before":
        return mean(seeds["before"]) if seeds else accuracy["before"]
    return mean(seeds["after"]) if seeds else accuracy["after"]


def keep_decisions(path: Path, changes: str, data: str) -> None:
    """Writes what people have decided about the images of a curated folder, for the next turn to keep to.

    The images are known there by other names, and those that were dropped are gone. What people left undecided, because
    they disagree, stays as it is in the next turn, too; but of copies of one picture that have different labels, which
    no decisions could keep, nothing is written.

    Args:
        path: the file to write.
        changes: what curate has done, as it writes it.
        data: the folder that it has written.

    Raises:
        UserError: one of the two is not as curate writes it, or they are not of one run.
    """
    sha256s = {image.filename: image.sha256 for image in read_manifest(Path(data))}
    kept = [change for change in read_changes(changes) if change.new_filename and _is_of_people(change)]
    labels = defaultdict[str, set[str]](set)
    for change in kept:
        if change.new_filename not in sha256s:
            raise UserError(
                f"{changes}: has {change.new_filename}, which the manifest.csv of the curated folder has not; give the"
                " outputs `changes` and `data` of the same run of curate."
            )
        labels[sha256s[change.new_filename]].add(change.new_label)
    decisions = [_keep(change, sha256s[change.new_filename]) for change in kept]
    write_decisions(path, [decision for decision in decisions if len(labels[decision.sha256]) == 1])


def _is_of_people(change: Change) -> bool:
    """Whether people decided about an image or, as curate explains without naming who decided, could not agree."""
    return change.decided_by == "person" or (not change.decided_by and bool(change.why))


def _keep(change: Change, sha256: str) -> SavedDecision:
    return SavedDecision(sha256, change.new_filename, change.new_label, "keep", "", "")
