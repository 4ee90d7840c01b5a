"""The command line: ``python -m corelib ...``, also installed as ``corelib``.

Plain text on standard output, errors and progress on standard error. Exit status: 0 done, 1 something failed
that was to be shown, 2 the command could not be carried out, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Sequence

from . import __version__
from .conformance import command
from .errors import CorelibError
from .op import OPS
from .registry import GROUP, BackendStatus, backends, registry
from .support import MISSING, NATIVE, UNKNOWN, explain, fold, support, table, why


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    try:
        status = args.run(args)
        sys.stdout.flush()
        return int(status)
    except BrokenPipeError:  # whoever was reading has had enough: `corelib explain exp | head -3`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except CorelibError as error:
        print(f"corelib: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="corelib", description="One tensor library, interchangeable backends, and proof that they agree."
    )
    parser.add_argument("--version", action="version", version=f"corelib {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    listing = commands.add_parser(
        "backends", help="which backends there are, and whether they can be used here"
    )
    listing.set_defaults(run=_backends)

    explaining = commands.add_parser(
        "explain", help="everything about an op: signature, derivative, who implements it where"
    )
    explaining.add_argument("op", metavar="OP")
    explaining.set_defaults(run=_explain)

    supporting = commands.add_parser("support", help="how each backend carries out each op on each dtype")
    supporting.add_argument("backend", metavar="NAME", nargs="*", help="a backend such as cpu (default: all)")
    supporting.add_argument("--markdown", action="store_true", help="as a page, such as docs/support.md")
    supporting.set_defaults(run=_support)

    conforming = commands.add_parser("conformance", help="try every op on a backend against the reference")
    command.add_options(conforming)
    conforming.set_defaults(run=command.main)

    creating = commands.add_parser(
        "new-backend", help="write a plugin of one's own: a backend that conforms from the start"
    )
    creating.add_argument("name", metavar="NAME", help="the backend's name, such as my_gpu")
    creating.add_argument(
        "--dir", metavar="DIR", help="where to write it, a new or empty folder (default corelib-NAME)"
    )
    creating.set_defaults(run=_new_backend)

    warming = commands.add_parser("warmup", help="compile ahead what a model or some ops need")
    warming.add_argument(
        "what", metavar="WHAT", nargs="*",
        help="a function that is called without arguments, as module:function or file.py:function, or the name of an op "
        "(default: the usual ops)",
    )  # fmt: skip
    warming.add_argument(
        "--backend", metavar="DEVICE", help="where, such as cpu (default: where tensors are created)"
    )
    warming.add_argument(
        "--dtype", default="float32", metavar="DTYPE", help="of ops' operands (default float32)"
    )
    warming.add_argument(
        "--arch",
        action="append",
        metavar="ARCH",
        help="compile all ops' kernels for another machine, such as sm_90 (may be repeated)",
    )
    warming.set_defaults(run=_warmup)

    demo = commands.add_parser("demo", help="train one network on real data on every backend, and compare")
    demo.add_argument(
        "--steps", type=int, default=3, metavar="N", help="identical steps on every backend (default 3)"
    )
    demo.add_argument(
        "--epochs", type=int, metavar="N", help="train for N epochs (default: as many as the goal takes)"
    )
    demo.add_argument(
        "--output", default="demo-output", metavar="DIR", help="where the pictures go (default demo-output)"
    )
    demo.set_defaults(run=_demo)
    return parser


# -- backends ------------------------------------------------------------------------------------------------


def _backends(args: argparse.Namespace) -> int:
    statuses = backends()
    if not statuses:
        chosen = os.environ.get("CORELIB_PLUGINS")
        cause = (
            f"CORELIB_PLUGINS is {chosen!r}"
            if chosen
            else "corelib is not installed properly, see CONTRIBUTING.md"
        )
        print(f"no plugin declares a backend: {cause}")
        return 1
    rows = [("backend", "importable", "usable", "ops", "native", "devices", "versions")]
    for status in statuses:
        found = [support(op, status).how for op in OPS]
        known = UNKNOWN not in found
        rows.append((
            status.name, _yes(status.importable), _yes(status.usable), f"{len(OPS) - found.count(MISSING)}/{len(OPS)}" if known else "-",
            str(found.count(NATIVE)) if known else "-", _devices(status), ", ".join(_versions(status)),
        ))  # fmt: skip
    width = _width()
    print("\n".join(table(rows, width)))
    reasons = [f"{s.name}: {why(s)}" for s in statuses if s.reason]
    if reasons:
        print()
        print("\n".join(line for reason in reasons for line in fold(reason, width, 2)))
    usable = [s.name for s in statuses if s.usable]
    if usable:
        print(f"\ntensors are created on {registry.current().device!r} unless told otherwise")
    return 0


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _devices(status: BackendStatus) -> str:
    if not status.usable:
        return "-"
    says = status.description or status.summary
    return ", ".join(status.devices) + (f" ({says})" if says else "")


def _width() -> int | None:
    """The columns of the terminal, or None where the output goes anywhere else: a program that reads lines
    gets whole ones.
    """
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _versions(status: BackendStatus) -> list[str]:
    """The distribution that the plugin came with, and those that it needs, with their versions."""
    from importlib import metadata

    found = [
        f"{p.dist.name} {p.dist.version}"
        for p in metadata.entry_points(group=GROUP)
        if p.name == status.plugin and p.dist
    ]
    info = registry.infos.get(status.name)
    for module in info.requires if info else ():
        try:
            found.append(f"{module} {metadata.version(module)}")
        except (
            metadata.PackageNotFoundError
        ):  # the module of a distribution with another name, or not installed
            names = metadata.packages_distributions().get(module, [])
            found += [f"{name} {metadata.version(name)}" for name in names[:1]] or [f"{module} missing"]
    return found


# -- explain, support, demo -------------------------------------------------------------------------------------------


def _explain(args: argparse.Namespace) -> int:
    print(explain(args.op, _width()))
    return 0


def _support(args: argparse.Namespace) -> int:
    from . import matrix

    print("\n".join(matrix.lines(args.backend, markdown=args.markdown)))
    return 0


def _new_backend(args: argparse.Namespace) -> int:
    from .scaffold import new_backend

    written = new_backend(args.name, args.dir)
    folder = shlex.quote(str(next(file.parent for file in written if file.name == "pyproject.toml")))
    print("\n".join(str(file) for file in written))
    print(f"\nnow: pip install -e {folder}; corelib support {args.name}; corelib conformance {args.name}")
    return 0


def _warmup(args: argparse.Namespace) -> int:
    from . import warmup

    say = lambda line: print(line, flush=True)
    if args.arch:
        return warmup.ahead(args.backend, args.arch, say)
    return warmup.run(args.what, args.backend, args.dtype, say)


def _demo(args: argparse.Namespace) -> int:
    from . import demo

    width = _width()

    def say(text: str) -> None:
        print("\n".join(part for line in text.split("\n") for part in fold(line, width, 2)), flush=True)

    return demo.run(steps=args.steps, epochs=args.epochs, output=args.output, say=say, width=width)


if __name__ == "__main__":
    sys.exit(main())
