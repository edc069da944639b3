"""The component compare, which says what changed from the evaluation of one data version to that of the next."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Markdown, Metrics, Output

from components.shared.artifacts import log_metrics, name_outputs
from components.shared.errors import exit_on_user_error


@exit_on_user_error
@name_outputs
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
    summary: Output[Markdown],
) -> None:
    """Compares the evaluations of two consecutive data versions.

    Args:
        before_evaluation: The evaluation of the previous model on the previous version.
        before_predictions: The predictions of that evaluation.
        after_evaluation: The evaluation of the new model on the new version.
        after_predictions: The predictions of that evaluation.
        yardstick_predictions: The predictions of the new model for the images of the previous version.
        examples: The images of the previous version.
        resamples: The number of resamples of the bootstrap, 100 or more.
        confidence_level: The confidence level of the intervals, between 0 and 1.
        seed: The seed of the bootstrap.
        slice_bins: The number of slices, with equally many images, into which each scalar is cut.
        gallery_size: The most images that a gallery of the report shows.
        comparison: A folder with comparison.json.
        metrics: A few figures for the KFP UI.
        report: The report, an HTML page.
        summary: A Markdown file for Kubeflow Pipelines' page of the task.

    Raises:
        SystemExit: A parameter is out of range, or the inputs are broken or do not belong together.
    """
    from components.compare.comparison import ComparisonInputs, compare_evaluations, list_metrics
    from components.compare.paired import Bootstrap
    from components.compare.summary import write_comparison_summary

    inputs = ComparisonInputs(
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
    log_metrics(metrics, list_metrics(result))
    metrics.metadata["data_version"] = result["after"]["data_version"]
    metrics.metadata["data_version_before"] = result["before"]["data_version"]
    write_comparison_summary(summary.path, result)
