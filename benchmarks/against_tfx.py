"""Measures everything but the fit of a training beside a TFX pipeline that does the same job, on drawn images.

    .venv/bin/python benchmarks/against_tfx.py TFX_PYTHON [--scales 3 30] [--rounds 2]

TFX_PYTHON is a Python that has TFX: see tfx_pipeline.py. Both train for two epochs in batches of 64.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.run import Figures, count_images, draw_samples, find_fit  # noqa: E402
from benchmarks.watching import watch_run  # noqa: E402
from components.shared.errors import command_line  # noqa: E402
from pipelines.local.stages_environment import find_python  # noqa: E402

EPOCHS, BATCH_SIZE = 2, 64
CONFIG = f"""
stages:
  ingest: {{parameters: {{max_images: 1000000}}}}  # more than the competition allows
  train: {{parameters: {{epochs: {EPOCHS}, batch_size: {BATCH_SIZE}}}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tfx_python", type=Path)
    parser.add_argument("--scales", type=int, nargs="+", default=[3, 30], help="how many samples (default: 3 30)")
    parser.add_argument("--rounds", type=int, default=2, help="of each, in turns; the fastest counts (default: 2)")
    options = parser.parse_args()
    os.environ["STAGES_PYTHON"] = str(find_python())
    with tempfile.TemporaryDirectory() as temporary:
        copy_project(Path(temporary, "project"))
        for scale in options.scales:
            folder = Path(temporary, str(scale))
            data = draw_samples(folder / "images", scale)
            figures = compare(
                folder,
                data,
                project=Path(temporary, "project"),
                tfx_python=options.tfx_python,
                rounds=options.rounds,
            )
            print(json.dumps(figures), flush=True)


def copy_project(target: Path) -> None:
    """What submit.py needs, with a configuration `benchmark`."""
    for name in ("components", "containers", "models", "pipelines"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "submit.py", target)
    (target / "pipelines/config/benchmark.yaml").write_text(CONFIG, encoding="utf-8")


def compare(folder: Path, data: Path, *, project: Path, tfx_python: Path, rounds: int) -> Figures:
    """Seconds of both without the fit, the fastest of the rounds, and their ratio; of TFX also those of its imports."""
    seconds: dict[str, list[float]] = {"tfx": [], "tfx_imports": [], "warm": [], "cold": []}
    for number in range(rounds):
        whole, imports = time_tfx(tfx_python, data, folder / f"tfx-{number}")
        seconds["tfx"].append(whole)
        seconds["tfx_imports"].append(imports)
        for name, flags in (("warm", ()), ("cold", ("--cold",))):
            seconds[name].append(time_training(data, folder / f"{name}-{number}", *flags, project=project))
    best = {name: min(values) for name, values in seconds.items()}
    return {
        "images": count_images(data / "data"),
        **{f"{name}_seconds": round(value, 1) for name, value in best.items()},
        "warm_to_tfx": round(best["warm"] / best["tfx"], 2),
        "cold_to_tfx": round(best["cold"] / best["tfx"], 2),
    }


def time_tfx(tfx_python: Path, data: Path, work: Path) -> tuple[float, float]:
    """What TFX takes beside the fit, and how much of that for its imports."""
    arguments = [ROOT / "benchmarks" / "tfx_pipeline.py", data / "data", work, EPOCHS, BATCH_SIZE]
    command = [str(tfx_python.absolute()), "-W", "ignore", *map(str, arguments)]
    started = time.perf_counter()
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    imports, fit = map(float, output.split()[-2:])
    return time.perf_counter() - started - fit, imports


def time_training(data: Path, runs: Path, *flags: str, project: Path) -> float:
    """What the training pipeline takes beside the fit."""
    images = ("--data", data / "data", "--test-data", data / "test")
    run = watch_run(runs, "--config", "benchmark", *images, *flags, project=project)
    return run.seconds - find_fit(run)


if __name__ == "__main__":
    with command_line():
        main()
