"""`python -m comparisons SUITE`, which `pcrnn compare SUITE` is, too.

python -m comparisons quality --quick
python -m comparisons report            one page of all that has been measured, and the README's table
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from comparisons import record
from comparisons.suite import SUITES, Request, add_arguments, load
from pcrnn.errors import PcrnnError

REPORT = "report"


def parser() -> argparse.ArgumentParser:
    """The flags of all suites and of the report."""
    what = {**SUITES, REPORT: "one HTML page of all results there are, and the README's table"}
    listed = "\n".join(f"  {name:<15} {line}" for name, line in what.items())
    made = argparse.ArgumentParser(
        prog="pcrnn compare",
        description="Local learning against BPTT on the same stacks.",
        epilog=f"suites:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("suite", choices=what, metavar="SUITE", help="one of the list below")
    made.add_argument(
        "--quick", action="store_true", help=f"tiny settings, to see that it works; {record.QUICK_RESULTS}"
    )
    made.add_argument("--seeds", type=int, default=3, help="how many seeds a spread is over (3)")
    made.add_argument("--out", type=Path, default=None, help=f"folder of the records ({record.RESULTS})")
    made.add_argument("--data", type=Path, help="a file to measure on, where a suite takes one")
    made.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="STUDY",
        help="quality, applications, depth, chunks: these data sets alone",
    )
    return made


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
    if asked.seeds < 1:
        flags.error(f"--seeds: expected at least 1, got {asked.seeds}")
    try:
        if asked.suite == REPORT:
            from comparisons import report

            paths = report.build(out)
        else:
            only = tuple(asked.only)
            common = {"quick": asked.quick, "seeds": asked.seeds, "out": out, "data": asked.data, "only": only}
            request = Request(**common, options=vars(asked), tell=_tell)
            paths = load(asked.suite).run(request)
    except PcrnnError as error:
        print(f"pcrnn compare: error: {error}", file=sys.stderr)
        return error.exit_code
    for path in paths:
        print(path)
    return 0


def _tell(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
