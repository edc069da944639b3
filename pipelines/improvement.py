"""One turn of the loop: train, find what is wrong with the images, make the next version, train on it, compare."""

from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from pipelines import training
from pipelines.comparison import compare
from pipelines.compiler.stages import Stages


def build(stages: Stages) -> BaseComponent:
    """The pipeline, whose two trainings are its parts `before` and `after`."""
    train_before, train_after = training.build(stages, "before"), training.build(stages, "after")
    data, settings, curation = (stages.parameters[stage] for stage in ("ingest", "train", "curate"))
    # What curate makes, ingest must take.
    max_images = min(curation["max_images"], data["max_images"])

    @dsl.pipeline(  # type: ignore[untyped-decorator]
        name="improvement",
        description="The training pipeline on a data version and on the one made from it, and what that changed.",
        pipeline_root=stages.pipeline_root,
    )
    def improvement(
        # the data
        data_uri: str,
        test_data_uri: str = "",
        data_version: str = "",
        test_data_version: str = "",
        ignored: list = [],  # type: ignore[type-arg]  # noqa: B006 (kfp only reads it, and knows no list[str])
        classes: list = data["classes"],  # type: ignore[type-arg]
        val_share: float = data["val_share"],
        test_share: float = data["test_share"],
        split_seed: int = data["split_seed"],
        content: str = data["content"],
        on_bad_image: str = data["on_bad_image"],
        curated_schema_uri: str = stages.parameters["validate"]["curated_schema_uri"],
        # the next version
        decisions_uris: dict = curation["decisions_uris"],  # type: ignore[type-arg]
        disagreement: str = curation["disagreement"],
        deciding_reviewer: str = curation["deciding_reviewer"],
        most_dropped: float = curation["most_dropped"],
        val_to_train: float = curation["val_to_train"],
        augment_times: float = curation["augment_times"],
        augment_to: int = curation["augment_to"],
        # both trainings
        model: str = stages.parameters["transform"]["model"],
        epochs: int = settings["epochs"],
        batch_size: int = settings["batch_size"],
        learning_rate: float = settings["learning_rate"],
        seed: int = settings["seed"],
        seeds: int = settings["seeds"],
    ) -> None:
        settings_of_both = {
            "curated_schema_uri": curated_schema_uri,
            "model": model,
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "seed": seed,
            "seeds": seeds,
        }
        before = train_before(
            data_uri=data_uri,
            test_data_uri=test_data_uri,
            data_version=data_version,
            test_data_version=test_data_version,
            ignored=ignored,
            classes=classes,
            val_share=val_share,
            test_share=test_share,
            split_seed=split_seed,
            content=content,
            on_bad_image=on_bad_image,
            **settings_of_both,
        )
        audit = audit_images(stages, examples=before.outputs["examples"], content=content, seed=seed)
        curate = stages.add_task(
            "curate",
            examples=before.outputs["examples"],
            issues=audit.outputs["issues"],
            predictions=before.outputs["predictions"],
            decisions_uris=decisions_uris,
            disagreement=disagreement,
            deciding_reviewer=deciding_reviewer,
            most_dropped=most_dropped,
            val_to_train=val_to_train,
            max_images=max_images,
            augment_times=augment_times,
            augment_to=augment_to,
            content=content,
            seed=seed,
        )
        # Every parameter is given: in place of one left out, kfp.local takes this pipeline's own of the same name.
        after = train_after(
            data_uri=curate.outputs["data_uri"],
            test_data_uri="",
            data_version="",
            test_data_version="",
            ignored=[],
            classes=classes,
            val_share=val_share,
            test_share=test_share,
            split_seed=split_seed,
            content=content,
            on_bad_image=data["on_bad_image"],
            **settings_of_both,
        )
        compare(
            stages,
            after.outputs["model"],
            before.outputs["examples"],
            before_evaluation=before.outputs["evaluation"],
            before_predictions=before.outputs["predictions"],
            after_evaluation=after.outputs["evaluation"],
            after_predictions=after.outputs["predictions"],
        )

    return improvement


def audit_images(stages: Stages, **inputs: Any) -> dsl.PipelineTask:
    """Adds the audit; where the config has `parallel_folds`, each of its folds is a task before it.

    Each cross-validation learns from the labels that those before it found plausible, so they follow each other.

    Args:
        stages: what tasks are made from.
        inputs: what both stages take.

    Returns:
        The task of audit.
    """
    settings = stages.parameters["audit"]
    verdicts: Any = []
    if parallel := stages.config.parallel_folds:
        same = {name: settings[name] for name in ("folds", "epochs", "beam_options")}
        for repeat in range(settings["repeats"]):
            with dsl.ParallelFor(list(range(settings["folds"])), parallelism=parallel) as fold:
                judge = stages.add_task(
                    "judge", f"judge-{repeat + 1}", repeat=repeat, fold=fold, verdicts_uris=verdicts, **same, **inputs
                )
            verdicts = dsl.Collected(judge.outputs["verdicts_uri"])
    return stages.add_task("audit", verdicts_uris=verdicts, **inputs)
