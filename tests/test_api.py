"""`import persona_probe as pp`: light, complete, typed; five lines run, and modules never take the place of
functions."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from persona_probe.records.rows import ScoredRow

ROOT = Path(__file__).parents[1]


def prints(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = "torch transformers numpy scipy plotly pandas pydantic typer rich"
    assert prints(f"import sys, persona_probe; print(*(set(sys.modules) & set({heavy.split()!r})))") == ""


def test_everything_public_exists_and_is_one_tab_away() -> None:
    code = (
        "import persona_probe as pp\nassert set(pp.__all__) <= set(dir(pp))\nassert all(getattr(pp,"
        " name).__doc__ for name in pp.__all__)\nprint(len(pp.__all__), len(set(pp.__all__)), *[n for n in"
        " dir(pp) if not n.startswith('_') and n not in pp.__all__])"
    )
    n, distinct, *others = prints(code).split()
    assert n == distinct
    assert others == []


def test_types_are_said_for_every_public_name() -> None:
    import ast

    import persona_probe as pp

    tree = ast.parse((ROOT / "persona_probe" / "__init__.py").read_text())
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.asname or alias.name
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == set(pp.__all__)
    assert (ROOT / "persona_probe" / "py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error_that_says_what_there_is() -> None:
    import persona_probe as pp

    with pytest.raises(AttributeError, match=r"no attribute 'open_pairs'.*open_pair"):
        _ = pp.open_pairs  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", ["find_direction", "diff_latents"])
def test_a_module_of_a_functions_name_does_not_replace_it(name: str) -> None:
    code = (
        "import persona_probe as pp, types\n"
        f"import persona_probe.{name}\n"
        "import persona_probe.__main__\n"
        f"assert not isinstance(pp.{name}, types.ModuleType)\n"
        f"from persona_probe.{name} import COMMAND\n"
        f"print(pp.{name}.__module__)"
    )
    assert prints(code) == "persona_probe.api.making"


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    import persona_probe as pp

    assert pp.__version__ == version("persona-probe")


def test_errors_are_one_family() -> None:
    import persona_probe as pp

    for error in (pp.UsageError, pp.BadInput, pp.NotFinite, pp.OutOfMemory):
        assert issubclass(error, pp.PersonaProbeError)
        assert error.__name__ in (pp.__doc__ or "")


def test_the_reference_run_is_loaded_from_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import persona_probe as pp

    monkeypatch.chdir(tmp_path)
    run = pp.load("reference")
    table = run.table()
    assert run.record.selected.arm in table.index
    assert list(table.index) == [arm.name for arm in run.record.arms]
    arm = run.record.arm("tuned+ablate")
    assert arm is not None
    assert arm.restoration is not None
    shown = table.loc["tuned+ablate", ["R low", "R", "R high"]]
    assert shown.tolist() == pytest.approx(
        [arm.restoration.low, arm.restoration.estimate, arm.restoration.high]
    )
    assert run.direction.hook_point == "blocks.23.hook_out" or run.direction.d_model == 576
    assert run.report("page.html").read_text().startswith("<!")
    assert pp.load_latents("reference").record.kind == "latents"
    with pytest.raises(pp.BadInput, match="no run 'nothing'"):
        pp.load("nothing")
    with pytest.raises(pp.BadInput, match=r"holds no record\.json"):
        pp.load(tmp_path)


def test_every_figure_of_a_run_is_a_method_with_its_caption() -> None:
    import persona_probe as pp

    run = pp.load()
    names = dir(run.figures)
    assert {"arms", "frontier", "dose", "path", "layers_methods", "closure", "rank"} <= set(names)
    for name in names:
        method = getattr(run.figures, name)
        assert method().data or method().layout.annotations, name
        assert method.__doc__, name
    with pytest.raises(AttributeError, match="no figure 'arm'"):
        run.figures.arm()


def test_the_closure_is_of_the_gaps_before_and_after() -> None:
    import persona_probe as pp

    run = pp.load()
    assert run.closure is not None
    scores = {name: pp_arm.persona_score.estimate for name in ARMS if (pp_arm := run.record.arm(name))}
    before, after = scores["tuned"] - scores["base"], scores["tuned+ablate"] - scores["base+ablate"]
    share = getattr(run.closure.share, "estimate", run.closure.share)
    assert share == pytest.approx(1 - after / before, abs=1e-3)
    title = run.figures.closure().layout.title.text
    assert f"C = {share:.2f}".replace("-", "−") in title


ARMS = ("base", "tuned", "base+ablate", "tuned+ablate")


def rows_of(scores: dict[str, list[float]]) -> "list[ScoredRow]":
    from persona_probe.records.rows import ScoredRow

    return [
        ScoredRow(
            arm=arm,
            model="tuned" if arm.startswith("tuned") else "base",
            edited="+" in arm,
            edit="0a" * 32 if "+" in arm else None,
            control=None,
            dose=None,
            kind="persona",
            question_id=f"q{place}",
            row=f"q{place}/{label}/0",
            split="test",
            label=label,
            register=None,
            reply_index=0,
            logprob_per_token=score if label == "misaligned" else 0.0,
            n_tokens=3,
            kl=None,
        )
        for arm, values in scores.items()
        for place, score in enumerate(values)
        for label in ("aligned", "misaligned")
    ]


def test_the_closure_has_an_interval_over_questions_where_there_are_rows() -> None:
    import persona_probe as pp
    from persona_probe.measurement.closure import closure
    from persona_probe.records.parts import Estimate

    record = pp.load().record
    base, tuned = [0.0, 0.1, -0.1, 0.2], [1.0, 1.2, 0.9, 1.3]
    planted = {
        "base": base,
        "tuned": tuned,
        "base+ablate": base,
        "tuned+ablate": [b + (t - b) / 4 for b, t in zip(base, tuned, strict=True)],
    }
    found = closure(record, rows_of(planted))
    assert found is not None
    assert isinstance(found.share, Estimate)
    assert isinstance(found.after, Estimate)
    assert found.share.estimate == pytest.approx(0.75)
    assert found.share.low == pytest.approx(0.75)
    assert found.after.estimate == pytest.approx(sum(tuned) / 16 - sum(base) / 16)
    uneven = planted | {"tuned+ablate": [0.0, 0.1, -0.1, 1.3]}
    found = closure(record, rows_of(uneven))
    assert found is not None
    assert isinstance(found.share, Estimate)
    assert found.share.low < found.share.estimate < found.share.high
    assert found.share.high == pytest.approx(1.0)
