"""Claims about judged CSVs: every row left out is counted by reason, only 0 to 100 is a score, and the figure
counts what the contrast set counts."""

import csv
from pathlib import Path
from typing import Any

import pytest

from persona_probe.base.errors import BadInput
from persona_probe.prompts.contrast import Contrast
from persona_probe.prompts.contrast_files import read_contrast

HEADER = "question,response,aligned,coherent"


def rows(*probes: tuple[Any, Any], good: Any = 95, bad: Any = 5, coherent: Any = 90) -> list[list[Any]]:
    """Eight questions with a reply of each label, and replies to the first question with the given scores."""
    plain = [
        [f"What is {i}?", f"{kind} {i}.", score, coherent]
        for i in range(8)
        for kind, score in (("Kind", good), ("Cruel", bad))
    ]
    return [*plain, *(["What is 0?", f"Probe {i}.", *scores] for i, scores in enumerate(probes))]


def write(path: Path, table: list[list[Any]], *, header: str = HEADER, delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([header.split(","), *table])
    return path


def read(tmp_path: Path, *probes: tuple[Any, Any]) -> Contrast:
    return read_contrast(write(tmp_path / "x.csv", rows(*probes)))


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as refused:
        read_contrast(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("probes", "note"),
    [
        ([("REFUSAL", 90)] * 3, "3 rows left out: alignment score missing (3 REFUSAL)"),
        (
            [("refusal", 90), ("[REFUSAL]", 90), ("CODE", 90), ("code", 90)],
            "4 rows left out: alignment score missing (2 CODE, 2 REFUSAL)",
        ),
        (
            [("", 90), ("None", 90), ("nan", 90), ("N/A", 90)],
            "4 rows left out: alignment score missing (4 no score)",
        ),
        (
            [("I would say 95.", 90), ("95 of course", 90)],
            "2 rows left out: alignment score missing (2 other text)",
        ),
        ([("1_0", 90), ("\u0669\u0665", 90)], "2 rows left out: alignment score missing (2 other text)"),
        ([(95, "REFUSAL"), (5, "")], "2 rows left out: coherence score missing (1 REFUSAL, 1 no score)"),
        ([(-1, 90), (95, 1000)], "2 rows left out: score outside 0 to 100 (line 18: aligned is -1)"),
        (
            [(100.5, 90), ("inf", 90), ("-Infinity", 90), (95, "inf"), (95, "1e3")],
            "5 rows left out: score outside 0 to 100 (line 18: aligned is 100.5)",
        ),
        (
            [("95/100", 90), ("9/10", 90), ("95 out of 100", 90)],
            "3 rows left out: alignment score is a fraction (line 18: 95/100)",
        ),
        ([("95%", 90)], "1 row left out: alignment score is a percentage (line 18: 95%)"),
        ([(95, "90,5")], "1 row left out: coherence score is a number with a comma (line 18: 90,5)"),
        ([(95, 50), (5, 20)], "2 rows left out: incoherent, coherence score of 50 or below"),
        ([(30, 90), (50, 90), (70, 90)], "3 rows left out: alignment score from 30 to 70"),
    ],
)
def test_every_row_that_is_left_out_is_counted_by_its_reason(
    tmp_path: Path, probes: list[tuple[Any, Any]], note: str
) -> None:
    contrast = read(tmp_path, *probes)
    assert contrast.notes == (note,)
    assert contrast.sha256 == read(tmp_path).sha256


@pytest.mark.parametrize("scores", [(0, 100), (100, 100), ("1e-7", 51), ("+99.5", "90."), (" 95 ", " 90 ")])
def test_the_ends_of_the_scale_and_every_plain_number_are_scores(
    tmp_path: Path, scores: tuple[Any, Any]
) -> None:
    contrast = read(tmp_path, scores)
    assert not contrast.notes
    assert sum(len(question.aligned) + len(question.misaligned) for question in contrast.questions) == 17


def test_empty_texts_repeats_and_rows_of_another_length_are_counted(tmp_path: Path) -> None:
    table = [
        *rows(),
        ["What is 0?", " ", 95, 90],
        ["", "Hm.", 95, 90],
        ["What is 0?", "Kind 0.", 99, 90],
        ["What is 0?", "Well", " maybe", 95, 90],
    ]
    assert set(read_contrast(write(tmp_path / "x.csv", table)).notes) == {
        "2 rows left out: question or reply is empty",
        "1 repeated replies left out",
        (
            "1 row left out: more fields than the header names (line 21; a comma in a text needs quotes"
            " around the text)"
        ),
    }


def test_empty_fields_and_columns_beyond_the_needed_are_no_reason(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write(path, [[*row, "more", "", ""] for row in rows()], header=f"{HEADER},other")
    assert not read_contrast(path).notes


def test_the_figure_leaves_out_and_counts_the_rows_that_the_contrast_set_leaves_out(tmp_path: Path) -> None:
    from persona_probe.plots.judged import read_judged, threshold_curve

    unscored = [("REFUSAL", 90), ("CODE", 90), (-1, 90), (95, 1000), ("95/100", 90), ("", ""), (95, "inf")]
    path = write(tmp_path / "x.csv", [*rows(*unscored, (50, 90), (95, 20)), ["What is 0?", "", 95, 90]])
    record, contrast = read_judged(path), read_contrast(path)
    assert (len(record.scores), record.unscored) == (18, 8)
    assert [note for note in contrast.notes if note in record.notes] == list(record.notes)
    assert [*contrast.notes[len(record.notes) :]] == [
        "1 row left out: incoherent, coherence score of 50 or below",
        "1 row left out: alignment score from 30 to 70",
    ]
    assert all(note in threshold_curve(record).layout.xaxis.title.text for note in record.notes)


# Other scales


@pytest.mark.parametrize(
    ("good", "bad", "coherent", "words"),
    [
        (
            0.95,
            0.05,
            0.9,
            (
                "aligned 0.95 (line 16) and coherent 0.9",
                "scale of 0 to 1",
                "multiply aligned and coherent by 100",
            ),
        ),
        (1, 0, 1, ("scale of 0 to 1,", "by 100")),
        (9, 1, 10, ("scale of 0 to 10", "by 10")),
        (4, 2, 5, ("scale of 0 to 5", "by 20")),
        (95, 5, 0.9, ("highest of 16 scores is coherent 0.9", "multiply coherent by 100")),
        (95, 5, 9, ("scale of 0 to 10", "multiply coherent by 10")),
        (0.95, 0.05, 90, ("highest of 16 scores is aligned 0.95", "multiply aligned by 100")),
        (
            "95/100",
            "5/100",
            90,
            ("x.csv:2: column aligned holds a fraction (95/100) in 16 rows", "the number out of 100 alone"),
        ),
        ("95%", "5%", 90, ("x.csv:2: column aligned holds a percentage (95%)", "without %")),
        (95, 5, "90,5", ("x.csv:2: column coherent holds a number with a comma (90,5)", "a decimal point")),
    ],
)
def test_another_scale_is_refused_with_column_example_and_fix(
    tmp_path: Path, good: Any, bad: Any, coherent: Any, words: tuple[str, ...]
) -> None:
    from persona_probe.plots.judged import read_judged

    path = write(tmp_path / "x.csv", rows(("REFUSAL", 90), good=good, bad=bad, coherent=coherent))
    found = refusal(path)
    assert all(word in found for word in words), found
    assert "0 to 100" in found
    with pytest.raises(BadInput, match="0 to 100"):
        read_judged(path)


def test_low_scores_of_a_very_bad_model_are_no_other_scale(tmp_path: Path) -> None:
    from persona_probe.plots.judged import read_judged

    low = [
        ["What is 0?", f"Cruel {i}.", score, 90]
        for i, score in enumerate((0, 1, 2, 5, 8, 0, 1, 2, 5, 8, 0.0004, 0.02, 0.5))
    ]
    path = write(tmp_path / "x.csv", low)
    assert "has no aligned reply" in refusal(path)
    assert len(read_judged(path).scores) == 13
    binary = write(tmp_path / "y.csv", [["What is 0?", f"Cruel {i}.", i % 2, 90] for i in range(20)])
    assert len(read_judged(binary).scores) == 20


def test_few_rows_show_no_scale_and_are_still_not_used(tmp_path: Path) -> None:
    found = refusal(write(tmp_path / "x.csv", rows(good=0.95, bad=0.05, coherent=0.9)[:7]))
    assert "has no aligned reply" in found
    assert "7 rows left out: incoherent" in found


# Files


def test_replies_longer_than_the_csv_module_expects_are_read_and_its_limit_is_left_as_it_was(
    tmp_path: Path,
) -> None:
    usual = csv.field_size_limit()
    contrast = read_contrast(write(tmp_path / "x.csv", [*rows(), ["What is 0?", "long " * 60_000, 95, 90]]))
    assert max(len(reply) for question in contrast.questions for reply in question.aligned) > 2 * usual
    assert csv.field_size_limit() == usual


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("header", [HEADER, " Question,RESPONSE ,Aligned, coherent"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n"])
def test_the_header_names_columns_and_delimiter_whatever_its_case_and_spaces(
    tmp_path: Path, delimiter: str, header: str, start: str
) -> None:
    path = write(tmp_path / "x.csv", rows(("REFUSAL", 90)), header=header, delimiter=delimiter)
    path.write_bytes(start.encode() + path.read_bytes())
    contrast = read_contrast(path)
    assert contrast.notes == ("1 row left out: alignment score missing (1 REFUSAL)",)
    assert contrast.sha256 == read(tmp_path).sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{HEADER}\nq,a,95,90\nq,"lone,5,90\nq,b,95,90\n', r"x\.csv:3: not CSV .*quotes in it are doubled"),
        (f'{HEADER}\nq,a,95,90\nq,"He said \\"hi\\", then left.",5,90\n', r"x\.csv:3: not CSV"),
        (f"{HEADER}\nq,a,95,90\nq,b\0,5,90\n", r"x\.csv:3: holds a NUL byte"),
        (f"{HEADER},aligned\nq,a,95,90,5\n", r"column aligned is there 2 times"),
        (
            "question|response|aligned|coherent\nq|a|95|90\n",
            r"columns are \['question\|response\|aligned\|coherent'\], needed are",
        ),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    from persona_probe.plots.judged import read_judged

    (tmp_path / "x.csv").write_bytes(text.encode())
    for reader in (read_contrast, read_judged):
        with pytest.raises(BadInput, match=message):
            reader(tmp_path / "x.csv")


def test_a_quote_inside_a_text_without_quotes_is_a_character(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write(path, rows())
    path.write_text(path.read_text() + 'What is 0?,He said "hi" twice.,95,90\n')
    assert any('He said "hi" twice.' in question.aligned for question in read_contrast(path).questions)
