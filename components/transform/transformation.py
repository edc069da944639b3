"""TensorFlow Transform over Beam: analyse the train split, then apply the transform graph to every shard."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.beam import for_workers, local_copy, local_target, new_pipeline, take, work_folder
from components.shared.errors import UserError
from components.shared.files import new_directory
from components.shared.formats.examples import ExamplesManifest, open_examples, write_manifest
from models.preprocessing import preprocessing_fn

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import tensorflow as tf

GRAPH = "graph"  # the folder below the work folder


def transform_examples(
    examples: str,
    schema: str,
    batch_size: int,
    beam_options: list[str],
    examples_output: str,
    graph_output: str,
    examples_uri: str = "",
) -> ExamplesManifest:
    """Writes the transform graph and, shard by shard in the same order, the transformed examples.

    `examples_uri` is where workers on other machines find the examples.

    Returns:
        The manifest of the transformed examples.

    Raises:
        UserError: an option is wrong, or a shard is missing or changed.
    """
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; it must be 1 or more.")
    manifest = open_examples(examples).manifest
    address = for_workers(examples, examples_uri, beam_options)
    with new_directory(graph_output) as graph, new_directory(examples_output) as output:
        with work_folder(beam_options, output) as work:
            print("transform: analysing train", flush=True)
            train = [f"{address}/{shard.name}" for shard in manifest.splits["train"].shards]
            _analyze(train, schema, beam_options, work)
            print("transform: transforming all splits", flush=True)
            _transform(address, [shard.name for shard in manifest.shards], batch_size, beam_options, work)
            take(f"{work}/{GRAPH}", graph)
            for shard in manifest.shards:
                take(f"{work}/{shard.name}", output / shard.name)
        manifest = manifest.for_shards_in(output)
        write_manifest(output, manifest)
    return manifest


def _analyze(paths: list[str], schema: str, beam_options: list[str], work: str) -> None:
    import tensorflow_transform as tft
    import tensorflow_transform.beam as tft_beam
    from google.protobuf.text_format import Parse
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema
    from tfx_bsl.public import tfxio

    parsed = Parse((Path(schema) / "schema.pbtxt").read_text(), Schema())
    source = tfxio.TFExampleRecord(file_pattern=paths, schema=parsed, telemetry_descriptors=["transform"])
    graph = f"{work}/{GRAPH}"
    with (
        new_pipeline(beam_options) as pipeline,
        tft_beam.Context(temp_dir=f"{work}/temporary", use_deep_copy_optimization=True),
    ):
        train = (pipeline | source.BeamSource(), source.TensorAdapterConfig())
        transform_fn = train | tft_beam.AnalyzeDataset(preprocessing_fn)
        _ = transform_fn | tft_beam.WriteTransformFn(graph)
        raw_metadata = tft.DatasetMetadata(parsed)
        _ = raw_metadata | tft_beam.WriteMetadata(f"{graph}/{tft.TFTransformOutput.RAW_METADATA_DIR}", pipeline)


def _transform(examples: str, names: list[str], batch_size: int, beam_options: list[str], work: str) -> None:
    """One task per shard, so that the order of the examples, and with it every byte, is the same on any runner."""
    import apache_beam as beam

    with new_pipeline(beam_options) as pipeline:
        _ = (
            pipeline
            | "shards" >> beam.Create(names)  # spread over the workers
            | "transform" >> beam.Map(_transform_shard, examples, batch_size, work)
        )


def _transform_shard(name: str, examples: str, batch_size: int, work: str) -> None:
    import tensorflow as tf

    apply_graph, encoder = _load_graph(f"{work}/{GRAPH}")
    with local_copy(f"{examples}/{name}") as source, local_target(f"{work}/{name}") as target:
        batches = tf.data.TFRecordDataset(str(source)).batch(batch_size).map(apply_graph, tf.data.AUTOTUNE)
        with tf.io.TFRecordWriter(str(target)) as writer:
            for batch in batches.as_numpy_iterator():
                for record in encoder.encode(_record_batch(batch)):
                    # The encoder writes the features of an example in a random order.
                    writer.write(tf.train.Example.FromString(record).SerializeToString(deterministic=True))


@cache
def _load_graph(graph: str) -> tuple[Callable[["tf.Tensor"], dict[str, "tf.Tensor"]], Any]:
    """Serialized examples to transformed features, and the encoder of the result; once per worker process."""
    import tensorflow as tf
    import tensorflow_transform as tft
    from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

    transform_graph = tft.TFTransformOutput(graph)
    raw_spec = transform_graph.raw_feature_spec()
    layer = transform_graph.transform_features_layer()

    @tf.autograph.experimental.do_not_convert  # converting the layer takes seconds and changes nothing
    def apply_graph(records: "tf.Tensor") -> dict[str, "tf.Tensor"]:
        return layer(tf.io.parse_example(records, raw_spec))

    return apply_graph, RecordBatchToExamplesEncoder(transform_graph.transformed_metadata.schema)


def _record_batch(batch: dict[str, "np.ndarray"]) -> "pa.RecordBatch":
    """Arrays [batch, ...] as Arrow columns with one flat list per row."""
    import numpy as np
    import pyarrow as pa

    columns = {}
    for name, values in batch.items():
        width = values[0].size
        offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * width)
        columns[name] = pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
