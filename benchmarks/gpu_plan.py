"""One shot on a GPU: pack what a bare machine without a network needs, and train there for less than ten minutes.

    python -m benchmarks.gpu_plan prepare --data DATA --output FOLDER [--wheels WHEELS]
    sh FOLDER/run.sh --minutes 9.5 --output OUT        # there; or: python -m benchmarks.gpu_plan run ... in FOLDER/code

DATA holds the datasets of the bundles' manifests. The machine has Python and torch. Packages that it lacks (often
monai, pytorch-ignite, nibabel, fire, termcolor, tabulate, platformdirs, pydicom) travel as wheels for its Python and
system; SimpleITK, the largest, may be missing. This command fetches wheels where there is a network:

    python -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --dest WHEELS NAME==VERSION ...

`run` trains what benchmarks/gpu_stages.py lists, each for its share of the time, and writes eight files as it goes:
weights (.pt) and their notes (.json) of each training, record.json (curves, speeds, choices) and log.txt. A run that is
killed leaves what was made until then. `run --steps 3` rehearses it in small, on any machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu_stages import STAGES


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="pack data, code, weights and wheels into a folder")
    prepare.add_argument("--data", type=Path, required=True, help="folder of the datasets, or with a datalist.json")
    prepare.add_argument("--output", type=Path, required=True, help="folder to make, absent or empty")
    prepare.add_argument("--wheels", type=Path, help="folder of wheels for the machine")
    prepare.add_argument("--limit", type=float, default=64, help="largest size in MB (64)")
    run = commands.add_parser("run", help="train from the packed folder")
    run.add_argument("--minutes", type=float, default=9.5, help="time from start to end (9.5)")
    run.add_argument("--output", type=Path, required=True, help="folder of the results")
    run.add_argument("--archive", type=Path, help="packed folder (the one that holds this program)")
    run.add_argument("--steps", type=int, help="rehearse: this many small steps, twice, of each training")
    names = [stage.name for stage in STAGES]
    run.add_argument("--only", nargs="+", choices=names, default=names, help="some of the trainings")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. `run` needs nothing but the standard library until the wheels are installed."""
    options = parse(arguments)
    if options.command == "prepare":
        from benchmarks.gpu_archive import prepare

        print(prepare(options.data, options.output, options.wheels, options.limit))
        return 0
    from benchmarks.gpu_run import run

    archive = options.archive or Path(__file__).resolve().parents[2]
    stages = [stage for stage in STAGES if stage.name in options.only]
    return run(archive, options.output, options.minutes, options.steps, stages)


if __name__ == "__main__":
    raise SystemExit(main())
