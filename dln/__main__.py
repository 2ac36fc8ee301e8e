"""`python -m dln show DIR`: a table of a sweep's final values."""

from __future__ import annotations

import argparse
import sys

from dln.errors import DlnError


def main(argv: list[str] | None = None) -> None:
    """Run one of the commands; an error is one line, exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m dln", description="Look at the results of sweeps.")
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="a table of the final values, grouped by the keys swept over")
    show.add_argument("directory", help="the directory of a sweep")
    show.add_argument("columns", nargs="*", help="which curves to show; all of single numbers if none are named")
    options = parser.parse_args(argv)
    from dln.show import print_table

    try:
        print_table(options.directory, options.columns)
    except DlnError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
