"""Claims about every decoder that TransformerLens names: what runs gives plain Hugging Face's numbers, what
cannot run is refused before weights are read."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.family_cases import (
    CASES,
    Case,
    case_of,
    loaded,
    relative,
    stream_error,
    training_error,
    written,
    written_replies,
)
from helpers.family_references import EDITED
from helpers.family_table import PAGE, SAME, engine_of, reason, stored
from helpers.tiny_families import NOT_TEXT, uncovered

CLOSE = 1e-5
NO_ADAPTER, NOT_ALONE = (
    r"TransformerLens cannot bridge {}",
    r"config.json names architecture '{}' .*does not stand alone in transformers",
)
REFUSED = {
    "CohereForCausalLM": rf"{NO_ADAPTER}.*did not declare 'q_norm'",
    "Emu3ForConditionalGeneration": NOT_ALONE,
    "Gemma4UnifiedForConditionalGeneration": r"TransformerLens has no adapter for Gemma4UnifiedForCausalLM",
    "Glm4vForConditionalGeneration": NOT_ALONE,
    "HrmTextForCausalLM": rf"{NO_ADAPTER}: 8 of its 8 blocks have no residual stream",
    "PhiForCausalLM": rf"{NO_ADAPTER}.*did not declare 'q_norm'",
    "Qwen2_5_VLForConditionalGeneration": NOT_ALONE,
    "Qwen3VLForConditionalGeneration": NOT_ALONE,
    "Qwen3VLMoeForConditionalGeneration": NOT_ALONE,
    "DeepseekV4ForCausalLM": r"{} passes on several residual streams at once",
    "OpenAIGPTLMHeadModel": r"{} has blocks that put out a list",
    "RwkvForCausalLM": r"{} changes its own weights in its first pass",
}
RUNNING = [name for name in CASES if name not in REFUSED]
FOUND: dict[str, dict[str, str]] = {}


@pytest.fixture(scope="module", params=RUNNING)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Every family that runs, its reference taken before it is bridged."""
    made = case_of(request.param, tmp_path_factory.mktemp("family"))
    assert made.refusal is None
    FOUND[made.name] = engine_of(made)
    return made


def scored(case: Case, arm: Any = (), *, rows: list[Any] | None = None, **options: Any) -> Any:
    from persona_probe.measurement.scoring import score_rows

    return score_rows(case.model, rows or case.rows, arm, **{"max_tokens": 4096, **options}).logprob


def test_scores_are_log_probabilities_of_hugging_face_whatever_stands_beside_a_row(case: Case) -> None:
    expected, (longest, shortest) = case.known.scores, (case.rows[0], case.rows[-1])
    assert len(longest.ids) > len(shortest.ids) + 20
    assert relative(scored(case), expected) < CLOSE
    assert relative(scored(case, rows=[shortest]), expected[-1:]) < CLOSE
    assert relative(scored(case, rows=[longest, shortest]), expected[[0, -1]]) < CLOSE
    assert relative(scored(case, rows=case.rows[::-1], keep_prompts=True), expected.flip(0)) < CLOSE


def test_collected_means_are_means_of_hidden_states(case: Case) -> None:
    assert stream_error(case, "reply", slice(0, 4)) < CLOSE  # one prompt, computed once where it can be
    assert stream_error(case, "all") < CLOSE


def test_edits_are_those_of_plain_hooks_with_and_without_a_clean_run(case: Case) -> None:
    from persona_probe.measurement.kept import Budget, Kept
    from persona_probe.measurement.scoring import score_arms
    from persona_probe.streams.resume import resumable

    known, rows = case.known, case.rows[EDITED]
    clean_scores = known.scores[EDITED]
    assert relative(known.steered, clean_scores) > 1e-3
    assert relative(known.ablated, clean_scores) > 1e-3
    assert relative(scored(case, case.arms[1], rows=rows), known.steered) < CLOSE
    assert relative(scored(case, case.arms[2], rows=rows, keep_prompts=True), known.ablated) < CLOSE
    kept, options = Kept(Budget(10**9), (1, 2, 3)), {"max_tokens": 4096, "keep_prompts": True}
    score_arms(case.model, rows, [()], kept=kept, **options)
    assert bool(kept.streams(0)) == resumable(case.model)
    for what in (kept, None):  # from the streams that are kept, and in one grid that shares its own
        found = score_arms(case.model, rows, case.arms, kept=what, **options)
        for arm, expected in zip(found, (clean_scores, known.steered, known.ablated), strict=True):
            assert relative(arm.logprob, expected) < CLOSE


def test_greedy_replies_are_the_most_likely_tokens_of_plain_passes(case: Case) -> None:
    found, expected = written_replies(case)
    assert found == expected


def test_training_loss_and_gradient_are_those_of_hugging_face(case: Case) -> None:
    loss, gradient = training_error(case)
    assert loss < CLOSE
    assert case.known.gradient.norm() > 0
    assert gradient < SAME


def test_bridges_that_differ_are_those_that_are_listed(case: Case) -> None:
    from persona_probe.models.bridge_checks import BRIDGE, BRIDGE_DIFFERS

    compared = [check.difference for check in case.model.checks if check.name.startswith(BRIDGE)]
    assert len(compared) == 3
    differs = any(difference is None or difference > SAME for difference in compared)
    assert differs == (case.model.engine.config.model_type in BRIDGE_DIFFERS)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_run_is_refused_in_one_line_before_weights_are_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.models import loading as models

    monkeypatch.setattr(models, "load_weights", lambda *_args, **_options: pytest.fail("weights were read"))
    folder = written(name, tmp_path)
    with pytest.raises(BadInput) as error:
        loaded(folder)
    message = str(error.value)
    assert re.search(REFUSED[name].format(folder.name), message)
    assert len(message) <= 300
    assert "\n" not in message
    refused = Case(name, folder, [], refusal=message)
    FOUND[name] = {**engine_of(refused), "note": reason(refused)}


@pytest.mark.parametrize("case", ["LlamaForCausalLM", "Gemma2ForCausalLM", "BambaForCausalLM"], indirect=True)
def test_bfloat16_runs_in_the_ways_of_float32(case: Case) -> None:
    half = replace(case, model=loaded(case.folder, torch.bfloat16))
    assert half.model.twin.dtype == torch.bfloat16
    assert engine_of(half) == engine_of(case)
    of_full, of_half = case.model.engine, half.model.engine
    assert (of_half.pads, of_half.pads_left) == (of_full.pads, of_full.pads_left)
    assert relative(scored(half, half.arms[2], rows=half.rows[EDITED]), case.known.ablated) < 0.05


def test_every_name_of_transformer_lens_is_accounted_for() -> None:
    assert uncovered() == set()


def test_page_in_docs_names_the_same_families_refusals_and_engines(tmp_path: Path) -> None:
    page = stored()
    assert list(page) == list(CASES)
    for name in CASES:
        if name not in FOUND:  # when this test runs alone
            made = case_of(name, tmp_path / str(len(FOUND)))
            FOUND[name] = {**engine_of(made), **({"note": reason(made)} if made.refusal else {})}
        assert {key: page[name][key] for key in FOUND[name]} == FOUND[name], name
    below = PAGE.read_text(encoding="utf-8").partition("## Not in the table")[2]
    assert set(re.findall(r"\w+", below)) >= NOT_TEXT.keys()
