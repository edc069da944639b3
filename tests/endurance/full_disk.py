"""Lets the disk be full under commands and stages, and checks what they say and leave: `make test-full-disk`.

Each trial runs a command on a disk of its own (a tmpfs, which needs root) that has room for a random part of what the
command writes, temporary files included. What must never be is a trace, an exit with 0 without all outputs, an output
that is half written, or a loss: with room enough, the command must then give what it gives in a fresh folder.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.endurance.kill import Files, Subject, find_half, find_lost, list_subjects, measure, prepare

LARGE = 2 << 30  # bytes: room for everything
MOST = 6 << 20  # bytes: the most that is left free; a stage writes less


def main() -> None:
    """Runs the trials, prints what they found, and exits with 1 if that is anything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="a subject")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    found = 0
    with tempfile.TemporaryDirectory(prefix="full-disk-") as folder:
        template = prepare(Path(folder) / "template")
        subjects = list_subjects(template)
        names = [options.only] if options.only else list(subjects)
        expected = {name: measure(subjects[name], template, Path(folder) / "undisturbed")[0] for name in names}
        disk = Path(folder) / "disk"
        disk.mkdir()
        for number in range(options.trials):
            name = names[number % len(names)]
            free = int(MOST * chance.random() ** 3)  # mostly little, since most outputs of so few images are small
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", disk], check=True)
            try:
                problems = try_one(subjects[name], template, disk, free, expected[name])
            finally:
                subprocess.run(["umount", "--lazy", disk], check=True)
            found += bool(problems)
            print(f"{number:4} {name}, {free >> 10} KiB free:", "; ".join(problems) or "ok", flush=True)
    print(f"{options.trials} full disks: {found} surprises")
    sys.exit(bool(found))


def try_one(subject: Subject, template: Path, disk: Path, free: int, expected: Files) -> list[str]:
    """Runs the command with so many bytes free, and says what is wrong with what it said and left."""
    folder = disk / "trial"
    shutil.copytree(template, folder, symlinks=True)
    temporary = folder / "temporary"
    temporary.mkdir()
    before = subject.outputs(folder)
    used = os.statvfs(disk)
    resize(disk, (used.f_blocks - used.f_bfree) * used.f_frsize + free)
    result = subprocess.run(
        subject.command,
        cwd=folder,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    resize(disk, LARGE)
    problems = find_half(folder, subject, before, expected, is_silenced=True)
    if "Traceback" in result.stdout:
        problems.append("a trace")
    if result.returncode not in (0, 1):
        problems.append(f"exit {result.returncode}")
    if result.returncode == 1 and "No space left" not in result.stdout:
        problems.append("does not say that the disk is full")
    if result.returncode == 0 and not expected.keys() <= subject.outputs(folder).keys():
        problems.append("exit 0 without all outputs")
    if problems:
        print(result.stdout)
    return problems + find_lost(subject, folder, expected)


def resize(disk: Path, size: int) -> None:
    """Gives the disk that many bytes."""
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


if __name__ == "__main__":
    main()
