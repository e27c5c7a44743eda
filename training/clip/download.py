"""Fetch the emoji, icon, clip-art and WordNet packages with the ordinary npm and apt clients."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from training.clip.workspace import Workspace

NPM_PACKAGES = (
    "@iconify-json/emojione@1.2.3",
    "@iconify-json/flat-color-icons@1.2.3",
    "@iconify-json/fluent-color@1.2.21",
    "@iconify-json/fluent-emoji@1.2.7",
    "@iconify-json/fluent-emoji-flat@1.2.6",
    "@iconify-json/fluent-emoji-high-contrast@1.2.6",
    "@iconify-json/fxemoji@1.2.2",
    "@iconify-json/game-icons@1.2.4",
    "@iconify-json/healthicons@1.2.13",
    "@iconify-json/noto@1.2.9",
    "@iconify-json/noto-v1@1.2.5",
    "@iconify-json/ph@1.2.2",
    "@iconify-json/streamline-emojis@1.2.4",
    "@iconify-json/streamline-freehand-color@1.2.2",
    "@iconify-json/streamline-ultimate-color@1.2.2",
    "@iconify-json/twemoji@1.2.5",
    "@lobehub/fluent-emoji-3d@1.1.0",
    "emojibase-data@17.0.0",
    "openmoji@17.0.0",
)
DEBIAN_PACKAGES = ("openclipart-png", "openclipart-svg", "tuxpaint-stamps-default", "wordnet-base")


def download(workspace: Workspace) -> None:
    """Bring every package into the workspace; what is there already is left alone."""
    _download_npm(workspace.npm.parent)
    _download_debian(workspace.debian)


def _download_npm(folder: Path) -> None:
    marker = folder / "complete"
    if marker.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
    subprocess.run([*command, *NPM_PACKAGES], check=True)
    marker.touch()


def _download_debian(folder: Path) -> None:
    """Unpack the packages below the folder, so that neither root nor an installation is needed."""
    marker = folder / "complete"
    if marker.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", *DEBIAN_PACKAGES], check=True, cwd=folder)
    for archive in sorted(folder.glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", str(archive), str(folder)], check=True)
        archive.unlink()
    marker.touch()
