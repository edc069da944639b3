"""The summary of curate: what the next version is made of."""

from collections.abc import Mapping

from components.shared.summary import count, write_summary


def write_curation_summary(output: str, counts: Mapping[str, int]) -> None:
    """Writes the Markdown file.

    Args:
        output: The file to write.
        counts: The numbers of images, as curate_examples returns them.
    """
    if undecided := counts.get("undecided", 0):
        next_step = (
            f"decide on the page disputed about the {count(undecided, 'image')} on which people disagree, and give the "
            "file that it saves to submit.py with another --decisions."
        )
    else:
        next_step = "look at the changes in the report. If they are right, adopt.py makes them the next data version."
    write_summary(
        output,
        f"The next version has {count(counts['train_images'], 'image')} in train and {counts['val_images']:,} in val.",
        {name: number for name, number in counts.items() if name not in ("train_images", "val_images")},
        next_step,
    )
