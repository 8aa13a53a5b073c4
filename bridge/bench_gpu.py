"""`livelatent bench gpu`: real architectures with random weights on this card, frame by frame through the rings.

What matters most comes first, every row is written as soon as it is known, and when the time is over the rest is left
out by name. Rows are measured in processes of their own (bridge.bench_rows): what ends one costs its row alone. With
`--smoke` tiny networks run on a processor that emulates a card: whether it works, not how fast. No torch here.

`python -m bridge.bench_gpu` is the same with none of the packages that the bridge needs besides: for scripts/gpu-check.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.bench_said import Gone, Measurer, Order, Said
from engines.errors import ModelError
from pipelines import choose
from pipelines.bench_cases import every_case

if TYPE_CHECKING:
    from pipelines.bench_cases import Case

Table = dict[str, dict[str, float]]
COLUMNS = (
    "frames/s", "p50 ms", "p99 ms", "moved/s", "latency ms",
    "enter ms", "walk ms", "leave ms", "TFLOP/s", "% of peak", "GiB",
)  # fmt: skip
RESERVE_S = 5.0
LEAST_S = 10.0
"""With less than this left no row is begun."""
BUILD_S = 60.0
"""With less than this left no build is begun."""
ROW_S = 150.0
"""A row that takes longer, its process's start included, is given up."""
START_S = 300.0
CHILDREN = 6
"""So many processes that ended by themselves, and no other is started."""


def run(args: argparse.Namespace) -> Table:
    """Every case that the time allows; a failing one is named, and the next one is measured. Raises ModelError where
    there is no card."""
    until = time.monotonic() + args.budget
    report = Report(args)
    staff = Staff(args, report, until)
    try:
        for case in cases(args):
            left = until - RESERVE_S - time.monotonic()
            if why := unfit(case, args) or late(case, left) or staff.tired:
                report.left_out[case.name] = why
                continue
            try:
                report.hear(staff.measure(case, left))
            except Gone as error:
                if time.monotonic() < until - RESERVE_S:
                    report.wrong(case.name, str(error))
                else:
                    report.left_out[case.name] = "no time: it had been begun"
    finally:
        staff.close()
        report.write()
    return report.table


class Staff:
    """The processes that measure: one for most rows, and one for each row that could take it down."""

    def __init__(self, args: argparse.Namespace, report: Report, until: float) -> None:
        self._args, self._report, self._until = args, report, until
        self._main: Measurer | None = None
        self._lost = 0

    @property
    def tired(self) -> str:
        """Why nothing is measured any more; nothing where it is."""
        return "too many processes that measure have ended by themselves" if self._lost >= CHILDREN else ""

    def measure(self, case: Case, left: float) -> Said:
        """One row. Raises Gone, or ModelError where there is no card."""
        folder = str(self._args.streamdiffusion or "")
        order = Order(case.name, self._args.frames, left, str(Path(folder).resolve()) if folder else "")
        patience = left if case.builds else min(left, ROW_S)
        measurer = None
        try:
            if case.alone:
                measurer = self._start()
                return measurer.ask(order, patience)
            self._main = measurer = self._main or self._start()
            return measurer.ask(order, patience)
        except Gone:
            self._lost += 1
            self._main = None if measurer is self._main else self._main
            raise
        finally:
            if case.alone and measurer is not None:
                measurer.close()

    def close(self) -> None:
        if self._main is not None:
            self._main.close()

    def _start(self) -> Measurer:
        made = Measurer(self._args.smoke)
        first = made.hear(min(START_S, self._until - time.monotonic()))
        if first.wrong:
            made.close()
            raise ModelError(first.wrong)
        self._report.facts |= first.facts
        return made


def unfit(case: Case, args: argparse.Namespace) -> str:
    """Why a case can't be measured here, as far as that is known without torch; nothing where it may be."""
    if case.engine == "StreamDiffusion":
        return "" if args.streamdiffusion else "no copy of it was given: --streamdiffusion FOLDER"
    if args.smoke and case.alone:
        return "it is for NVIDIA's graphics cards"
    if case.kernels == "triton" and not choose.triton():
        return "Triton is not installed: it comes with torch for NVIDIA's cards on Linux"
    if case.kernels == "inductor" and (why := choose.uncompiled(cuda=True)):
        return f"inductor can't be had: {why}"
    if case.engine == "tensorrt" and not choose.tensorrt():
        return "TensorRT is not installed: pip install livelatent[tensorrt]"
    return ""


def late(case: Case, left: float) -> str:
    """Why there is no time for a case, `left` seconds before the end; nothing where there is."""
    if left < LEAST_S:
        return "no time"
    return "no time for a build: see --budget and --rows" if case.builds and left < BUILD_S else ""


def cases(args: argparse.Namespace) -> list[Case]:
    """What is measured, what matters most first; of that what --rows names."""
    return [case for case in every_case(args.smoke) if args.rows in case.name]


class Report:
    """The table so far, on the screen and in files."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._json, self._markdown = args.json, args.table
        self.facts: dict[str, str] = {}
        self.table: Table = {}
        self.left_out: dict[str, str] = {}
        """Why, by the case's name."""
        self.failures: dict[str, str] = {}

    def hear(self, said: Said) -> None:
        """What came of a row."""
        self.facts |= said.facts
        if said.row:
            self.add(said.name, said.row)
        elif said.left_out:
            self.left_out[said.name] = said.left_out
        else:
            self.wrong(said.name, said.wrong)

    def add(self, name: str, row: dict[str, float]) -> None:
        self.table[name] = row
        print(f"{name}: {row['frames/s']:.1f} frames/s, p50 {row['p50 ms']:.2f} ms", file=sys.stderr, flush=True)
        self.write()

    def wrong(self, name: str, why: str) -> None:
        self.failures[name] = why
        print(f"{name}: FAILED: {why}", file=sys.stderr, flush=True)
        self.write()

    def write(self) -> None:
        """Into the files that were asked for, whole each time: whoever ends this loses nothing."""
        if self._json:
            head = {"bench": "gpu", "date": date.today().isoformat(), **self.facts}
            rest = {"rows": self.table, "failed": self.failures, "left out": self.left_out}
            _replace(Path(self._json), json.dumps({**head, **rest}, indent=2) + "\n")
        if self._markdown:
            _replace(Path(self._markdown), self.markdown())

    def markdown(self) -> str:
        """As docs/bench/ has it."""
        lines = [f"# {self.facts.get('device', 'no card')}, {date.today().isoformat()}", ""]
        lines += [f"- {name}: {value}" for name, value in self.facts.items()]
        lines += ["", f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
        for name, row in self.table.items():
            cells = [f"{row[column]:.4g}" if column in row else "" for column in COLUMNS]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines += ["", *(f"- failed: {name}: {why}" for name, why in self.failures.items())]
        lines += [f"- left out: {name}: {why}" for name, why in self.left_out.items()]
        return "\n".join(lines).rstrip() + "\n"


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def main(words: list[str] | None = None) -> int:
    """0 when something was measured; 2, and a sentence, where there is no card."""
    parser = argparse.ArgumentParser(prog="bridge.bench_gpu", allow_abbrev=False)
    parser.add_argument("--budget", type=float, default=420.0, help="seconds")
    parser.add_argument("--frames", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--rows", default="")
    parser.add_argument("--streamdiffusion", type=Path)
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args(words)
    args.frames = args.frames or (20 if args.smoke else 300)
    try:
        found = run(args)
    except ModelError as error:
        print(error, file=sys.stderr)
        return 2
    for name, row in found.items():
        print(f"{name}: {', '.join(f'{column} {row[column]:.4g}' for column in COLUMNS if column in row)}")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
