"""The step `audit`."""

from kfp.dsl import HTML, Dataset, Input, Markdown, Metrics, Output

from components.shared.artifacts import log_metrics, name_outputs
from components.shared.errors import exit_on_user_error


@exit_on_user_error
@name_outputs
def audit(
    examples: Input[Dataset],
    content: str,
    folds: int,
    repeats: int,
    epochs: int,
    seed: int,
    review_size: int,
    gallery_size: int,
    beam_options: list,
    verdicts_uris: list,
    issues: Output[Dataset],
    review: Output[HTML],
    metrics: Output[Metrics],
    report: Output[HTML],
    summary: Output[Markdown],
) -> None:
    """Ranks the images of train and val by how doubtful their labels are.

    Args:
        examples: The images, as ingest writes them.
        content: What the images are, ink or pictures; auto lets them tell.
        folds: The parts of the cross-validation, 2 or more. Labels of a class with fewer different images are not
            judged.
        repeats: How often to cross-validate, 1 or more; each later repeat trains only on images whose labels the
            earlier ones found plausible.
        epochs: How long each judge is trained, 1 or more.
        seed: From 0 to 2147483647; the same seed gives the same issues.
        review_size: The most images on the review page, from 1 to 50000; with more than 5000 their pictures are small.
        gallery_size: The most images in a gallery of the report, 1 or more.
        beam_options: Options of Apache Beam, which reads the images, each as --name=value.
        verdicts_uris: The addresses of what tasks of judge have found, with the same settings; what is missing there is
            judged here.
        issues: CSV with a row per image, those to look at first on top; its metadata hold the data version.
        review: The page on which a person decides.
        metrics: The number of images, and of images by kind of issue and by suggested action.
        report: Galleries by kind of issue.
        summary: A Markdown file for Kubeflow Pipelines' page of the task.
    """
    from components.audit.audit import audit_examples
    from components.audit.cross_validation import AuditSettings
    from components.audit.summary import write_audit_summary

    summarized = audit_examples(
        examples.path,
        AuditSettings(folds=folds, repeats=repeats, epochs=epochs, seed=seed),
        content=content,
        review_size=review_size,
        gallery_size=gallery_size,
        beam_options=beam_options,
        verdicts_uris=verdicts_uris,
        examples_uri=examples.uri,
        issues_output=issues.path,
        review_output=review.path,
        report_output=report.path,
    )
    issues.metadata["data_version"] = summarized.data_version
    log_metrics(metrics, {"images": summarized.images, **summarized.kinds, **summarized.actions})
    write_audit_summary(summary.path, summarized)
