"""The summary of ingest: how many images there are."""

from components.shared.formats.examples import ExamplesManifest
from components.shared.summary import count, write_summary


def write_ingest_summary(output: str, manifest: ExamplesManifest) -> None:
    """Writes the Markdown file.

    Args:
        output: The file to write.
        manifest: The content of examples.json.
    """
    images = sum(split.images for split in manifest.splits.values())
    figures: dict[str, int | str] = {f"images of {name}": split.images for name, split in manifest.splits.items()}
    if manifest.made_split:
        figures["images left out, since the same picture is in val or test"] = len(manifest.made_split.duplicates)
    if manifest.quarantined:
        figures["bad images left out"] = len(manifest.quarantined)
    write_summary(
        output,
        f"{count(images, 'image')} of {count(len(manifest.classes), 'class', 'classes')}.",
        figures | {"data version": manifest.data_version},
        "look at the report of validate, which shows what is unusual or wrong about these images.",
    )
