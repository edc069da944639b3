"""Beam pipelines whose workers may be on other machines.

With `--temp_location` among its options, the workers of a pipeline need not share a disk with the stage: they read
artifacts by their URI and write below that location, from where the stage takes the results.
"""

import contextlib
import logging
import os
import pickle
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import DirectOptions
from apache_beam.runners.portability.fn_api_runner.worker_handlers import SubprocessSdkWorkerHandler
from apache_beam.transforms.combiners import ToList

from components.shared.beam_options import (
    check_options,
    get_temp_location,
    make_patient,
    parse_options,
    runs_elsewhere,
)
from components.shared.errors import UserError, shorten

# Beam logs the trace of an error that it also raises, and that may become a sentence.
logging.getLogger("apache_beam.runners").setLevel(logging.CRITICAL)
WORKER_LOST = threading.Event()  # in the present attempt of a pipeline on this machine
NOTICE = 5  # seconds
ATTEMPTS = 3  # of a pipeline on this machine, if it loses workers
CALLED = "called"  # begins the name of a file in the work folder: for which elements a function was called
FAILED = "failed"  # a file in the work folder with the sentence that call_for_each raises
UNCOMPRESSED = "uncompressed"  # one of Beam's CompressionTypes; without it Beam decides by the name of a file


@contextlib.contextmanager
def make_pipeline(options: list[str]) -> Iterator[beam.Pipeline]:
    """Makes a pipeline, and runs it at the end of the `with` block.

    If a worker on this machine is lost, the pipeline runs again; Flink, Spark and Dataflow repeat what a lost worker
    did themselves.

    Args:
        options: Beam's options, each as --name=value.

    Yields:
        The pipeline.

    Raises:
        UserError: An option or its value is wrong, one that the runner needs is missing, or the service that ran the
            pipeline has failed.
    """
    parsed = parse_options(options)
    make_patient(parsed)
    try:
        pipeline = beam.Pipeline(options=parsed)
    except (ValueError, ImportError, AttributeError) as error:  # such as a runner that does not exist
        raise UserError(f"beam_options: {shorten(error)}.") from None
    yield pipeline
    if runs_elsewhere(parsed):
        _run_elsewhere(pipeline)
    else:
        _run_here(pipeline, parsed.view_as(DirectOptions).direct_running_mode == "multi_processing")


def _run_elsewhere(pipeline: beam.Pipeline) -> None:
    try:
        pipeline.run().wait_until_finish()
    except UserError:
        raise
    except Exception as error:  # that of a worker comes as text, with its trace
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise UserError(
            f"beam_options: the service that ran the pipeline has failed ({shorten(lines[-1])}); its log and those of "
            "its workers say more. If it has lost a worker, start the stage again."
        ) from None


def _run_here(pipeline: beam.Pipeline, has_processes: bool) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        WORKER_LOST.clear()
        try:
            pipeline.run().wait_until_finish()
            return
        except Exception:
            # Its connection may break before its process is seen to have ended.
            if not (has_processes and WORKER_LOST.wait(NOTICE)):
                raise
            if attempt == ATTEMPTS:
                raise UserError(
                    f"Beam has lost a worker process {ATTEMPTS} times, as when memory is short; give the stage more "
                    "memory, or fewer workers by --direct_num_workers in beam_options, and start it again."
                ) from None
            print("Beam has lost a worker process; its pipeline runs again", flush=True)


def _watch_workers() -> None:
    """Lets Beam notice that a worker process of this machine has ended; it would wait for its answer for ever."""
    start = SubprocessSdkWorkerHandler.start_worker

    def start_and_watch(handler: SubprocessSdkWorkerHandler) -> None:
        start(handler)
        threading.Thread(target=_watch, args=[handler], daemon=True).start()

    SubprocessSdkWorkerHandler.start_worker = start_and_watch  # type: ignore[method-assign, assignment, unused-ignore]


def _watch(handler: SubprocessSdkWorkerHandler) -> None:
    """Waits for the end of a worker, and refuses what it has been asked, or is asked later."""
    handler.worker_thread.join()
    connection = handler.control_conn
    push = connection.push

    def push_in_vain(request: Any) -> Any:
        future = push(request)
        if future:  # a request, and not the end
            WORKER_LOST.set()
            future.abort(RuntimeError("the worker has ended"))
        return future

    connection.push = push_in_vain  # type: ignore[method-assign, assignment, unused-ignore]
    if connection._futures_by_id:
        WORKER_LOST.set()
        connection.abort(RuntimeError("the worker has ended"))


_watch_workers()


def call_for_each(elements: Sequence[Any], function: Callable[..., None], *, options: list[str], work: str) -> None:
    """Calls a function for each element, such as a shard, on whichever worker is free.

    Args:
        elements: What it is called for.
        function: It takes an element, and may be called for one again, as when a worker was lost. What it makes it
            writes to the work folder, so that the pipeline holds nothing.
        options: Beam's options.
        work: The address of the work folder.

    Raises:
        UserError: An option is wrong, the function raised it, or the runner left elements out.
    """
    called, failed = f"{work}/{CALLED}-{uuid.uuid4().hex}", f"{work}/{FAILED}"
    with make_pipeline(options) as pipeline:
        _ = (
            pipeline
            | beam.Create(list(enumerate(elements)))
            | beam.Map(_call, function=function, work=work)
            | ToList()
            | "write" >> beam.Map(lambda positions: write_parcel(called, positions))
        )
    if exists(failed):
        with open_local_copy(failed) as path:
            raise UserError(path.read_text(encoding="utf-8"))
    check_complete(len(set(read_parcel(called))) if exists(called) else 0, len(elements))


def check_complete(done: int, expected: int) -> None:
    """Refuses what a runner has left incomplete without an error.

    Raises:
        UserError: The numbers differ.
    """
    if done != expected:
        raise UserError(
            f"beam_options: the runner ended without an error, but with {done:,} of {expected:,} parts, so what it "
            "made is not to be relied on. Take another runner."
        )


def _call(numbered: tuple[int, Any], *, function: Callable[..., None], work: str) -> int:
    """Calls the function, unless it has failed; Beam would repeat what failed, and end with a stack trace."""
    position, element = numbered
    failed = f"{work}/{FAILED}"
    if exists(failed):
        return position
    try:
        function(element)
    except UserError as error:
        with open_local_target(failed) as path:
            path.write_text(str(error), encoding="utf-8")
    return position


def choose_address(path: str, uri: str, options: list[str]) -> str:
    """Chooses the address at which workers find an artifact.

    Args:
        path: Where it is on this machine.
        uri: Where it is in the artifact store; may be empty.
        options: Beam's options; with --temp_location among them, workers may be on other machines.

    Returns:
        The path or the URI, without a slash at the end.
    """
    return (uri if uri and get_temp_location(options) else path).rstrip("/")


def choose_target(path: str, below_work: str, options: list[str]) -> str:
    """Chooses the address at which workers write many files: the path itself, if they are sure to be on this machine.

    Args:
        path: Where the files are to be on this machine.
        below_work: An address in the work folder.
        options: Beam's options.

    Returns:
        Either of them. From the second, `take` brings the files to the first.
    """
    return below_work if get_temp_location(options) else path


@contextlib.contextmanager
def make_work_folder(options: list[str], beside: Path) -> Iterator[str]:
    """Makes a folder that every worker can write to, and removes it at the end.

    Args:
        options: Beam's options; the folder is below --temp_location, if that is among them.
        beside: The folder of this machine in which it is otherwise.

    Yields:
        The address of the new folder.

    Raises:
        UserError: An option is wrong, or a service that the runner needs does not answer.
    """
    check_options(options)
    FileSystems.set_options(parse_options(options))
    folder = f"{get_temp_location(options) or beside}/work-{uuid.uuid4().hex}"
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
    """Brings a file or folder that workers wrote to the path `target` on this machine.

    Raises:
        UserError: It is not there, although the pipeline has ended well.
    """
    if _is_remote(source):
        below = [file.path for file in FileSystems.match([f"{source}/**"])[0].metadata_list]
        if not below and not exists(source):
            check_complete(0, 1)
        for address in below or [source]:
            path = Path(f"{target}{address.removeprefix(source)}")
            path.parent.mkdir(parents=True, exist_ok=True)
            _download(address, path)
    elif os.path.isdir(source):
        shutil.copytree(source, target, dirs_exist_ok=True)
    elif not os.path.exists(source):
        check_complete(0, 1)
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
