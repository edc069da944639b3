"""The training pipeline's job as a TFX pipeline, which everything but the fit is measured against.

    PYTHON benchmarks/tfx_pipeline.py DATA WORK EPOCHS BATCH_SIZE

PYTHON is one that has tfx: 1.16 with TensorFlow 2.16, and apache-beam 2.60. The conversion of
DATA/{train,val}/<class>/*.png to TFRecord is a part of the job. Prints the seconds of the imports and of the fit.
"""

import sys
import time
from pathlib import Path

STARTED = time.perf_counter()

import tensorflow as tf  # noqa: E402
import tensorflow_model_analysis as tfma  # noqa: E402
import tensorflow_transform as tft  # noqa: E402
import tfx.v1 as tfx  # noqa: E402
from tfx_bsl.public.tfxio import TensorFlowDatasetOptions  # noqa: E402

IMPORTED = time.perf_counter()
MODULE = Path(__file__).stem  # which TFX imports for the two functions; a module_file would be built as a wheel first
SIZE, CHANNELS = (32, 32), 3
ENCODED, LABEL = "image/encoded", "image/class/label"
EPOCH_ENDS = "epochs.txt"


def main(data: Path, work: Path, epochs: int, batch_size: int) -> None:
    convert(data, work / "records")
    examples = tfx.components.ImportExampleGen(
        input_base=str(work / "records"),
        input_config=tfx.proto.Input(
            splits=[tfx.proto.Input.Split(name=split, pattern=f"{split}.tfrecord") for split in ("train", "val")]
        ),
    )
    statistics = tfx.components.StatisticsGen(examples=examples.outputs["examples"])
    schema = tfx.components.SchemaGen(statistics=statistics.outputs["statistics"])
    transform = tfx.components.Transform(
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn=f"{MODULE}.preprocessing_fn",
        splits_config=tfx.proto.SplitsConfig(analyze=["train"], transform=["train", "val"]),
    )
    trainer = tfx.components.Trainer(
        run_fn=f"{MODULE}.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        train_args=tfx.proto.TrainArgs(splits=["train"]),
        eval_args=tfx.proto.EvalArgs(splits=["val"]),
        custom_config={"epochs": epochs, "batch_size": batch_size, "ends": str(work / EPOCH_ENDS)},
    )
    evaluator = tfx.components.Evaluator(
        examples=examples.outputs["examples"],
        model=trainer.outputs["model"],
        example_splits=["val"],
        eval_config=tfma.EvalConfig(
            model_specs=[tfma.ModelSpec(signature_name="serving_default", label_key=LABEL)],
            slicing_specs=[tfma.SlicingSpec()],
            metrics_specs=tfma.metrics.specs_from_metrics(
                [tfma.metrics.ExampleCount(), tfma.metrics.MultiClassConfusionMatrixPlot(num_thresholds=1)]
            ),
        ),
    )
    tfx.orchestration.LocalDagRunner().run(
        tfx.dsl.Pipeline(
            pipeline_name="benchmark",
            pipeline_root=str(work / "root"),
            metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
                str(work / "metadata.db")
            ),
            components=[examples, statistics, schema, transform, trainer, evaluator],
        )
    )
    ends = [float(line) for line in (work / EPOCH_ENDS).read_text().split()]
    print(IMPORTED - STARTED, (ends[-1] - ends[0]) * len(ends) / (len(ends) - 1))


def convert(data: Path, records: Path) -> None:
    """What ImportExampleGen imports: the bytes of each image and its label."""
    records.mkdir(parents=True)
    classes = sorted(folder.name for folder in (data / "train").iterdir())
    for split in ("train", "val"):
        with tf.io.TFRecordWriter(str(records / f"{split}.tfrecord")) as writer:
            for label, name in enumerate(classes):
                for path in sorted((data / split / name).iterdir()):
                    features = {
                        ENCODED: tf.train.Feature(bytes_list=tf.train.BytesList(value=[path.read_bytes()])),
                        LABEL: tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                    }
                    example = tf.train.Example(features=tf.train.Features(feature=features))
                    writer.write(example.SerializeToString())


def preprocessing_fn(inputs):  # type: ignore[no-untyped-def]
    """As in models/preprocessing.py."""

    def decode(encoded):  # type: ignore[no-untyped-def]
        image = tf.io.decode_image(encoded, channels=CHANNELS, expand_animations=False)
        return tf.image.resize(image, SIZE)

    images = tf.map_fn(decode, tf.squeeze(inputs[ENCODED], 1), fn_output_signature=tf.float32)
    return {"image": tf.ensure_shape(images, (None, *SIZE, CHANNELS)), "label": tf.squeeze(inputs[LABEL], 1)}


def run_fn(arguments) -> None:  # type: ignore[no-untyped-def]
    """Trains the fixed model of models/resnet.py, and saves it with a signature that takes examples."""
    import keras

    config = arguments.custom_config
    transformed = tft.TFTransformOutput(arguments.transform_output)

    def read(paths, shuffle):  # type: ignore[no-untyped-def]
        options = TensorFlowDatasetOptions(config["batch_size"], label_key="label", num_epochs=1, shuffle=shuffle)
        dataset = arguments.data_accessor.tf_dataset_factory(paths, options, transformed.transformed_metadata.schema)
        return dataset.map(lambda features, label: (features["image"], label)).cache()

    backbone = keras.applications.ResNet50(input_shape=(*SIZE, CHANNELS), include_top=False, weights=None)
    features = keras.Model(backbone.input, backbone.get_layer("conv2_block3_out").output)
    images = keras.Input((*SIZE, CHANNELS))
    hidden = features(keras.applications.resnet.preprocess_input(images))
    model = keras.Model(images, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(hidden)))
    model.compile(
        optimizer=keras.optimizers.Adam(1e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    with open(config["ends"], "w", encoding="utf-8") as ends:
        note_end = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: print(time.perf_counter(), file=ends, flush=True)
        )
        train, val = read(arguments.train_files, True), read(arguments.eval_files, False)
        model.fit(train, validation_data=val, epochs=config["epochs"], callbacks=[note_end], verbose=0)

    served = tf.Module()
    served.model = model

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples):  # type: ignore[no-untyped-def]
        raw = tf.io.parse_example(examples, {ENCODED: tf.io.FixedLenFeature([1], tf.string)})
        image = preprocessing_fn({**raw, LABEL: tf.zeros_like(raw[ENCODED], tf.int64)})["image"]
        return {"probabilities": tf.nn.softmax(model(image))}

    tf.saved_model.save(served, arguments.serving_model_dir, signatures=serve)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), int(sys.argv[3]), int(sys.argv[4]))
