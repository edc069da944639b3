"""TensorFlow Transform over Beam: analyse the train split, then apply the transform graph to every shard."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from numpy.typing import NDArray
from tensorflow_metadata.proto.v0.schema_pb2 import Schema
from tensorflow_transform.tf_metadata import schema_utils
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder
from tfx_bsl.public import tfxio

from components.shared.beam import (
    call_for_each,
    choose_address,
    make_pipeline,
    make_work_folder,
    open_local_copy,
    open_local_target,
    take,
)
from components.shared.datasets import without_tuning
from components.shared.errors import UserError, shorten
from components.shared.files import new_directory
from components.shared.fixed_models import GUIDE, FixedModel, call_model, load_model
from components.shared.formats import schema as schema_format
from components.shared.formats.examples import (
    ENCODED,
    FEATURES,
    LABEL,
    ExamplesManifest,
    ImageExample,
    open_examples,
    write_manifest,
)
from components.shared.formats.transformed import write_model_name
from models.preprocessing import IMAGE
from models.preprocessing import LABEL as MODEL_LABEL

GRAPH = "graph"  # the folder below the work folder
ApplyGraph = Callable[[tf.Tensor], dict[str, tf.Tensor]]  # from serialized examples to transformed ones
Preprocess = Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]


def transform_examples(
    examples: str,
    *,
    schema: str,
    model: str,
    batch_size: int,
    beam_options: list[str],
    examples_output: str,
    graph_output: str,
    examples_uri: str = "",
) -> ExamplesManifest:
    """Writes the transform graph and, shard by shard in the same order, the transformed examples.

    The arguments are those of the component (component.py); `examples_uri` is where workers on other machines find the
    examples.

    Returns:
        The manifest of the transformed examples.

    Raises:
        UserError: An option or the model is wrong, the schema cannot be read, or a shard is missing or changed.
    """
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; it must be 1 or more.")
    fixed = load_model(model)
    opened = open_examples(examples)
    opened.check_images()
    parsed = _read_schema(Path(schema) / schema_format.FILE)
    address = choose_address(examples, examples_uri, beam_options)
    names = [shard.name for shard in opened.manifest.shards]
    with new_directory(graph_output) as graph, new_directory(examples_output) as output:
        with make_work_folder(beam_options, output) as work:
            print("transform: analysing train", flush=True)
            paths = opened.list_shard_paths("train", address)
            preprocess = _guard_preprocessing(fixed, model)
            _analyze(paths, preprocess, schema=parsed, beam_options=beam_options, work=work)
            print("transform: transforming all splits", flush=True)
            # One shard per call, so that the order of the examples, and so every byte, is the same on any runner.
            transform = partial(_transform_shard, examples=address, shown=examples, batch_size=batch_size, work=work)
            call_for_each(names, transform, options=beam_options, work=work)
            take(f"{work}/{GRAPH}", graph)
            for name in names:
                take(f"{work}/{name}", output / name)
        manifest = opened.manifest.rehash_shards(output)
        write_manifest(output, manifest)
        for folder in (graph, output):
            write_model_name(folder, model)
    return manifest


def _read_schema(path: Path) -> Schema:
    """Reads a schema of images, in which each feature has the type that ingest gives it."""
    advice = "give the output `schema` of validate"
    schema = schema_format.read_schema(path, advice)
    try:
        specs = schema_utils.schema_as_feature_spec(schema).feature_spec
    except ValueError as error:
        raise UserError(f"{path}: is not a schema of examples ({shorten(error)}); {advice}.") from None
    dtypes = {bytes: tf.string, str: tf.string, int: tf.int64, float: tf.float32}
    known = {name: dtypes[kind] for name, kind in zip(FEATURES, get_type_hints(ImageExample).values(), strict=True)}
    for name, spec in specs.items():
        if spec.dtype != known.get(name):
            raise UserError(f"{path}: images have no feature {name} of the type {spec.dtype.name}; {advice}.")
    for name in (ENCODED, LABEL):
        if specs.get(name) != tf.io.FixedLenFeature([1], known[name]):
            raise UserError(f"{path}: does not say that each image has one {name}; {advice}.")
    return schema


def _guard_preprocessing(fixed: FixedModel, name: str) -> Preprocess:
    """The preprocessing of the model, which raises a UserError if it does not make what the model takes."""

    def preprocess(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        place = f"models/{name}.py: preprocessing_fn"
        outputs = call_model(place, lambda: fixed.preprocessing_fn(inputs))
        needed = {IMAGE: (tf.float32, [*fixed.SIZE, fixed.CHANNELS]), MODEL_LABEL: (tf.int64, [])}
        if not isinstance(outputs, dict) or not all(map(tf.is_tensor, outputs.values())):
            raise UserError(f"{place} returns no tensors by their names; {GUIDE}.")
        if set(outputs) != set(needed):
            raise UserError(f"{place} returns {', '.join(sorted(outputs)) or 'nothing'}; it must be image and label.")
        for output, (dtype, shape) in needed.items():
            tensor = outputs[output]
            if tensor.dtype != dtype or tensor.shape.rank is None or tensor.shape.as_list()[1:] != shape:
                wanted = f"{dtype.name} {['batch', *shape]}".replace("'", "")
                raise UserError(
                    f"{place} returns {output} as {tensor.dtype.name} {tensor.shape}, not {wanted}; {GUIDE}."
                )
        return outputs

    return preprocess


def _analyze(paths: list[str], preprocess: Preprocess, *, schema: Schema, beam_options: list[str], work: str) -> None:
    """Writes the transform graph, with the statistics of all images at these paths, below the work folder."""
    source = tfxio.TFExampleRecord(file_pattern=paths, schema=schema, telemetry_descriptors=["transform"])
    graph = f"{work}/{GRAPH}"
    with (
        make_pipeline(beam_options) as pipeline,
        tft_beam.Context(temp_dir=f"{work}/temporary", use_deep_copy_optimization=True),
    ):
        train = (pipeline | source.BeamSource(), source.TensorAdapterConfig())
        transform_fn = train | tft_beam.AnalyzeDataset(preprocess)
        _ = transform_fn | tft_beam.WriteTransformFn(graph)
        raw_metadata = tft.DatasetMetadata(schema)
        _ = raw_metadata | tft_beam.WriteMetadata(f"{graph}/{tft.TFTransformOutput.RAW_METADATA_DIR}", pipeline)


def _transform_shard(name: str, *, examples: str, shown: str, batch_size: int, work: str) -> None:
    apply_graph, encoder = _load_graph(f"{work}/{GRAPH}")
    try:
        _apply_to_shard(name, apply_graph, encoder, examples=examples, batch_size=batch_size, work=work)
    except tf.errors.InvalidArgumentError:
        raise UserError(f"{shown}/{name}: an image of it cannot be decoded; rerun the stage that made it.") from None


def _apply_to_shard(
    name: str,
    apply_graph: ApplyGraph,
    encoder: RecordBatchToExamplesEncoder,
    *,
    examples: str,
    batch_size: int,
    work: str,
) -> None:
    with open_local_copy(f"{examples}/{name}") as source, open_local_target(f"{work}/{name}") as target:
        batches = tf.data.TFRecordDataset(str(source)).batch(batch_size).map(apply_graph, num_parallel_calls=2)
        with tf.io.TFRecordWriter(str(target)) as writer:
            for batch in without_tuning(batches).as_numpy_iterator():
                for record in encoder.encode(_to_record_batch(batch)):
                    # The encoder writes the features of an example in a random order.
                    writer.write(tf.train.Example.FromString(record).SerializeToString(deterministic=True))


@cache
def _load_graph(graph: str) -> tuple[ApplyGraph, RecordBatchToExamplesEncoder]:
    """Loads the function from serialized to transformed examples, and the encoder of its result; once per process."""
    transform_graph = tft.TFTransformOutput(graph)
    raw_spec = transform_graph.raw_feature_spec()
    layer = transform_graph.transform_features_layer()

    def apply_graph(records: tf.Tensor) -> dict[str, tf.Tensor]:
        transformed: dict[str, tf.Tensor] = layer(tf.io.parse_example(records, raw_spec))
        return transformed

    # Converting the layer to a graph with AutoGraph takes seconds and changes nothing.
    apply_unconverted = tf.autograph.experimental.do_not_convert(apply_graph)
    return apply_unconverted, RecordBatchToExamplesEncoder(transform_graph.transformed_metadata.schema)


def _to_record_batch(batch: dict[str, NDArray[Any]]) -> pa.RecordBatch:
    """Arrays [batch, ...] as Arrow columns with one flat list per row."""
    columns = {}
    for name, values in batch.items():
        width = values[0].size
        offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * width)
        columns[name] = pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
