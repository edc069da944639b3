"""A table in place of a folder of images, CSV or Parquet, as people write it. Its splits are called as folders are.

path,label,split
photos/1.png,cat,train
gs://bucket/2.png,dog,val

Paths are relative to the folder of the table. Without the column `split` the images are divided by ingest.
"""

SUFFIXES = (".csv", ".parquet")
COLUMNS = ("path", "label")
SPLIT = "split"  # a third column, which may be missing
LIKE_SPLIT = ("splits", "subset", "set", "partition", "fold", "phase")  # what people call it too
ADVICE = "a table of images has the columns path and label, and perhaps split"


def is_table_name(name: str) -> bool:
    """Whether a path or address is that of a table of images, unless it is a folder."""
    return name.lower().endswith(SUFFIXES)
