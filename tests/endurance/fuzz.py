"""Looks for inputs that end in a trace, for some minutes: `make fuzz`.

Runs the tests that make up their inputs (pictures, tables, documents, YAML, answers of a server) with other examples
than `make test` does, again and again with another seed, until the time is over.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
STAGES_PYTHON = os.environ.get("STAGES_PYTHON", str(ROOT / ".venv-stages/bin/python"))
# Each with the Python that it runs with.
TESTS = [
    (STAGES_PYTHON, "tests/components/ingest/test_image.py"),
    (STAGES_PYTHON, "tests/components/ingest/test_layouts.py"),
    (STAGES_PYTHON, "tests/components/shared/formats"),
    (sys.executable, "tests/pipelines/compiler/test_mutated_yaml.py"),
    (sys.executable, "tests/pipelines/local/test_record.py"),
    (sys.executable, "tests/pipelines/cluster/test_answers.py"),
]
ONLY = "decoder or mistake or torn or changed"  # in the names of these tests; each of TESTS has some


def main() -> None:
    """Runs the tests until the time is over, and exits with 1 if one has failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first round (default: the time)")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    seed, failed = options.seed, False
    while time.monotonic() < end:
        for python, tests in TESTS:
            failed |= not run(python, tests, seed)
        seed += 1
    print("a test has failed" if failed else f"no trace; rounds: {seed - options.seed}")
    sys.exit(failed)


def run(python: str, tests: str, seed: int) -> bool:
    """Whether the tests pass with examples of that seed."""
    print(f"seed {seed}: {tests}", flush=True)
    command = [python, "-m", "pytest", "-n0", tests, "-k", ONLY, "--hypothesis-profile=fuzz"]
    environment = {**os.environ, "FUZZ_EXAMPLES": "1000", "FUZZ_CASES": "100", "FUZZ_SEED": str(seed)}
    return subprocess.run([*command, f"--hypothesis-seed={seed}"], cwd=ROOT, env=environment).returncode == 0


if __name__ == "__main__":
    main()
