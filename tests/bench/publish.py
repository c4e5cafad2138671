"""`make bench-publish`: copy what was measured to experiments/reference, the source of docs/results.md."""

import shutil
import sys

from bench.places import BENCH, GROWTH, MACHINE, SHIPPED


def main() -> None:
    """Copy what there is; figures/growth.png goes with the growth."""
    for path, name in ((BENCH, "bench.json"), (MACHINE, "bench_machine.json"), (GROWTH, "growth.json")):
        if path.exists():
            shutil.copyfile(path, SHIPPED / name)
            sys.stdout.write(f"{name} is now in experiments/reference\n")


if __name__ == "__main__":
    main()
