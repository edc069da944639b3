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
    from pathlib import Path

    from components.curate.augmentation import Augmentation
    from components.curate.curation import curate_examples
    from components.curate.planning import Policy

    policy = Policy(policy_splits, relabel_confidence, drop_confidence, doubt_confidence, duplicates)
    augmentation = Augmentation(max_images, augment_to, hard_weight, flips, seed)
    counts = curate_examples(
        examples.path,
        issues.path,
        predictions.path,
        decisions_uri,
        policy,
        cleaning,
        augmentation,
        data.path,
        changes.path,
        report.path,
    )
    for name, count in counts.items():
        metrics.log_metric(name, count)
    Path(data_uri).write_text(data.uri)
