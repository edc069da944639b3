"""Compares two runs, on the images of the earlier one."""

from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from pipelines.compiler.stages import Stages, import_artifact


def build(stages: Stages) -> BaseComponent:
    """The pipeline."""

    @dsl.pipeline(  # type: ignore[untyped-decorator]
        name="comparison",
        description="Compares the data versions and the models of two runs.",
        pipeline_root=stages.pipeline_root,
    )
    def comparison(
        # of the earlier run
        examples_uri: str,
        before_evaluation_uri: str,
        before_predictions_uri: str,
        # of the later run
        model_uri: str,
        after_evaluation_uri: str,
        after_predictions_uri: str,
    ) -> None:
        compare(
            stages,
            import_artifact("model", model_uri, "Model"),
            import_artifact("examples", examples_uri, "Dataset"),
            before_evaluation=import_artifact("before_evaluation", before_evaluation_uri, "Artifact"),
            before_predictions=import_artifact("before_predictions", before_predictions_uri, "Dataset"),
            after_evaluation=import_artifact("after_evaluation", after_evaluation_uri, "Artifact"),
            after_predictions=import_artifact("after_predictions", after_predictions_uri, "Dataset"),
        )

    return comparison


def compare(stages: Stages, model: Any, examples: Any, **evaluations: Any) -> None:
    """Adds the tasks that compare a new model with the previous one.

    A change of the val and test images must not show in the figures, so both models are measured on the images as they
    were before: that is the yardstick.

    Args:
        stages: what tasks are made from.
        model: the new model.
        examples: of the previous version.
        evaluations: the other inputs of compare.
    """
    yardstick = stages.add_task("evaluate", "yardstick", model=model, examples=examples)
    stages.add_task("compare", yardstick_predictions=yardstick.outputs["predictions"], examples=examples, **evaluations)
