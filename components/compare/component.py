from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output

from components.shared.errors import exit_on_user_error


@exit_on_user_error
def compare(
    before_evaluation: Input[Artifact],
    before_predictions: Input[Dataset],
    after_evaluation: Input[Artifact],
    after_predictions: Input[Dataset],
    yardstick_predictions: Input[Dataset],
    examples: Input[Dataset],
    resamples: int,
    confidence_level: float,
    seed: int,
    slice_bins: int,
    gallery_size: int,
    comparison: Output[Artifact],
    metrics: Output[Metrics],
    report: Output[HTML],
) -> None:
    from components.compare.comparison import Inputs, compare_evaluations, scalar_metrics
    from components.compare.paired import Bootstrap

    inputs = Inputs(
        before_evaluation.path,
        before_predictions.path,
        after_evaluation.path,
        after_predictions.path,
        yardstick_predictions.path,
        examples.path,
    )
    bootstrap = Bootstrap(resamples, confidence_level, seed)
    result = compare_evaluations(inputs, bootstrap, slice_bins, gallery_size, comparison.path, report.path)
    for name, value in scalar_metrics(result).items():
        metrics.log_metric(name, value)
    metrics.metadata["data_version"] = result["after"]["data_version"]
    metrics.metadata["data_version_before"] = result["before"]["data_version"]
