"""The step `evaluate`: what the model predicts, how often it is right, and which images to look at first."""

from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Markdown, Metrics, Model, Output

from components.shared.artifacts import can_list_classes, log_metrics, name_outputs
from components.shared.errors import exit_on_user_error


@exit_on_user_error
@name_outputs
def evaluate(
    model: Input[Model],
    examples: Input[Dataset],
    batch_size: int,
    slice_bins: int,
    gallery_size: int,
    beam_options: list,
    evaluation: Output[Artifact],
    predictions: Output[Dataset],
    metrics: Output[Metrics],
    val_confusion_matrix: Output[ClassificationMetrics],
    test_confusion_matrix: Output[ClassificationMetrics],
    report: Output[HTML],
    summary: Output[Markdown],
) -> None:
    """Predicts every image of the examples and measures the model on val and test.

    Args:
        model: The SavedModel, as train writes it. The models of further seeds in it are measured too, but only for
            their accuracy.
        examples: The folder of shards, as ingest writes it; of the classes that the model was trained on.
        batch_size: The number of images that are predicted at once.
        slice_bins: The number of slices, with equally many images, into which each scalar is cut.
        gallery_size: The most images that a gallery of the report shows.
        beam_options: Options of Apache Beam, each as --name=value.
        evaluation: A folder with evaluation.json: every figure, the data version and the settings of the training.
        predictions: A row per image, as CSV; as Parquet with more than five million cells. In each split those with the
            highest loss come first.
        metrics: The figures of val and test; with several seeds also the mean, least and highest accuracy. The metadata
            holds the data version.
        val_confusion_matrix: The images of val by given label (rows) and prediction (columns); empty if there are more
            than 100 classes. Of two classes also the ROC curve of the second one.
        test_confusion_matrix: The same for test; empty if there is no test split as well.
        report: An HTML page with the error analysis.
        summary: A Markdown file for Kubeflow Pipelines' page of the task.

    Raises:
        SystemExit: An option or an input is wrong; the message says what to do.
    """
    from components.evaluate.evaluation import evaluate_model
    from components.evaluate.summary import write_evaluation_summary
    from components.shared.formats.evaluation import SCALAR_METRICS, list_measured_splits
    from components.shared.seeds import summarize_seeds

    result = evaluate_model(
        model.path,
        examples.path,
        batch_size=batch_size,
        slice_bins=slice_bins,
        gallery_size=gallery_size,
        beam_options=beam_options,
        model_uri=model.uri,
        examples_uri=examples.uri,
        evaluation_output=evaluation.path,
        predictions_output=predictions.path,
        report_output=report.path,
    )
    matrices = {"val": val_confusion_matrix, "test": test_confusion_matrix}
    for split, figures in list_measured_splits(result).items():
        if can_list_classes(result["classes"]):
            matrices[split].log_confusion_matrix(result["classes"], figures["confusion_matrix"])
        if curve := figures.get("roc_curve"):
            rates = curve["false_positive_rate"], curve["true_positive_rate"]
            matrices[split].log_roc_curve(*rates, curve["threshold"])
        log_metrics(metrics, {f"{split}_{name}": figures[name] for name in SCALAR_METRICS})
        log_metrics(metrics, summarize_seeds(f"{split}_accuracy", figures.get("accuracies", [])))
    metrics.metadata["data_version"] = result["data_version"]
    write_evaluation_summary(summary.path, result)
