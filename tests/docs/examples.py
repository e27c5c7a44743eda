"""What README and the pages in docs show, and a shell to run it in."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SHOWN_ADDRESS = "http://127.0.0.1:8000"
_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A command of a page, and what the page says it prints."""

    command: str
    printed: str


def examples(page: str) -> list[Example]:
    """Give the commands of a page's console blocks, in order."""
    shown = []
    for block in _BLOCK.findall((REPOSITORY / page).read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            shown.append(Example(command, printed.strip()))
    return shown


@dataclass(frozen=True)
class Shell:
    """Runs commands in a folder; with the address of a server, where a page shows its own."""

    folder: Path
    environment: dict[str, str]
    server: str = SHOWN_ADDRESS

    def run(self, command: str) -> str:
        """Give what a command prints; it must not fail."""
        done = subprocess.run(
            ["bash", "-c", command.replace(SHOWN_ADDRESS, self.server)],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@contextmanager
def serving(shell: Shell) -> Iterator[Shell]:
    """Run `phosphene serve` meanwhile."""
    with subprocess.Popen(
        ["phosphene", "serve", "--port", "0"],
        env=shell.environment,
        cwd=shell.folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        announced = re.search(r"http://\S+", process.stdout.readline())
        assert announced
        yield Shell(shell.folder, shell.environment, announced[0])
        process.send_signal(signal.SIGTERM)


def titles(table: str) -> list[str]:
    """Titles of a printed hit list: the second column, in order."""
    rows = [re.split(r"\s{2,}", row.strip()) for row in table.splitlines()]
    return [row[1] for row in rows if len(row) > 1 and re.fullmatch(r"-?\d\.\d{3}", row[0])]


def described(table: str) -> list[str]:
    """What a printed hit list says beside the titles: the third column, in order."""
    rows = [re.split(r"\s{2,}", row.strip()) for row in table.splitlines()]
    return [row[2] for row in rows if len(row) > 2 and re.fullmatch(r"-?\d\.\d{3}", row[0])]
