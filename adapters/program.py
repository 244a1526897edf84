"""The frame of the command line: exit codes, and the one place where whatever goes wrong becomes a line and a code.

What goes wrong outside (a file that is not there, a full disk, a reader that goes away, Ctrl-C) ends in one line that says what and
what to do. The codes 0 to 5 are those of a verdict (``fsm/verdict.py``); so a usage error, which click ends with 2, ends with 64.
"""

import os
import sys
from contextlib import suppress
from typing import Any

import click

from ..fsm.verdict import EXIT_CODES, Kind
from .journal import JournalFailed, explained

UNABLE, USAGE, INTERRUPTED, NO_READER = 1, 64, 130, 141
CODES = """
\b
Exit codes:
  0    done; for a log: same decisions, to the byte
  1    could not be done: file missing, no permission, disk full, proof not reached
  2    the log is broken or was tampered with
  3    diverged: this core decides otherwise than the log says
  4    unsafe: both agree, and the decision breaks an invariant
  5    the log's format or rules are not supported by this version
  64   usage: wrong command, option or value
  130  stopped by Ctrl-C          141  nobody reads the output any more
"""


class Unable(click.ClickException):
    """Something outside prevents it. The text says what, and what to do."""

    exit_code = UNABLE


class _NoReader(Exception):
    """Nobody reads the output any more."""


class Program(click.Group):
    """The group, with one place where everything that can go wrong becomes a line and an exit code."""

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        _with_streams()
        for stream in (sys.stdout, sys.stderr):
            # A terminal that cannot show a letter gets an escape, never a traceback.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        code = self._run(*args, **{**kwargs, "standalone_mode": False})
        if standalone_mode:
            sys.exit(code)
        return code

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # click would end with 1 here, which means something else.
            raise _NoReader from None

    def _run(self, *args: Any, **kwargs: Any) -> int:
        try:
            code = super().main(*args, **kwargs)
            sys.stdout.flush()
        except click.UsageError as error:
            error.show()
            return USAGE
        except click.ClickException as error:
            click.echo(f"error: {error.format_message()}", err=True)
            return error.exit_code
        except (_NoReader, BrokenPipeError):
            return _without_reader()
        except JournalFailed as failure:
            click.echo(f"error: {failure}", err=True)
            return EXIT_CODES[Kind.BROKEN] if failure.code == "broken" else UNABLE
        except OSError as error:
            click.echo(f"error: {explained(error, 'output')}", err=True)
            return UNABLE
        except (KeyboardInterrupt, click.Abort):
            click.echo("\nstopped", err=True)
            return INTERRUPTED
        return code if isinstance(code, int) else 0


def _with_streams() -> None:
    """Where a standard stream was closed (``>&-``), put one that goes nowhere: else the next file to be opened, a log, takes its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - it lives as long as the process


def _without_reader() -> int:
    """Nobody reads: keep the interpreter from saying so once more when it flushes at its end."""
    with suppress(OSError):
        sys.stdout.close()
    return NO_READER
