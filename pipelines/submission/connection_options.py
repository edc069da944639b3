"""The options of commands that say where a cluster is, and how to connect to it."""

import argparse

from components.shared.errors import delay_interrupt


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Adds an option for each setting of an endpoint."""
    with delay_interrupt():
        from pipelines.compiler.config import Endpoint  # here, so that a Ctrl-C until now leaves no trace

    connection = parser.add_argument_group("connection", "Given here, as KFP_HOST and so on, or in the config.")
    for name, field in Endpoint.model_fields.items():
        connection.add_argument(f"--{name.replace('_', '-')}", help=field.description)


def read_endpoint(options: argparse.Namespace) -> dict[str, str]:
    """The settings of an endpoint that were given."""
    with delay_interrupt():
        from pipelines.compiler.config import Endpoint  # as above

    return {name: flag for name in Endpoint.model_fields if (flag := getattr(options, name))}
