"""Speculative decoding: a draft proposes tokens, one pass of the target verifies them, its own answers come out.

Leviathan et al. 2023, arXiv 2211.17192; Li et al. 2024 (EAGLE), arXiv 2401.15077. The prompt but its last token is read
first; from then on each pass of the target commits the drafted tokens that it accepts and one of its own, and counts.
Batched: rows may accept unlike numbers of tokens, and leave when they end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from zephyr_lab.decoding import verification
from zephyr_lab.decoding.cached_steps import CausalSteps, Output, require_still
from zephyr_lab.decoding.drafting import Draft, Drafter, Plan, require_pair
from zephyr_lab.decoding.sampling import by_length, draw, left_padded, positions, require_prompts, stop_tokens
from zephyr_lab.decoding.verification import ROOT, Proposal, Verdict
from zephyr_lab.models.causal import evaluating
from zephyr_lab.models.draft import FeatureDraft
from zephyr_lab.models.logits import body_of

ROWS_AT_ONCE = 32
GREEDY, SAMPLING = "greedy", "sampling"


@dataclass(frozen=True, slots=True)
class SpeculativeAnswer:
    """Tokens of an answer and what each pass of the target gave to it.

    ids end on the stop token where `finished`, else at the limit. gains: tokens committed by each verifying pass,
    accepted drafts and the target's own, those beyond the answer's end not counted. They sum to the length of ids, or
    to one less where reading the prompt gave the first.
    """

    ids: tuple[int, ...]
    finished: bool
    gains: tuple[int, ...]

    @property
    def passes(self) -> int:
        return len(self.gains)


def speculate(
    target: PreTrainedModel,
    draft: Draft,
    plan: Plan,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    verify: str,
    temperature: float,
    generator: torch.Generator | None,
    first_from_prompt: bool = False,
    rows_at_once: int = ROWS_AT_ONCE,
) -> list[SpeculativeAnswer]:
    """An answer of `target` to each prompt, in their order, drafted by `draft` as `plan` says (`Chain` or `Tree`).

    verify: "greedy" gives the target's greedy answer, at temperature 0; "sampling" an answer distributed as the
    target's own samples at `temperature`. `generator` (CPU; None for greedy) is drawn from once a prompt, before
    anything else: how prompts are batched changes no answer. first_from_prompt: take the first token from the pass that
    reads the prompt, which is faster, instead of drafting it; that pass and token are not counted in `gains`.

    Raises ValueError for an empty prompt, one that leaves no room, one of a single token with a feature draft (it has
    no feature to start from), a draft of another vocabulary, and a temperature that does not go with `verify`.
    """
    require_pair(draft, target)
    _require_rule(verify, temperature, generator, plan)
    alone = isinstance(draft, FeatureDraft) and not first_from_prompt
    require_prompts(target, prompts, max_new_tokens, least=2 if alone else 1)
    for model in (target, draft):
        if isinstance(model, PreTrainedModel):
            require_still(model, max(map(len, prompts), default=0) + max_new_tokens)
    seeds = [0] * len(prompts)
    if generator is not None:
        seeds = torch.randint(2**62, (len(prompts),), generator=generator).tolist()
    answers: dict[int, SpeculativeAnswer] = {}
    with torch.inference_mode(), evaluating(target), evaluating(draft):
        for rows in by_length([len(prompt) for prompt in prompts], rows_at_once):
            batch = _Batch(target, draft, plan, [prompts[row] for row in rows], max_new_tokens)
            own_seeds = [seeds[row] for row in rows]
            completed = batch.complete(verify, temperature, own_seeds, first_from_prompt=first_from_prompt)
            answers.update(zip(rows, completed, strict=True))
    return [answers[row] for row in range(len(prompts))]


class _Batch:
    """Rows that are answered side by side. Columns of tensors are rows still going; lists have a place a prompt."""

    def __init__(
        self, target: PreTrainedModel, draft: Draft, plan: Plan, prompts: list[Sequence[int]], max_new_tokens: int
    ) -> None:
        self._plan, self._limit = plan, max_new_tokens
        self._stops = set(stop_tokens(target).tolist())
        self._answers: list[list[int]] = [[] for _ in prompts]
        self._gains: list[list[int]] = [[] for _ in prompts]
        self._active = list(range(len(prompts)))
        self._steps = CausalSteps(target, len(prompts))
        self._drafter = Drafter(draft, plan, target, len(prompts))
        ids, mask = (tensor.to(target.device) for tensor in left_padded(prompts))
        self._new, self._places = ids, positions(mask).masked_fill(~mask, -1)  # committed since the last draft
        self._features = torch.zeros(  # the target's feature before each of them
            len(ids), 1, body_of(target).width, dtype=self._steps.dtype, device=ids.device
        )

    def complete(
        self, verify: str, temperature: float, seeds: list[int], *, first_from_prompt: bool
    ) -> list[SpeculativeAnswer]:
        """The answers of all rows, in the order of the prompts."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds] if verify == SAMPLING else None
        nodes = self._plan.nodes
        read = self._read(self._new.shape[1] if first_from_prompt else self._new.shape[1] - 1)
        if read is not None and first_from_prompt:
            self._begin(read.last_logits, verify, temperature, self._uniforms(generators, 1)[:, 0])
        while self._active:
            uniforms = self._uniforms(generators, 2 * nodes + 1)
            proposal = self._drafter.propose(
                self._new, self._places, self._features, temperature=temperature, uniforms=uniforms[:, :nodes]
            )
            pending, place = self._new[:, -1:], self._places[:, -1:]
            seen, depths = lineage(proposal.parents)
            output = self._steps.run(torch.cat([pending, proposal.tokens], dim=1), place + depths, seen)
            verdict = _verdict(verify, proposal, output.logits, temperature, uniforms[:, nodes:])
            self._commit(proposal, verdict, output.features, place)
        return [
            SpeculativeAnswer(tuple(ids), ids[-1] in self._stops, tuple(gains))
            for ids, gains in zip(self._answers, self._gains, strict=True)
        ]

    def _read(self, columns: int) -> Output | None:
        """Let the target read that many columns of the prompts; None where there are none."""
        if not columns:
            return None
        ids, places = self._new[:, :columns], self._places[:, :columns]
        output = self._steps.run(ids, places)
        self._steps.keep(places >= 0)
        self._features = torch.cat([self._features, output.features], dim=1)
        return output

    def _begin(self, logits: Tensor, verify: str, temperature: float, uniforms: Tensor) -> None:
        """Take the first token of each answer from the logits after its prompt."""
        if verify == GREEDY:
            first = logits.argmax(dim=-1)
        else:
            first = draw(verification.target_probabilities(logits, temperature), uniforms)
        self._new = torch.cat([self._new, first[:, None]], dim=1)
        self._places = torch.cat([self._places, self._places[:, -1:] + 1], dim=1)
        going = []
        for row, token in enumerate(first.tolist()):
            self._answers[row].append(token)
            if token not in self._stops and self._limit > 1:
                going.append(row)
        if len(going) < len(self._active):
            self._select(going)

    def _commit(self, proposal: Proposal, verdict: Verdict, features: Tensor, place: Tensor) -> None:
        """Add what the pass gave to the answers, keep its columns, and let rows that have ended go."""
        path = torch.cat([torch.ones_like(verdict.accepted[:, :1]), verdict.accepted], dim=1)  # root and accepted
        self._steps.keep(path)
        counts = path.sum(dim=1)  # tokens gained: accepted ones and the target's own
        width = int(counts.max())
        order = path.long().argsort(dim=1, stable=True)[:, path.shape[1] - width :]
        valid = path.gather(1, order)
        # The tokens of the path after the root, then the target's own: one place further than the path's features.
        tokens = torch.cat([proposal.tokens[:, :1] * 0, proposal.tokens], dim=1).gather(1, order)
        tokens = torch.cat([tokens[:, 1:], verdict.next_ids[:, None]], dim=1)
        offsets = torch.arange(width, device=place.device) - (width - counts[:, None]) + 1
        self._new, self._places = tokens, (place + offsets).masked_fill(~valid, -1)
        self._features = features.gather(1, order[..., None].expand(-1, -1, features.shape[2]))
        going = []
        for row, (gained, count) in enumerate(zip(tokens.tolist(), counts.tolist(), strict=True)):
            if self._extend(self._active[row], gained[width - count :]):
                going.append(row)
        if len(going) < len(self._active):
            self._select(going)

    def _extend(self, prompt: int, gained: list[int]) -> bool:
        """Add a pass's tokens to an answer up to its end; returns whether it continues."""
        answer = self._answers[prompt]
        before = len(answer)
        for token in gained:
            answer.append(token)
            if token in self._stops or len(answer) == self._limit:
                break
        self._gains[prompt].append(len(answer) - before)
        return answer[-1] not in self._stops and len(answer) < self._limit

    def _select(self, going: list[int]) -> None:
        self._active = [self._active[row] for row in going]
        if not going:
            return
        rows = torch.tensor(going, device=self._new.device)
        self._steps.select(rows)
        self._drafter.select(rows)
        self._new, self._places, self._features = self._new[rows], self._places[rows], self._features[rows]

    def _uniforms(self, generators: list[torch.Generator] | None, count: int) -> Tensor:
        """Numbers from [0, 1) of each row's own generator, (row, count) in float64; zeros where nothing is drawn."""
        if generators is None:
            return torch.zeros(len(self._active), count, dtype=torch.float64, device=self._new.device)
        drawn = [torch.rand(count, dtype=torch.float64, generator=generators[prompt]) for prompt in self._active]
        return torch.stack(drawn).to(self._new.device)


def lineage(parents: verification.Nodes) -> tuple[Tensor, Tensor]:
    """Which of root and nodes each of them sees (its ancestors and itself), (row, node + 1, node + 1), and depths."""
    rows, nodes = parents.shape
    own = torch.eye(nodes + 1, dtype=torch.bool, device=parents.device).expand(rows, -1, -1)
    seen = own.clone()
    for node in range(nodes):
        above = (parents[:, node] - ROOT)[:, None, None].expand(-1, 1, nodes + 1)
        seen[:, node + 1] |= seen.gather(1, above).squeeze(1)
    return seen, seen.sum(dim=2) - 1


def _verdict(verify: str, proposal: Proposal, logits: Tensor, temperature: float, uniforms: Tensor) -> Verdict:
    if verify == GREEDY:
        return verification.greedy(proposal, logits)
    rule = verification.candidates if proposal.probabilities is None else verification.drawn_chain
    return rule(proposal, logits, temperature=temperature, uniforms=uniforms)


def _require_rule(verify: str, temperature: float, generator: torch.Generator | None, plan: Plan) -> None:
    if verify not in (GREEDY, SAMPLING):
        raise ValueError(f"verify must be {GREEDY!r} or {SAMPLING!r}, got {verify!r}")
    if verify == GREEDY:
        if temperature != 0:
            raise ValueError(f"greedy verification has temperature 0, got {temperature}; sample with verify='sampling'")
        if plan.drawn:
            raise ValueError("greedy verification takes the draft's likeliest tokens; the plan draws them")
        return
    if not 0 < temperature < float("inf"):
        raise ValueError(f"sampling verification needs a temperature above 0, got {temperature}; use verify='greedy'")
    if generator is None:
        raise ValueError("sampling verification needs a generator")
