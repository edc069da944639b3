"""The figures of run.py over time: a line for each commit in history.csv, drawn as history.svg.

    .venv-stages/bin/python benchmarks/history.py

draws the picture again, in the stages' environment because that has matplotlib.
"""

import csv
from pathlib import Path

FOLDER = Path(__file__).parent
HISTORY = FOLDER / "history.csv"
PICTURE = FOLDER / "history.svg"
TURNS = ("cold", "training", "again", "improvement", "with_decisions")  # as measure_turns in run.py names them
STAGES = ("ingest", "validate", "transform", "evaluate")
COLUMNS = (
    *("commit", "date", "cores"),
    *(f"{turn}_seconds" for turn in TURNS),
    *(f"{stage}_cpu_ms" for stage in STAGES),  # per image, beyond what a stage takes on the sample
    "decoding_cpu_ms",  # the bound: a loop that reads and decodes
    *("train_to_plain_script", "share_without_fit"),
)


def add_line(line: dict[str, str | float]) -> None:
    """Adds the figures of a commit, or puts them in the place of older ones of it."""
    lines = [one for one in _read() if one["commit"] != line["commit"]]
    with HISTORY.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*lines, line])


def draw() -> None:
    """Draws all lines: the turns on the left, the work per image on the right."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "history"  # the same bytes for the same figures
    lines = _read()
    commits = [line["commit"] for line in lines]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    turns, images = figure.subplots(1, 2)
    for axes, names, unit in (
        (turns, [f"{turn}_seconds" for turn in TURNS], "seconds"),
        (images, [*(f"{stage}_cpu_ms" for stage in STAGES), "decoding_cpu_ms"], "ms of CPU"),
    ):
        for name in names:
            label = name.removesuffix("_seconds").removesuffix("_cpu_ms").replace("_", " ")
            axes.plot(commits, [float(line[name]) for line in lines], "o-", label=label, markersize=3)
        axes.set_ylim(bottom=0)
        axes.set_ylabel(unit)
        axes.tick_params(axis="x", rotation=30)
        axes.legend(fontsize="small")
    turns.set_title("a turn on the sample")
    images.set_title("each further image")
    figure.savefig(PICTURE, metadata={"Date": None})


def _read() -> list[dict[str, str]]:
    if not HISTORY.exists():
        return []
    with HISTORY.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    draw()
