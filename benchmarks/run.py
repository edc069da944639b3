"""Measures turns of the loop and the stages on drawn images, and writes the figures to build/benchmark.json.

    python benchmarks/run.py [--scales 1 10] [--keep] [--output build/benchmark.json]

Everything is measured in one run and compared as ratios, since machines differ and are noisy. --keep adds a line to
benchmarks/history.csv and redraws benchmarks/history.svg.
"""

import argparse
import csv
import datetime
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import history  # noqa: E402
from benchmarks.watching import Watched, watch_run  # noqa: E402
from components.shared.errors import UserError, command_line  # noqa: E402
from pipelines.compiler.code_version import find_commit  # noqa: E402
from pipelines.local.stages_environment import find_python  # noqa: E402
from sample import draw_sample  # noqa: E402

EPOCHS = 4  # of each training that is compared with the plain script; the first one, with its tracing, does not count
MOST_TRAINED = 10  # times the sample
DECIDED = 10  # images that the second turn drops
Figures = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", type=int, nargs="+", default=[1, 10], help="how many samples (default: 1 10)")
    parser.add_argument("--keep", action="store_true", help="add a line to benchmarks/history.csv")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "benchmark.json")
    options = parser.parse_args()
    if options.keep and len(options.scales) < 2:
        parser.error("--keep needs two --scales, between which the work per image is measured")
    with tempfile.TemporaryDirectory() as temporary:
        figures = measure(Path(temporary), sorted({1, *options.scales}))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))
    if options.keep:
        history.add_line(make_line(figures))
        subprocess.run([find_python(), ROOT / "benchmarks/history.py"], check=True)


def measure(folder: Path, scales: list[int]) -> Figures:
    """All figures of one run of the benchmark, which takes its files to the folder."""
    samples = {scale: draw_samples(folder / f"{scale}x", scale) for scale in scales}
    once, scaled = samples[scales[0]], samples[scales[min(1, len(scales) - 1)]]
    stages = {f"{scale}x": measure_stages(folder, data, scale) for scale, data in samples.items()}
    counts = {f"{scale}x": count_images(data) for scale, data in samples.items()}
    figures: Figures = {
        "commit": find_commit(),
        "date": datetime.date.today().isoformat(),
        "cores": psutil.cpu_count(),
        "import_seconds": time_imports(),
        "turns": measure_turns(folder, once),
        "images": counts,
        "stages": stages,
        "slopes": {f"{a} to {b}": find_slopes(stages, counts, a, b) for a, b in pairwise(stages)},
    }
    if scaled != once:
        figures["ingest"] = measure_ingest(folder, once, scaled)
        figures["cpu_ms_per_image"] = {
            **find_cost(stages, counts, f"{scales[0]}x", f"{scales[1]}x"),
            "decoding": round(1000 / figures["ingest"]["bare_loop_decoding_images_per_second"], 3),
        }
    figures["train"] = measure_train(folder, once)
    return figures


def make_line(figures: Figures) -> dict[str, str | float]:
    """The line of history.csv."""
    turns, cost = figures["turns"], figures["cpu_ms_per_image"]
    return {
        **{name: figures[name] for name in ("commit", "date", "cores")},
        **{f"{turn}_seconds": turns[turn] for turn in history.TURNS},
        **{f"{stage}_cpu_ms": cost[stage] for stage in (*history.STAGES, "decoding")},
        "train_to_plain_script": figures["train"]["to_plain_script"],
        "share_without_fit": turns["share_without_fit"],
    }


def draw_samples(root: Path, scale: int) -> Path:
    """`scale` samples of different seeds in one folder; the test split of the first."""
    for seed in range(scale):
        draw_sample(root.with_name(f"{root.name}-{seed}"), seed)
        for path in root.with_name(f"{root.name}-{seed}").glob("data/*/*/*.png"):
            target = root / path.relative_to(root.with_name(f"{root.name}-{seed}")).with_name(f"{seed}-{path.name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    shutil.move(root.with_name(f"{root.name}-0") / "test", root / "test")
    return root


def count_images(data: Path) -> int:
    """The images of all splits."""
    return sum(1 for _ in data.rglob("*.png"))


def time_imports() -> dict[str, float]:
    """What a process costs before it does anything."""
    modules = ("kfp.dsl", "tensorflow", "tensorflow_data_validation", "tensorflow_transform", "apache_beam")
    seconds = {}
    for module in modules:
        started = time.perf_counter()
        subprocess.run([find_python(), "-c", f"import {module}"], check=True, capture_output=True)
        seconds[module] = round(time.perf_counter() - started, 2)
    return seconds


def measure_turns(folder: Path, data: Path) -> Figures:
    """Seconds of the README's commands on the sample, one after another.

    A training in which each stage starts a new Python; then, with a cache of their own: a training as it is by default;
    the same again, when nothing has changed; the improvement, which takes its first training from the cache; and the
    improvement with decisions about ten images.
    """
    runs = folder / "turns"
    options = list_options(data)
    improvement = ("--pipeline", "improvement", *options)
    cold = watch_run(folder / "cold", *options, "--cold")  # elsewhere, so that the next one finds no cache
    training = watch_run(runs, *options)
    again = watch_run(runs, *options)
    improved = watch_run(runs, *improvement)
    decisions = decide(improved, folder / "decisions.csv")
    decided = watch_run(runs, *improvement, "--decisions", decisions)
    watched = dict(zip(history.TURNS, (cold, training, again, improved, decided), strict=True))
    seconds = {name: round(run.seconds, 1) for name, run in watched.items()}
    fit = find_fit(training)
    return {
        **seconds,
        "training_to_cold": round(training.seconds / cold.seconds, 2),
        "without_fit": round(training.seconds - fit, 1),
        "without_fit_to_cold": round((training.seconds - fit) / (cold.seconds - find_fit(cold)), 2),
        "share_without_fit": round(1 - fit / training.seconds, 3),
        "ran": {name: list_ran(run) for name, run in watched.items()},
    }


def list_options(data: Path) -> tuple[str | Path, ...]:
    return ("--config", "sample", "--data", data / "data", "--test-data", data / "test")


def decide(run: Watched, path: Path) -> Path:
    """Drops the train images that the audit ranks first: what a person might decide."""
    with open(run.record["stages"]["audit"]["artifacts"]["issues"]["uri"], encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "decision": "drop"} for row in rows[:DECIDED])
    return path


def find_fit(run: Watched) -> float:
    """The seconds of all epochs, the first of which is taken for as long as the others."""
    return (run.epochs[-1] - run.epochs[0]) * len(run.epochs) / (len(run.epochs) - 1)


def list_ran(run: Watched) -> list[str]:
    """The tasks that were not taken from an earlier run."""
    return [name for name, task in run.record["stages"].items() if "made_by" not in task]


def measure_stages(folder: Path, data: Path, scale: int) -> dict[str, Figures]:
    """Wall and CPU seconds and peak memory in MiB of each stage, with one epoch of training.

    More images than the competition allows go through the stages before the training alone, one run each.
    """
    runs = folder / f"stages-{scale}"
    if scale <= MOST_TRAINED:
        return describe_tasks(watch_run(runs, *list_options(data), "--param", "epochs=1"))
    ingest = ("--component", "ingest", *list_options(data), "--param", "max_images=10000000")
    figures = describe_tasks(watch_run(runs, *ingest))
    for stage in ("validate", "transform"):
        figures |= describe_tasks(watch_run(runs, "--config", "sample", "--component", stage))
    return figures


def describe_tasks(run: Watched) -> dict[str, Figures]:
    return {
        name: {
            "seconds": round(task["seconds"] or 0, 1),
            "cpu_seconds": round(run.cpu_seconds.get(name, 0), 1),
            "peak_mib": round(run.peaks.get(name, 0) / 2**20),
        }
        for name, task in run.record["stages"].items()
    }


def find_slopes(stages: Figures, images: dict[str, int], smaller: str, larger: str) -> dict[str, float]:
    """By which power of the images the seconds of each stage grow: 0 is not at all, 1 in proportion."""
    decades = math.log10(images[larger] / images[smaller])
    return {
        name: round(math.log10(task["seconds"] / stages[smaller][name]["seconds"]) / decades, 2)
        for name, task in stages[larger].items()
    }


def find_cost(stages: Figures, images: dict[str, int], smaller: str, larger: str) -> dict[str, float]:
    """The CPU milliseconds that each further image takes in each stage.

    Not wall time: the first stages of a small run wait for what the fork server still imports.
    """
    further = images[larger] - images[smaller]
    return {
        name: round((task["cpu_seconds"] - stages[smaller][name]["cpu_seconds"]) / further * 1000, 3)
        for name, task in stages[larger].items()
    }


def measure_ingest(folder: Path, once: Path, scaled: Path) -> dict[str, float]:
    """Images per second beyond the first sample's, so that start-up does not count; and ratios to the bare loop."""
    extra = count_images(scaled) - count_images(once)  # both have the same test images

    def rate(seconds: Callable[[Path], float]) -> float:
        return extra / (seconds(scaled / "data") - seconds(once / "data"))

    rates = {
        "bare_loop": rate(lambda data: time_bare_loop(data, folder)),
        "bare_loop_decoding": rate(lambda data: time_bare_loop(data, folder, "--decode")),
        "ingest": rate(lambda data: time_ingest(data, folder)),
        "ingest_2_processes": rate(
            lambda data: time_ingest(data, folder, "--direct_num_workers=2", "--direct_running_mode=multi_processing")
        ),
    }
    return {
        **{f"{name}_images_per_second": round(value) for name, value in rates.items()},
        "to_bare_loop": round(rates["ingest"] / rates["bare_loop"], 2),
        "to_bare_loop_decoding": round(rates["ingest"] / rates["bare_loop_decoding"], 2),
        "2_processes_to_1": round(rates["ingest_2_processes"] / rates["ingest"], 2),
    }


def time_bare_loop(data: Path, folder: Path, *options: str) -> float:
    """The seconds that the bare loop takes, the better of two times."""
    arguments = [ROOT / "benchmarks" / "bare_loop.py", data, folder / "bare.tfrecord", *options]
    command = [find_python(), *map(str, arguments)]
    return min(float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(2))


def time_ingest(data: Path, folder: Path, *options: str) -> float:
    """The seconds that ingest takes with these options of Beam, the better of two times."""
    beam_options = ["--runner=FnApiRunner", *options]
    arguments = {
        "data_uri": str(data),
        "test_data_uri": "",
        "data_version": "",
        "classes": [],
        "on_bad_image": "fail",
        "max_images": 10**6,
        "max_pixels": 10**8,
        "shards": 8,
        "beam_options": beam_options,
        "output": str(folder / "ingested"),
    }
    code = (
        "import time; from components.ingest.ingestion import ingest_data\n"
        "if __name__ == '__main__':\n"
        f" started = time.perf_counter(); ingest_data(**{arguments!r}); print(time.perf_counter() - started)"
    )
    command = [find_python(), "-c", code]
    outputs = (
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT, encoding="utf-8").stdout for _ in range(2)
    )
    return min(float(output.split()[-1]) for output in outputs)


def measure_train(folder: Path, data: Path) -> dict[str, float]:
    """Steps per second of the train stage and of the plain script, in turns; validation after each epoch included."""
    run = watch_run(folder / "stages-1", *list_options(data), "--param", "epochs=1")  # from the cache of measure_stages
    transform = {name: artifact["uri"] for name, artifact in run.record["stages"]["transform"]["artifacts"].items()}
    outputs = {f"{name}_output": str(folder / name) for name in ("model", "history", "event_files", "report")}
    stage = (
        "from components.train.settings import TrainingSettings\n"
        "from components.train.training import train_model\n"
        f"settings = TrainingSettings(epochs={EPOCHS}, batch_size=8, learning_rate=1e-4, seed=123)\n"
        f"train_model({transform['transformed_examples']!r}, {transform['transform_graph']!r},"
        f" settings=settings, **{outputs!r})"
    )
    plain = [find_python(), ROOT / "benchmarks" / "plain_script.py", data / "data", EPOCHS]
    steps = sum(1 for _ in (data / "data" / "train").rglob("*.png")) / 8
    rates: dict[str, list[float]] = {"plain_script": [], "train_stage": []}
    for _ in range(2):
        rates["plain_script"].append(steps / time_epoch(list(map(str, plain))))
        rates["train_stage"].append(steps / time_epoch([find_python(), "-c", stage]))
    best = {name: max(values) for name, values in rates.items()}
    return {
        **{f"{name}_steps_per_second": round(value, 1) for name, value in best.items()},
        "to_plain_script": round(best["train_stage"] / best["plain_script"], 2),
    }


def time_epoch(command: list[str]) -> float:
    """The fastest epoch after the first."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8", cwd=ROOT)
    assert process.stdout
    ends = [time.perf_counter() for line in process.stdout if "epoch" in line]
    if process.wait() or len(ends) != EPOCHS:
        raise UserError(f"{command}: failed")
    return min(after - before for before, after in zip(ends, ends[1:], strict=False))


if __name__ == "__main__":
    with command_line():
        main()
