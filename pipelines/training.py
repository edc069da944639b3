"""The training pipeline: images -> examples -> statistics -> transformed examples -> model -> evaluation."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from pipelines.compiler.stages import Stages


class Outputs(NamedTuple):
    """What another pipeline, of which this one is a part, may use."""

    examples: dsl.Dataset
    model: dsl.Model
    evaluation: dsl.Artifact
    predictions: dsl.Dataset


def build(stages: Stages, part: str = "") -> BaseComponent:
    """The pipeline; as a `part` of another one, its tasks have that prefix: before-train."""
    data, settings = stages.parameters["ingest"], stages.parameters["train"]
    prefix = f"{part}-" if part else ""

    @dsl.pipeline(  # type: ignore[untyped-decorator]
        name=part or "training",
        description="Trains and evaluates the model on a data version: ingest, validate, transform, train, evaluate.",
        pipeline_root=stages.pipeline_root,
    )
    def training(
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
        # the training
        model: str = stages.parameters["transform"]["model"],
        epochs: int = settings["epochs"],
        batch_size: int = settings["batch_size"],
        learning_rate: float = settings["learning_rate"],
        seed: int = settings["seed"],
        seeds: int = settings["seeds"],
    ) -> Outputs:
        ingest = stages.add_task(
            "ingest",
            f"{prefix}ingest",
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
        )
        examples = ingest.outputs["examples"]
        validate = stages.add_task(
            "validate", f"{prefix}validate", examples=examples, curated_schema_uri=curated_schema_uri
        )
        schema = validate.outputs["schema"]
        transform = stages.add_task("transform", f"{prefix}transform", examples=examples, schema=schema, model=model)
        train = stages.add_task(
            "train",
            f"{prefix}train",
            transformed_examples=transform.outputs["transformed_examples"],
            transform_graph=transform.outputs["transform_graph"],
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            seeds=seeds,
        )
        evaluate = stages.add_task("evaluate", f"{prefix}evaluate", model=train.outputs["model"], examples=examples)
        return Outputs(
            examples, train.outputs["model"], evaluate.outputs["evaluation"], evaluate.outputs["predictions"]
        )

    return training
