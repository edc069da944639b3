from kfp.dsl import Dataset, Output

from components.shared.errors import exit_on_user_error


@exit_on_user_error
def ingest(
    data_uri: str,
    test_data_uri: str,
    data_version: str,
    classes: list,
    on_bad_image: str,
    max_images: int,
    max_pixels: int,
    shards: int,
    beam_options: list,
    examples: Output[Dataset],
) -> None:
    from components.ingest.ingestion import ingest_folders

    manifest = ingest_folders(
        data_uri,
        test_data_uri,
        data_version,
        classes,
        on_bad_image,
        max_images,
        max_pixels,
        shards,
        beam_options,
        examples.path,
    )
    examples.metadata["data_version"] = manifest.data_version
    examples.metadata["quarantined"] = len(manifest.quarantined)
    for split, content in manifest.splits.items():
        examples.metadata[f"{split}_images"] = content.images
        examples.metadata[f"{split}_classes"] = content.classes
