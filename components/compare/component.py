"""The step compare: what changed between two evaluations."""

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
    """Compares the evaluation of a data version with that of the version before.

    Args:
        before_evaluation: evaluation of the model before on the version before.
        before_predictions: its predictions.
        after_evaluation: evaluation of the new model on the new version.
        after_predictions: its predictions.
        yardstick_predictions: the new model on the images of the version before.
        examples: the images of the version before.
        resamples: of the bootstrap.
        confidence_level: of the intervals, between 0 and 1.
        seed: of the bootstrap.
        slice_bins: into how many slices of equally many images each scalar is cut.
        gallery_size: the most images that a gallery shows.
        comparison: a folder with comparison.json.
        metrics: a few figures for the KFP UI.
        report: an HTML page.
    """
    from components.compare.comparison import Inputs, compare_evaluations, list_metrics
    from components.compare.paired import Bootstrap

    inputs = Inputs(
        before_evaluation.path,
        before_predictions.path,
        after_evaluation.path,
        after_predictions.path,
        yardstick_predictions.path,
        examples.path,
    )
    result = compare_evaluations(
        inputs,
        bootstrap=Bootstrap(resamples, confidence_level, seed),
        slice_bins=slice_bins,
        gallery_size=gallery_size,
        comparison_output=comparison.path,
        report_output=report.path,
    )
    for name, value in list_metrics(result).items():
        metrics.log_metric(name, value)
    metrics.metadata["data_version"] = result["after"]["data_version"]
    metrics.metadata["data_version_before"] = result["before"]["data_version"]
