"""TFRecord files and the tf.train.Example in them, without TensorFlow, which the tools do not have.

A record is its length (uint64, little-endian), a checksum of that, its bytes, and a checksum of these, each a masked
CRC32C (https://www.tensorflow.org/tutorials/load_data/tfrecord). A reader passes over the checksums: the shards of
examples are known by their sha256, and what cannot be read as the message that it should be is refused.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from components.shared.files import open_regular

_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")
_MASK = 0xA282EAD8  # of https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/lib/hash/crc32c.h
_FIELD = descriptor_pb2.FieldDescriptorProto
# The kinds of values that a feature has, with their fields' numbers and types:
# https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/feature.proto
_LISTS = (("bytes", 1, _FIELD.TYPE_BYTES), ("float", 2, _FIELD.TYPE_FLOAT), ("int64", 3, _FIELD.TYPE_INT64))


def read_records(path: str | Path) -> Iterator[bytes]:
    """Yields each record of a TFRecord file that is not compressed.

    Raises:
        EOFError: The file ends within a record.
        OSError: It cannot be read.
    """
    with open_regular(path) as file:

        def take(size: int) -> bytes:
            content = file.read(size) if size < 2**31 else b""  # protobuf has no larger message
            if len(content) != size:
                raise EOFError
            return content

        while beginning := file.read(_LENGTH.size):
            if len(beginning) != _LENGTH.size:
                raise EOFError
            take(_CHECKSUM.size)
            (length,) = _LENGTH.unpack(beginning)
            record = take(length)
            take(_CHECKSUM.size)
            yield record


def write_record(file: BinaryIO, record: bytes) -> None:
    """Adds a record to a TFRecord file, as TensorFlow's writer does without compression."""
    length = _LENGTH.pack(len(record))
    file.write(length + _mask_checksum(length) + record + _mask_checksum(record))


def _mask_checksum(content: bytes) -> bytes:
    import google_crc32c  # here, since the stages that only read have none

    checksum = google_crc32c.value(content)
    return _CHECKSUM.pack(((checksum >> 15 | checksum << 17) + _MASK) & 0xFFFFFFFF)


def _make_example_type() -> Any:
    """The class of tf.train.Example, in a pool of its own, since TensorFlow defines the same one."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")

    def add_field(message: Any, name: str, number: int, kind: Any, *, is_repeated: bool = False, **more: Any) -> None:
        label = _FIELD.LABEL_REPEATED if is_repeated else _FIELD.LABEL_OPTIONAL
        message.field.add(name=name, number=number, type=kind, label=label, **more)

    def add_message_field(message: Any, name: str, number: int, type_name: str, **more: Any) -> None:
        add_field(message, name, number, _FIELD.TYPE_MESSAGE, type_name=f".tensorflow.{type_name}", **more)

    feature = descriptor_pb2.DescriptorProto(name="Feature")
    feature.oneof_decl.add(name="kind")
    for name, number, kind in _LISTS:
        list_type = f"{name.capitalize()}List"
        add_field(file.message_type.add(name=list_type), "value", 1, kind, is_repeated=True)
        add_message_field(feature, f"{name}_list", number, list_type, oneof_index=0)
    file.message_type.append(feature)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    add_field(entry, "key", 1, _FIELD.TYPE_STRING)
    add_message_field(entry, "value", 2, "Feature")
    add_message_field(features, "feature", 1, "Features.FeatureEntry", is_repeated=True)
    add_message_field(file.message_type.add(name="Example"), "features", 1, "Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


Example = _make_example_type()
