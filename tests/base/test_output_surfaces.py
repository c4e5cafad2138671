"""What reaches a terminal, a pipe or a log: results readable in any encoding and width, no library's bars."""

import io
import os
import subprocess
import sys
import threading
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny

from persona_probe.base.cli import run
from persona_probe.base.formatting import interval, number, signed
from persona_probe.records.arms import ArmEntry
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.files import read_record
from persona_probe.records.latent_sets import LatentSet
from persona_probe.records.latents import LatentEntry, LatentRecord

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "experiments" / "reference"
HINT = "python -m persona_probe.find_direction"


def shown_as(monkeypatch: pytest.MonkeyPatch, command: str, *, encoding: str, columns: int) -> list[str]:
    """Lines that the command prints of its reference record, on a stream of this encoding and width."""
    import importlib

    from persona_probe.experiments.closing import print_result

    name = {"find_direction": "record.json", "diff_latents": "latents.json"}[command]
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", stream)
    print_result(read_record(REFERENCE / name), importlib.import_module(f"persona_probe.{command}").show)
    stream.flush()
    return written.getvalue().decode(encoding).splitlines()


def reference_arm() -> ArmEntry:
    """The ablated tuned model of the reference run."""
    record = read_record(REFERENCE / "record.json")
    assert isinstance(record, DirectionRecord)
    arm = record.arm("tuned+ablate")
    assert arm is not None
    return arm


def reference_latent() -> LatentEntry:
    """The latent of the reference run that is printed first."""
    record = read_record(REFERENCE / "latents.json")
    assert isinstance(record, LatentRecord)
    active = [latent for latent in record.latents if latent.label != "inert"]
    return min(active, key=lambda latent: min(effect.q for effect in latent.screen.values()))


def reference_set() -> LatentSet:
    """The first set of latents of the reference run."""
    record = read_record(REFERENCE / "latents.json")
    assert isinstance(record, LatentRecord)
    return record.sets[0]


# The result


@pytest.mark.parametrize("command", ["find_direction", "diff_latents"])
@pytest.mark.parametrize("columns", [20, 40, 60, 80, 120])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_word_and_no_number_of_a_result_is_cut(
    command: str, columns: int, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        line.replace("−", "-") for line in shown_as(monkeypatch, command, encoding=encoding, columns=columns)
    ]
    words = set(" ".join(lines).replace("|", " ").replace("│", " ").split())
    arm = reference_arm()
    needed = {
        "find_direction": {
            "tuned+ablate",
            "base+ablate",
            *interval(arm.restoration, sign=True).replace("−", "-").split(),
            "undefined",
            "control",
            number(arm.kl.estimate, digits=3),
        },
        "diff_latents": {
            *reference_latent().label.split(),
            "chosen",
            str(reference_latent().latent),
            signed(reference_latent().screen["tuned-steer"].delta_s).replace("−", "-"),
            *interval(reference_set().restoration, sign=True).replace("−", "-").split(),
        },
    }[command]
    assert needed <= words
    assert not {"…", "?"} & set("".join(lines))
    assert max(map(len, lines)) <= max(columns, 45)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_narrow_result_is_one_block_an_arm(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown_as(monkeypatch, "find_direction", encoding=encoding, columns=40)
    at, arm = lines.index("tuned+ablate"), reference_arm()
    expected = [
        f"  S {interval(arm.persona_score, sign=True)}",
        f"  R {interval(arm.restoration, sign=True)}",
        f"  C {interval(arm.closure, sign=True)}",
        f"  ΔNLL {interval(arm.delta_nll, digits=3, sign=True)}",
        f"  KL {number(arm.kl.estimate, digits=3)}",
        f"  verdict {arm.verdict}",
        "tuned-steer",
    ]
    ascii_of = str.maketrans("Δ−", "d-") if encoding == "ascii" else {}
    assert lines[at + 1 : at + 8] == [line.translate(ascii_of) for line in expected]


def test_a_narrow_result_says_what_its_numbers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, latent = shown_as(monkeypatch, "diff_latents", encoding="utf-8", columns=40), reference_latent()
    at = lines.index(f"latent {latent.latent}")
    changed = signed(latent.screen["base+steer"].delta_s)
    assert lines[at + 1 : at + 3] == [f"  label {latent.label}", f"  base+steer {changed}"]
    assert lines.count("  chosen") == 1


def test_a_result_of_120_columns_is_a_table_and_so_is_one_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown_as(monkeypatch, "diff_latents", encoding="utf-8", columns=120)
    latent = reference_latent()
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    changes = [signed(latent.screen[name].delta_s) for name in ("base+steer", "tuned-steer", "tuned+ablate")]
    assert [row[:5] for row in cells if row[0] == str(latent.latent)] == [
        [str(latent.latent), latent.label, *changes]
    ]
    assert shown_as(monkeypatch, "diff_latents", encoding="utf-8", columns=0) == lines


@pytest.mark.parametrize(
    ("text", "ascii"),
    [
        ("ΔNLL − 0.5 – 1 ± 2 × 3 ≤ 4…", "dNLL - 0.5 - 1 +/- 2 x 3 <= 4..."),
        ("größer naïve ﬁ", "grosser naive fi"),
        ("日\u202e", "<U+65E5><U+202E>"),
        ("\U0001f600", "<U+1F600>"),
    ],
)
def test_what_an_encoding_lacks_becomes_something_that_can_be_read(
    text: str, ascii: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.base.stdout import plain

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert plain(text) == ascii
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert plain(text) == text


def test_a_whole_quiet_run_on_a_narrow_ascii_terminal_prints_its_result_and_nothing_else(
    tmp_path: Path,
) -> None:
    command = [
        sys.executable,
        "-m",
        "persona_probe.find_direction",
        "--toy",
        "--quiet",
        "--output-dir",
        str(tmp_path),
    ]
    setting = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_PROGRESS_BARS"}
    setting |= {"PYTHONIOENCODING": "ascii", "COLUMNS": "40"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, env=setting, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode("ascii").splitlines()
    assert lines[lines.index("tuned+ablate") + 6] == "  verdict restored"
    assert "Verdict: restored: C is" in " ".join(" ".join(lines).split())


# Streams


@pytest.mark.parametrize(
    ("redirect", "code", "message"),
    [
        ("--list | true", 0, ""),
        ("--list >&-", 0, ""),
        ("--list >/dev/full", 3, "persona_probe: cannot write standard output (No space left on device)"),
        ("--help | true", 0, ""),
        ("--help >&-", 0, ""),
        ("--help >/dev/full", 3, "persona_probe: cannot write standard output (No space left on device)"),
        ("nothing-there.json", 3, "persona_probe: no file nothing-there.json"),
        ("nothing-there.json 2>&-", 3, ""),
        ("nothing-there.json 2>/dev/full", 3, ""),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_stream_that_is_closed_full_or_no_longer_read_is_no_traceback(
    redirect: str, code: int, message: str, unbuffered: str
) -> None:
    # The first half of a pipe decides the code; `true` has ended before Python has begun to write.
    script = f'set -o pipefail; "$0" -m persona_probe.figures {redirect}'
    setting = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        ["bash", "-c", script, sys.executable],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=setting,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == bool(message)


@pytest.mark.parametrize(
    "setting",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_help_can_be_written_in_every_encoding(setting: dict[str, str]) -> None:
    command = [sys.executable, "-m", "persona_probe.find_direction", "--help"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, env=os.environ | {"COLUMNS": "80"} | setting, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"--output-dir" in done.stdout


def test_reports_and_notes_go_on_when_nobody_reads_them(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom persona_probe.base.cli import Reporter, main,"
        " start\ndef body():\n    reporter = Reporter(quiet=False)\n    for i in range(3000):\n       "
        f" reporter.note('note ' * 20)\n    Path({str(tmp_path / 'done')!r}).touch()\n    return"
        " 0\nstart(lambda: main(body, debug=False, resume_hint='x'))\n"
    )
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$0" -c "$1" 2>&1 | head -1', sys.executable, code],
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
    )
    assert done.returncode == 0
    assert (tmp_path / "done").exists()


# Folders that cannot be written


# Bars of libraries


def bars(path: Path, work: Any) -> str:
    """What `work` writes to stderr."""
    with path.open("w") as file, redirect_stderr(file):
        work()
    return path.read_text()


@pytest.fixture
def with_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries as they are when nobody has told them to be quiet."""
    from transformers.utils import logging

    monkeypatch.setattr(logging, "_tqdm_active", True)


@pytest.mark.usefixtures("with_bars")
def test_conversion_and_toy_draw_no_bars(written: Path, tmp_path: Path) -> None:
    from helpers.tiny_gguf import write_gguf

    from persona_probe.models.embedded import convert_gguf
    from persona_probe.organisms.toy import write_toy

    assert "shards" in bars(tmp_path / "log", lambda: tiny.write_tiny(tmp_path / "llama", "llama"))
    path = write_gguf(tmp_path / "tiny.gguf", written)
    assert bars(tmp_path / "log", lambda: convert_gguf(path, tmp_path / "made")) == ""
    assert bars(tmp_path / "log", lambda: write_toy(tmp_path / "toy")) == ""


@pytest.mark.usefixtures("with_bars")
def test_a_command_draws_no_bars_of_tqdm_and_a_notebook_has_its_own_again(tmp_path: Path) -> None:
    from huggingface_hub.utils import tqdm as hub_tqdm
    from tqdm.auto import tqdm

    def body() -> int:
        for bar in (tqdm, hub_tqdm):
            list(bar(range(3)))
        other = threading.Thread(target=lambda: list(tqdm(range(3))))
        other.start()
        other.join()
        return run(lambda: len(list(tqdm(range(2)))) - 2, debug=False, resume_hint=HINT)

    assert bars(tmp_path / "log", lambda: run(body, debug=False, resume_hint=HINT)) == ""
    assert "3/3" in bars(tmp_path / "log", lambda: list(tqdm(range(3))))
