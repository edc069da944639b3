"""Beam pipelines whose workers may be on other machines.

With `--temp_location` among its options, the workers of a pipeline need not share a disk with the stage: they read
artifacts by their URI and write below that location, from where the stage takes the results.
"""

import contextlib
import difflib
import io
import logging
import os
import pickle
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions

from components.shared.errors import UserError, quote, shorten

# The job servers of these runners have options of their own, which Beam's Python SDK passes on.
WITH_OWN_OPTIONS = ("PortableRunner", "FlinkRunner", "SparkRunner")
# Beam logs the trace of an error that it also raises, and that may become a sentence.
logging.getLogger("apache_beam.runners").setLevel(logging.CRITICAL)
FAILED = "failed"  # a file in the work folder with the sentence that call_for_each raises
UNCOMPRESSED = "uncompressed"  # one of Beam's CompressionTypes; without it Beam decides by the name of a file


def make_pipeline(options: list[str]) -> beam.Pipeline:
    """Makes a pipeline.

    Args:
        options: Beam's options, each as --name=value.

    Returns:
        The pipeline, which runs at the end of a `with` block.

    Raises:
        UserError: An option or its value is wrong, or one that the runner needs is missing.
    """
    try:
        return beam.Pipeline(options=_parse(options))
    except (ValueError, ImportError, AttributeError) as error:  # such as a runner that does not exist
        raise UserError(f"beam_options: {shorten(error)}.") from None


def call_for_each(elements: Sequence[Any], function: Callable[..., None], *, options: list[str], work: str) -> None:
    """Calls a function for each element, such as a shard, on whichever worker is free.

    Args:
        elements: What it is called for.
        function: It takes an element, and may be called for one again, as when a worker was lost. What it makes it
            writes to the work folder, so that the pipeline holds nothing.
        options: Beam's options.
        work: The address of the work folder.

    Raises:
        UserError: An option is wrong, or the function raised it.
    """
    with make_pipeline(options) as pipeline:
        _ = pipeline | beam.Create(elements) | beam.Map(_call, function=function, work=work)
    if exists(f"{work}/{FAILED}"):
        with open_local_copy(f"{work}/{FAILED}") as path:
            raise UserError(path.read_text(encoding="utf-8"))


def _call(element: Any, *, function: Callable[..., None], work: str) -> None:
    """Calls the function, unless it has failed; Beam would repeat what failed, and end with a stack trace."""
    failed = f"{work}/{FAILED}"
    if exists(failed):
        return
    try:
        function(element)
    except UserError as error:
        with open_local_target(failed) as path:
            path.write_text(str(error), encoding="utf-8")


def choose_address(path: str, uri: str, options: list[str]) -> str:
    """Chooses the address at which workers find an artifact.

    Args:
        path: Where it is on this machine.
        uri: Where it is in the artifact store; may be empty.
        options: Beam's options; with --temp_location among them, workers may be on other machines.

    Returns:
        The path or the URI, without a slash at the end.
    """
    return (uri if uri and _get_temp_location(options) else path).rstrip("/")


def choose_target(path: str, below_work: str, options: list[str]) -> str:
    """Chooses the address at which workers write many files: the path itself, if they are sure to be on this machine.

    Args:
        path: Where the files are to be on this machine.
        below_work: An address in the work folder.
        options: Beam's options.

    Returns:
        One of both. From the second, `take` brings the files to the first.
    """
    return below_work if _get_temp_location(options) else path


@contextlib.contextmanager
def make_work_folder(options: list[str], beside: Path) -> Iterator[str]:
    """Makes a folder that every worker can write to, and removes it at the end.

    Args:
        options: Beam's options; the folder is below --temp_location, if that is among them.
        beside: The folder of this machine in which it is otherwise.

    Yields:
        The address of the new folder.

    Raises:
        UserError: An option is wrong.
    """
    parsed = _parse(options)
    FileSystems.set_options(parsed)
    folder = f"{_get_temp_location(options) or beside}/work-{uuid.uuid4().hex}"
    if not _is_remote(folder):
        os.makedirs(folder)
    try:
        yield folder
    finally:
        try:
            if _is_remote(folder):
                FileSystems.delete([f"{folder}/"])  # the slash: with all that is in it
            else:  # here Beam would remove the files and leave the folders
                shutil.rmtree(folder)
        except Exception as error:  # the pipeline has ended, well or not; its leftovers are no reason to fail
            print(f"{folder}: not removed ({shorten(error)})", flush=True)


def take(source: str, target: Path) -> None:
    """Brings a file or folder that workers wrote to the path `target` on this machine."""
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
def open_local_copy(address: str) -> Iterator[Path]:
    """Yields a path on this machine at which the file or folder can be read."""
    if not _is_remote(address):
        yield Path(address)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy"
        take(address, path)
        yield path


@contextlib.contextmanager
def open_local_target(address: str) -> Iterator[Path]:
    """Yields a path on this machine; the file written there is at `address` when the block ends well."""
    if not _is_remote(address):
        path = Path(address)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new"
        yield path
        with path.open("rb") as new, FileSystems.create(address, compression_type=UNCOMPRESSED) as file:
            shutil.copyfileobj(new, file, 2**20)


def write_parcel(address: str, content: list[Any]) -> None:
    """Writes what the stage and a worker tell each other to the work folder, which only they write to."""
    with open_local_target(address) as path:
        path.write_bytes(pickle.dumps(content))


def read_parcel(address: str) -> list[Any]:
    """Reads what write_parcel wrote."""
    with open_local_copy(address) as path:
        content: list[Any] = pickle.loads(path.read_bytes())
    return content


def exists(address: str) -> bool:
    """Whether there is a file at a path or URI."""
    return bool(FileSystems.exists(address))


def _download(address: str, path: Path) -> None:
    with FileSystems.open(address, compression_type=UNCOMPRESSED) as file, path.open("wb") as new:
        shutil.copyfileobj(file, new, 2**20)


def _is_remote(address: str) -> bool:
    return "://" in address


def _get_temp_location(options: list[str]) -> str:
    return (_parse(options).view_as(GoogleCloudOptions).temp_location or "").rstrip("/")


def _parse(options: list[str]) -> PipelineOptions:
    for option in options:
        if not (isinstance(option, str) and option.startswith("--")):
            raise UserError(f"beam_options: {quote(option)} is not an option; write it as --name=value.")
    parsed = PipelineOptions(options)
    with _explain_argument_errors():
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
def _explain_argument_errors() -> Iterator[None]:
    """Keeps the last line of what argparse prints before it exits; the hundreds of lines before are its usage."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            yield
    except SystemExit:
        raise UserError(f"beam_options: {printed.getvalue().strip().splitlines()[-1].split('error: ')[-1]}.") from None
