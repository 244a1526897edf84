"""What the verbs of the command line share: the form of the output, reading logs, and a verdict in words."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import click
import msgspec

from ..fsm.chain import Fault
from ..fsm.replay import Source
from ..fsm.verdict import Kind, Verdict
from .disk import RealDisk
from .journal import exists, segments
from .program import Unable

IN_WORDS = {
    Kind.SAME: "The log is whole, and this core, given the same events, decides the same to the byte.",
    Kind.OTHER_TELEMETRY: "The log is whole and every decision is the same; only metrics differ.",
    Kind.BROKEN: "These are not the bytes that haltcore wrote. Nothing behind this place can be trusted.",
    Kind.DIVERGED: "The bytes are true, but this core decides otherwise: its code is not the code that wrote the log.",
    Kind.UNSAFE: "The bytes are true and this core decides the same, but the decision breaks a promise: a bug in haltcore.",
    Kind.UNSUPPORTED: "This version of haltcore cannot read the log.",
}

_NOT_CLOSED = "What is there are the bytes that haltcore wrote, but the log was not closed, or a segment is missing: its end may be lost."

#: The option ``-o``.
output_option = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Form of the output."
)


def print_json(value: Any) -> None:
    """One line of JSON."""
    click.echo(msgspec.json.encode(value).decode())


def in_words(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    return _NOT_CLOSED if verdict.fault is Fault.NOT_SEALED else IN_WORDS[verdict.kind]


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict as it stands in JSON, without the core."""
    fields = {field.name: getattr(verdict, field.name) for field in attrs.fields(Verdict) if field.name != "core"}
    return {**fields, "in_words": in_words(verdict)}


def log_files(paths: tuple[str, ...], notes: list[str]) -> list[str]:
    """The segments to read. One path stands for its log from there on; several are taken as they are."""
    if len(paths) > 1:
        return list(paths)
    disk, path = RealDisk(threaded=False), Path(paths[0])
    later = re.fullmatch(r"(.+)\.(\d{4,})", path.stem)
    first = path.with_name(later[1] + path.suffix) if later else path
    if later and exists(str(first), disk) and first.exists():
        files = segments(str(first), disk)[int(later[2]) - 1 :] or [paths[0]]
    else:
        files = segments(paths[0], disk)
    if len(files) > 1:
        notes.append(f"the log has {len(files)} segments from here on: {', '.join(files)}")
    return files


@contextmanager
def reading(files: list[str]) -> Iterator[list[Source]]:
    """The segments as sources, with a progress bar on a terminal when there is much to read."""
    disk = RealDisk(threaded=False)
    for name in files:
        if Path(name).is_dir():
            raise Unable(f"{name}: is a directory. Give the path of a log, such as logs/mm1.jsonl")
    total = sum(Path(name).stat().st_size for name in files)
    if total < 8 * 1024 * 1024 or not sys.stderr.isatty():
        yield [Source(name, disk.read(name)) for name in files]
        return
    with click.progressbar(length=total, label="reading", file=sys.stderr) as bar:

        def counted(name: str) -> Iterator[bytes]:
            for chunk in disk.read(name):
                yield chunk
                bar.update(len(chunk))

        yield [Source(name, counted(name)) for name in files]
