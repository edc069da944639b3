"""The summary of transform: for which model it has made the images."""

from components.shared.fixed_models import load_model
from components.shared.formats.examples import ExamplesManifest
from components.shared.summary import write_summary


def write_transform_summary(output: str, model: str, manifest: ExamplesManifest) -> None:
    """Writes the Markdown file.

    Args:
        output: The file to write.
        model: The name of the model.
        manifest: The manifest of the transformed examples.
    """
    fixed = load_model(model)
    height, width = fixed.SIZE
    write_summary(
        output,
        f"The images are ready for the model {model}, {height} x {width} pixels in {_name_colours(fixed.CHANNELS)}.",
        {f"images of {name}": split.images for name, split in manifest.splits.items()},
        "look at the curves in the report of train.",
    )


def _name_colours(channels: int) -> str:
    return "gray" if channels == 1 else "colour"
