"""The program `reminding`: its verbs, and the one that is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from reminding.cli.bench import bench
from reminding.cli.data import data
from reminding.cli.paper import reproduce
from reminding.cli.parsing import LISTS, check_empty, first_line, known_name, overview, values_of
from reminding.cli.predicting import predict, sample
from reminding.cli.results import check, explain, report
from reminding.cli.sweeping import sweep
from reminding.cli.training import evaluate, train
from reminding.version import __version__

EX_PIPE = 141
"""Exit status of a program whose output lost its reader, as a shell has it: 128 and the number of the signal."""
EX_INTERRUPTED = 130
"""The same of a program that Ctrl-C ended."""
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc", '"aten::new_empty"', '"aten::new_zeros"')
"""What PyTorch says in the messages of its RuntimeErrors; of an allocation in the C++ op it names the call alone."""
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
PRINTING = ("predict", "sample", "check")
"""Verbs whose result is what they print, unless a file is named for it. The result of the others is in files."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `reminding VERB ...`. An error of the user ends the program with status 1 and a plain message.

    If the reader of the output goes away, as `head` does, a verb still does its work, silently: a run is trained to
    its end. The status is then that of the work, or `EX_PIPE` if the output was all of it.
    """
    _open_closed()
    if TIED in os.environ:
        from reminding.lab.paper.tied import end_with_starter

        end_with_starter()
    verb, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        try:
            if verb in ("-h", "--help"):
                lines = {name: first_line(function) for name, function in VERBS.items()}
                print(overview("reminding VERB ...", lines, f"reminding VERB --help {LISTS}"))
            elif verb in ("-V", "--version"):
                print(f"reminding {__version__}")
            else:
                call = VERBS[known_name("verb", verb, VERBS)]
                check_empty(rest)
                if verb != "train" and "WORLD_SIZE" in os.environ:
                    from reminding.lab.train.group import check_alone

                    check_alone(f"reminding {verb}")
                call(rest)
                _check_read(verb, rest)
        finally:
            sys.stdout.flush()  # not when the interpreter ends, where nothing can be done about an error
    except BrokenPipeError:  # of a help text
        from reminding.lab.show.terminal import drop_output

        drop_output()
        sys.exit(EX_PIPE)
    except KeyboardInterrupt as stopped:
        print(f"reminding: {str(stopped) or 'interrupted'}", file=sys.stderr)
        sys.exit(EX_INTERRUPTED)
    except (ValueError, OSError, ImportError, MemoryError, RuntimeError) as error:
        from reminding.lab.show.escaping import for_terminal

        sys.exit(f"reminding: {for_terminal(_told(error), sys.stderr.encoding)}")


def _open_closed() -> None:
    """Open the standard streams that the program was started without (`>&-`), so that they lead nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is that of the closed stream
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8"))


def _told(error: Exception) -> str:
    """An error of the user's in words.

    Raises:
        RuntimeError: it is none: a fault of this program, whose place should be seen.
    """
    if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        what = " ".join(str(error).split())[-200:]
        return f"there is not enough memory{': ' if what else ''}{what}; smaller sizes or batches need less"
    if isinstance(error, RuntimeError):
        raise error
    return str(error)


def _check_read(verb: str, arguments: list[str]) -> None:
    """End the program if its result was printed, and nobody has read it to its end."""
    from reminding.lab.show.terminal import output_unread

    written = any(values_of(option, arguments) for option in ("--out", "--figure"))
    if output_unread() and verb in PRINTING and not written:
        sys.exit(EX_PIPE)
