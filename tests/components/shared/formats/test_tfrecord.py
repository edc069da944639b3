"""TFRecord files, beside those that TensorFlow writes."""

import tempfile
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from components.shared.formats.tfrecord import read_records, write_record


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_records_are_written_as_tensorflow_writes_them_and_read_again(records: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours"), Path(folder, "theirs")
        with ours.open("wb") as file:
            for record in records:
                write_record(file, record)
        with tf.io.TFRecordWriter(str(theirs)) as writer:
            for record in records:
                writer.write(record)
        assert ours.read_bytes() == theirs.read_bytes()
        assert list(read_records(ours)) == records


@pytest.mark.parametrize("kept", [1, 11, 12, 14, 19])
def test_a_file_that_ends_within_a_record_says_so(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "cut"
    with path.open("wb") as file:
        write_record(file, b"four")  # 20 bytes
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(EOFError):
        list(read_records(path))
