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


def build(stages: Stages, name: str = "training") -> BaseComponent:
    settings = stages.parameters["train"]

    @dsl.pipeline(
        name=name,
        description="One turn of the data: ingest, validate, transform, train, evaluate.",
        pipeline_root=stages.pipeline_root,
    )
    def training(
        # the data
        data_uri: str,
        test_data_uri: str = "",
        data_version: str = "",
        on_bad_image: str = stages.parameters["ingest"]["on_bad_image"],
        # the training
        epochs: int = settings["epochs"],
        batch_size: int = settings["batch_size"],
        learning_rate: float = settings["learning_rate"],
        seed: int = settings["seed"],
    ) -> Outputs:
        ingest = stages.task(
            "ingest",
            data_uri=data_uri,
            test_data_uri=test_data_uri,
            data_version=data_version,
            on_bad_image=on_bad_image,
        )
        validate = stages.task("validate", examples=ingest.outputs["examples"])
        transform = stages.task("transform", examples=ingest.outputs["examples"], schema=validate.outputs["schema"])
        train = stages.task(
            "train",
            transformed_examples=transform.outputs["transformed_examples"],
            transform_graph=transform.outputs["transform_graph"],
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
        )
        evaluate = stages.task("evaluate", model=train.outputs["model"], examples=ingest.outputs["examples"])
        return Outputs(
            ingest.outputs["examples"],
            train.outputs["model"],
            evaluate.outputs["evaluation"],
            evaluate.outputs["predictions"],
        )

    return training
