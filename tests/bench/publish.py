"""`make bench-publish`: copy what was measured to experiments/reference, the source of docs/results.md."""

import shutil
import sys

from bench.places import BENCH, GROWTH, HOME, MACHINE, ROOT, SHIPPED


def main() -> None:
    """Copy what there is; the growth's picture goes to figures/."""
    for path, name in ((BENCH, "bench.json"), (MACHINE, "bench_machine.json"), (GROWTH, "growth.json")):
        if path.exists():
            shutil.copyfile(path, SHIPPED / name)
            sys.stdout.write(f"{name} is now in experiments/reference\n")
    if (HOME / "growth.png").exists():
        shutil.copyfile(HOME / "growth.png", ROOT / "figures" / "growth.png")
        sys.stdout.write("growth.png is now in figures\n")


if __name__ == "__main__":
    main()
