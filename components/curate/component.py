"""The component curate, which makes the next data version from a data version, its audit and people's decisions."""

from kfp.dsl import HTML, Dataset, Input, Markdown, Metrics, Output, OutputPath

from components.shared.artifacts import log_metrics, name_outputs
from components.shared.errors import exit_on_user_error


@exit_on_user_error
@name_outputs
def curate(
    examples: Input[Dataset],
    issues: Input[Dataset],
    predictions: Input[Dataset],
    decisions_uris: dict,
    disagreement: str,
    deciding_reviewer: str,
    policy_splits: list,
    relabel_confidence: float,
    drop_confidence: float,
    doubt_confidence: float,
    duplicates: str,
    most_dropped: float,
    val_to_train: float,
    cleaning: list,
    max_images: int,
    augment_times: float,
    augment_to: int,
    hard_weight: float,
    flips: dict,
    content: str,
    ink_variation: str,
    ink_tones: float,
    seed: int,
    beam_options: list,
    data: Output[Dataset],
    data_uri: OutputPath(str),  # type: ignore[valid-type]
    changes: Output[Dataset],
    disputed: Output[HTML],
    metrics: Output[Metrics],
    report: Output[HTML],
    summary: Output[Markdown],
) -> None:
    """Makes the next data version.

    Args:
        examples: The images of the data version, as ingest writes them.
        issues: issues.csv, as audit writes it for these examples.
        predictions: The predictions for these examples, as evaluate writes them.
        decisions_uris: The decisions of each person, a path or gs://BUCKET/OBJECT by name; empty if there are none. An
            export in which several people decided counts as a file of each.
        disagreement: What counts where people disagree: majority or unanimity.
        deciding_reviewer: The person whose word counts there; empty for nobody.
        policy_splits: The splits in which the policy may act: train, val, or both.
        relabel_confidence: The least confidence at which the policy follows a suggested label.
        drop_confidence: The least confidence at which it drops an image that the audit suggests to drop.
        doubt_confidence: The least doubt at which it drops an image that the audit only suggests to look at, or, below
            0.7, does not doubt.
        duplicates: What happens to all but one of the images of a group of duplicates: drop or keep.
        most_dropped: The largest share of a class that the policy may drop before it stops.
        val_to_train: About which share of val moves to train; 0 for none.
        cleaning: The names of the operations on each picture of train and val, in the order they are applied.
        max_images: The most images that train and val may hold together.
        augment_times: The images of train including augmented ones, as a multiple of those before curation.
        augment_to: The number of images of train and val including augmented ones, in place of augment_times; 0 makes
            none, and -1 leaves it to augment_times.
        hard_weight: How much more is made of what the model gets wrong on val; 0 treats all images alike.
        flips: For each class, the directions in which its images may be flipped.
        content: What the images are, ink or pictures, which are changed in other ways; auto lets them tell.
        ink_variation: How far the copies of ink are changed: mild or strong.
        ink_tones: The share of the copies of ink that get tones of their own for paper and ink.
        seed: The seed of the augmentation, which also says which part of val stays.
        beam_options: Options of Apache Beam, which writes the images, each as --name=value.
        data: The folder of the new version, with manifest.csv.
        data_uri: The address of data, for a pipeline that takes its data by address.
        changes: A CSV file with a row per image of the examples.
        disputed: The page on which a person decides about the images that people leave undecided; empty without any.
        metrics: The numbers of images that were changed, and those of the new splits.
        report: The report, an HTML page.
        summary: A Markdown file for Kubeflow Pipelines' page of the task.

    Raises:
        SystemExit: A parameter is out of range, or the inputs are broken or do not belong together.
    """
    from pathlib import Path

    from components.curate.augmentation import Augmentation
    from components.curate.curation import CurationInputs, CurationOutputs, curate_examples
    from components.curate.planning import Policy
    from components.curate.summary import write_curation_summary
    from components.curate.voting import Voting
    from components.shared.formats.decisions import normalize_name

    counts = curate_examples(
        CurationInputs(examples.path, issues.path, predictions.path, decisions_uris, examples.uri),
        CurationOutputs(data.path, changes.path, disputed.path, report.path),
        voting=Voting(disagreement, normalize_name(deciding_reviewer)),
        policy=Policy(
            policy_splits,
            relabel_confidence,
            drop_confidence,
            doubt_confidence,
            duplicates,
            most_dropped,
            val_to_train,
            seed,
        ),
        cleaning=cleaning,
        augmentation=Augmentation(
            max_images, augment_times, augment_to, hard_weight, flips, content, ink_variation, ink_tones, seed
        ),
        beam_options=beam_options,
    )
    log_metrics(metrics, counts)
    Path(data_uri).write_text(data.uri, encoding="utf-8")
    write_curation_summary(summary.path, counts)
