"""Write constraints.txt: the exact versions, in this environment, of all that Phosphene and its extras need.

Packages that torch pins by itself for one kind of machine (CUDA libraries) are left to torch.

    python tools/freeze_constraints.py > constraints.txt
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

LEFT_TO_TORCH = re.compile(r"(nvidia|cuda|triton)")
HEADER = "# Versions tried together on Debian 12 with Python 3.11; made by tools/freeze_constraints.py."


def needed(requirement: Requirement, found: dict[str, str]) -> None:
    """Add a requirement's installed version, and those of all that it needs."""
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    extras = {"", *requirement.extras}
    if LEFT_TO_TORCH.match(name) or (name in found and not requirement.extras):
        return
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        return  # for another platform
    found[name] = installed.version
    for text in installed.requires or ():
        child = Requirement(text)
        if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras):
            needed(child, found)


def main() -> None:
    """Walk pyproject's dependencies and extras, and print."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    found: dict[str, str] = {}
    for text in [*project["dependencies"], *(text for extra in extras for text in extra)]:
        needed(Requirement(text), found)
    sys.stdout.write("\n".join([HEADER, *(f"{name}=={version}" for name, version in sorted(found.items()))]) + "\n")


if __name__ == "__main__":
    main()
