"""The `phosphene` command. Exit status: 0 done, 1 it failed, 2 it was asked for wrongly."""

from __future__ import annotations

import signal
import sys

from phosphene.errors import InvalidInput, PhospheneError
from phosphene.model_imports import uncollected

__all__ = ["main"]


def main() -> None:
    """Run the command line; every error of ours is one line on stderr."""
    with uncollected():
        from phosphene.cli.app import app

    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(128 + signal.SIGTERM))  # so that all is closed
    try:
        app()
    except InvalidInput as error:
        _fail(error, status=2)
    except PhospheneError as error:
        _fail(error, status=1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)  # noqa: T201  a command line prints
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing is wrong, and nothing more can be said.
        sys.stderr.close()
        raise SystemExit(0) from None


def _fail(error: PhospheneError, *, status: int) -> None:
    from phosphene.cli import output

    output.note(f"phosphene: {error}")
    raise SystemExit(status) from error
