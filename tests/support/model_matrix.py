"""Each fast path on each model family: exact, refused by name, or absent. There is no third state.

A column is a function that compares one fast path with the model's own forward pass, row by row and without packing,
caches or hooks, on random texts shorter and longer than the window. It returns the largest relative error, or raises:
`Wrong` where a number differs; our own one-line refusal; whatever else came out of the inside.
"""

import random
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid
from transformers import PreTrainedModel

import adapter_kinds
import model_families
import zephyr_lab
from model_families import ENTRIES, FAMILIES, VARIANTS, noise_settings, small_model
from zephyr_lab.decoding.acceptance import Answered, acceptance_rates
from zephyr_lab.decoding.cached_steps import CausalSteps
from zephyr_lab.decoding.drafting import Chain, Tree
from zephyr_lab.decoding.speculative import speculate
from zephyr_lab.losses.fast import pair_losses, shared_prompt
from zephyr_lab.losses.fast.pair_packing import pack
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.methods import held_out_pairs, rollouts
from zephyr_lab.methods.distillation import Batch
from zephyr_lab.methods.kd import followed_maps
from zephyr_lab.methods.lean_dae import Text, counted_hidden, lean_dae_losses, online, token_shares
from zephyr_lab.methods.lean_kd import both_passes, lean_kd_losses, linear_head
from zephyr_lab.models import pairing
from zephyr_lab.models.logits import body_of

EXACT, REFUSED, ABSENT, FAILED = "exact", "refused", "absent", "failed"
READS = 6  # of one row in training mode; a router's noise changes the choice of few tokens, two reads may be alike
# Largest relative errors of values and of gradients. Many families take norms in float32 whatever the model's type.
TOLERANCES = {torch.float64: (1e-5, 1e-4), torch.float32: (1e-3, 5e-2)}
BLIND, LEFT = 2, 3  # of `_batches`: the first with padding that may see nothing, and the one padded on the left
Wrapper = Callable[[PreTrainedModel], nn.Module]
ROWS = (*FAMILIES, *VARIANTS)


class Wrong(AssertionError):
    """A number that is not the oracle's, or one that came out before a refusal."""


@dataclass(frozen=True, slots=True)
class Cell:
    """state: exact, refused, absent or failed. reason: our refusal, or why it is absent; error: the largest one."""

    state: str
    reason: str | None = None
    error: float | None = None

    def as_json(self) -> dict[str, str | float | None]:
        return asdict(self)


def cell(family: str, column: str) -> Cell:
    """What the column's fast path does on the family."""
    if family in model_families.ABSENT:
        return Cell(ABSENT, model_families.ABSENT[family])
    return judged(lambda: COLUMNS[column](family))


def adapter_cell(adapter: str, column: str) -> Cell:
    """What the column's fast path does on a Llama with the adapter."""
    absent = adapter_kinds.ABSENT.get(adapter) or adapter_kinds.ABSENT_IN.get((adapter, column))
    if absent is not None:
        return Cell(ABSENT, absent)
    return judged(lambda: ADAPTER_COLUMNS[column]("llama", lambda model: adapter_kinds.adapted(model, adapter)))


def judged(check: Callable[[], float]) -> Cell:
    """The cell that a check's end stands for."""
    try:
        return Cell(EXACT, error=float(f"{check():.0e}"))
    except Exception as error:  # whatever comes out is the finding
        message = str(error)
        if is_refusal(error):
            return Cell(REFUSED, message)
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Cell(FAILED, f"{type(error).__name__}: {message} ({Path(place.filename).name}:{place.lineno})")


def is_refusal(error: Exception) -> bool:
    """Whether it is one line that our own code raised, rather than something that broke inside."""
    ours = str(Path(zephyr_lab.__path__[0]))
    raised_at = traceback.extract_tb(error.__traceback__)[-1].filename
    return isinstance(error, ValueError | NotImplementedError) and raised_at.startswith(ours) and "\n" not in str(error)


# --- comparing ------------------------------------------------------------------------------------------------------


class Errors:
    """The largest error so far; raises `Wrong` for one beyond the family's tolerance."""

    def __init__(self, model: PreTrainedModel, worst: float = 0.0) -> None:
        self._values, self._gradients = TOLERANCES[next(model.parameters()).dtype]
        self.worst = worst

    def values(self, what: str, found: Tensor, expected: Tensor) -> None:
        found, expected = found.detach().double(), expected.detach().double()
        if found.shape != expected.shape:
            raise Wrong(f"{what} has shape {tuple(found.shape)}, expected {tuple(expected.shape)}")
        scale = max(float(expected.abs().max()), 1.0) if expected.numel() else 1.0
        self._note(what, float((found - expected).abs().max()) / scale if expected.numel() else 0.0, self._values)

    def gradients(self, what: str, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
        least = 1e-2 * max(float(one.abs().max()) for one in expected.values()) or 1.0
        for name, one in expected.items():
            error = float((found[name] - one).abs().max()) / max(float(one.abs().max()), least)
            self._note(f"{what}, gradient of {name}", error, self._gradients)

    def _note(self, what: str, error: float, tolerance: float) -> None:
        if not error <= tolerance:
            raise Wrong(f"{what} is off by {error:.2g}, allowed {tolerance:g}")
        self.worst = max(self.worst, error)


@contextmanager
def no_refusal() -> Iterator[None]:
    """After the first number nothing may be refused any more."""
    try:
        yield
    except Wrong:
        raise
    except Exception as error:
        raise Wrong(f"after a first number came out: {type(error).__name__}: {error}") from error


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """By parameter, zeros where the loss leaves none; taken off the model."""
    model.zero_grad()
    if loss.requires_grad:  # of an adapter that the loss does not reach it has none
        loss.backward()
    found = {
        name: torch.zeros_like(one) if one.grad is None else one.grad.detach().clone()
        for name, one in model.named_parameters()
        if one.requires_grad
    }
    model.zero_grad()
    return found


def row_logits(model: nn.Module, ids: list[int]) -> Tensor:
    """The model's own logits of one row alone; those of a learned prompt before it are left out."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -len(ids) :]


def _settled(model: nn.Module) -> nn.Module:
    """In evaluation mode where training draws something anew in each pass: in KD that is meant, and only compares
    less."""
    with torch.no_grad():
        first, second = (row_logits(model, [5, 6, 7]) for _ in range(2))
    return model if torch.equal(first, second) else model.eval()


def _fresh(family: str, wrapped: Wrapper | None, **changes: str | None) -> nn.Module:
    """The family's model, with an adapter where one is asked for."""
    model = small_model(family, **changes)
    return model if wrapped is None else wrapped(model)


def tokens(drawn: random.Random, least: int, most: int) -> list[int]:
    """Ids that stand for nothing special, but for one that invokes an adapter."""
    found = [drawn.randrange(4, ENTRIES) for _ in range(drawn.randint(least, most))]
    if len(found) > 2:
        found[drawn.randrange(len(found) - 1)] = adapter_kinds.INVOCATION[0]
    return found


# --- columns --------------------------------------------------------------------------------------------------------


def shared_prompt_column(family: str, wrapped: Wrapper | None = None) -> float:
    """DPO on packed pairs against plain rows, values and gradients; noise is refused."""
    drawn = random.Random(0)
    model, plain = (_fresh(family, wrapped) for _ in range(2))
    errors = Errors(plain)
    draws = [
        [tuple(tokens(drawn, 1, most) for most in sizes) for _ in range(2)]
        for sizes in ((3, 2, 2), (9, 12, 5), (40, 9, 9))
    ]
    first = shared_prompt.pair_log_probs(model, pack(draws[0]))
    with no_refusal():
        errors.values("log-probabilities", torch.cat([first.chosen, first.rejected]), _plain_pairs(plain, draws[0]))
        for pairs in draws:
            reference = PairLogProbs(*(-torch.rand(2, len(pairs), dtype=torch.float64, generator=_generator()) * 20))
            ours = [shared_prompt.loss(model, pack(pairs), reference, pair_losses.dpo(beta=0.3)) for _ in range(2)]
            chosen, rejected = _plain_pairs(plain, pairs).split(len(pairs))
            expected = -logsigmoid(0.3 * ((chosen - reference.chosen) - (rejected - reference.rejected))).mean()
            errors.values("loss", ours[0].loss, expected)
            errors.values("loss of a second call", ours[1].loss, ours[0].loss)
            errors.gradients("loss", gradients(model, ours[0].loss), gradients(plain, expected))
    if wrapped is None:
        _require_noise_refused(family, draws[1])
    return errors.worst


def _require_noise_refused(family: str, pairs: list) -> None:
    """Dropout or a router's jitter is refused, or does nothing."""
    settings = noise_settings(family)
    if not settings:
        return
    try:
        model = small_model(family, **settings)
    except ValueError:  # the family itself refuses the setting (DiffLlama); anything else is a failure of the cell
        return
    with torch.no_grad():
        first, *others = (row_logits(model, pairs[0][0]) for _ in range(READS))
    if all(torch.equal(first, other) for other in others):
        return
    try:
        shared_prompt.loss(model, pack(pairs), None, pair_losses.orpo(weight=0.1))
    except Exception as error:
        if is_refusal(error):
            return
        raise
    raise Wrong(f"{', '.join(settings)} at 0.1 change the loss from call to call and are not refused")


def _plain_pairs(model: nn.Module, pairs: list) -> Tensor:
    """Log-probabilities of all chosen, then all rejected responses."""
    found = []
    for side in (1, 2):
        for pair in pairs:
            log_probs = log_softmax(row_logits(model, [*pair[0], *pair[side]]).double(), dim=-1)
            start = len(pair[0])
            found.append(torch.stack([log_probs[start + n - 1, token] for n, token in enumerate(pair[side])]).sum())
    return torch.stack(found)


def packing_column(family: str) -> float:
    """Hidden states of texts in one row against those of each text alone, values and gradients."""
    drawn = random.Random(1)
    model, plain = small_model(family), small_model(family)
    errors = Errors(model)
    draws = [[_text(drawn, most) for most in sizes] for sizes in ((4, 5), (4, 20, 3), (1, 30, 12))]
    first = counted_hidden(model, draws[0])
    with no_refusal():
        for texts in draws:
            found = counted_hidden(model, texts)
            expected = torch.cat([_last_hidden(plain, text)[text.counted] for text in texts])
            errors.values("hidden states", found, expected)
            errors.values("hidden states of a second call", counted_hidden(model, texts), found)
            weights = torch.randn(found.shape, dtype=torch.float64, generator=_generator())
            errors.gradients(
                "hidden states", gradients(model, (found * weights).sum()), gradients(plain, (expected * weights).sum())
            )
        errors.values("hidden states", counted_hidden(model, draws[0]), first)
    return errors.worst


def _last_hidden(model: PreTrainedModel, text: Text) -> Tensor:
    """What the model's own forward pass of the text alone makes its logits of, (token, hidden)."""
    given: list[Tensor] = []
    body = body_of(model).module
    hook = body.register_forward_hook(lambda module, args, output: given.append(output.last_hidden_state))
    try:
        row_logits(model, text.ids.tolist())
    finally:
        hook.remove()
    return given[0][0]


def _text(drawn: random.Random, most: int) -> Text:
    ids = tokens(drawn, max(2, most // 2), max(2, most))
    answers = [False, *(drawn.random() < 0.6 for _ in ids[1:])]
    answers[-1] = True
    return Text(torch.tensor(ids), torch.tensor([*answers[1:], False]))


def kd_head_column(family: str, wrapped: Wrapper | None = None) -> float:
    """The lean step of KD without attention against whole logits of padded batches, values and gradients."""
    student, plain = (_settled(_fresh(family, wrapped)) for _ in range(2))
    teacher, plain_teacher = small_model(family, seed=1).eval(), small_model(family, seed=1).eval()
    errors = Errors(plain)
    heads = linear_head(student), linear_head(teacher)
    numbers = iter(range(100))

    def ours(inputs: dict[str, Tensor], counted: Tensor) -> Tensor:
        return lean_kd_losses(
            student, teacher, inputs, heads=heads, counted=counted, shares=_shares(counted, teacher.dtype),
            pairing=None, prediction_weight=0.7, attention_weight=0.0, ce_weight=0.3, temperature=1.5,
        ).loss  # fmt: skip

    batches = list(_batches())
    first = ours(*batches[0])
    with no_refusal():
        for inputs, counted in batches:
            width = counted.shape[1]
            if next(numbers) == BLIND:  # eager attention gives no numbers in float64 where padding sees nothing
                for model in (student, plain, teacher, plain_teacher):
                    model.float()
                errors = Errors(plain, errors.worst)
            try:
                with torch.no_grad():
                    target = plain_teacher(**inputs, use_cache=False).logits[counted].double()
                own = plain(**inputs, use_cache=False).logits[:, -width:][counted].double()
            except (RuntimeError, ValueError):  # the family itself does not take such a batch
                continue
            if not bool(torch.isfinite(own).all()):
                raise Wrong("the model itself gives no numbers here")
            found = first if inputs is batches[0][0] else ours(inputs, counted)
            expected = (
                _kd_rows(own, target, _following(inputs["input_ids"], counted)) * _shares(counted, own.dtype)
            ).sum()
            errors.values("loss", found, expected)
            errors.values("loss of a second call", ours(inputs, counted), found)
            errors.gradients("loss", gradients(student, found), gradients(plain, expected))
    return errors.worst


def _kd_rows(own: Tensor, target: Tensor, ids: Tensor) -> Tensor:
    """0.7 KL at temperature 1.5, and 0.3 cross-entropy, a row each."""
    entropy = -log_softmax(own, dim=-1).gather(1, ids[:, None]).squeeze(1)
    return 0.7 * _divergences(own, target) + 0.3 * entropy


def _divergences(own: Tensor, target: Tensor) -> Tensor:
    """KL at temperature 1.5 of each row."""
    log_p, log_q = log_softmax(target / 1.5, dim=-1), log_softmax(own / 1.5, dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def _following(ids: Tensor, counted: Tensor) -> Tensor:
    return torch.cat([ids[:, 1:], ids[:, :1]], dim=1)[counted]


def _shares(counted: Tensor, dtype: torch.dtype) -> Tensor:
    """Unlike shares, so that a token in another's place shows."""
    return torch.linspace(0.5, 1.5, int(counted.sum()), dtype=dtype) / counted.sum()


def _batches(*, left: bool = True) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Batches of 2, 1 and 3 rows, without padding, with it on the right, and (where asked for) on the left."""
    generator = _generator()
    for rows, width, side in ((2, 5, None), (1, 17, "right"), (3, 14, "right"), (2, 15, "left"))[: LEFT + left]:
        ids = torch.randint(4, ENTRIES, (rows, width), generator=generator)
        ids[:, width // 2 - 1] = adapter_kinds.INVOCATION[0]
        lengths = torch.randint(3, width + 1, (rows,), generator=generator)
        lengths[0] = width - 2 if side else width
        place = torch.arange(width)[None]
        real = place < lengths[:, None] if side != "left" else place >= width - lengths[:, None]
        if side is None:
            real = torch.ones_like(real)
        counted = (torch.rand(rows, width, generator=generator) < 0.6) & real
        counted[:, -1] = False
        counted[0, width // 2] = True
        inputs = {"input_ids": ids}
        if side is not None:
            inputs["attention_mask"] = real.long()
        yield inputs, counted


def attention_kd_column(family: str, wrapped: Wrapper | None = None) -> float:
    """The attention loss, lean and layer by layer, against whole maps of eager attention, values and gradients."""
    worst = 0.0
    for ours in (_lean_attention, _listened_attention):
        worst = max(worst, _attention_errors(family, wrapped, ours))
    return worst


def _attention_errors(family: str, wrapped: Wrapper | None, ours: Callable) -> float:
    student, plain = (_settled(_fresh(family, wrapped, attention=attention)) for attention in (None, "eager"))
    teacher = small_model(family, seed=1).eval()
    plain_teacher = small_model(family, seed=1, attention="eager").eval()
    errors = Errors(plain)
    # The layer by layer path has batches that are padded on the right alone, and carry no mask.
    batches = list(_batches(left=ours is _lean_attention))
    first = ours(student, teacher, *batches[0])
    with no_refusal():
        for number, (inputs, counted) in enumerate(batches):
            if number == BLIND:  # eager attention gives no numbers in float64 where padding sees nothing
                for model in (student, plain, teacher, plain_teacher):
                    model.float()
                errors = Errors(plain, errors.worst)
            found = first if number == 0 else ours(student, teacher, inputs, counted)
            expected = _plain_attention(plain, plain_teacher, inputs, counted)
            errors.values("attention loss", found, expected)
            errors.values("attention loss of a second call", ours(student, teacher, inputs, counted), found)
            errors.gradients("attention loss", gradients(student, found), gradients(plain, expected))
    return errors.worst


def _lean_attention(student: nn.Module, teacher: PreTrainedModel, inputs: dict, counted: Tensor) -> Tensor:
    pairs = pairing.pair(student.config, teacher.config)
    shares = _shares(counted, teacher.dtype)
    return both_passes(student, teacher, inputs, counted=counted, shares=shares, pairing=pairs).attention


def _listened_attention(student: nn.Module, teacher: PreTrainedModel, inputs: dict, counted: Tensor) -> Tensor:
    pairs = pairing.pair(student.config, teacher.config)
    real = inputs.get("attention_mask", torch.ones_like(counted)).bool()
    rows = Batch(inputs["input_ids"], real, counted, None)
    _, _, layers = followed_maps(student, teacher, rows, pairs, trained=True)
    scores = torch.stack([layer.mean(dim=1) for layer in layers]).mean(dim=0)
    return (scores[counted] * _shares(counted, scores.dtype)).sum()


def _plain_attention(student: nn.Module, teacher: PreTrainedModel, inputs: dict, counted: Tensor) -> Tensor:
    with torch.no_grad():
        targets = teacher(**inputs, use_cache=False, output_attentions=True).attentions
    own = student(**inputs, use_cache=False, output_attentions=True).attentions
    layers = student.config.get_text_config().num_hidden_layers
    if own is None or len([one for one in own if one is not None]) != layers:
        raise Wrong("a number came out for a model whose own forward pass gives no maps of every layer")
    found = []
    for ours, theirs in zip(own, targets, strict=True):
        p, q = theirs.double(), ours.double()
        if not all(bool(torch.isfinite(maps.transpose(1, 2)[counted]).all()) for maps in (p, q)):
            raise Wrong("eager attention itself gives no numbers here")
        tiny = torch.finfo(torch.float64).tiny
        found.append(
            torch.where(p > 0, p * (p.clamp(min=tiny).log() - q.clamp(min=tiny).log()), 0.0).sum(dim=-1).mean(dim=1)
        )
    scores = torch.stack(found).mean(dim=0)
    return (scores[counted] * _shares(counted, scores.dtype)).sum()


def dae_column(family: str) -> float:
    """The lean step of DAE against whole logits of each text alone, values and gradients."""
    drawn = random.Random(2)
    student, plain = small_model(family), small_model(family)
    teachers = [small_model(family, seed=seed).eval() for seed in (1, 2)]
    plain_teachers = [small_model(family, seed=seed).eval() for seed in (1, 2)]
    errors = Errors(student)
    head = linear_head(student)
    expert, reference = (online(model, linear_head(model)) for model in teachers)

    def ours(texts: list[Text], is_domain: list[bool]) -> Tensor:
        return lean_dae_losses(
            student, head, texts, is_domain=is_domain, expert=expert, reference=reference, shares=_text_shares(texts),
            weight=0.7, temperature=1.5,
        ).loss  # fmt: skip

    draws = [[_text(drawn, most) for most in sizes] for sizes in ((4, 5), (4, 20, 3), (25, 30))]
    flags = [[True, False], [False, True, True], [False, False]]
    first = ours(draws[0], flags[0])
    with no_refusal():
        for number, (texts, is_domain) in enumerate(zip(draws, flags, strict=True)):
            found = first if number == 0 else ours(texts, is_domain)
            expected = torch.zeros((), dtype=torch.float64)
            for text, domain, shares in zip(texts, is_domain, _text_shares(texts), strict=True):
                with torch.no_grad():
                    target = row_logits(plain_teachers[0 if domain else 1], text.ids.tolist())[text.counted].double()
                own = row_logits(plain, text.ids.tolist())[text.counted].double()
                expected = expected + 0.7 * (_divergences(own, target) * shares).sum()
            errors.values("loss", found, expected)
            errors.values("loss of a second call", ours(texts, is_domain), found)
            errors.gradients("loss", gradients(student, found), gradients(plain, expected))
    return errors.worst


def _text_shares(texts: list[Text]) -> list[Tensor]:
    return [shares.double() for shares in token_shares(texts)]


def speculation_column(family: str) -> float:
    """Cached steps with tokens taken back, greedy answers and acceptance rates against whole forward passes."""
    target, draft = (_by_sdpa(family, seed) for seed in (0, 1))
    plain, plain_draft = (_by_sdpa(family, seed).eval() for seed in (0, 1))
    errors = Errors(target)
    drawn = random.Random(3)
    prompts = [tokens(drawn, 2, 4), tokens(drawn, 9, 14), tokens(drawn, 5, 8)]
    settings = {"max_new_tokens": 9, "verify": "greedy", "temperature": 0.0, "generator": None}
    first = speculate(target, draft, Chain(3), prompts, **settings)
    with no_refusal(), torch.no_grad():
        greedy = [_greedy(plain, prompt, 9) for prompt in prompts]
        for answers in (first, speculate(target, draft, Tree(top=2, depth=3, size=5), prompts, **settings)):
            if [list(answer.ids) for answer in answers] != greedy:
                raise Wrong(f"greedy answers {[answer.ids for answer in answers]}, the model's own {greedy}")
        _compare_steps(errors, target.eval(), plain)
        answered = [Answered(tuple(prompt), tuple(tokens(drawn, 2, 9))) for prompt in prompts]
        rates = acceptance_rates(target, draft, answered, length=2, drawn=True, temperature=0.7)
        for row, one in enumerate(answered):
            found = torch.tensor(rates.values[row, : len(one.answer), 0])
            p, q = (_answer_log_probs(model, one, 0.7) for model in (plain, plain_draft))
            errors.values("acceptance rates", found, (q - p).clamp(max=0).exp())
    return errors.worst


def _by_sdpa(family: str, seed: int) -> PreTrainedModel:
    """With the attention that takes masks of trees, where the family has it."""
    try:
        return small_model(family, seed=seed, attention="sdpa")
    except ValueError:
        return small_model(family, seed=seed)


def _greedy(model: PreTrainedModel, prompt: list[int], count: int) -> list[int]:
    ends = model.config.get_text_config().eos_token_id
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(row_logits(model, ids)[-1].argmax()))
        if ids[-1] in ([ends] if isinstance(ends, int) else ends or []):
            break
    return ids[len(prompt) :]


def _compare_steps(errors: Errors, model: PreTrainedModel, plain: PreTrainedModel) -> None:
    """Two rows of unlike length, then a tree of which a path is kept, then one token more."""
    with torch.inference_mode():
        steps = CausalSteps(model, 2)
        ids = torch.tensor([[0, 0, 0, 5, 6, 7, 8, 9], [10, 11, 12, 13, 14, 15, 16, 17]])
        places = torch.tensor([[-1, -1, -1, 0, 1, 2, 3, 4], list(range(8))])
        read = steps.run(ids, places, torch.ones(2, 8, 8, dtype=torch.bool).tril())
        steps.keep(places >= 0)
        tree = torch.tensor([[20, 21, 22], [23, 24, 25]])  # 20 -> 21, 20 -> 22
        sees = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 1]], dtype=torch.bool).expand(2, -1, -1)
        logits = steps.run(tree, places[:, -1:] + torch.tensor([[1, 2, 2]]), sees).logits
        steps.keep(torch.tensor([[True, False, True], [True, True, False]]))
        after = steps.run(
            torch.tensor([[30], [31]]), places[:, -1:] + 3, torch.ones(2, 1, 1, dtype=torch.bool)
        ).last_logits
    with torch.no_grad():
        for row, begin in enumerate(([5, 6, 7, 8, 9], [10, 11, 12, 13, 14, 15, 16, 17])):
            root, one, two = tree[row].tolist()
            errors.values("logits of a prompt", read.last_logits[row], row_logits(plain, begin)[-1])
            errors.values("logits of a tree's root", logits[row, 0], row_logits(plain, [*begin, root])[-1])
            errors.values("logits of a leaf", logits[row, 1], row_logits(plain, [*begin, root, one])[-1])
            errors.values("logits of the other leaf", logits[row, 2], row_logits(plain, [*begin, root, two])[-1])
            kept = [*begin, root, two if row == 0 else one, 30 + row]
            errors.values("logits after tokens were taken back", after[row], row_logits(plain, kept)[-1])


def _answer_log_probs(model: PreTrainedModel, one: Answered, temperature: float = 1.0) -> Tensor:
    logits = row_logits(model, [*one.prompt, *one.answer])[len(one.prompt) - 1 : -1].double()
    return log_softmax(logits / temperature, dim=-1).gather(1, torch.tensor(one.answer)[:, None]).squeeze(1)


def log_probs_column(family: str) -> float:
    """Log-probabilities of answers, of held-out pairs and of rollouts, against whole logits."""
    model, plain = small_model(family).float(), small_model(family).float().eval()  # rollouts work in float32
    errors = Errors(model)
    drawn = random.Random(4)
    rows = [Answered(tuple(tokens(drawn, 1, 12)), tuple(tokens(drawn, 1, 9))) for _ in range(3)]
    prompts, answers = ([list(getattr(row, name)) for row in rows] for name in ("prompt", "answer"))
    found = held_out_pairs.answer_log_probs(model, prompts, answers)
    with no_refusal(), torch.no_grad():
        expected = [_answer_log_probs(plain, row) for row in rows]
        errors.values("log-probabilities of answers", found, torch.stack([one.sum() for one in expected]))
        given = rollouts.Answered([0, 1, 2], prompts, answers, [True] * 3)
        by_token, mask = rollouts.token_log_probs(model.eval(), given)
        errors.values("log-probabilities of tokens", by_token[mask], torch.cat(expected))
    return errors.worst


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


COLUMNS: dict[str, Callable[[str], float]] = {
    "shared prompt": shared_prompt_column,
    "packing": packing_column,
    "KD head": kd_head_column,
    "attention KD": attention_kd_column,
    "DAE": dae_column,
    "speculation": speculation_column,
    "log-probs": log_probs_column,
}
# Those that train a model which may carry adapters.
ADAPTER_COLUMNS: dict[str, Callable[[str, Wrapper], float]] = {
    "shared prompt": shared_prompt_column,
    "KD head": kd_head_column,
    "attention KD": attention_kd_column,
}
