"""The step `ingest`: labelled images become TFRecord shards."""

from kfp.dsl import Dataset, Markdown, Output

from components.shared.artifacts import can_list_classes, name_outputs
from components.shared.errors import exit_on_user_error


@exit_on_user_error
@name_outputs
def ingest(
    data_uri: str,
    test_data_uri: str,
    data_version: str,
    test_data_version: str,
    ignored: list,  # of str; kfp knows no other spelling of a JsonArray
    classes: list,  # of str
    val_share: float,
    test_share: float,
    split_seed: int,
    content: str,
    on_bad_image: str,
    max_images: int,
    max_pixels: int,
    shards: int,
    beam_options: list,
    examples: Output[Dataset],
    summary: Output[Markdown],
) -> None:
    """Writes the labelled images of a data set as tf.train.Example in TFRecord shards, with counts and the version.

    Args:
        data_uri: A folder with train/<class>/, val/<class>/ and perhaps test/<class>/, or with class folders alone: a
            path, gs://bucket/folder, or a DVC version, which is the address of its manifest:
            <remote>/files/md5/<2 hex>/<30 hex>.dir. Or a table (.csv, .parquet) in one of these, with the columns path,
            label and perhaps split.
        test_data_uri: The same kinds of address, of a folder whose class folders are the test split; empty if there is
            none, or if the data has a test split.
        data_version: The DVC version of the data, <md5>.dir; empty computes it from the files. Of a folder in a bucket
            it is the one that submit.py has found there: if the content is another by now, the step fails.
        test_data_version: That of test_data_uri, likewise; empty if it is not known.
        ignored: The files and folders of data_uri (split/class/file) and of test_data_uri (test/class/file) on a disk
            that are no part of the data, because DVC ignores them.
        classes: The names of the classes in the order of their labels; empty takes those of the data, 2 before 10 and
            the ten Roman numerals by their values.
        val_share: The share of val, 0 .. 1, of images that have no split.
        test_share: The share of test, likewise, if the data has no test split.
        split_seed: Another one divides these images in another way.
        content: What the images are, ink or pictures, by which ingest knows the same picture in two splits that it
            makes; auto lets them tell.
        on_bad_image: "fail", or "quarantine" to leave bad images out and list them in the manifest.
        max_images: The most images that train and val may hold together.
        max_pixels: The most pixels, width times height, that an image may have; a larger one is a bad image.
        shards: The number of shards of each split, each written by one worker; those that get no image are left out.
            0 for four of at most 128 MiB, or as many more as that takes.
        beam_options: Options of Apache Beam, each as --name=value.
        examples: The folder of shards, with the manifest examples.json. Its metadata holds the data version, the
            number of quarantined images, the images of each split and, where can_list_classes allows, each class.
        summary: A Markdown file for Kubeflow Pipelines' page of the task.

    Raises:
        SystemExit: An option or the data is wrong; the sentence says what to do.
    """
    from components.ingest.division import Shares
    from components.ingest.ingestion import ingest_data
    from components.ingest.summary import write_ingest_summary

    manifest = ingest_data(
        data_uri,
        test_data_uri=test_data_uri,
        data_version=data_version,
        test_data_version=test_data_version,
        ignored=ignored,
        classes=classes,
        shares=Shares(val_share, test_share, split_seed),
        content=content,
        on_bad_image=on_bad_image,
        max_images=max_images,
        max_pixels=max_pixels,
        shards=shards,
        beam_options=beam_options,
        output=examples.path,
    )
    examples.metadata["data_version"] = manifest.data_version
    examples.metadata["quarantined"] = len(manifest.quarantined)
    if manifest.made_split:
        examples.metadata["duplicates_left_out"] = len(manifest.made_split.duplicates)
    for split, info in manifest.splits.items():
        examples.metadata[f"{split}_images"] = info.images
        if can_list_classes(info.classes):
            examples.metadata[f"{split}_classes"] = info.classes
    write_ingest_summary(summary.path, manifest)
