from kfp.dsl import HTML, Dataset, Input, Metrics, Output

from components.shared.errors import exit_on_user_error


@exit_on_user_error
def audit(
    examples: Input[Dataset],
    folds: int,
    repeats: int,
    epochs: int,
    seed: int,
    review_size: int,
    gallery_size: int,
    issues: Output[Dataset],
    review: Output[HTML],
    metrics: Output[Metrics],
    report: Output[HTML],
) -> None:
    from components.audit.audit import audit_examples
    from components.audit.judging import Settings

    settings = Settings(folds, repeats, epochs, seed)
    found = audit_examples(examples.path, settings, review_size, gallery_size, issues.path, review.path, report.path)
    issues.metadata["data_version"] = found["data_version"]
    for name, count in {"images": found["images"], **found["kinds"], **found["actions"]}.items():
        metrics.log_metric(name, count)
