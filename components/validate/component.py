"""The step `validate`: statistics, a schema, and what is wrong with the images."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Markdown, Metrics, Output

from components.shared.artifacts import log_metrics, name_outputs
from components.shared.errors import exit_on_user_error


@exit_on_user_error
@name_outputs
def validate(
    examples: Input[Dataset],
    curated_schema_uri: str,
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
    summary: Output[Markdown],
) -> None:
    """Describes the examples with statistics and a schema, and reports what is wrong with them.

    Args:
        examples: The folder of shards, as ingest writes it.
        curated_schema_uri: The schema that the images must fit, a path or gs://BUCKET/OBJECT; empty to infer one from
            them.
        label_threshold: The largest L-infinity distance, 0 to 1, between the label distributions of train and val
            (skew) or test (drift), beyond what chance allows for this many images.
        scalar_threshold: The largest Jensen-Shannon divergence, 0 to 1, between the distributions of a scalar such as
            the contrast, for the same pairs of splits, likewise.
        blank_contrast: An image is blank if the standard deviation of its intensity, 0 to 0.5, is smaller.
        imbalance_ratio: A class is reported if it has this many times fewer or more images than the median class.
        severity: "error", "warning" or "ignore" for kinds of finding, by name; "warning" for the kinds that are left
            out. An error ends the run.
        beam_options: Options of Apache Beam, each as --name=value.
        statistics: A folder with a DatasetFeatureStatisticsList per split, <split>.tfrecord.
        schema: A folder with schema.pbtxt: the one that was given or, if none was, inferred from the images.
        findings: A JSON file, a list of findings.
        metrics: The number of findings by kind.
        report: An HTML page with the counts, the distributions and the findings with their pictures.
        summary: A Markdown file for Kubeflow Pipelines' page of the task.

    Raises:
        SystemExit: An option is wrong, or the data has errors; the message names them and says what to do.
    """
    from components.validate.summary import write_validation_summary
    from components.validate.validation import Thresholds, validate_examples

    counts = validate_examples(
        examples.path,
        examples_uri=examples.uri,
        curated_schema_uri=curated_schema_uri,
        thresholds=Thresholds(label_threshold, scalar_threshold, blank_contrast, imbalance_ratio),
        severity=severity,
        beam_options=beam_options,
        statistics_output=statistics.path,
        schema_output=schema.path,
        findings_output=findings.path,
        report_output=report.path,
    )
    log_metrics(metrics, counts)
    write_validation_summary(summary.path, counts)
