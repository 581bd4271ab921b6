"""The program `reminding`: its verbs, and the one that is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from reminding.cli.bench import bench
from reminding.cli.data import data
from reminding.cli.paper import reproduce
from reminding.cli.parsing import LISTS, first_line, known_name, overview
from reminding.cli.predicting import predict, sample
from reminding.cli.results import check, explain, report
from reminding.cli.sweeping import sweep
from reminding.cli.training import evaluate, train

EX_PIPE = 141
"""Exit status of a program that a closed pipe ended, as a shell has it: 128 and the number of the signal."""

EX_INTERRUPTED = 130
"""The same of a program that Ctrl-C ended."""
TIED = "REMINDING_TIED"
"""Environment variable of a process that ends with the one that started it: see `lab.paper.tied`."""

VERBS: dict[str, Callable[[list[str]], None]] = {
    "train": train,
    "eval": evaluate,
    "predict": predict,
    "sample": sample,
    "report": report,
    "explain": explain,
    "check": check,
    "reproduce": reproduce,
    "sweep": sweep,
    "data": data,
    "bench": bench,
}
"""Each verb is called with the arguments that follow it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `reminding VERB ...`. An error of the user ends the program with status 1 and a plain message."""
    if TIED in os.environ:
        from reminding.lab.paper.tied import end_with_starter

        end_with_starter()
    verb, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        if verb in ("-h", "--help"):
            lines = {name: first_line(function) for name, function in VERBS.items()}
            print(overview("reminding VERB ...", lines, f"reminding VERB --help {LISTS}"))
        else:
            VERBS[known_name("verb", verb, VERBS)](rest)
    except BrokenPipeError:
        # The reader of the output, such as `head`, has enough. Nothing may be written when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EX_PIPE)
    except KeyboardInterrupt:
        print("reminding: interrupted", file=sys.stderr)
        sys.exit(EX_INTERRUPTED)
    except (ValueError, OSError, ImportError) as error:
        from reminding.lab.show.escaping import for_terminal

        sys.exit(f"reminding: {for_terminal(str(error), sys.stderr.encoding)}")
