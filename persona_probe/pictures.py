"""python -m persona_probe.pictures RECORD FOLDER: the README's pictures as PNG files, redrawn from a record."""

import sys
from pathlib import Path

PICTURES = ("arms", "frontier")
WIDTH, SCALE = 1000, 2
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def main() -> None:
    """Draw the pictures; needs Chrome or Chromium on the machine."""
    from persona_probe import cli

    cli.main(
        lambda: draw(Path(sys.argv[1]), Path(sys.argv[2])) if len(sys.argv) > 2 else _usage(), debug="--debug" in sys.argv, resume_hint=""
    )


def draw(record_path: Path, folder: Path) -> int:
    """Write one PNG per picture, on white, as a headless browser shows it."""
    import shutil
    import subprocess
    import tempfile

    from persona_probe.errors import BadInput
    from persona_probe.figures import FIGURES
    from persona_probe.report import read_record

    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise BadInput(f"pictures need a browser: none of {', '.join(BROWSERS)} is installed")
    record = read_record(record_path)
    folder.mkdir(parents=True, exist_ok=True)
    for slug, _, figure_of in FIGURES:
        if slug not in PICTURES:
            continue
        figure = figure_of(record).update_layout(paper_bgcolor="white", plot_bgcolor="white", font_color="#222", width=WIDTH)
        with tempfile.TemporaryDirectory() as scratch:
            page = Path(scratch) / "page.html"
            style = "<style>body{margin:0}</style>"
            page.write_text(
                style + figure.to_html(full_html=True, include_plotlyjs=True, config={"displayModeBar": False}), encoding="utf-8"
            )
            flags = [
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--no-first-run",
                "--hide-scrollbars",
                "--virtual-time-budget=4000",
            ]
            size = [
                f"--window-size={WIDTH},{int(figure.layout.height or 450)}",
                f"--force-device-scale-factor={SCALE}",
                f"--user-data-dir={scratch}/profile",
            ]
            target = folder.resolve() / f"{slug}.png"
            subprocess.run([browser, *flags, *size, f"--screenshot={target}", page.as_uri()], check=True, capture_output=True, timeout=60)
    return 0


def _usage() -> int:
    from persona_probe.errors import UsageError

    raise UsageError("give a record and a folder: python -m persona_probe.pictures experiments/reference/record.json figures")


if __name__ == "__main__":
    main()
