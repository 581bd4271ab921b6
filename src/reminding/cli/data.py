"""The verb `data`."""

from __future__ import annotations

from pathlib import Path

from reminding.cli.parsing import parse


def data(arguments: list[str]) -> None:
    """List the data sets on this machine, and download one: reminding data [--fetch NAME]."""
    from reminding.lab.verbs import commands

    def run(*, fetch: str | None = None, data_dir: Path | None = None) -> None:
        """Show the files of each data set, and whether they are the published ones.

        Args:
            fetch: name of a data set whose missing files are downloaded.
            data_dir: folder of the data sets; None: REMINDING_DATA, or the user's cache.
        """
        commands.data(fetch, data_dir)

    parse(run, arguments, "data")
