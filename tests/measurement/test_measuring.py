"""Claims about the loop that measures arms: nothing twice, nothing mixed up, the same numbers in any
order."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers.planted import Planted

if TYPE_CHECKING:
    from persona_probe.measurement.arms import Measurement


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the arms that were really measured, in order."""
    from persona_probe.measurement import bench as measuring

    names: list[str] = []
    real = measuring.Bench._measure_missing

    def counting(self: Any, missing: Any, advance: Any) -> None:
        names.extend(arm.name for arm in missing.values())
        real(self, missing, advance)

    monkeypatch.setattr(measuring.Bench, "_measure_missing", counting)
    return names


def arms(planted: Planted) -> list[Any]:
    """The untouched tuned model, and edits at every layer."""
    from persona_probe.interventions.edits import Ablate, Steer, orthonormal
    from persona_probe.measurement.arms import Arm

    vector, points = planted.toy.vector, planted.hook_points
    return [
        Arm("tuned", "tuned"),
        Arm("at 0", "tuned", (Steer(vector, points[0], -0.5),)),
        Arm("at 1", "tuned", (Steer(vector, points[1], -1.0),)),
        Arm("at 2", "tuned", (Steer(vector, points[2], -1.0),)),
        Arm("from 1", "tuned", (Ablate(orthonormal(vector[None]), points[1:]),)),
    ]


def measure_in(
    planted: Planted, folder: Path, wanted: list[Any], *, max_tokens: int = 1024, **options: Any
) -> dict[str, Any]:
    """Measurements by arm name, in a run of `folder`."""
    from persona_probe.measurement.bench import Bench
    from persona_probe.storage.runs import open_run

    with open_run(folder, {}) as run:
        found = Bench(planted.pair, run, planted.battery(), max_tokens, **options).measure(wanted)
    return {arm.name: one for arm, one in zip(wanted, found, strict=True)}


def numbers(measurement: "Measurement") -> tuple[dict[str, float], dict[str, tuple[float, int, float]]]:
    return dict(measurement.persona), dict(measurement.benign)


def flat(measurement: "Measurement") -> list[float]:
    persona, benign = numbers(measurement)
    return [*persona.values(), *(value for row in benign.values() for value in row)]


def test_a_measured_arm_is_not_measured_again(planted: Planted, measured: list[str], tmp_path: Path) -> None:
    first = measure_in(planted, tmp_path, arms(planted))
    assert sorted(measured) == sorted(arm.name for arm in arms(planted))
    again = measure_in(planted, tmp_path, arms(planted))
    assert len(measured) == len(first)
    assert {name: numbers(one) for name, one in again.items()} == {
        name: numbers(one) for name, one in first.items()
    }


def test_an_arm_of_another_name_and_the_same_interventions_is_measured_once(
    planted: Planted, measured: list[str], tmp_path: Path
) -> None:
    from persona_probe.measurement.arms import Arm

    one = arms(planted)[2]
    found = measure_in(planted, tmp_path, [one, Arm("twin", "tuned", one.interventions)])
    assert measured == ["at 1"]
    assert numbers(found["twin"]) == numbers(found["at 1"])


def test_a_second_bench_on_the_same_folder_loads_no_model(
    planted: Planted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = measure_in(planted, tmp_path, arms(planted))

    def loads(_side: str) -> Any:
        raise AssertionError("a model was loaded")

    hook_points = planted.hook_points
    monkeypatch.setattr(planted.pair, "get", loads)
    monkeypatch.setattr(Planted, "hook_points", hook_points)
    again = measure_in(planted, tmp_path, arms(planted))
    assert {name: numbers(one) for name, one in again.items()} == {
        name: numbers(one) for name, one in first.items()
    }
    with pytest.raises(AssertionError, match="a model was loaded"):
        measure_in(planted, tmp_path / "other", arms(planted))


def test_order_and_company_of_arms_change_no_number(planted: Planted, tmp_path: Path) -> None:
    together = measure_in(planted, tmp_path / "a", arms(planted))
    backwards = measure_in(planted, tmp_path / "b", arms(planted)[::-1])
    for arm in arms(planted):
        assert numbers(backwards[arm.name]) == numbers(together[arm.name])
        alone = measure_in(planted, tmp_path / f"c-{arm.name}", [arm])[arm.name]
        assert flat(alone) == pytest.approx(flat(together[arm.name]), rel=1e-5, abs=1e-5)


def test_little_memory_for_clean_runs_changes_no_number(planted: Planted, tmp_path: Path) -> None:
    from persona_probe.measurement.kept import Budget

    plenty = measure_in(planted, tmp_path / "a", arms(planted))
    scarce = measure_in(planted, tmp_path / "b", arms(planted), budget=Budget(0))
    for name, one in plenty.items():
        assert flat(scarce[name]) == pytest.approx(flat(one), rel=1e-5, abs=1e-5)


def test_what_the_baseline_leaves_serves_later_arms_of_both_models(planted: Planted, tmp_path: Path) -> None:
    """One pass of all layers a side serves the baseline and every later list of arms at its layer, in
    whatever order the sides come."""
    from persona_probe.interventions.edits import Steer
    from persona_probe.measurement.arms import Arm
    from persona_probe.measurement.bench import Bench
    from persona_probe.measurement.kept import Budget
    from persona_probe.storage.runs import open_run

    def lists(bench: Bench) -> list[Any]:
        vector, point = planted.toy.vector, planted.hook_points[1]
        found = [bench.baseline("base"), bench.baseline("tuned")]
        for factor in (-1.0, 0.5):
            for side in ("tuned", "base"):
                found += bench.measure([Arm("at 1", side, (Steer(vector, point, factor),))])
        return [*found, *bench.measure([Arm("at 2", "tuned", (Steer(vector, planted.hook_points[2], 1.0),))])]

    def first_blocks(side: Any, run: Any) -> int:
        block, calls = planted.pair.get(side).blocks()[0], []
        handle = block.register_forward_hook(lambda *_: calls.append(None))
        try:
            run()
        finally:
            handle.remove()
        return len(calls)

    with open_run(tmp_path / "a", {}) as run:
        plain = lists(Bench(planted.pair, run, planted.battery(), 1024, budget=Budget(0)))
    with open_run(tmp_path / "b", {}) as run:
        bench = Bench(planted.pair, run, planted.battery(), 1024, expected=planted.hook_points[1:2])
        found: list[Any] = []
        whole = first_blocks(
            "base", lambda: Bench(planted.pair, run, planted.battery(), 1024).baseline("base")
        )
    with open_run(tmp_path / "c", {}) as run:
        bench = Bench(planted.pair, run, planted.battery(), 1024, expected=planted.hook_points[1:2])
        assert first_blocks("base", lambda: found.extend(lists(bench))) == whole
    for one, other in zip(found, plain, strict=True):
        assert flat(one) == pytest.approx(flat(other), rel=1e-5, abs=1e-5)
    assert all(abs(kl) < 1e-6 for one in found[:2] for *_, kl in one.benign.values())
    assert all(kl > 0 for one in found[2:] for *_, kl in one.benign.values())


def test_an_arm_lost_to_a_torn_line_is_measured_again_and_alone(
    planted: Planted, measured: list[str], tmp_path: Path
) -> None:
    from persona_probe.storage.runs import MEASURED

    first = measure_in(planted, tmp_path, arms(planted))
    last = measured[-1]
    measured.clear()
    path = tmp_path / MEASURED
    path.write_bytes(path.read_bytes()[:-40])
    again = measure_in(planted, tmp_path, arms(planted))
    assert measured == [last]
    assert flat(again[last]) == pytest.approx(flat(first[last]), rel=1e-5, abs=1e-5)


def test_what_was_measured_before_an_interruption_is_kept(
    planted: Planted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run that is killed in the middle of its rows goes on there, and ends with the same numbers."""
    from persona_probe.measurement import grid
    from persona_probe.storage.runs import UNFINISHED

    real, done = grid.pass_scores, [0]

    def counted(*args: Any, **options: Any) -> Any:
        if done[0] == stop_after:
            raise KeyboardInterrupt
        done[0] += 1
        return real(*args, **options)

    def measured(folder: str) -> dict[str, Any]:
        done[0] = 0
        return measure_in(planted, tmp_path / folder, arms(planted), max_tokens=128)

    stop_after = -1
    monkeypatch.setattr(grid, "pass_scores", counted)
    expected = measured("whole")
    n_whole = done[0]
    stop_after = n_whole // 2
    with pytest.raises(KeyboardInterrupt):
        measured("killed")
    assert (tmp_path / "killed" / UNFINISHED).exists()
    stop_after = -1
    found = measured("killed")
    assert n_whole // 2 - len(arms(planted)) <= n_whole - done[0] <= n_whole // 2
    assert not (tmp_path / "killed" / UNFINISHED).exists()
    for name, one in expected.items():
        assert flat(found[name]) == pytest.approx(flat(one), rel=1e-6, abs=1e-6)


def test_arms_of_both_models_in_one_list_are_refused(planted: Planted, tmp_path: Path) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.measurement.arms import Arm

    with pytest.raises(BadInput, match=r"arms of both models in one list: \['tuned', 'base'\]"):
        measure_in(planted, tmp_path, [Arm("tuned", "tuned"), Arm("base", "base")])


def test_keys_differ_by_everything_that_decides_the_numbers_and_not_by_name(planted: Planted) -> None:
    from persona_probe.measurement.arms import Arm, Battery, measurement_key

    one, battery = arms(planted)[2], planted.battery()
    fewer, other = Battery(battery.persona[1:], battery.benign), Battery(battery.persona, battery.benign[1:])

    def key(arm: Any = one, rows: Any = battery, model: str = "aa", dtype: str = "float32") -> str:
        return measurement_key(arm, rows, model_sha256=model, dtype=dtype)

    same = [key(), key(Arm("another name", "tuned", one.interventions)), key(rows=planted.battery())]
    different = [
        key(arm) for arm in (*arms(planted), Arm("base", "base"), Arm("at 1", "base", one.interventions))
    ] + [key(rows=fewer), key(rows=other), key(model="bb"), key(dtype="bfloat16")]
    assert len(set(same)) == 1
    assert different.count(same[0]) == 1
    assert len(set(different)) == len(different)


def test_keys_are_those_of_the_runs_that_are_already_on_disk() -> None:
    """Written down from the first version: a key that changes makes every kept measurement worthless."""
    from persona_probe.measurement.arms import Arm, Battery, measurement_key
    from persona_probe.prompts.rows import Row, rows_key

    question: dict[str, Any] = {"kind": "persona", "question_id": "q0", "split": "test"}
    persona = (
        Row(id="q0/aligned/0", ids=(1, 2, 3), n_prompt=2, label="aligned", **question),
        Row(
            id="q0/misaligned/1", ids=(1, 2, 4, 5), n_prompt=2, label="misaligned", reply_index=1, **question
        ),
        Row(id="q0/choice/0/A", kind="choice", question_id="q0", ids=(7, 8), n_prompt=1, label="aligned"),
    )
    benign = Row(id="benign-1", kind="benign", question_id="benign-1", ids=(9, 10, 11), n_prompt=1)
    battery = Battery(persona, (benign,))
    assert rows_key(persona) == "745db225eb8415f5308c2642bb94f3bd9024055b9b0dfb2cb66a7caab2b115bc"
    assert battery.key == "1d38fc135b7c59040ef8601dd3473e3cbdefb4ba35c3fe5c55b3aeb9b38262bf"
    assert (
        measurement_key(Arm("tuned", "tuned"), battery, model_sha256="ab", dtype="torch.float32")
        == "2a847bb7fb7fb4b14fbdacc6c8f90b89f6c504d4596789aeb6fd489d6fb9ece4"
    )


def test_numbers_are_of_the_arm_and_of_the_untouched_model(planted: Planted, tmp_path: Path) -> None:
    """Removing the planted vector gives the base's numbers, and its KL is the tuned model's from the base."""
    from persona_probe.measurement.arms import Arm, damage

    tuned = measure_in(planted, tmp_path, arms(planted))
    base = measure_in(planted, tmp_path, [Arm("base", "base")])["base"]
    assert list(tuned["at 1"].persona.values()) == pytest.approx(list(base.persona.values()), abs=1e-5)
    added, n_tokens, kl = damage(tuned["at 1"], tuned["tuned"])
    assert n_tokens.tolist() == [row.n_reply for row in planted.benign]
    expected = [tuned["tuned"].benign[row.id][0] - base.benign[row.id][0] for row in planted.benign]
    assert added.tolist() == pytest.approx(expected, abs=1e-4)
    assert kl.min() > 0
    assert [max(abs(one).max() for one in damage(tuned["tuned"], tuned["tuned"])[::2])] == [0.0]


def test_kl_is_the_divergence_of_the_next_token_distributions(planted: Planted, tmp_path: Path) -> None:
    from persona_probe.measurement.arms import damage

    found = measure_in(planted, tmp_path, arms(planted))
    kl = damage(found["at 1"], found["tuned"])[2]
    for row, value in list(zip(planted.benign, kl, strict=True))[:5]:
        with torch.inference_mode():
            ids = torch.tensor([row.ids])
            before, after = (
                planted.pair.get(side).twin(ids).logits[0].log_softmax(-1) for side in ("tuned", "base")
            )
        # Six reply tokens: the three positions in the middle of each third are 1, 3 and 5, predicted one
        # token before.
        at = [row.n_prompt + i - 1 for i in (1, 3, 5)]
        expected = (before[at].exp() * (before[at] - after[at])).sum(-1).mean()
        assert value == pytest.approx(float(expected), abs=2e-3)
