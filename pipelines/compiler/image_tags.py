"""The tags of the images: each is a hash of all that its image is made of.

So a change of one stage renames the image of that stage alone, the caches of the others stay, and code that is not
committed yet has a tag as exact as any other. `python -m pipelines.compiler.image_tags` prints what `make images`
builds, NAME:TAG for the base and for each stage.
"""

import argparse
import hashlib
import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from components.shared.errors import UserError, command_line, parse_options
from components.shared.files import hash_file

ROOT = Path(__file__).parents[2]
BASE = "base"  # the image that all others stand on
GPU_REQUIREMENTS = "requirements-gpu.txt"
DIGITS = 16  # hexadecimal, of a SHA-256
# A path or pattern within the project, perhaps with the value of an ARG.
_SOURCE = re.compile(r"(?!.*\*\*|.*\.\.|/|\./|\.$)(?:[\w.*?/-]|\$\{\w+\})+")


def find_tag(image: str, *, for_gpu: bool = False) -> str:
    """The tag of the image that `make images` builds of the files as they are now.

    Args:
        image: its name, which is that of a folder in containers/.
        for_gpu: whether it is built with GPU=1, which makes a difference if its Dockerfile takes REQUIREMENTS.

    Raises:
        UserError: it cannot be built, as its Dockerfile or a file that this copies is not there.
    """
    dockerfile = ROOT / "containers" / image / "Dockerfile"
    if not dockerfile.is_file():
        raise UserError(f"{dockerfile}: no such file, from which the image {image} could be built.")
    made_of = ["" if image == BASE else find_tag(BASE)]
    for path in [dockerfile, *filter(Path.is_file, [ROOT / ".dockerignore"]), *list_files(dockerfile, for_gpu=for_gpu)]:
        can_run = bool(path.stat().st_mode & stat.S_IXUSR)
        made_of.append(f"{hash_file(path)} {can_run} {path.relative_to(ROOT).as_posix()}")
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:DIGITS]


def list_files(dockerfile: Path, *, for_gpu: bool) -> list[Path]:
    """The files of the project that its COPY lines take, in the order of their names.

    Raises:
        UserError: one of these lines takes nothing, or is not understood.
    """
    files: set[Path] = set()
    for source in _list_sources(dockerfile, for_gpu=for_gpu):
        matches = list(ROOT.glob(source))
        if not matches:
            raise UserError(f"{dockerfile}: copies {source}, which is not there.")
        for match in matches:
            files |= set(match.rglob("*") if match.is_dir() else [match])
    return sorted(path for path in files if path.is_file() and not _is_ignored(path.relative_to(ROOT)))


def is_fixed(image: str) -> bool:
    """Whether the image's reference means the same code forever, as KFP's cache supposes."""
    return "@sha256:" in image or image.rpartition("/")[2].partition(":")[2] not in ("", "latest")


def _list_sources(dockerfile: Path, *, for_gpu: bool) -> Iterator[str]:
    """Yields the paths and patterns that a Dockerfile takes from the project.

    Raises:
        UserError: a line may take files in a way that is not understood here, so that the tag would not hold for them.
    """
    text = re.sub(r"\\[ \t]*\r?\n", " ", dockerfile.read_text(encoding="utf-8", errors="replace"))
    values = dict(re.findall(r"^\s*ARG\s+(\w+)=(\S+)\s*$", text, re.MULTILINE | re.IGNORECASE))
    if for_gpu:
        values["REQUIREMENTS"] = GPU_REQUIREMENTS
    for line in text.splitlines():
        instruction, *words = line.split() or [""]
        flags = [word for word in words if word.startswith("--")]
        if instruction.upper() in ("COPY", "ADD") and not any(flag.startswith("--from=") for flag in flags):
            sources = [word for word in words if word not in flags][:-1]
            if not sources or not all(_SOURCE.fullmatch(source) for source in sources):
                raise UserError(f"{dockerfile}: '{line}': write it as COPY SOURCE... TARGET, with plain paths.")
            yield from (re.sub(r"\$\{(\w+)\}", lambda found: values.get(found[1], found[0]), each) for each in sources)
        elif instruction.upper() == "ONBUILD":
            raise UserError(f"{dockerfile}: '{line}': leave this to the images that are to be built.")
        elif instruction.upper() == "RUN" and any("type=bind" in flag for flag in flags):
            raise UserError(f"{dockerfile}: '{line}': takes files by a mount; take them by COPY.")


def _is_ignored(path: Path) -> bool:
    """Whether .dockerignore keeps a file, by its path from the project's folder, out of what is built."""
    return path.match("components/*/component.yaml") or "__pycache__" in path.parts


def _main() -> None:
    parser = argparse.ArgumentParser(description="Prints NAME:TAG of the base's image and of each stage's.")
    parser.add_argument("--gpu", action="store_true", help="those of `make images GPU=1`")
    with command_line():
        options = parse_options(parser)
        names = [path.parent.name for path in sorted(ROOT.glob("components/*/component.yaml"))]
        print(*(f"{name}:{find_tag(name, for_gpu=options.gpu)}" for name in [BASE, *names]))


if __name__ == "__main__":
    _main()
