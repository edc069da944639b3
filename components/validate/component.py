from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output

from components.shared.errors import exit_on_user_error


@exit_on_user_error
def validate(
    examples: Input[Dataset],
    label_threshold: float,
    scalar_threshold: float,
    blank_contrast: float,
    imbalance_ratio: float,
    severity: dict,
    beam_options: list,
    statistics: Output[Artifact],
    schema: Output[Artifact],
    findings: Output[Artifact],
    metrics: Output[Metrics],
    report: Output[HTML],
) -> None:
    from components.validate.validation import Thresholds, validate_examples

    thresholds = Thresholds(label_threshold, scalar_threshold, blank_contrast, imbalance_ratio)
    counts = validate_examples(
        examples.path,
        thresholds,
        severity,
        beam_options,
        statistics.path,
        schema.path,
        findings.path,
        report.path,
        examples.uri,
    )
    for kind, count in counts.items():
        metrics.log_metric(kind, count)
