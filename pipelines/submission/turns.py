"""Turns of the loop, one after the other: what each has brought, whether another one is worth it, how it begins."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from components.shared.errors import UserError
from components.shared.formats.changes import Change, read_changes
from components.shared.formats.comparison import DIFFERENCES, AccuracyChange, Comparison, is_relabelled
from components.shared.formats.decisions import ADVICE, EARLIER_FILE, REQUIRED, SavedDecision, write_decisions
from components.shared.formats.manifest import read_manifest
from components.shared.formats.tables import read_rows
from pipelines.compiler.config import Config
from pipelines.output.display import TurnFigures
from pipelines.submission.request import RunRequest

DEFAULT_SEEDS = 3  # models of each version, where nobody has said how many


class Gain(NamedTuple):
    """How much more often a new model is right than another, on the val images of the earlier version.

    Those that have another label in the new version count with that one.
    """

    change: float  # with several seeds of the mean
    low: float  # this and the next bound what other images would show
    high: float
    margin: float | None  # the change and this to both sides bound what other seeds would show; None with one seed
    is_of_length: bool  # whether the lengths of the trainings differ, and that alone may be why

    @property
    def is_beyond_seed(self) -> bool:
        """Whether it is above 0 whatever the seeds; with one seed nobody knows, and it counts as if it were."""
        return self.margin is None or self.change > self.margin

    @property
    def is_real(self) -> bool:
        """Whether it is above 0 by more than chance: whatever the seeds, and whatever the choice of images."""
        return self.is_beyond_seed and self.low > 0

    @property
    def interval(self) -> str:
        """What other images would show, such as +0.003…+0.039."""
        return f"{self.low:+.3f}…{self.high:+.3f}"

    def __str__(self) -> str:
        """Such as +0.021 ± 0.011, or with one seed +0.021 (+0.003…+0.039)."""
        limit = f"({self.interval})" if self.margin is None else f"± {self.margin:.3f}"
        return f"{self.change:+.3f} {limit}"


class LeftOut(NamedTuple):
    """What ingest has left out of a version."""

    duplicates: int = 0  # images that it took for the same picture as one of val or test
    unreadable: int = 0  # files that are no images, or damaged


class Turn(NamedTuple):
    """A turn that was taken to its end."""

    run: str  # its name
    folder: Path  # of the run
    data: str  # the folder that it has curated
    comparison: Comparison  # with the version that it began with
    since_first: Comparison  # with the version that the first turn began with
    left_out: LeftOut = LeftOut()

    @property
    def gain(self) -> Gain:
        """What it has brought."""
        return read_gain(self.comparison)

    @property
    def has_changed(self) -> bool:
        """Whether images or labels are others; the first copies of images count as images, other copies do not."""
        data = self.comparison["data"]
        had_copies = any(each["augmented_before"] for split in data["images"].values() for each in split.values())
        return any(data[name] for name in DIFFERENCES if name != "augmented" or not had_copies)

    @property
    def is_worthwhile(self) -> bool:
        """Whether it is to be adopted, and another one may follow."""
        return self.has_changed and self.gain.is_real


def read_gain(comparison: Comparison) -> Gain:
    """The change in accuracy: the mean over the seeds if there are several, otherwise the difference of the two models.

    Where people corrected labels of val, it is the accuracy on the corrected ones: on wrong labels a better model may
    look worse.
    """
    val = comparison["splits"]["val"]  # there is one, since no training does without
    corrected = val["corrected"] if is_relabelled(val) else None
    figures: AccuracyChange = corrected or val
    is_of_length = comparison.get("length_may_explain", False)
    if seeds := figures.get("seeds"):
        return Gain(seeds["change"], seeds["low"], seeds["high"], seeds["margin"], is_of_length)
    accuracy = figures["accuracy"]
    return Gain(accuracy["change"], accuracy["low"], accuracy["high"], None, is_of_length)


def describe_gain(number: int, turn: Turn) -> str:
    """What a turn has brought, and whether it is therefore the last, in a sentence."""
    if not turn.has_changed:
        return f"Turn {number} changed nothing: no label and no image but copies, so this is the last."
    if lack := describe_lack(turn.comparison):
        return f"Turn {number} brought {lack}, so this is the last."
    gain = turn.gain
    across_seeds, across_images = f"({gain} on val)", _format_across_images(turn.comparison)
    length = "; but the lengths of the trainings differ, and that alone may be why" if gain.is_of_length else ""
    if gain.margin is not None:
        return f"Turn {number} brought a gain beyond the seed and the choice of images {across_seeds}{length}."
    return (
        f"Turn {number} brought a gain beyond the choice of images {across_images}; with one seed, the seed alone may"
        f" explain it{length}."
    )


def describe_lack(comparison: Comparison) -> str:
    """Why what a comparison shows is no gain: it is within chance, or a loss; empty if it is one."""
    gain = read_gain(comparison)
    if not gain.is_beyond_seed:
        return f"no gain beyond the seed ({gain} on val)"
    if not gain.is_real:
        return f"no gain beyond the choice of images {_format_across_images(comparison)}"
    return ""


def _format_across_images(comparison: Comparison) -> str:
    """Such as (+0.040 on val, 95 %: -0.010…+0.090)."""
    gain = read_gain(comparison)
    return f"({gain.change:+.3f} on val, {format_level(comparison)}: {gain.interval})"


def format_level(comparison: Comparison) -> str:
    """The confidence level of its intervals, such as 95 %."""
    return f"{100 * comparison['confidence_level']:g} %"


def choose_seeds(request: RunRequest, config: Config) -> RunRequest:
    """The request with several seeds, unless the command or the config says how many.

    Args:
        request: of the first turn.
        config: that it names.
    """
    is_chosen = any(param.partition("=")[0] == "seeds" for param in request.params)
    if is_chosen or "seeds" in config.get_stage("train").parameters:
        return request
    return replace(request, params=(*request.params, f"seeds={DEFAULT_SEEDS}"))


def continue_from(request: RunRequest, turn: Turn, config: Config) -> RunRequest:
    """The request of the next turn, on what a turn has curated.

    The test images are in that folder too. What people decided counts on, as the file of the turn has it. Which share
    of val moves to train is a question about the first version alone, whoever has answered it. So is what to do with
    images that cannot be read, of which curate writes none; there the config's answer stays, by which the turn has read
    these images itself, so that the cache has them.

    Args:
        request: of that turn.
        turn: which was taken.
        config: that it names.
    """
    params = [param for param in request.params if not param.startswith("on_bad_image=")]
    decided = os.path.relpath(turn.folder / EARLIER_FILE)
    return replace(
        request,
        data=os.path.relpath(turn.data),
        test_data=None,
        rev=None,
        decisions=(decided,) if Path(decided).is_file() else (),
        params=stop_moving(params, config),
    )


def stop_moving(params: Iterable[str], config: Config) -> tuple[str, ...]:
    """The parameters of a turn on images of which some have moved from val to train: no others move.

    Args:
        params: of the turn before.
        config: which may ask for it as well.
    """
    kept = [param for param in params if not param.startswith("val_to_train=")]
    is_configured = bool(config.get_stage("curate").parameters.get("val_to_train"))
    return (*kept, *["val_to_train=0"] * is_configured)


def find_adoptable(turns: Iterable[Turn]) -> Turn | None:
    """The last turn that brought a gain; None if no turn did."""
    return next((turn for turn in reversed([*turns]) if turn.is_worthwhile), None)


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


def has_left_out(turns: Iterable[Turn]) -> bool:
    """Whether images of val or test do not count in the table, since a version of a turn has them in train."""
    left_out = [split.get("left_out") for turn in turns for split in turn.since_first["splits"].values()]
    return any(each["images"] for each in left_out if each)


def is_corrected(turns: Iterable[Turn]) -> bool:
    """Whether labels of val were corrected, so that gains are those on the corrected ones."""
    return any(is_relabelled(each["splits"]["val"]) for turn in turns for each in (turn.comparison, turn.since_first))


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
    they disagree, stays as it is in the next turn, too, also copies of one picture that have different labels.

    Args:
        path: the file to write.
        changes: what curate has done, as it writes it.
        data: the folder that it has written.

    Raises:
        UserError: one of the two is not as curate writes it, or they are not of one run.
    """
    sha256s = {image.filename: image.sha256 for image in read_manifest(Path(data))}
    kept = [change for change in read_changes(changes) if change.new_filename and _is_of_people(change)]
    for change in kept:
        if change.new_filename not in sha256s:
            raise UserError(
                f"{changes}: has {change.new_filename}, which the manifest.csv of the curated folder has not; give the"
                " outputs `changes` and `data` of the same run of curate."
            )
    write_decisions(path, [_keep(change, sha256s[change.new_filename]) for change in kept])


def find_decisions(runs: Path, data: Path) -> str:
    """The newest file of what people decided before about images that a data set has; empty if there is none.

    It fits if all of the images are in the data set, as they were: after they were adopted from that run.

    Args:
        runs: the folder of the runs of an experiment.
        data: the folder of the images.
    """
    files = sorted(runs.glob(f"*/{EARLIER_FILE}"), key=lambda file: file.stat().st_mtime, reverse=True)
    return next((os.path.relpath(file) for file in files if _fits(file, data)), "")


def _fits(file: Path, data: Path) -> bool:
    try:
        decided = [(row["filename"], row["sha256"]) for _, row in read_rows(file, REQUIRED, ADVICE)]
        hashes = (hashlib.sha256((data / name).read_bytes()).hexdigest() == sha256 for name, sha256 in decided)
        return bool(decided) and all(hashes)
    except (OSError, UserError):  # an image that is not there, or a file that somebody has damaged
        return False


def _is_of_people(change: Change) -> bool:
    """Whether people decided about an image or, as curate explains without naming who decided, could not agree."""
    return change.decided_by == "person" or (not change.decided_by and bool(change.why))


def _keep(change: Change, sha256: str) -> SavedDecision:
    return SavedDecision(sha256, change.new_filename, change.new_label, "keep", "", "")
