"""Draws the figures of scale.py: seconds and memory of each stage over the number of images.

    .venv-stages/bin/python benchmarks/scale_plot.py scale.json scale.svg

in the stages' environment because that has matplotlib.
"""

import json
import sys
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure


def draw(source: Path, target: Path) -> None:
    """Draws the file that scale.py wrote, with both axes logarithmic."""
    matplotlib.rcParams["svg.hashsalt"] = "scale"  # the same bytes for the same figures
    figures = {int(size): stages for size, stages in json.loads(source.read_text(encoding="utf-8")).items()}
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, key, unit in zip(figure.subplots(1, 2), ("seconds", "peak_mib"), ("seconds", "peak MiB"), strict=True):
        for stage in next(iter(figures.values())):
            axes.loglog(list(figures), [each[stage][key] for each in figures.values()], "o-", label=stage, markersize=3)
        axes.set_xlabel("images")
        axes.set_ylabel(unit)
        axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
