"""Compiles every pipeline, and every component as a pipeline of its own, to build/*.yaml."""

import argparse
import sys
from pathlib import Path

from components.shared.errors import command_line, delay_interrupt, parse_options


def main() -> None:
    """Writes a package per pipeline and per component, and prints their paths."""
    with command_line():
        _compile(_parse_options())


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="local", help="a name in pipelines/config (default: %(default)s)")
    parser.add_argument("--registry", help="where the images are; bare image names get it (default: the config's)")
    parser.add_argument(
        "--tag", help="the tag of all images (default: the config's, else a hash of each one's content)"
    )
    parser.add_argument("--output", type=Path, default=Path("build"), help="folder to write to (default: %(default)s)")
    return parse_options(parser)


def _compile(options: argparse.Namespace) -> None:
    # Here, so that --help is quick.
    with delay_interrupt():
        from google.protobuf.json_format import MessageToDict

        from pipelines.api.packages import load_stages
        from pipelines.compiler.packages import write_packages
        from pipelines.compiler.spec import list_images
        from pipelines.output.console import link_to, print_line

    stages = load_stages(options.config, options.registry, options.tag)
    config = stages.config
    pipelines = write_packages(stages, options.output)
    # At the end: who reads this may have enough after the first, as `head` does.
    print_line("\n".join(link_to(path, str(path)) for path in pipelines), markup=True)
    for reason in stages.untagged.values():
        print(reason, file=sys.stderr)
    images = {image for pipeline in pipelines.values() for image in list_images(MessageToDict(pipeline.pipeline_spec))}
    if config.schema_path:
        print(
            f"{config.path}: {config.schema_file} is a file of this machine, so these packages infer a schema; "
            "submit.py takes it along. For packages that you upload, put it into a bucket and name it there.",
            file=sys.stderr,
        )
    next_step = _say_what_is_next(
        options, sorted(images), has_registry=bool(config.registry), for_vertex=config.platform == "vertex"
    )
    print(next_step, file=sys.stderr)


def _say_what_is_next(options: argparse.Namespace, images: list[str], *, has_registry: bool, for_vertex: bool) -> str:
    """Whether a cluster can pull the images, and what to do with the packages; stdout has their paths alone."""
    from pipelines.output.project import write_command  # as above

    run = write_command("submit.py", "--local", "--data", "DIR")
    if bare := [image for image in images if "/" not in image]:
        return (
            f"These packages name images without a registry, such as {bare[0]}, which a cluster does not find; to "
            "upload them, add --registry REGION-docker.pkg.dev/PROJECT/REPOSITORY, or --config with a configuration "
            f"that has one. A run on this machine needs no package: {run}"
        )
    training = options.output / "training.yaml"
    if for_vertex:
        return f"These packages name images such as {images[0]}. Next: start {training} as docs/vertex.md says."
    check = write_command("submit.py", "--config", str(options.config), "--check")
    submit = f", or let submit.py do it: {check}" if has_registry else ""
    return (
        f"These packages name images such as {images[0]}. Next: upload {training} on the page "
        f"Pipelines of Kubeflow Pipelines{submit}"
    )


if __name__ == "__main__":
    main()
