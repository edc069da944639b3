"""The step curate: a data version, what the audit found and what people decided -> the next data version."""

from kfp.dsl import HTML, Dataset, Input, Metrics, Output, OutputPath

from components.shared.errors import exit_on_user_error


@exit_on_user_error
def curate(
    examples: Input[Dataset],
    issues: Input[Dataset],
    predictions: Input[Dataset],
    decisions_uri: str,
    policy_splits: list,
    relabel_confidence: float,
    drop_confidence: float,
    doubt_confidence: float,
    duplicates: str,
    cleaning: list,
    max_images: int,
    augment_to: int,
    hard_weight: float,
    flips: dict,
    seed: int,
    data: Output[Dataset],
    data_uri: OutputPath(str),  # type: ignore[valid-type]
    changes: Output[Dataset],
    metrics: Output[Metrics],
    report: Output[HTML],
) -> None:
    """Makes the next data version.

    Args:
        examples: as ingest writes them.
        issues: issues.csv, as audit writes it for these examples.
        predictions: as evaluate writes them for these examples.
        decisions_uri: people's decisions, a path or gs://BUCKET/OBJECT; empty if there are none.
        policy_splits: where the policy may act: train, val, or both.
        relabel_confidence: from which confidence on the policy follows a suggested label.
        drop_confidence: from which confidence on it drops what the audit says to drop.
        doubt_confidence: from which confidence on it drops what the audit only says to look at.
        duplicates: drop or keep.
        cleaning: names of operations on each picture of train and val.
        max_images: the most images that train and val may hold together.
        augment_to: images of train and val with the augmented ones; 0 makes none.
        hard_weight: how much more is augmented of what val gets wrong; 0 treats all alike.
        flips: for each class, the directions in which its images may be flipped.
        seed: of the augmentation.
        data: the folder of the new version.
        data_uri: the address of data, for a pipeline that takes its data by address.
        changes: a CSV file with a row per image of the examples.
        metrics: numbers of images, by what became of them.
        report: an HTML page.
    """
    from pathlib import Path

    from components.curate.augmentation import Augmentation
    from components.curate.curation import Inputs, Outputs, curate_examples
    from components.curate.planning import Policy

    counts = curate_examples(
        Inputs(examples.path, issues.path, predictions.path, decisions_uri),
        Outputs(data.path, changes.path, report.path),
        policy=Policy(policy_splits, relabel_confidence, drop_confidence, doubt_confidence, duplicates),
        cleaning=cleaning,
        augmentation=Augmentation(max_images, augment_to, hard_weight, flips, seed),
    )
    for name, count in counts.items():
        metrics.log_metric(name, count)
    Path(data_uri).write_text(data.uri)
