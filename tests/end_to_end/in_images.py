"""submit.py, with every stage in its image by buildah: beside submit.py, `python in_images.py --local ...`.

A stage gets its command and executor input as the compiled pipeline has them, and what it would get on a cluster: the
image's user, the run's artifacts to write to, the data to read. It gets no network.
"""

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

from kfp.local import subprocess_task_handler
from kfp.local.status import Status

from submit import main

USER = 65532
WITHOUT_NETWORK = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


class Buildah:
    """A task handler of kfp.local."""

    def __init__(self, *, image: str, full_command: list[str], pipeline_root: str, **unused: Any) -> None:
        self.image, self.command, self.artifacts = image, full_command, Path(pipeline_root)

    def run(self) -> Status:
        self.artifacts.mkdir(exist_ok=True)
        os.chown(self.artifacts, USER, USER)
        inputs = json.loads(self.command[-1])["inputs"]
        artifacts = [each["artifacts"][0]["uri"] for each in inputs.get("artifacts", {}).values()]
        given = [*inputs.get("parameterValues", {}).values(), *artifacts]
        folders = [value for value in given if isinstance(value, str) and value.startswith("/")]
        folders = [folder for folder in folders if not Path(folder).is_relative_to(self.artifacts)]
        volumes = [f"{self.artifacts}:{self.artifacts}", *(f"{folder}:{folder}:ro" for folder in folders)]
        container = output_of("buildah", "from", "--pull-never", self.image)
        try:
            options = [option for volume in volumes for option in ("--volume", volume)]
            run = ["buildah", "run", "--isolation", "chroot", *options, container, "--", *self.command]
            succeeded = printed([*WITHOUT_NETWORK, *run]) == 0
            return Status.SUCCESS if succeeded and wrote_nothing_else(container) else Status.FAILURE
        finally:
            output_of("buildah", "rm", container)


def printed(command: list[str]) -> int:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="")
    return process.returncode


def wrote_nothing_else(container: str) -> bool:
    """Whether the stage left nothing in its container outside /tmp."""
    root = output_of("buildah", "mount", container)
    written = output_of("find", root, "-xdev", "-user", str(USER), "-not", "-path", f"{root}/tmp/*")
    print(f"written outside of the outputs and /tmp: {written}" if written else "", end="")
    return not written


def output_of(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{shlex.join(command)}: {error.stderr}") from None


subprocess_task_handler.SubprocessTaskHandler = Buildah  # type: ignore[assignment, misc]

if __name__ == "__main__":
    main()
