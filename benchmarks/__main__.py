"""`python -m benchmarks [name...] [--quick]`: runs benchmarks, prints their tables, writes their pages.

In: names (none: all). Out: exit code 0 when all ran and met their aims, 1 when an aim was missed, 2 for a name that nobody knows.
A quick run shows that everything works and writes nothing unless `--results` names a folder: its figures mean little.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.catalogue import BENCHMARKS
from benchmarks.machine import machine
from benchmarks.model import Benchmark
from benchmarks.pages import RESULTS, Page, save, terminal
from benchmarks.running import run


def main(arguments: Sequence[str] | None = None, benchmarks: Mapping[str, Benchmark[Any]] = BENCHMARKS) -> int:
    """The command. `benchmarks`: what there is to run."""
    asked = _parsed(arguments, tuple(benchmarks))
    unknown = [name for name in asked.names if name not in benchmarks]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(benchmarks)}", file=sys.stderr)
        return 2
    folder: Path | None = asked.results or (None if asked.quick else RESULTS)
    met = True
    for name in asked.names or benchmarks:
        benchmark = benchmarks[name]
        page = _ran(benchmark, quick=asked.quick, tell=lambda line: print(line, file=sys.stderr, flush=True))
        print(terminal(page), flush=True)
        if folder is not None:
            save(page, folder)
        met = met and (asked.quick or all(verdict.met for verdict in page.verdicts))
    return 0 if met else 1


def _ran(benchmark: Benchmark[Any], *, quick: bool, tell: Callable[[str], None]) -> Page:
    plan = benchmark.quick if quick else benchmark.plan
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(benchmark, plan, machine=machine(), quick=quick, tell=tell))


def _parsed(arguments: Sequence[str] | None, known: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures, with a baseline in the same run.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(known)}; none: all")
    parser.add_argument("--quick", action="store_true", help="a few seconds: does it work at all?")
    parser.add_argument("--results", type=Path, help="folder for JSON and Markdown (default: benchmarks/results; none with --quick)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
