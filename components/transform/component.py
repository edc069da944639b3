"""The step `transform`: images and labels as the model takes them."""

from kfp.dsl import Artifact, Dataset, Input, Markdown, Output

from components.shared.artifacts import name_outputs
from components.shared.errors import exit_on_user_error


@exit_on_user_error
@name_outputs
def transform(
    examples: Input[Dataset],
    schema: Input[Artifact],
    model: str,
    batch_size: int,
    beam_options: list,
    transformed_examples: Output[Dataset],
    transform_graph: Output[Artifact],
    summary: Output[Markdown],
) -> None:
    """Analyses train with TensorFlow Transform, and applies the preprocessing of the model to every split.

    Args:
        examples: The folder of shards, as ingest writes it.
        schema: The folder with schema.pbtxt, as validate writes it.
        model: The name of a module in models/.
        batch_size: The number of images that are transformed at once; it changes the speed, not the result.
        beam_options: Options of Apache Beam, each as --name=value.
        transformed_examples: A folder of shards with the same images in the same order, with examples.json and
            model.json. An example has `image`, float32 [height, width, channels] as the model takes it, and `label`,
            int64. The metadata holds the model, the data version and the images of each split.
        transform_graph: The transform as TensorFlow Transform writes it, to be put into the model, with model.json.
        summary: A Markdown file for Kubeflow Pipelines' page of the task.

    Raises:
        SystemExit: An option or an input is wrong; the message says what to do.
    """
    from components.transform.summary import write_transform_summary
    from components.transform.transformation import transform_examples

    manifest = transform_examples(
        examples.path,
        examples_uri=examples.uri,
        schema=schema.path,
        model=model,
        batch_size=batch_size,
        beam_options=beam_options,
        examples_output=transformed_examples.path,
        graph_output=transform_graph.path,
    )
    transformed_examples.metadata["model"] = model
    transformed_examples.metadata["data_version"] = manifest.data_version
    for split, content in manifest.splits.items():
        transformed_examples.metadata[f"{split}_images"] = content.images
    write_transform_summary(summary.path, model, manifest)
