"""The step `judge`: one fold of the audit, for a cluster that judges several at once."""

from kfp.dsl import Artifact, Dataset, Input, Output, OutputPath

from components.shared.artifacts import name_outputs
from components.shared.errors import exit_on_user_error


@exit_on_user_error
@name_outputs
def judge(
    examples: Input[Dataset],
    repeat: int,
    fold: int,
    verdicts_uris: list,
    content: str,
    folds: int,
    epochs: int,
    seed: int,
    beam_options: list,
    verdicts: Output[Artifact],
    verdicts_uri: OutputPath(str),  # type: ignore[valid-type]
) -> None:
    """Judges the images of one fold by a network that learns from the others, as audit itself would.

    Args:
        examples: The images, as ingest writes them.
        repeat: The number of the cross-validation, from 0.
        fold: The number of the part that is judged, from 0.
        verdicts_uris: The addresses of the verdicts of all folds of the cross-validation before; what is missing there
            is judged here.
        content: This and the next three as for audit, which must be given the same.
        folds: Likewise.
        epochs: Likewise.
        seed: Likewise.
        beam_options: Options of Apache Beam, which reads the images, each as --name=value.
        verdicts: A folder with the verdict; that of fold 0 has those of the cross-validations before as well, so that
            audit finds all in the folders of the last.
        verdicts_uri: The address of verdicts, for a list of those of all folds.

    Raises:
        SystemExit: A parameter is out of range, or there are too few images to judge.
    """
    from pathlib import Path

    from components.judge.judging import judge_examples

    judge_examples(
        examples.path,
        repeat=repeat,
        fold=fold,
        verdicts_uris=verdicts_uris,
        content=content,
        folds=folds,
        epochs=epochs,
        seed=seed,
        beam_options=beam_options,
        verdicts_output=verdicts.path,
        examples_uri=examples.uri,
    )
    Path(verdicts_uri).write_text(verdicts.uri, encoding="utf-8")
