"""The command `dln`, or `python -m dln`: run, compare, explore, study, show, aggregate, merge, describe."""

from __future__ import annotations

import argparse
import sys

from dln import __version__
from dln.base.output import look_for_libraries_first, speak_patiently
from dln.errors import DamagedError, DlnError

DOORS = {
    "run": "train one model: what run.py does; dln run --help",
    "compare": "train two models in lockstep: what run_comparative.py does; dln compare --help",
}


def main(argv: list[str] | None = None) -> None:
    """Run one of the commands; an error is one line, exit status 2, or 1 for a damaged file."""
    speak_patiently()
    look_for_libraries_first()
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in DOORS:  # Hydra reads the rest
        from dln.cli.commands import open_command

        open_command(argv[0], argv[1:])
    if argv[:1] == ["study"]:  # argparse wants options before words
        argv = ["study", *sorted(argv[1:], key=lambda word: not word.startswith("-"))]
    options = build_parser().parse_args(argv)
    from dln.cli.show import show
    from dln.results.frames import merge_sweeps

    try:
        if options.command == "describe":
            from dln.cli.help import describe

            print(describe(options.names))
        elif options.command == "study":
            from dln.cli.study import open_study

            if status := open_study(options.name, options.words, options.dry_run):
                sys.exit(status)
        elif options.command == "show":
            show(options.directory, options.columns, options.by)
        elif options.command == "aggregate":
            from dln.cli.aggregate import print_aggregate

            files = [name for name in (options.csv, options.parquet) if name]
            told = {name: getattr(options, name) for name in ("confidence", "resamples", "quantiles")}
            told["pairs"] = options.pair
            print_aggregate(options.directory, options.over, options.by, options.of, options.baseline, files, **told)
        elif options.command == "explore":
            from dln.explorer.door import explore

            explore(options.port, not options.no_browser)
        elif options.command == "plot":
            from dln.cli.plot import plot

            told = {name: getattr(options, name) for name in PLOTTED}
            print("\n".join(plot(options.directory, options.out, **told)))
        elif options.command == "report":
            from dln.cli.aggregate import parsed
            from dln.report.write import report

            baseline = None if options.baseline is None else parsed(options.baseline)
            print(report(options.directory, options.out, options.of, options.over, baseline, progress=True))
        else:
            count = merge_sweeps(options.directories, options.out, options.keep)
            print(f"{count} runs in {options.out}")
    except DlnError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, DamagedError) else 2)


def build_parser() -> argparse.ArgumentParser:
    """Return what reads the command line of dln, but for that of the doors, which is Hydra's."""
    parser = argparse.ArgumentParser(prog="dln", description="Experiments, sweeps, and what configs can name.")
    parser.add_argument("--version", action="version", version=f"dln {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in DOORS.items():
        commands.add_parser(name, help=what)
    show = commands.add_parser("show", help="a sweep, a run, or all in a folder")
    show.add_argument(
        "directory", nargs="?", help="of a run or a sweep, or a folder of such; default: outputs, multirun"
    )
    show.add_argument("columns", nargs="*", help="which final values to show")
    by = "a row for each combination of these keys; by default, of those swept over but seeds"
    show.add_argument("--by", type=_names, metavar="KEY[,KEY]", help=by)
    _add_aggregate(commands.add_parser("aggregate", help="means, intervals and tests of a sweep, step by step"))
    _add_plot(commands.add_parser("plot", help="a figure of a run or a sweep"))
    _add_explore(commands.add_parser("explore", help="a page where every movement of a slider trains an ensemble anew"))
    _add_report(commands.add_parser("report", help="one HTML file of a run, a sweep or a study, that opens anywhere"))
    study = commands.add_parser("study", help="a whole study: sweeps, tables, figures, and the sentence they come to")
    study.add_argument("name", nargs="?", help="one of ours, or a .yaml file; without it they are listed")
    words = (
        "scale=1 for all of it, NUMBER=VALUE, or KEY=VALUE as of dln run -m; hydra.sweep.dir=DIRECTORY goes on there"
    )
    study.add_argument("words", nargs="*", metavar="KEY=VALUE", help=words)
    study.add_argument("--dry-run", action="store_true", help="only say what would run, and about what it takes")
    merge = commands.add_parser("merge", help="put several sweeps into one new directory")
    merge.add_argument("directories", nargs="+", help="the directories of the sweeps")
    merge.add_argument("-o", "--out", required=True, help="the new directory")
    merge.add_argument("--keep", choices=("first", "last"), default="first", help="which counts of a run in several")
    told = commands.add_parser("describe", help="what metrics, events, callbacks, teachers, ... mean and take")
    told.add_argument("names", nargs="*", help="which; all if none are named")
    return parser


def _add_aggregate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("directory", help="of the sweep")
    add("--over", type=_names, required=True, metavar="KEY[,KEY]", help="in what the runs of a condition differ")
    add("--by", type=_names, metavar="KEY[,KEY]", help="what tells conditions apart; by default all else that varies")
    add("--of", type=_names, metavar="CURVE[,CURVE]", help="which curves, such as singular_values[1]; by default all")
    add(
        "--baseline",
        metavar="KEY=VALUE",
        help="the conditions to compare with; or the directory of another sweep, or of one run",
    )
    add("--confidence", type=float, default=0.95, help="of all intervals and bands")
    add("--quantiles", type=_numbers, metavar="Q[,Q]", help="which ones the files have; by default the median")
    add("--pair", type=_names, action="append", metavar="CURVE,CURVE", help="curves whose covariance the files have")
    add("--resamples", type=int, default=0, help="for bootstrap intervals in the files")
    add("--csv", metavar="FILE", help="write all steps there")
    add("--parquet", metavar="FILE", help="write all steps there")


PLOTTED = (
    *("figure", "metric", "by", "over", "rows", "columns", "where", "baseline"),
    *("x", "middle", "band", "log", "style"),
)
"""The options of a figure."""


def _add_plot(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("directory", help="of a run, a comparison, a sweep or a study")
    sweeps = "of a sweep curves, runs, ratio, finals, map, plane"
    add(
        "--figure",
        metavar="NAME",
        help=f"{sweeps}; of a run losses, sharpness, strengths, plane, weights; of a study its own",
    )
    add("--map", dest="figure", action="store_const", const="map", help="the same as --figure map")
    add("--metric", metavar="NAME[,NAME]", help="which curves, and of finals and map events; by default the loss")
    add("--by", metavar="KEY[,KEY]", help="of a sweep: colours by the first key, panels by two more")
    add("--over", metavar="KEY[,KEY]", help="what is averaged over; by default all seeds that vary")
    add("--rows", metavar="KEY", help="the key whose values are the rows of panels")
    add("--columns", metavar="KEY", help="the key whose values are their columns")
    add("--where", metavar="KEY=VALUE[,KEY=VALUE]", help="only the runs with these values")
    add("--baseline", metavar="KEY=VALUE", help="ratios to it, as of dln aggregate; or the word reference")
    add("--x", metavar="AXIS", help="step; time, which is lr x step; or loss")
    add("--middle", metavar="MIDDLE", help="mean or median of the runs that are averaged over")
    add("--band", metavar="BAND", help="around it: interval (95 %%), quantiles (10 to 90 %%), std or none")
    add("--log", metavar="AXES", help="x, y, xy or none are logarithmic; by default those whose values ask for it")
    add("--style", metavar="STYLE", help="default, or paper: as wide as a journal's columns")
    add("-o", "--out", metavar="FIGURE", help=".png, .pdf or .svg; by default figure.png in the directory")


def _add_explore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=int, default=0, help="where to listen, on this machine alone; by default a free one"
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address")


def _add_report(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("directory", help="of a run, a comparison, a sweep or a study")
    add("-o", "--out", metavar="FILE", help="an .html; by default report.html in the directory")
    add("--of", type=_names, metavar="CURVE[,CURVE]", help="which curves, or vectors; by default all")
    add("--over", type=_names, metavar="KEY[,KEY]", help="what is averaged over, or none; by default seeds that vary")
    add("--baseline", metavar="KEY=VALUE", help="conditions that others are divided by, or another sweep, or a run")


def _names(words: str) -> list[str]:
    return words.split(",")


def _numbers(words: str) -> list[float]:
    try:
        return [float(word) for word in _names(words)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{words!r} are no numbers, such as 0.1,0.5,0.9") from None


if __name__ == "__main__":
    main()
