"""``corelib new-backend NAME``: a plugin of one's own that passes the conformance suite before its first line is changed.

What is written is a distribution with an overlay of ``reference`` in it: two example kernels of its own, everything
else inherited, so that each kernel that is added is tried where everything around it is right. The files are in
``templates``, with ``$name`` and the like where names go. This module knows no op and no array.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path
from string import Template

from ..errors import ArgumentError
from ..registry import registry

TEMPLATES = Path(__file__).parent / "templates"
RESERVED = ("repro",)  # `corelib conformance repro` is a command


def new_backend(name: str, folder: str | Path | None = None) -> list[Path]:
    """Write the distribution ``corelib-NAME`` into ``folder`` (default: ``corelib-NAME`` below the working directory)
    and return its files.

    ArgumentError if ``name`` cannot be a backend's name or is taken, or if there is something in the folder.
    """
    _check_name(name)
    distribution = f"corelib-{name.replace('_', '-')}"
    folder = Path(distribution if folder is None else folder)
    if folder.exists() and not folder.is_dir():
        raise ArgumentError(f"{folder} is a file: choose another folder with --dir")
    if folder.is_dir() and any(folder.iterdir()):
        raise ArgumentError(f"{folder} is not empty: nothing was written; choose another folder with --dir")
    words = {"name": name, "package": f"corelib_{name}", "distribution": distribution,
             "cls": "".join(part.capitalize() for part in name.split("_")) + "Backend"}  # fmt: skip
    written = []
    try:
        for template in sorted(p for p in TEMPLATES.rglob("*.txt")):
            inside = template.relative_to(TEMPLATES).with_suffix("")  # backend.py.txt -> backend.py
            file = folder / str(inside).replace("package", words["package"], 1)
            file.parent.mkdir(parents=True, exist_ok=True)
            text = Template(template.read_text(encoding="utf-8")).substitute(words)
            file.write_text(text, encoding="utf-8", newline="\n")
            written.append(file)
    except OSError as error:
        raise ArgumentError(
            f"{folder} cannot be written: {error.strerror}: choose another folder with --dir"
        ) from error
    return written


def _check_name(name: str) -> None:
    """ArgumentError if a backend cannot have this name: it becomes a device string and a part of a package's name."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ArgumentError(
            f"a backend's name is a Python identifier of small letters, digits and _, such as my_gpu; got {name!r}"
        )
    registry.discover()
    if name in registry.infos or name in RESERVED:
        why = "a backend" if name in registry.infos else "a word of the command line"
        raise ArgumentError(
            f"{name!r} is {why} already: choose another name (backends here: {', '.join(sorted(registry.infos))})"
        )
    if importlib.util.find_spec(f"corelib_{name}") is not None:
        raise ArgumentError(
            f"a package corelib_{name} is installed already: choose another name than {name!r}"
        )


__all__ = ["new_backend"]
