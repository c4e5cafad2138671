"""Claims about sampled replies and their health, on the planted pair: who is asked what, what is kept, and an
arm whose replies loop."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers.judged_world import World
from helpers.planted import Planted
from helpers.present import present

from persona_probe.base.errors import NotFinite
from persona_probe.base.hook_points import HookPoint
from persona_probe.records.direction import Completion, shown_replies

if TYPE_CHECKING:
    from persona_probe.experiments.direction_job import Job
    from persona_probe.measurement.arms import Arm

REMOVAL = "tuned removal 0"  # of the made-up world
Opened = Callable[..., "Job"]


@pytest.fixture
def opened(planted: Planted, tmp_path: Path) -> Opened:
    """A job on the planted pair, always in the same folder; settings not given are those of a run."""
    from persona_probe.base.cli import Reporter
    from persona_probe.experiments.direction_job import prepared
    from persona_probe.storage.runs import Run

    run = Run(tmp_path)

    def job(**changes: Any) -> "Job":
        config = planted.config(tmp_path, **{"skip_first": 0, "max_new_tokens": 16} | changes)
        return prepared(config, planted.pair, run, Reporter(quiet=False))

    return job


def steered(name: str, vector: torch.Tensor, side: Any = "tuned") -> "Arm":
    """An arm that adds a vector to the last hook point of the toy."""
    from persona_probe.directions.direction import Direction
    from persona_probe.interventions.forms import Form
    from persona_probe.measurement.arms import Arm

    point = HookPoint(2)
    form = Form("steer", "layer", 1.0, None, 0)
    edits = form.interventions(
        Direction(hook_point=point, vector=vector, method="shift"),
        hook_points=(point,),
        means=torch.zeros(1, len(vector)),
    )
    return Arm(name, side, edits)


def arms(planted: Planted) -> "dict[str, Arm]":
    """The untouched model, one in which a single word always wins, one that always ends at once, and one that
    is hardly changed."""
    from persona_probe.measurement.arms import Arm

    model = planted.pair.get("tuned")
    unembedding = model.unembedding().float()
    word, end = model.tokenizer.convert_tokens_to_ids("word3"), next(iter(model.eos_ids))
    made = [
        Arm("tuned", "tuned"),
        steered("one word", 1000 * unembedding[word]),
        steered("silent", 1000 * unembedding[end]),
        steered("mild", 0.01 * unembedding[word]),
    ]
    return {arm.name: arm for arm in made}


def entries(job: "Job", planted: Planted) -> dict[str, dict[str, Any]]:
    """The health of the planted arms."""
    from persona_probe.experiments.sampled import health_entries, sampled_replies

    made = arms(planted)
    return health_entries(job, made, sampled_replies(job, "tuned", list(made.values())))


def judged(entry: dict[str, Any] | None) -> Any:
    """A removal that is restored by every other number, with this health."""
    return World().judge(health={} if entry is None else {REMOVAL: entry}).entry(REMOVAL)


def test_an_arm_whose_replies_loop_or_are_empty_is_damaged_and_one_that_writes_is_not(
    opened: Opened, planted: Planted
) -> None:
    health = entries(opened(), planted)
    assert {name: entry["n"] for name, entry in health.items()} == dict.fromkeys(health, 24)
    assert judged(None).verdict == judged(health["mild"]).verdict == "restored"
    for name, empty in (("one word", 0), ("silent", 24)):
        entry = judged(health[name])
        assert entry.verdict == "not interpretable", name
        assert "share of looping or empty replies above the untouched model's" in entry.judged.because
        assert "allowed are 0.3" in entry.judged.because
        assert entry.health.n_empty == empty
        assert present(entry.health.unhealthy_more).estimate > 0.8
    assert health["one word"]["looping"]["estimate"] == 1.0
    assert health["silent"]["base_perplexity"] is None
    assert health["tuned"]["unhealthy_more"] is None
    assert judged(health["mild"]).health.phrase.endswith("(n = 24)")
    assert [cost.budget for cost in judged(health["mild"]).judged.costs] == [0.1, 0.1, 0.3]


def test_fewer_than_24_replies_are_shown_and_not_judged(opened: Opened, planted: Planted) -> None:
    entry = judged(entries(opened(n_prompts=23), planted)["one word"])
    assert (entry.health.n, entry.verdict) == (23, "restored")
    assert len(entry.judged.costs) == 2
    assert entry.health.phrase.endswith("(n = 23; not judged, which takes 24)")


def replies(job: "Job", arm: "Arm") -> list[Completion]:
    from persona_probe.experiments.sampled import sampled_replies

    return sampled_replies(job, arm.side, [arm])


def test_a_second_reply_to_a_question_has_draws_of_its_own_and_the_first_is_as_before(opened: Opened) -> None:
    from persona_probe.measurement.arms import Arm
    from persona_probe.measurement.generation import Request, generate
    from persona_probe.prompts.rows import Prompt

    job, arm = opened(), Arm("tuned", "tuned")
    written = replies(job, arm)
    first, second = written[:12], written[12:]
    assert [reply.draw for reply in written] == [0] * 12 + [1] * 12
    assert [reply.prompt_id for reply in first] == [reply.prompt_id for reply in second]
    assert all(one.text != other.text for one, other in zip(first, second, strict=True))
    plain = generate(
        job.pair.get("tuned"),
        [Request("tuned", Prompt.user(q.id, q.text), ()) for q in job.contrast.split("test")],
        max_new_tokens=16,
        temperature=0.7,
        seed=0,
        batch_size=32,
    )
    assert [reply.text for reply in first] == [reply.text for reply in plain]
    assert [reply.text for reply in replies(opened(n_prompts=12), arm)] == [reply.text for reply in first]


@pytest.mark.parametrize(
    ("changes", "n", "questions", "last_draw"),
    [
        ({}, 24, 12, 1),
        ({"n_prompts": 30}, 30, 12, 2),
        ({"n_prompts": 4}, 4, 4, 0),
        ({"n_prompts": 0}, 0, 0, 0),
        ({"temperature": 0.0}, 12, 12, 0),
        ({"limit": 8}, 2, 2, 0),
    ],
)
def test_every_question_is_asked_as_often_as_it_takes(
    opened: Opened, changes: dict[str, Any], n: int, questions: int, last_draw: int
) -> None:
    from persona_probe.experiments.sampled import asked_questions

    job = opened(**changes)
    asked = asked_questions(job.config, job.contrast.split("test"))
    assert (len(asked), len({question.id for question, _ in asked})) == (n, questions)
    assert max((draw for _, draw in asked), default=0) == last_draw
    assert len({(question.id, draw) for question, draw in asked}) == n


def test_four_questions_are_those_of_earlier_runs(opened: Opened) -> None:
    from persona_probe.experiments.sampled import asked_questions

    job = opened(n_prompts=4)
    test = job.contrast.split("test")
    assert [question for question, _ in asked_questions(job.config, test)] == list(test[::3][:4])


def test_what_is_kept_is_neither_sampled_nor_scored_again(
    opened: Opened, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.experiments import sampled

    health = entries(opened(), planted)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was run again")

    monkeypatch.setattr(sampled, "generate", never)
    monkeypatch.setattr(sampled, "score_rows", never)
    assert entries(opened(), planted) == health


def test_a_model_that_cannot_be_sampled_from_has_no_replies_and_a_note(
    opened: Opened, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    """The toy takes 64 tokens."""
    assert entries(opened(max_new_tokens=64), planted) == {}
    note = " ".join(capsys.readouterr().err.split())
    assert "no replies of the tuned model" in note
    assert "exceeds the 64" in note


def test_where_base_has_no_numbers_there_is_no_perplexity_and_a_note(
    opened: Opened, planted: Planted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from persona_probe.experiments import sampled

    def broken(*_: Any, **__: Any) -> None:
        raise NotFinite("the log-probability is not finite")

    monkeypatch.setattr(sampled, "score_rows", broken)
    health = entries(opened(), planted)
    assert {entry["base_perplexity"] for entry in health.values()} == {None}
    assert judged(health["one word"]).verdict == "not interpretable"
    assert "no perplexity of sampled replies" in " ".join(capsys.readouterr().err.split())


def test_perplexity_is_that_of_the_untouched_base_model(opened: Opened, planted: Planted) -> None:
    """Whoever wrote the text; beside an arm that was not asked there is nothing to compare with."""
    from persona_probe.experiments.sampled import health_entries
    from persona_probe.measurement.health import SampledReply, sampled_rows
    from persona_probe.measurement.scoring import score_rows

    job, arm = opened(n_prompts=6), arms(planted)["mild"]
    written = replies(job, arm)
    entry = health_entries(job, {"mild": arm}, written)["mild"]
    texts = [SampledReply(reply.prompt_id, reply.question, reply.text or "") for reply in written]
    rows = sampled_rows(job.pair.tokenizer, texts, name="mild", longest=64).rows
    perplexity = {}
    for side in ("base", "tuned"):
        scores = score_rows(job.pair.get(side), rows, (), max_tokens=1024)
        perplexity[side] = math.exp(-float(scores.logprob.sum()) / int(scores.n_tokens.sum()))
    assert entry["base_perplexity"]["estimate"] == pytest.approx(perplexity["base"], rel=1e-4)
    assert abs(perplexity["tuned"] / perplexity["base"] - 1) > 0.01
    assert (entry["n"], entry["unhealthy_more"]) == (6, None)


def test_the_replies_that_are_shown_are_the_first_to_a_few_questions_evenly_spaced() -> None:
    written = [
        Completion(arm=arm, prompt_id=f"q{q}", text="", finished=True, question="?", draw=draw)
        for arm in ("tuned", "base")
        for draw in (0, 1)
        for q in range(24)
    ]
    shown = shown_replies(written)
    assert [(reply.arm, reply.prompt_id, reply.draw) for reply in shown] == [
        (arm, f"q{q}", 0) for arm in ("tuned", "base") for q in (0, 6, 12, 18)
    ]
    assert shown_replies(written[:3]) == written[:3]
