from kfp.dsl import Artifact, Dataset, Input, Output

from components.shared.errors import exit_on_user_error


@exit_on_user_error
def transform(
    examples: Input[Dataset],
    schema: Input[Artifact],
    batch_size: int,
    beam_options: list,
    transformed_examples: Output[Dataset],
    transform_graph: Output[Artifact],
) -> None:
    from components.transform.transformation import transform_examples

    manifest = transform_examples(
        examples.path,
        schema.path,
        batch_size,
        beam_options,
        transformed_examples.path,
        transform_graph.path,
        examples.uri,
    )
    transformed_examples.metadata["data_version"] = manifest.data_version
    for split, content in manifest.splits.items():
        transformed_examples.metadata[f"{split}_images"] = content.images
