"""Beam pipelines whose workers may be on other machines.

With `--temp_location` among its options, the workers of a pipeline need not share a disk with the stage: they read
artifacts by their URI and write below that location, from where the stage takes the results.
"""

import contextlib
import difflib
import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.errors import UserError

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

# Their job servers know options of their own, which Beam's Python SDK passes on.
WITH_OWN_OPTIONS = ("PortableRunner", "FlinkRunner", "SparkRunner")
UNCOMPRESSED = "uncompressed"  # of Beam's CompressionTypes; without it Beam goes by the name of a file


def new_pipeline(options: list[str]) -> "beam.Pipeline":
    """A pipeline with these options.

    Raises:
        UserError: an option or its value is wrong, or one that the runner needs is missing.
    """
    import apache_beam as beam

    try:
        return beam.Pipeline(options=_parsed(options))
    except (ValueError, ImportError, AttributeError) as error:  # such as a runner that does not exist
        raise UserError(f"beam_options: {_one_line(error)}") from None


def for_workers(path: str, uri: str, options: list[str]) -> str:
    """The address at which workers find an artifact."""
    return (uri if uri and _temp_location(options) else path).rstrip("/")


@contextlib.contextmanager
def work_folder(options: list[str], beside: Path) -> Iterator[str]:
    """A fresh folder that every worker can write to: below --temp_location, or in `beside`. It is removed at the end.

    Raises:
        UserError: an option is wrong.
    """
    from apache_beam.io.filesystems import FileSystems

    parsed = _parsed(options)
    FileSystems.set_options(parsed)
    folder = f"{_temp_location(options) or beside}/work-{uuid.uuid4().hex}"
    if not _is_remote(folder):
        os.makedirs(folder)
    try:
        yield folder
    finally:
        try:
            if _is_remote(folder):
                FileSystems.delete([f"{folder}/"])  # the slash: with all that is in it
            else:  # of a folder with a slash, Beam removes the files alone
                shutil.rmtree(folder)
        except Exception as error:  # the results are there, or the reason why not: this is no reason to fail
            print(f"{folder}: left there, since it could not be removed ({_one_line(error)})", flush=True)


def take(source: str, target: Path) -> None:
    """Brings a file or folder that workers wrote to this machine."""
    from apache_beam.io.filesystems import FileSystems

    if _is_remote(source):
        below = [file.path for file in FileSystems.match([f"{source}/**"])[0].metadata_list]
        for address in below or [source]:
            path = Path(f"{target}{address.removeprefix(source)}")
            path.parent.mkdir(parents=True, exist_ok=True)
            _download(address, path)
    elif os.path.isdir(source):
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.move(source, target)


@contextlib.contextmanager
def local_copy(address: str) -> Iterator[Path]:
    """A path on this machine at which the file can be read."""
    if not _is_remote(address):
        yield Path(address)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy"
        _download(address, path)
        yield path


@contextlib.contextmanager
def local_target(address: str) -> Iterator[Path]:
    """A path on this machine whose file is at `address` when the block ends well."""
    from apache_beam.io.filesystems import FileSystems

    if not _is_remote(address):
        yield Path(address)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new"
        yield path
        with path.open("rb") as new, FileSystems.create(address, compression_type=UNCOMPRESSED) as file:
            shutil.copyfileobj(new, file, 2**20)


def exists(address: str) -> bool:
    from apache_beam.io.filesystems import FileSystems

    return bool(FileSystems.exists(address))


def _download(address: str, path: Path) -> None:
    from apache_beam.io.filesystems import FileSystems

    with FileSystems.open(address, compression_type=UNCOMPRESSED) as file, path.open("wb") as new:
        shutil.copyfileobj(file, new, 2**20)


def _is_remote(address: str) -> bool:
    return "://" in address


def _temp_location(options: list[str]) -> str:
    from apache_beam.options.pipeline_options import GoogleCloudOptions

    return (_parsed(options).view_as(GoogleCloudOptions).temp_location or "").rstrip("/")


def _parsed(options: list[str]) -> "PipelineOptions":
    from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions

    for option in options:
        if not (isinstance(option, str) and option.startswith("--")):
            raise UserError(f"beam_options: {option!r} is not an option; write it as --name=value.")
    parsed = PipelineOptions(options)
    with _argument_errors():
        known = parsed.get_all_options()
        unknown = parsed.get_all_options(retain_unknown_options=True).keys() - known.keys()
    runner = parsed.view_as(StandardOptions).runner or ""
    if unknown and runner not in WITH_OWN_OPTIONS:
        near = difflib.get_close_matches(min(unknown), known, 1)
        hint = f"; did you mean --{near[0]}?" if near else "."
        raise UserError(f"beam_options: --{min(unknown)} is not an option of Beam{hint}")
    if "Dataflow" in runner and not _is_remote(parsed.view_as(GoogleCloudOptions).temp_location or ""):
        raise UserError("beam_options: Dataflow needs a bucket for its files: --temp_location=gs://BUCKET/FOLDER.")
    return parsed


@contextlib.contextmanager
def _argument_errors() -> Iterator[None]:
    """argparse prints its usage, hundreds of lines, and exits; only its last line is about the mistake."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            yield
    except SystemExit:
        raise UserError(f"beam_options: {printed.getvalue().strip().splitlines()[-1].split('error: ')[-1]}.") from None


def _one_line(error: Any) -> str:
    return " ".join(str(error).split())
