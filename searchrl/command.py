"""What every command does alike: flags, one-line errors with exit code 2, Ctrl-C, logging."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import IO, TypeVar

from searchrl.errors import DivergedError, OutputError, SearchRLError

Config = TypeVar("Config")

INTERRUPTED = 130


def run_command(main: Callable[[Sequence[str]], None], arguments: Sequence[str] | None = None) -> None:
    """Run a command; end the process with 2 on a user's mistake, 1 where training diverged, 130 on Ctrl-C."""
    # Forked helpers of the tokenizers library would warn at exit; batches are tokenised in one process anyway.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    _open_standard_streams()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(_harmless)
    logging.captureWarnings(True)
    try:
        with redirect_stdout(Harmless(sys.stdout)):
            main(sys.argv[1:] if arguments is None else arguments)
            sys.stdout.flush()
    except SearchRLError as error:
        print(f"error: {_as_flags(_one_line(error))}", file=sys.stderr)
        sys.exit(1 if isinstance(error, DivergedError) else 2)
    except BrokenPipeError:  # the reader of our output went away
        _drop_output()
        sys.exit(1)
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            _drop_output()
            what = f"the output cannot be written ({error.strerror})"
            print(f"error: {what}; make room, or send it elsewhere", file=sys.stderr)
            sys.exit(1)
        if error.filename is None:  # not about a file that somebody named
            raise
        print(f"error: {printable(str(error.filename))[:300]}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        print(f"\ninterrupted{': ' if str(stop) else ''}{_as_flags(str(stop))}", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _open_standard_streams() -> None:
    """Give a process that was started without standard streams (``2>&-``, a service) ones that say nothing.

    Otherwise the next file that is opened would take their place, and be written to by whoever means standard error.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _drop_output() -> None:
    """Let what is still to be printed go nowhere, so that the end of the process does not fail on it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse(kind: type[Config], arguments: Sequence[str], prog: str, default: Config | None = None) -> Config:
    """Read the flags of a settings dataclass; nested groups share one flat set of names."""
    import tyro

    flat = (tyro.conf.OmitArgPrefixes,)
    plain = sys.stdout.stream if isinstance(sys.stdout, Harmless) else sys.stdout
    with redirect_stdout(plain):  # help has colours
        if default is None:
            return tyro.cli(kind, args=list(arguments), prog=prog, config=flat)
        return tyro.cli(kind, args=list(arguments), prog=prog, config=flat, default=default)


def printable(text: str) -> str:
    """A text as a terminal may show it: control characters, which could move the cursor or worse, as ``\\x1b``."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All but tab and line feed."""


class Harmless(io.TextIOBase):
    """Writes to ``stream`` what a terminal may show: titles and queries come from anywhere."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text."""
        self.stream.write(printable(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self.stream.isatty()

    def fileno(self) -> int:
        """The stream's descriptor."""
        return self.stream.fileno()


def _harmless(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), None
    return True


@contextmanager
def held_interrupt() -> Iterator[Callable[[], bool]]:
    """Hold Ctrl-C back in this block, so that it is obeyed where that does no harm; the function tells if it came.

    A second Ctrl-C is not held back.
    """
    came = False

    def note(*_: object) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    ours = threading.current_thread() is threading.main_thread()  # the only one that may set handlers
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, say, under nohup
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def check_output_file(path: Path, flag: str) -> None:
    """Make the file's folder and try it. Raises OutputError, naming the flag, where the file cannot be written."""
    from searchrl.files import is_replaceable  # which loads NumPy

    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file with {flag}")
    if not is_replaceable(path):  # a device or a pipe: written to as it is
        if os.access(path, os.W_OK):
            return
        raise OutputError(f"{path}: cannot be written (Permission denied); give another {flag}")
    folder = (path.resolve() if path.is_symlink() else path).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); give another {flag}") from error


def _one_line(error: Exception) -> str:
    """What libraries say within a message may have line breaks."""
    return printable(" ".join(line.strip() for line in str(error).splitlines() if line.strip()))


def _as_flags(message: str) -> str:
    """The library names settings, in backquotes; who runs a command knows them as flags."""
    return re.sub(r"`([a-z][a-z0-9_]*)`", lambda name: f"--{name[1].replace('_', '-')}", message)
