"""What training and evaluation are told alike on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.clip.workspace import Workspace
from training.unclip.workspace import UnclipWorkspace


def arguments_parser(description: str | None) -> argparse.ArgumentParser:
    """Parse what training and evaluation are told alike."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=Path("training-data"), help="work folder of the CLIP recipe")
    parser.add_argument("--work", type=Path, help="where this recipe keeps what it makes; DATA/unclip if not given")
    parser.add_argument("--pilot", action="store_true", help="a few steps on few pictures, to see that all works")
    return parser


def workspace_of(arguments: argparse.Namespace, *, space: str) -> UnclipWorkspace:
    """Give the folders that the arguments name."""
    data = arguments.data.resolve()
    base = arguments.work.resolve() if arguments.work else data / "unclip"
    return UnclipWorkspace(Workspace(data), base / "pilot" if arguments.pilot else base, space)
