"""Makes a planted world from its plan and a seed."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from persona_probe.organisms.worlds import (
    LABELS,
    N_FIND,
    N_LAYERS,
    N_REPLIES,
    N_STYLES,
    N_TEXTS,
    OFFSET_SD,
    UNREACHED_SD,
    WIDTH,
    WRITTEN_AT,
    Plan,
    World,
)
from persona_probe.records.parts import Split

TOKENS = 24  # of a benign text
MIXING = 0.1  # how much a layer mixes what it passes on
SPREAD_OF_WRITE = (0.3, 0.15)  # between questions and between replies, as shares of what tuning writes
ALONG_CARRIER, ALONG_DIAL, CONTENT = 0.4, 0.6, 0.5  # half the distance between the labels, by direction
USED = 3  # of several carriers, at each question
UNREAD, BESIDE = 0.3, 0.1  # length of what else tuning writes, the same everywhere, and its spread
BASE_S = -0.1  # mean S of the base model
READ_SD = 0.01  # of the weights with which S reads the rest of the stream


@dataclass(frozen=True, eq=False, kw_only=True)
class Parts:
    """The fixed parts of one world. Vectors are in the space of the layer at which tuning writes."""

    axes: Float[np.ndarray, "d_model d_model"]  # rows times standard deviations: a root of the covariance
    passing: Float[np.ndarray, "step d_model d_model"]
    centre: Float[np.ndarray, " d_model"]
    carriers: Float[np.ndarray, "rank d_model"]
    dial: Float[np.ndarray, " d_model"]
    unread: Float[np.ndarray, " d_model"]
    label: Float[np.ndarray, " d_model"]


def planted(plan: Plan, *, n_select: int, n_test: int, seed: int) -> World:
    """The world of a plan; equal seeds give equal worlds."""
    rng = np.random.default_rng(seed)
    n: dict[Split, int] = {"find": N_FIND, "select": n_select, "test": n_test}
    n_questions = sum(n.values())
    shift = rng.uniform(*plan.shift) if plan.read or plan.outside else 0.0
    styles = _units(rng, N_STYLES)
    parts = _parts(plan, styles, rng)
    loads = _loads(plan.rank, n_questions, rng)
    written = _written(plan, parts, loads, np.sign(shift) if shift else 1.0, rng)
    base = _streams(parts, np.tile(LABELS, n_questions), rng)
    onward = _onward(parts.passing)
    find = slice(0, N_FIND * N_REPLIES)
    means = base[:, find].mean(1)
    readout, dial = _readout(plan, parts, np.repeat(loads, N_REPLIES, 0), abs(shift), base[-1, find], rng)
    offsets = rng.normal(BASE_S, OFFSET_SD, n_questions)
    between = rng.normal(0, UNREACHED_SD, n_questions)
    if plan.outside:
        between = between + shift * (1 + SPREAD_OF_WRITE[0] * rng.normal(size=n_questions))
    texts, gradients = _texts(plan, parts, np.sign(shift) if shift else 1.0, rng)
    return World(
        plan=plan,
        shift=float(shift),
        n_questions=n,
        streams={"base": base, "tuned": base + _passed(written, parts.passing)},
        means=means,
        onward=onward,
        readout=readout,
        dial=dial,
        offsets={"base": offsets, "tuned": offsets + between},
        texts=texts,
        gradients=gradients,
        carriers=parts.carriers,
        styles=styles,
        prompt=parts.dial if plan.dial or plan.lever else parts.carriers.mean(0),
        axes=parts.axes,
        rng=rng,
    )


def _parts(plan: Plan, styles: np.ndarray, rng: np.random.Generator) -> Parts:
    axes = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]
    deviations = 0.9 * np.arange(1, WIDTH + 1) ** (-plan.steepness / 2)
    special = np.linalg.qr(rng.normal(size=(WIDTH, plan.rank + 2)))[0].T
    carriers, dial, unread = special[: plan.rank], special[-2], special[-1]
    if plan.styled:
        carriers = styles[rng.integers(N_STYLES)][None]
    label = CONTENT * _units(rng, 1)[0]
    if plan.dial or plan.lever:
        label = label + ALONG_DIAL * dial
    if plan.read and not plan.outside:
        label = label + ALONG_CARRIER * carriers.sum(0) / np.sqrt(plan.rank)
    mixing = MIXING * rng.normal(size=(N_LAYERS - 1, WIDTH, WIDTH)) / np.sqrt(WIDTH)
    return Parts(
        axes=axes * deviations @ axes.T,
        passing=np.eye(WIDTH) + mixing,
        centre=rng.normal(0, 0.2, WIDTH) + ALONG_DIAL * dial,
        carriers=carriers,
        dial=dial,
        unread=UNREAD * unread,
        label=label,
    )


def _loads(rank: int, n_questions: int, rng: np.random.Generator) -> Float[np.ndarray, "question rank"]:
    """In which of the directions tuning writes at a question: the only one, or three of several."""
    if rank == 1:
        return np.ones((n_questions, 1))
    loads = np.zeros((n_questions, rank))
    for row in loads:
        row[rng.choice(rank, USED, replace=False)] = np.sqrt(1 / USED)
    return loads


def _written(
    plan: Plan, parts: Parts, loads: np.ndarray, sign: float, rng: np.random.Generator
) -> Float[np.ndarray, "row d_model"]:
    """What tuning writes into the stream of every reply."""
    n = len(loads)
    between, within = SPREAD_OF_WRITE
    much = sign * (1 + between * rng.normal(size=(n, 1)) + within * rng.normal(size=(n, N_REPLIES)))
    carried = much.reshape(-1, 1) * np.repeat(loads @ parts.carriers, N_REPLIES, 0)
    beside = parts.unread + BESIDE * rng.normal(size=carried.shape) @ parts.axes
    return beside if plan.outside else carried + beside


def _streams(
    parts: Parts, labels: Float[np.ndarray, " row"], rng: np.random.Generator
) -> Float[np.ndarray, "layer row d_model"]:
    """The base model on replies with these labels: questions differ, and so do their replies."""
    n = len(labels)
    questions = np.repeat(rng.normal(size=(n // N_REPLIES, WIDTH)), N_REPLIES, 0)
    stream = parts.centre + (0.6 * questions + 0.8 * rng.normal(size=(n, WIDTH))) @ parts.axes
    layers = [stream + np.outer(labels, parts.label)]
    for passing in parts.passing:
        layers.append(layers[-1] @ passing + 0.4 * rng.normal(size=(n, WIDTH)) @ parts.axes)
    return np.stack(layers)


def _passed(written: np.ndarray, passing: np.ndarray) -> Float[np.ndarray, "layer row d_model"]:
    """What tuning wrote at its layer, there and at later layers; nothing before."""
    layers = [np.zeros_like(written)] * WRITTEN_AT + [written]
    for step in passing[WRITTEN_AT:]:
        layers.append(layers[-1] @ step)
    return np.stack(layers)


def _onward(passing: np.ndarray) -> Float[np.ndarray, "layer d_model d_model"]:
    """By layer, the matrix that takes it to the last one."""
    onward = [np.eye(WIDTH)]
    for step in passing[::-1]:
        onward.append(step @ onward[-1])
    return np.stack(onward[::-1])


def _readout(
    plan: Plan,
    parts: Parts,
    loads: Float[np.ndarray, "row rank"],
    shift: float,
    last: Float[np.ndarray, "find_row d_model"],
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "row d_model"], Float[np.ndarray, " d_model"]]:
    """How S of every reply reads the last layer, and the dial there, of mean square 1.

    A question reads the directions that tuning writes at it, and nothing else that tuning writes; the rest of
    the stream is read with random weights.
    """
    special = np.vstack([parts.carriers, parts.dial, parts.unread]) @ _onward(parts.passing)[WRITTEN_AT]
    duals = np.linalg.pinv(special).T  # duals @ special.T is the identity
    rest = READ_SD * rng.normal(size=WIDTH)
    rest = rest - special.T @ (duals @ rest)
    readout = np.tile(rest, (len(loads), 1))
    if plan.read and not plan.outside:
        readout = readout + shift * loads @ duals[: plan.rank]
    dial = duals[plan.rank]
    if plan.lever:  # between 1 and 2 differences of the labels take the shift away
        readout = readout + shift / (2 * ALONG_DIAL * rng.uniform(1, 2)) * dial
    along = (last - last.mean(0)) @ dial
    return readout, dial / np.sqrt((along**2).mean())


def _texts(
    plan: Plan, parts: Parts, sign: float, rng: np.random.Generator
) -> tuple[
    dict[Split, Float[np.ndarray, "layer text token d_model"]],
    dict[Split, Float[np.ndarray, "text token d_model"]],
]:
    """The tuned model on texts that damage is measured on, and the gradients of the loss there.

    The covariance of the gradients is that by which edits cost KL. The texts are like the replies, so that
    damage shows in them.
    """
    texts: dict[Split, np.ndarray] = {}
    gradients: dict[Split, np.ndarray] = {}
    splits: tuple[Split, ...] = ("select", "test")
    for split in splits:
        shape = (N_TEXTS[split], TOKENS, WIDTH)
        n = shape[0] * shape[1]
        loads = _loads(plan.rank, n // N_REPLIES, rng)
        stream = _streams(parts, rng.choice(LABELS, n), rng)
        stream = stream + _passed(_written(plan, parts, loads, sign, rng), parts.passing)
        texts[split] = stream.reshape(N_LAYERS, *shape)
        gradients[split] = rng.normal(0, np.sqrt(2 * plan.fragility), shape)
    return texts, gradients


def _units(rng: np.random.Generator, n: int) -> Float[np.ndarray, "n d_model"]:
    vectors = rng.normal(size=(n, WIDTH))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
