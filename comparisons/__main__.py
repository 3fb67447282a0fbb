"""`pcrnn compare SUITE`.

pcrnn compare quality --quick
pcrnn compare report            one page of all that has been measured, and the README's table
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pcrnn.errors import DataError, PcrnnError
from pcrnn.writing import require_place

from . import record
from .suite import SUITES, Request, add_arguments, load, refuse_unused

REPORT = "report"


def parser() -> argparse.ArgumentParser:
    """The flags of all suites and of the report."""
    about = {name: entry.about for name, entry in SUITES.items()}
    about[REPORT] = "one HTML page of all results there are, and the README's table"
    listed = "\n".join(f"  {name:<15} {line}" for name, line in about.items())
    made = argparse.ArgumentParser(
        prog="pcrnn compare",
        description="Local learning against BPTT on the same stacks.",
        epilog=f"suites:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("suite", choices=about, metavar="SUITE", help="one of the list below")
    made.add_argument(
        "--quick", action="store_true", help=f"tiny settings, to see that it works; {record.QUICK_RESULTS}"
    )
    made.add_argument("--seeds", type=int, help=f"how many seeds a spread is over ({Request.seeds}){_for('--seeds')}")
    made.add_argument("--out", type=Path, default=None, help=f"folder of the records ({record.RESULTS})")
    folders = ", ".join(name for name, entry in SUITES.items() if entry.takes_folder)
    made.add_argument("--data", type=Path, help=f"a file to measure on{_for('--data')}; a folder for {folders}")
    made.add_argument(
        "--only", nargs="+", default=[], metavar="PART", help=f"these data sets or rules alone{_for('--only')}"
    )
    return made


def _for(flag: str) -> str:
    """The suites that a flag is for, as its help ends."""
    suites = [name for name, entry in SUITES.items() if flag in entry.flags]
    others = [name for name in SUITES if name not in suites]
    listed = ", ".join(suites) if len(suites) <= len(others) else f"all but {', '.join(others)}"
    return f"; {listed}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a suite, or build the report; prints progress on standard error and the written paths."""
    arguments = sys.argv[1:] if arguments is None else arguments
    flags = parser()
    for name in arguments:
        if name in SUITES:
            add_arguments(flags, load(name))
            break
    asked = flags.parse_args(arguments)
    out = asked.out or (record.QUICK_RESULTS if asked.quick else record.RESULTS)
    seeds = Request.seeds if asked.seeds is None else asked.seeds
    if seeds < 1:
        flags.error(f"--seeds: expected at least 1, got {seeds}")
    try:
        refuse_unused(asked.suite, {"--data": asked.data, "--only": asked.only, "--seeds": asked.seeds})
        if asked.data is not None:
            _require_data(asked.suite, asked.data)
        require_place(out)  # now, since a suite may train for hours before it writes
        if asked.suite == REPORT:
            from . import report

            paths = report.build(out)
        else:
            only = tuple(asked.only)
            common = {"quick": asked.quick, "seeds": seeds, "out": out, "data": asked.data, "only": only}
            request = Request(**common, options=vars(asked), tell=_tell)
            paths = load(asked.suite).run(request)
    except PcrnnError as error:
        print(f"pcrnn compare: error: {error}", file=sys.stderr)
        return error.exit_code
    for path in paths:
        print(path)
    return 0


def _require_data(suite: str, data: Path) -> None:
    """DataError for a path that is no file, or no folder where a suite takes one."""
    folder = SUITES[suite].takes_folder
    if not (data.is_dir() if folder else data.is_file()):
        raise DataError(
            f"--data: expected a {'folder' if folder else 'file'}, got {data}, which is none; check the path"
        )


def _tell(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
