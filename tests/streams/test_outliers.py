"""Claims about tokens of outlying norm: dropped or kept by one option, their share exact, said above 1%, and
the names of what is kept on disk only changed where they are kept."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers.families import Family, plain_resids, rows_of, vectors
from helpers.planted import Planted

from persona_probe.base.hook_points import HookPoint
from persona_probe.streams.outliers import outlier_note

if TYPE_CHECKING:
    from persona_probe.base.choices import Outliers
    from persona_probe.records.parts import Side
    from persona_probe.streams.activations import Activations, TokenActs

POINTS = tuple(HookPoint(layer) for layer in range(6))


def with_a_giant(family: Family, outliers: "Outliers") -> "tuple[Activations, TokenActs]":
    """The longest two rows; steering from the last position of the longer one on makes one of its tokens a
    giant at blocks 1 and above."""
    from persona_probe.interventions.applied import applied
    from persona_probe.interventions.edits import Steer
    from persona_probe.streams.activations import collect, read_tokens

    model, rows = family.model, sorted(rows_of(family), key=lambda row: len(row.ids))[-2:]
    assert len(rows[0].ids) < len(rows[1].ids)
    options: Any = {"scope": "all", "max_tokens": 4096, "outliers": outliers}
    giant = Steer(1e4 * vectors(1)[0], model.resid(1), 1.0, skip_first=len(rows[1].ids) - 1)
    with applied(model, (giant,)):
        means = collect(model, rows, hook_points=model.resids()[:2], **options)
        (tokens,) = read_tokens(model, rows, hook_point=model.resid(1), **options)
    return means, tokens


def test_a_giant_is_dropped_or_kept_and_its_share_is_exact(llama: Family) -> None:
    drop, keep = with_a_giant(llama, "drop")[0], with_a_giant(llama, "keep")[0]
    n = [len(row.ids) - 4 for row in drop.rows]
    assert drop.dropped is not None
    assert keep.dropped is not None
    assert drop.dropped.tolist() == pytest.approx([0.0, 1 / sum(n)])
    assert keep.dropped.tolist() == [0.0, 0.0]
    assert drop.n_tokens is not None
    assert drop.n_tokens.tolist() == [[n[0], n[0]], [n[1], n[1] - 1]]
    ids = torch.tensor([drop.rows[1].ids])
    states = plain_resids(llama, ids, torch.ones_like(ids))[1][0, 4:]
    torch.testing.assert_close(drop.means[1, 1], states[:-1].mean(0), atol=1e-4, rtol=0)
    states[-1] += 1e4 * vectors(1)[0]
    torch.testing.assert_close(keep.means[1, 1], states.mean(0), atol=1e-2, rtol=1e-5)
    torch.testing.assert_close(drop.means[0], keep.means[0], atol=1e-5, rtol=0)
    assert drop.where([True, False]).dropped == pytest.approx(torch.zeros(2))


def test_single_tokens_follow_the_same_option(llama: Family) -> None:
    left_out: dict[Outliers, int] = {"drop": 1, "keep": 0}
    for outliers, n in left_out.items():
        _, part = with_a_giant(llama, outliers)
        assert part.n_readable is not None
        assert part.n_readable.tolist() == [len(row.ids) - 4 for row in part.rows]
        assert (part.n_readable - part.keep.sum(1)).sort().values.tolist() == [0, n]


def test_the_share_is_said_above_one_percent_and_not_below() -> None:
    below: dict[Side, list[float]] = {"base": [0.01, 0.0, 0.009, 0.0, 0.0, 0.0], "tuned": [0.0] * 6}
    assert outlier_note(POINTS, below) == []
    assert outlier_note(POINTS, None) == []
    above: dict[Side, list[float]] = {
        "base": [0.02, 0.0, 0.009, 0.0, 0.0, 0.0],
        "tuned": [0.0, 0.0, 0.0312, 0.011, 0.03, 0.0],
    }
    (note,) = outlier_note(POINTS, above)
    assert "up to 3.1% of the read tokens" in note
    assert "at layers 0, 2 to 4:" in note
    assert "--outliers keep averages them all" in note
    assert "at layer 5:" in outlier_note(POINTS, {"tuned": [0.0] * 5 + [0.5]})[0]


def test_kept_activations_change_their_name_only_where_outliers_are_kept(
    planted: Planted, tmp_path: Path
) -> None:
    from persona_probe.directions.fitting import read
    from persona_probe.prompts.rows import rows_key
    from persona_probe.storage.files import sha256_json
    from persona_probe.storage.runs import open_run
    from persona_probe.streams.activations import ReadOptions

    pair, rows = planted.pair, tuple(planted.rows["find"][:2])
    with open_run(tmp_path, {}) as run:
        drop, again = (read(pair, run, "tuned", rows, ReadOptions("reply", 512)) for _ in range(2))
        keep = read(pair, run, "tuned", rows, ReadOptions("reply", 512, "keep"))
    names = {path.stem for path in (tmp_path / "activations").glob("*.safetensors")}
    key = sha256_json(["activations", pair.key("tuned"), rows_key(rows), "reply", str(pair.dtype)])
    assert len(names) == 2
    assert key[:24] in names
    assert drop.dropped is not None
    assert again.dropped is not None
    assert torch.equal(again.dropped, drop.dropped)
    assert keep.dropped is not None


def test_fits_and_their_record_say_what_was_dropped_and_warn(planted: Planted, tmp_path: Path) -> None:
    from dataclasses import replace

    from persona_probe.directions.fitting import fit_all
    from persona_probe.storage.runs import open_run
    from persona_probe.streams.activations import ReadOptions

    with open_run(tmp_path, {}) as run:
        readings = fit_all(
            planted.contrast,
            planted.rows,
            planted.pair,
            run,
            methods=("mean_diff",),
            options=ReadOptions("reply", 512, "keep"),
            seed=0,
        )
    fitted = readings.fitted()
    n = len(fitted.hook_points)
    assert fitted.outliers == "keep"
    assert fitted.dropped == {"base": (0.0,) * n, "tuned": (0.0,) * n}
    assert fitted.notes() == []
    many = replace(fitted, dropped={"base": (0.0,) * n, "tuned": (0.0,) * (n - 1) + (0.25,)})
    assert "up to 25.0%" in many.notes()[0]
    facts = many.json(shown="mean_diff", hook_point=fitted.hook_points[0])
    assert facts["dropped"] == {"base": [0.0] * n, "tuned": [0.0] * (n - 1) + [0.25]}
    unknown = replace(fitted, dropped=None).json(shown="mean_diff", hook_point=fitted.hook_points[0])
    assert unknown["dropped"] is None
