from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

from components.shared.errors import exit_on_user_error


@exit_on_user_error
def evaluate(
    model: Input[Model],
    examples: Input[Dataset],
    batch_size: int,
    slice_bins: int,
    gallery_size: int,
    evaluation: Output[Artifact],
    predictions: Output[Dataset],
    metrics: Output[Metrics],
    val_confusion_matrix: Output[ClassificationMetrics],
    test_confusion_matrix: Output[ClassificationMetrics],
    report: Output[HTML],
) -> None:
    from components.evaluate.evaluation import evaluate_model
    from components.shared.formats.evaluation import SCALAR_METRICS, measured_splits

    result = evaluate_model(
        model.path, examples.path, batch_size, slice_bins, gallery_size, evaluation.path, predictions.path, report.path
    )
    for split, matrix in (("val", val_confusion_matrix), ("test", test_confusion_matrix)):
        if figures := measured_splits(result).get(split):
            matrix.log_confusion_matrix(result["classes"], figures["confusion_matrix"])
            for name in SCALAR_METRICS:
                metrics.log_metric(f"{split}_{name}", figures[name])
    metrics.metadata["data_version"] = result["data_version"]
