"""Compiles every pipeline, and every component as a pipeline of its own, to build/*.yaml."""

import argparse
import sys
from pathlib import Path

from components.shared.errors import command_line, parse_options


def main() -> None:
    """Writes a package per pipeline and per component, and prints their paths."""
    with command_line():
        _compile(_parse_options())


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="local", help="a name in pipelines/config (default: %(default)s)")
    parser.add_argument("--registry", help="where the images are; bare image names get it (default: the config's)")
    parser.add_argument("--tag", help="the images' tag (default: the config's, else the git commit)")
    parser.add_argument("--output", type=Path, default=Path("build"), help="folder to write to (default: %(default)s)")
    return parse_options(parser)


def _compile(options: argparse.Namespace) -> None:
    # Here, so that --help is quick.
    from pipelines.compiler.code_version import UNKNOWN, explain_unknown
    from pipelines.compiler.config import load_config
    from pipelines.compiler.packages import PIPELINES, build, write_package
    from pipelines.compiler.stages import Stages

    stages = Stages(load_config(options.config), options.registry, options.tag)
    targets = {name: options.output / f"{name}.yaml" for name in PIPELINES}
    targets |= {stage: options.output / "components" / f"{stage}.yaml" for stage in stages.contracts}
    pipelines = {path: build(name, stages) for name, path in targets.items()}  # all, so that a mistake writes nothing
    for path, pipeline in pipelines.items():
        write_package(pipeline, path)
    print(*pipelines, sep="\n")  # at the end: who reads this may have enough after the first, as `head` does
    if stages.tag == UNKNOWN:
        print(explain_unknown(), file=sys.stderr)


if __name__ == "__main__":
    main()
