"""Containers for real: a Podman of the tests' own, images that hold little more than busybox, and a proxy before it.

Podman's files, its configuration, its socket and all that it keeps lie in one folder, so that nothing of the machine's
own Podman is read or changed.
"""

import contextlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)  # as Go calls it
BUSYBOX = "/bin/busybox"
# What an unprivileged sandbox has no means for is left out: systemd's control groups and journal.
CONTAINERS_CONF = """\
[containers]
netns = "host"
volumes = {volumes}
default_ulimits = ["nofile=20000:20000", "nproc=1000:1000"]
[engine]
runtime = "{runtime}"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{home}/tmp"
"""
STORAGE_CONF = """\
[storage]
driver = "{driver}"
graphroot = "{home}/storage"
runroot = "{home}/run"
[storage.options]
additionalimagestores = [{images}]
"""
# Takes the place of a stage's Python: it does what stage.sh in the data says, and then writes every output.
STAGE = r"""#!/bin/sh
test "$1" = --version && exit
for input; do :; done
TEXT='\(\([^"\\]\|\\.\)*\)'
read_text() { echo "$input" | sed -n "s/.*\"$1\": \"$TEXT\".*/\1/p" | sed 's/\\\(.\)/\1/g'; }
data=$(read_text data_uri) output=$(read_text outputFile)
test -f "$data/stage.sh" && . "$data/stage.sh"
outputs=${input#*'"outputs": {"artifacts": '}
artifacts=${outputs%%', "outputFile"'*}
mkdir -p "${output%/*}"
echo "$artifacts" | sed 's/"uri": "/\n/g' | sed "1d; s/^$TEXT\".*/\1/" | sed 's/\\\(.\)/\1/g' |
    while read -r path; do echo made > "$path"; done
echo "{\"artifacts\": $artifacts}" > "$output"
"""
LINKS = ("cat", "echo", "id", "ls", "mkdir", "sed", "sh", "sleep", "test", "touch")


class MissingError(Exception):
    """What says why there are no containers here."""


class Podman:
    """Podman and its service, on a unix socket."""

    def __init__(self, home: Path, driver: str, images: str, volumes: list[str]) -> None:
        """Writes the configuration; nothing runs yet. See `running_podman`.

        Raises:
            MissingError: Podman or what it needs is not installed.
        """
        if not shutil.which("podman"):
            raise MissingError("Podman is not installed (apt-get install podman)")
        runtime = next((name for name in ("runc", "crun") if shutil.which(name, path="/usr/sbin:/usr/bin")), "")
        if not runtime:
            raise MissingError("Podman has neither runc nor crun (apt-get install runc)")
        if not is_static(Path(BUSYBOX)):
            raise MissingError(f"{BUSYBOX} is no static program (apt-get install busybox-static)")
        self.home, self.socket = home, home / "podman.sock"
        values = {"home": home, "runtime": runtime, "driver": driver, "images": json.dumps(images) if images else ""}
        values["volumes"] = json.dumps(volumes)
        for name, text in (("containers.conf", CONTAINERS_CONF), ("storage.conf", STORAGE_CONF)):
            (home / name).write_text(text.format(**values), encoding="utf-8")
        self.environment = {
            "CONTAINERS_CONF": str(home / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(home / "storage.conf"),
        }
        self._service: subprocess.Popen[bytes] | None = None

    def run(self, *command: str) -> str:
        """What podman prints; a command that fails is an error."""
        done = subprocess.run(
            ["podman", *command], env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=600
        )
        if done.returncode:
            raise MissingError(f"podman {command[0]}: {done.stderr.strip()}")
        return done.stdout.strip()

    def list_containers(self) -> list[str]:
        """The names of the containers, of those that have ended as well."""
        return self.run("ps", "--all", "--format", "{{.Names}}").split()

    def remove_containers(self) -> None:
        """Removes them, also those that run."""
        self.run("rm", "--all", "--force", "--time=0")

    def load(self, name: str, **options: Any) -> None:
        """Makes an image of that name; see `write_image`."""
        archive = self.home / "image.tar"
        write_image(archive, name, **options)
        self.run("load", "--quiet", "--input", str(archive))

    def start(self) -> None:
        """Starts the service, unless it runs, and waits until it answers."""
        if self._service and self._service.poll() is None:
            return
        self.socket.unlink(missing_ok=True)
        with (self.home / "service.log").open("ab") as log:
            self._service = subprocess.Popen(
                ["podman", "system", "service", "--time=0", f"unix://{self.socket}"],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._service.poll() is not None or time.monotonic() > deadline:
                raise MissingError(f"podman system service: {(self.home / 'service.log').read_text()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            return True
        return False

    def kill(self) -> None:
        """Ends the service at once; its containers go on."""
        if self._service:
            self._service.kill()
            self._service.wait()

    def close(self) -> None:
        """Ends the service and removes the containers; what they have mounted is unmounted."""
        with contextlib.suppress(MissingError, subprocess.TimeoutExpired):
            self.remove_containers()
        self.kill()
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
        for place in sorted((place for place in mounted if place.startswith(f"{self.home}/")), reverse=True):
            subprocess.run(["umount", "--lazy", place], check=False)


def is_static(program: Path) -> bool:
    """Whether a program needs no other files."""
    return program.is_file() and b"/ld-linux" not in program.read_bytes()[:4096]


@contextlib.contextmanager
def running_podman(
    home: Path, *, driver: str = "vfs", images: str = "", volumes: Iterable[str] = ()
) -> Iterator[Podman]:
    """A Podman that can run containers here.

    Args:
        home: the folder for all that it keeps.
        driver: how it stores images; vfs works everywhere.
        images: the folder of another Podman or Buildah whose images it is to have too, stored in the same way.
        volumes: what all containers see, FOLDER:PLACE:ro each.

    Raises:
        MissingError: there is none.
    """
    podman = Podman(home, driver, images, list(volumes))
    try:
        podman.load("localhost/trial:1")
        podman.run("run", "--rm", "--network=host", "localhost/trial:1", "sh", "-c", "echo works")
        podman.start()
        yield podman
    finally:
        podman.close()


def write_image(
    archive: Path,
    name: str,
    *,
    script: str | bytes = STAGE,
    architecture: str = "",
    user: str = "65532:65532",
    entrypoint: tuple[str, ...] = (),
) -> None:
    """Writes an image as `docker save` does: busybox, and the script that takes the place of python3.

    Args:
        archive: the file.
        name: of the image.
        script: what python3 is; empty for no python3.
        architecture: that the image is for, by the name that Go has for it; this machine's, if empty.
        user: that its containers run as, unless they are told otherwise.
        entrypoint: what comes before the command, unless that is told otherwise.
    """
    layer = _pack_layer(script.encode() if isinstance(script, str) else script)
    configuration = {
        "architecture": architecture or ARCHITECTURE,
        "os": "linux",
        "config": {"User": user, "Entrypoint": entrypoint, "Env": ["PATH=/bin"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer).hexdigest()}"]},
        "history": [{"created_by": "tests"}],
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        for path, content in (
            ("config.json", json.dumps(configuration).encode()),
            ("layer.tar", layer),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            _add(tar, path, content)


def _pack_layer(script: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("bin", "tmp"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
        _add(tar, "bin/busybox", Path(BUSYBOX).read_bytes())
        if script:
            _add(tar, "bin/python3", script)
        for name in LINKS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return file.getvalue()


def _add(tar: tarfile.TarFile, path: str, content: bytes) -> None:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(content), 0o755
    tar.addfile(entry, io.BytesIO(content))


def borrow_python(python: str, project: Path) -> tuple[str, list[str]]:
    """Lets small images run real stages: with a Python of this machine and its packages, which containers see.

    Args:
        python: its path.
        project: the folder with the stages' code.

    Returns:
        What python3 is in the images, and the volumes of Podman.
    """
    ask = "import os, sys; print(os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix))"
    done = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True)
    prefix, base = done.stdout.split()
    settings = "PYTHONPATH=/app HOME=/tmp PYTHONDONTWRITEBYTECODE=1 _KFP_RUNTIME=true TF_CPP_MIN_LOG_LEVEL=2"
    script = f'#!/bin/sh\ncd /app\nexport {settings}\nexec {prefix}/bin/python "$@"\n'
    system = [folder for folder in ("/usr", "/lib", "/lib64") if Path(folder).exists()]
    own = [folder for folder in (prefix, base) if not folder.startswith("/usr/")]
    return script, [*(f"{folder}:{folder}:ro" for folder in [*system, *own]), f"{project}:/app:ro"]


class Answer(NamedTuple):
    """What the proxy answers in the daemon's place."""

    status: str  # such as 500 Internal Server Error
    message: str

    def encode(self) -> bytes:
        """As HTTP."""
        body = json.dumps({"message": self.message}).encode()
        head = f"HTTP/1.1 {self.status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


class Proxy:
    """A socket before the daemon's, which sees each request before the daemon does."""

    def __init__(self, path: Path, daemon: Path) -> None:
        """Passes everything on."""
        self.path, self._daemon = path, daemon
        self._hooks: list[tuple[re.Pattern[bytes], Callable[[], Answer | None]]] = []
        self._later_hooks: list[tuple[re.Pattern[bytes], Callable[[], None]]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        path.chmod(0o666)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def before(self, request: str, act: Callable[[], Answer | None]) -> None:
        """Calls a function before requests like this one are passed on: METHOD PATH, as a pattern.

        If it returns an answer, the request is not passed on.
        """
        self._hooks.append((re.compile(request.encode()), act))

    def after(self, request: str, act: Callable[[], None]) -> None:
        """Calls a function when the daemon has answered such a request, before the answer is passed on."""
        self._later_hooks.append((re.compile(request.encode()), act))

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)  # which wakes the thread that waits
        self._listener.close()
        self.path.unlink()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        daemon: socket.socket | None = None
        awaited: list[Callable[[], None]] = []  # what to call when the daemon answers
        try:
            while data := client.recv(65536):
                if answer := self._ask_hooks(data):
                    client.sendall(answer.encode())
                    continue
                if daemon is None:  # now, since the hook may have started it
                    daemon = socket.socket(socket.AF_UNIX)
                    daemon.connect(str(self._daemon))
                    threading.Thread(target=_pass_on, args=(daemon, client, awaited), daemon=True).start()
                awaited += [act for pattern, act in self._later_hooks if pattern.match(data)]
                daemon.sendall(data)
        except OSError:
            pass
        finally:
            _shut_down(client, daemon)

    def _ask_hooks(self, data: bytes) -> Answer | None:
        for pattern, act in self._hooks:
            if pattern.match(data):
                return act()
        return None


def _pass_on(daemon: socket.socket, client: socket.socket, awaited: list[Callable[[], None]]) -> None:
    with contextlib.suppress(OSError):
        while data := daemon.recv(65536):
            while awaited:
                awaited.pop()()
            client.sendall(data)
    _shut_down(client, daemon)


def _shut_down(*ends: socket.socket | None) -> None:
    for end in filter(None, ends):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
