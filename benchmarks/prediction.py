"""Prediction against measurement: relative error of rms over all leaf-module sites.

    python benchmarks/prediction.py [NAME ...] [--worst N] [--all-sites] [--real] [--markdown FILE]
    python benchmarks/prediction.py --measure NAME ...

Without names: every architecture that has a table in benchmarks/measured. A name may be a pattern,
as `mlp30-*`. The first form predicts each from its factory and compares; the second builds and runs
it over many draws of weights and batch, and writes its table.

Errors are |predicted / measured - 1|, as median / 90th percentile / worst. Measured is the square
root of the mean energy over draws; `noise` is its own standard error. Sites whose measured value is
0 or absent are left out (column `out`); sites that the prediction does not have count as 100 %
wrong (column `missing`). `in band`: share of single draws within two bands of the prediction, the
ln rms of a draw being about normal.
"""

import argparse
import fnmatch
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import prediction_measuring as measuring
from patients.architectures.family import Family
from patients.architectures.table import FAMILIES
from prediction_comparing import Comparison, Side, compare

HEAD = (
    "| architecture | sites | out | missing | forward | target | holds | backward | target | holds "
    "| weight gradient | holds | correlation p90 | in band | noise | condition | CPU s |"
)


def chosen(patterns: Sequence[str]) -> list[str]:
    """Names that match any pattern, in the table's order.

    Raises:
        SystemExit: a pattern matches nothing.
    """
    for pattern in patterns:
        if not fnmatch.filter(FAMILIES, pattern):
            sys.exit(f"no architecture is called {pattern!r}; there are: {', '.join(FAMILIES)}")
    if not patterns:
        return [name for name in FAMILIES if measuring.path_of(name).exists()]
    return [name for name in FAMILIES if any(fnmatch.fnmatch(name, p) for p in patterns)]


def measure(names: Sequence[str]) -> None:
    """Writes the tables."""
    for name in names:
        began = time.process_time()
        table = measuring.measure(name, FAMILIES[name])
        measuring.save(table)
        seconds = time.process_time() - began
        print(f"{name}: {len(table.sites)} sites, {table.seeds} draws, {seconds:.0f} s", flush=True)


def judge(name: str, *, every: bool, real: bool) -> Comparison:
    """Predicts one architecture and compares it with its table."""
    from isograd import predict

    predict(torch.nn.Linear(2, 3), torch.ones(2, 2))  # imports what it needs
    family = FAMILIES[name]
    batch, source = family.batch(0), built(family) if real else family.build
    began = time.process_time()
    record = predict(source, batch, loss=family.loss)
    seconds = time.process_time() - began
    table = measuring.load(name)
    return compare(table, record, family.target, every=every, seconds=seconds)


def built(family: Family) -> torch.nn.Module:
    """The first of the measured draws."""
    torch.manual_seed(0)
    return family.build()


def line(one: Comparison) -> str:
    """A row of the table."""
    sides = one.forward, one.backward, one.weight
    forward, backward, weight = ("yes" if held else "no" for held in one.verdicts)
    cells = (
        one.name,
        len(one.forward.places),
        "/".join(str(side.left_out) for side in sides),
        "/".join(str(side.missing) for side in sides),
        errors(one.forward),
        limits(one.target.forward),
        forward,
        errors(one.backward),
        limits(one.target.backward),
        backward,
        errors(one.weight),
        weight,
        f"{one.correlation:.3f}",
        " ".join(f"{side.inside:.2f}" for side in sides),
        f"{one.forward.noise:.3f} {one.backward.noise:.3f}",
        condition(one),
        f"{one.seconds:.2f}",
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def errors(side: Side) -> str:
    """Median, 90th percentile and worst."""
    return " / ".join(f"{side.error(share):.3f}" for share in (0.5, 0.9, 1.0))


def condition(one: Comparison) -> str:
    """The condition number, and what it means if it is too large."""
    number = "" if one.condition is None else f"{one.condition:.3g}"
    return number if one.predictable else f"{number}: not predictable"


def limits(target: tuple[float, float | None]) -> str:
    """Median and 90th percentile allowed."""
    return " / ".join(f"{limit:.2f}" for limit in target if limit is not None)


def details(one: Comparison, count: int) -> str:
    """The worst places of each quantity, measured and predicted."""
    lines = []
    for what, side in (
        ("forward", one.forward), ("backward", one.backward), ("weight gradient", one.weight),
    ):  # fmt: skip
        lines.append(f"  {what}:")
        for place in side.worst(count):
            spread = (
                ""
                if place.measured.spread is None
                else f" (one draw +-{place.measured.spread:.2f})"
            )
            guess = "nothing" if place.predicted is None else f"{place.predicted:.5g}"
            band = "" if place.band is None else f" (band {place.band:.3f})"
            lines.append(
                f"    {place.error:7.3f}  {place.name} {place.label}: "
                f"measured {place.measured.rms:.5g}{spread}, predicted {guess}{band}"
            )
    return "\n".join(lines)


def first_line(error: Exception) -> str:
    """What it says, as a cell of a table."""
    return (str(error).splitlines() or [""])[0].replace("|", "/")[:160]


def summary(done: Sequence[Comparison], failed: int) -> str:
    """How many keep to their targets."""
    stable = [one for one in done if one.predictable]
    forward, backward, weight = (sum(one.verdicts[side] for one in stable) for side in range(3))
    unstable = len(done) - len(stable)
    return (
        f"{len(done) + failed} architectures: {failed} raised, {unstable} called not predictable; "
        f"of the other {len(stable)}, targets hold forward in {forward}, backward in {backward}, "
        f"for weight gradients in {weight}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--measure", action="store_true", help="write tables, predict nothing")
    parser.add_argument("--worst", type=int, default=0, metavar="N", help="print the N worst sites")
    parser.add_argument("--all-sites", action="store_true", help="operations, biases, norms too")
    parser.add_argument("--real", action="store_true", help="predict from a model with weights")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    names = chosen(options.names)
    if options.measure:
        measure(names)
        return 0
    lines = [HEAD, "|" + "---|" * (HEAD.count("|") - 1)]
    print("\n".join(lines))
    done: list[Comparison] = []
    failed = 0
    for name in names:
        try:
            done.append(judge(name, every=options.all_sites, real=options.real))
        except Exception as error:  # one that cannot be predicted must not hide the others
            failed += 1
            lines.append(f"| {name} | {type(error).__name__}: {first_line(error)} |")
            print(lines[-1], flush=True)
            continue
        lines.append(line(done[-1]))
        print(lines[-1], flush=True)
        if options.worst:
            print(details(done[-1], options.worst), flush=True)
    lines += ["", summary(done, failed), ""]
    print("\n" + lines[-2])
    if options.markdown:
        options.markdown.write_text("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
