"""One fold of the audit's cross-validation: its verdict in the file in which the audit keeps and looks for it."""

import shutil
from pathlib import Path

from components.audit.cross_validation import AuditSettings, check_settings, find_judged_classes, judge_one_fold
from components.audit.finished_folds import fetch_verdicts
from components.audit.reading import read_images
from components.shared.beam import make_work_folder
from components.shared.duplicates import check_content, find_duplicates
from components.shared.errors import UserError
from components.shared.files import new_directory, scratch_folder
from components.shared.formats.examples import open_examples


def judge_examples(
    folder: str,
    *,
    repeat: int,
    fold: int,
    verdicts_uris: list[str],
    content: str,
    folds: int,
    epochs: int,
    seed: int,
    beam_options: list[str],
    verdicts_output: str,
    examples_uri: str = "",
) -> None:
    """Writes a folder with the verdict on the images of one fold.

    It takes the component's arguments (see component.py), with `folder` for the examples and `examples_uri` for where
    workers on other machines find them.

    Raises:
        UserError: A setting is out of range, the examples are damaged, or there are too few to judge.
    """
    if repeat < 0:
        raise UserError(f"repeat is {repeat}; it must be 0 or more.")
    settings = AuditSettings(folds, repeat + 1, epochs, seed)
    check_settings(settings)
    if not 0 <= fold < folds:
        raise UserError(f"fold is {fold}; it must be from 0 to {folds - 1}, since folds is {folds}.")
    check_content(content)
    examples = open_examples(folder)
    with new_directory(verdicts_output) as output, scratch_folder(Path(verdicts_output).with_name("work")) as scratch:
        kept = scratch / "kept"
        fetch_verdicts(verdicts_uris, kept)
        with make_work_folder(beam_options, scratch) as work:
            read = read_images(
                examples,
                content,
                beam_options=beam_options,
                examples_uri=examples_uri,
                work=work,
                views=scratch / "views.npy",
            )
        groups = find_duplicates(read.fingerprints, read.ink).groups
        classes = len(examples.manifest.classes)
        is_judged = find_judged_classes(read.labels, groups, classes=classes, folds=folds)
        verdict = judge_one_fold(
            read, groups, is_judged=is_judged, settings=settings, work=kept, repeat=repeat, fold=fold
        )
        for file in kept.rglob(f"*{verdict.suffix}") if fold == 0 else [verdict]:
            target = output / file.relative_to(kept)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
