"""The bare loop that ingest is measured against: read each file, write a tf.train.Example, one after another.

    .venv-stages/bin/python benchmarks/bare_loop.py DATA OUTPUT [--decode]

Prints the seconds that the loop took, without the imports. With --decode it decodes each picture, as ingest must to
know that it is whole and how large it is; without, it copies the bytes.
"""

import hashlib
import io
import sys
import time
from pathlib import Path

import tensorflow as tf
from PIL import Image


def main(data: str, output: str, decode: bool) -> None:
    """Writes an example per image of the folders data/*/*."""
    started = time.perf_counter()
    with tf.io.TFRecordWriter(output) as writer:
        for label, folder in enumerate(sorted(Path(data).glob("*/*"))):
            for path in sorted(folder.iterdir()):
                example = make_example(
                    path.read_bytes(), filename=path.name, class_name=folder.name, label=label, decode=decode
                )
                writer.write(example.SerializeToString())
    print(time.perf_counter() - started)


def make_example(data: bytes, *, filename: str, class_name: str, label: int, decode: bool) -> tf.train.Example:
    features = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[data])),
        "image/filename": tf.train.Feature(bytes_list=tf.train.BytesList(value=[filename.encode()])),
        "image/key/sha256": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[hashlib.sha256(data).hexdigest().encode()])
        ),
        "image/class/text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[class_name.encode()])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    if decode:
        picture = Image.open(io.BytesIO(data))
        picture.load()
        for name, value in (
            ("height", picture.height),
            ("width", picture.width),
            ("channels", len(picture.getbands())),
        ):
            features[f"image/{name}"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Example(features=tf.train.Features(feature=features))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "--decode" in sys.argv)
