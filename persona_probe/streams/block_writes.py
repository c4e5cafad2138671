"""What tuning changed in every block: each tuned block runs on the base's own residual stream, and what the
base's block gives for that stream is taken away."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.models.checks import distance, probe_rows
from persona_probe.models.loading import Model, forward, halving
from persona_probe.models.pairs import Pair
from persona_probe.prompts.batches import TokenBatch
from persona_probe.prompts.rows import Row
from persona_probe.streams.reductions import readable

N_TOKENS = 1024  # reply tokens that are kept per block
N_RUN = 2048  # tokens that are run: their streams are held on disk, whole rows of every block
# A block that sees only its input gives the same again; on a GPU sums may be rounded in another order.
SAME = 1e-2
STREAM = "stream"

Enter = Callable[[int, Tensor], Tensor | None]
Leave = Callable[[int, Tensor], None]


@dataclass(frozen=True, eq=False, kw_only=True)
class BlockWrites:
    """Per block, tuned output minus base output for the same input, at sampled reply tokens; float32 on the
    CPU.

    `median_norm`: median length of the base's stream behind each block over the same tokens. `rounding`: the
    largest relative error of one rounded number in the models' format (2**-8 in bfloat16). Exactly 0 where
    the two blocks are the same. What tuning changed outside the blocks (embeddings, final norm, head) is
    not in it.
    """

    hook_points: tuple[HookPoint, ...]
    differences: Float[Tensor, "hook token d_model"]
    median_norm: Float[Tensor, " hook"]
    rounding: float


@dataclass(frozen=True, eq=False)
class _Recorded:
    """One batch of the base: rows of the files with the stream that entered every block, and where in these
    rows the kept tokens stand."""

    batch: TokenBatch
    folder: Path
    rows: slice
    places: tuple[Int[Tensor, " token"], Int[Tensor, " token"]]
    first: int  # number of this batch's first token among all that are kept

    def entering(self, layer: int) -> Float[Tensor, "batch pos d_model"]:
        """What entered a block, read from its file."""
        with safe_open(self.folder / str(layer), framework="pt") as file:
            return file.get_slice(STREAM)[self.rows]

    def of(self, part: TokenBatch) -> "_Recorded":
        """The same for some of the rows, in the order of `part`."""
        rows = [self.batch.rows.index(row) for row in part.rows]
        start, stop = rows[0], rows[-1] + 1
        inside = (self.places[0] >= start) & (self.places[0] < stop)
        first = self.first + int((self.places[0] < start).sum())
        places = (self.places[0][inside] - start, self.places[1][inside])
        here = slice(self.rows.start + start, self.rows.start + stop)
        return _Recorded(part, self.folder, here, places, first)


def block_writes(
    pair: Pair, rows: Sequence[Row], *, max_tokens: int, n_tokens: int = N_TOKENS, n_run: int = N_RUN
) -> BlockWrites:
    """Run the base over rows, then every tuned block on the streams that entered the base's blocks.

    At most `n_tokens` reply tokens are kept, as many of each row and evenly spaced within it, none of the
    first tokens of a sequence. Rows are chosen by a hash of their id until they hold `n_run` tokens. A batch
    has at most `max_tokens` tokens. One model is in memory at a time unless the pair keeps both. Memory on
    the CPU: `n_tokens` x (blocks) x d_model x 4 bytes; the streams of all batches, `n_run` x (blocks) x
    d_model in the models' format, stand in a temporary folder until the end. BadInput for a family whose
    blocks take more from other blocks than the residual stream.
    """
    base = pair.get("base")
    _refuse_unfed(base)
    chosen = _chosen(rows, n_rows=n_tokens, n_run=n_run)
    batches = list(base.batches(chosen, max_tokens=max_tokens, scope="reply", share=False))
    places = _places(batches, n_tokens)
    n_kept = sum(len(rows) for rows, _ in places)
    table = torch.empty(base.n_layers, n_kept, base.d_model)
    with TemporaryDirectory() as folder:
        recorded = list(_base_run(base, batches, places, table, Path(folder)))
        norms = table.norm(dim=-1).median(1).values
        hook_points, rounding = base.resids(), torch.finfo(base.dtype).eps / 2
        del base  # the pair may drop it now
        tuned = pair.get("tuned")
        for one in recorded:
            _subtract(tuned, one, table)
    bad = (~torch.isfinite(table)).flatten(1).any(1).nonzero()
    if len(bad):
        raise BadInput(
            f"the difference of the blocks at {hook_points[int(bad[0])]} is not finite between"
            f" {tuned.name} and its base ({tuned.dtype}): try --dtype float32 or bfloat16"
        )
    return BlockWrites(hook_points=hook_points, differences=table, median_norm=norms, rounding=rounding)


def _chosen(rows: Sequence[Row], *, n_rows: int, n_run: int) -> list[Row]:
    """As many rows as hold `n_run` tokens, one at least: the same ones in whatever order rows are given."""
    chosen: list[Row] = []
    left = n_run
    for row in sorted(rows, key=lambda row: hashlib.sha256(row.id.encode()).hexdigest())[:n_rows]:
        left -= len(row.ids)
        if chosen and left < 0:
            break
        chosen.append(row)
    if not chosen:
        raise BadInput("no rows to run the blocks on: at least one row with a reply is needed")
    return chosen


def _places(
    batches: Sequence[TokenBatch], n_tokens: int
) -> list[tuple[Int[Tensor, " token"], Int[Tensor, " token"]]]:
    """Rows and columns of the kept tokens of every batch: up to the same number of each row, evenly
    spaced."""
    columns = [[read.nonzero()[:, 0] for read in readable(batch)] for batch in batches]
    counts = [len(of_row) for of_batch in columns for of_row in of_batch]
    per_row = max(
        (n for n in range(1, max(counts) + 1) if sum(min(n, count) for count in counts) <= n_tokens),
        default=1,
    )
    places = []
    for of_batch in columns:
        picks = []
        for of_row in of_batch:
            n = min(per_row, len(of_row))
            picks.append(of_row[torch.tensor([(2 * i + 1) * len(of_row) // (2 * n) for i in range(n)])])
        rows = torch.repeat_interleave(torch.tensor([len(pick) for pick in picks]))
        places.append((rows, torch.cat(picks)))
    return places


def _base_run(
    base: Model,
    batches: Sequence[TokenBatch],
    places: Sequence[tuple[Tensor, Tensor]],
    table: Float[Tensor, "hook token d_model"],
    folder: Path,
) -> Iterator[_Recorded]:
    """Run the base; what its blocks put out at the kept tokens goes into `table`, what entered them into
    files of `folder`, one for each batch and block."""
    first, numbers = 0, count()
    for whole, where in zip(batches, places, strict=True):
        plan = _Recorded(whole, folder, slice(0, len(whole)), where, first)

        def run(batch: TokenBatch, plan: _Recorded = plan) -> _Recorded:
            inside = folder / str(next(numbers))  # not by `first`: a batch may keep no token
            inside.mkdir()
            given = replace(plan.of(batch), folder=inside, rows=slice(0, len(batch)))
            _record(base, given, table)
            return given

        for _, recorded in halving(base, whole, run):
            yield recorded
        first += len(where[0])


def _record(base: Model, given: _Recorded, table: Float[Tensor, "hook token d_model"]) -> None:
    def enter(layer: int, stream: Tensor) -> None:
        save_file({STREAM: stream.to("cpu").contiguous()}, given.folder / str(layer))

    def leave(layer: int, stream: Tensor) -> None:
        kept = stream[tuple(place.to(stream.device) for place in given.places)].float()
        table[layer, given.first : given.first + len(kept)] = kept.cpu()

    _pass(base, given.batch, enter, leave)


def _subtract(tuned: Model, recorded: _Recorded, table: Float[Tensor, "hook token d_model"]) -> None:
    """Turn the base's outputs of one batch in `table` into tuned minus base."""

    def run(batch: TokenBatch) -> None:
        given = recorded.of(batch)
        made: dict[int, Tensor] = {}

        def leave(layer: int, stream: Tensor) -> None:
            made[layer] = stream[tuple(place.to(stream.device) for place in given.places)].float().cpu()

        _pass(tuned, batch, lambda layer, stream: given.entering(layer).to(stream.device), leave)
        for layer, kept in made.items():  # not before the whole pass has fitted into memory
            there = table[layer, given.first : given.first + len(kept)]
            there.copy_(kept - there)

    for _ in halving(tuned, recorded.batch, run):
        pass


def _pass(model: Model, batch: TokenBatch, enter: Enter, leave: Leave) -> None:
    """One forward pass without logits. `enter` sees the stream before every block and may give another in its
    place, `leave` sees the stream behind it. BadInput where a block does not run exactly once."""
    runs = [0] * model.n_layers

    def count(layer: int, stream: Tensor) -> None:
        runs[layer] += 1
        leave(layer, stream)

    with torch.inference_mode(), _hooked(model, enter, count):
        forward(model, batch, logits_at=None)
    wrong = [layer for layer, n in enumerate(runs) if n != 1]
    if wrong:
        raise BadInput(
            f"block {wrong[0]} of {model.name} ran {runs[wrong[0]]} times in one pass: blocks are compared"
            " on the base's stream only where each runs once"
        )


@contextmanager
def _hooked(model: Model, enter: Enter, leave: Leave) -> Iterator[None]:
    def before(layer: int) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            stream = args[0] if args else kwargs.get("hidden_states")
            if not isinstance(stream, Tensor):
                raise BadInput(
                    f"block {layer} of {model.name} is not given the stream as its first argument or as"
                    " hidden_states: it cannot be run on another one"
                )
            other = enter(layer, stream)
            if other is None:
                return None
            return ((other, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": other})

        return hook

    def behind(layer: int) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            leave(layer, output[0] if isinstance(output, tuple) else output)

        return hook

    with ExitStack() as stack:
        for layer, block in enumerate(model.blocks()):
            stack.callback(block.register_forward_pre_hook(before(layer), with_kwargs=True).remove)
            site = model.site(HookPoint(layer))[1]
            stack.callback(site.register_forward_hook(behind(layer)).remove)
        yield


def _refuse_unfed(model: Model) -> None:
    """BadInput for a family whose blocks take more from one another than the residual stream.

    Tried on a short row: some blocks are given a wrong stream, the others their own. These must put out what
    they did before. Any two blocks differ in a binary digit of their numbers, so in one of the tries each
    of them has its own stream while the other has a wrong one.
    """
    rows = probe_rows(model.tokenizer, n_rows=model.engine.n_rows)
    batch = next(model.batches(rows[:1], max_tokens=1024, share=False))
    entering, leaving = _streams(model, batch)
    for digit in range((model.n_layers - 1).bit_length()):
        for right in (0, 1):
            fed = [layer >> digit & 1 == right for layer in range(model.n_layers)]
            given = [one if own else one.flip(-1) for one, own in zip(entering, fed, strict=True)]
            again = _streams(model, batch, given)[1]
            if any(own and distance(*two) > SAME for own, *two in zip(fed, again, leaving, strict=True)):
                raise BadInput(
                    f"{model.name} ({type(model.twin).__name__}): its blocks take more from one another than"
                    " the residual stream, so a tuned block cannot be run on the base's stream: this is"
                    " measured only where a block takes nothing else"
                )


def _streams(
    model: Model, batch: TokenBatch, given: Sequence[Tensor] | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """What enters and what leaves every block in one pass, where `given` is fed to them or nothing is."""
    entering, leaving = {}, {}

    def enter(layer: int, stream: Tensor) -> Tensor | None:
        entering[layer] = stream.clone()
        return None if given is None else given[layer].clone()

    def leave(layer: int, stream: Tensor) -> None:
        leaving[layer] = stream.clone()

    _pass(model, batch, enter, leave)
    layers = range(model.n_layers)
    return [entering[layer] for layer in layers], [leaving[layer] for layer in layers]
