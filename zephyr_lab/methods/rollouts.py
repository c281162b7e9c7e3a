"""Answers that a policy gives while it learns: prompts, sampling, log-probabilities by token, rewards, and their cost.

What PPO, RLOO, GRPO and online DPO share. The policy is any causal model, with adapters or without; what its answers
are worth is somebody else's: a function, or a reward model.
"""

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core.shapes import TokenIds, TokenMask
from zephyr_lab.data.prompt_rows import Prompt, prompt_ids
from zephyr_lab.data.prompt_rows import prompts as read_prompts
from zephyr_lab.decoding.sampling import Completion, sample
from zephyr_lab.losses.rollout_shapes import AnswerMask, TokenScores
from zephyr_lab.methods import calling
from zephyr_lab.methods.examples import Account
from zephyr_lab.methods.recipes.rollouts import OnAnswers
from zephyr_lab.models import reward as reward_models
from zephyr_lab.models.context import one_by_one, positions_of
from zephyr_lab.models.logits import last_hidden_states, logits_of
from zephyr_lab.models.own_template import Unwritable
from zephyr_lab.models.wrapped import causal_model, evaluating, share_weights

ROWS_AT_ONCE = 64
TokenStates = Float[Tensor, "row token hidden"]
Watch = Callable[[int, nn.Module], None]  # (rollouts taken, the policy), before each further rollout
REWARD_FORMS = "write reward(prompts, answers), or reward(answered), or hand over a reward model"


@dataclass(frozen=True)
class Questions:
    """Prompts with their ids: the place in the list, from 0, names a question from here on."""

    prompts: list[Prompt]
    ids: list[list[int]]
    account: Account

    @classmethod
    def of(cls, rows: Any, model: nn.Module, tokenizer: PreTrainedTokenizerBase, settings: OnAnswers) -> "Questions":
        """The usable prompts of `rows`; one that leaves no room for an answer, or that the tokenizer's chat template
        cannot write, is set aside.

        Says what was set aside. Raises ValueError where too few are left for a batch.
        """
        found = read_prompts(rows)
        ids = prompt_ids(tokenizer, found.rows)
        room = positions_of(causal_model(model)) or math.inf
        account, kept = Account(len(ids)), []
        for place, (number, one) in enumerate(zip(found.numbers, ids, strict=True)):
            if isinstance(one, Unwritable):
                account.note(one.kind, number, set_aside=True)
            elif not one or len(one) > room - settings.max_new_tokens:
                account.note("no room for an answer behind the prompt", number, set_aside=True)
            else:
                kept.append(place)
        account.used = len(kept)
        told = found.line(account.line())
        if found.bad or account.findings:
            print(f"prompts: {told}")
        if len(kept) < settings.batch:
            raise ValueError(f"batch must be at most the number of usable prompts, got {settings.batch}: {told}")
        return cls([found.rows[place] for place in kept], [ids[place] for place in kept], account)


@dataclass(frozen=True)
class Answered:
    """Answers of a policy: `places` in the questions, ids of prompts and of answers, and whether each answer ended."""

    places: list[int]
    prompts: list[list[int]]
    answers: list[list[int]]
    finished: list[bool]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def tokens(self) -> int:
        """Tokens of all answers."""
        return sum(map(len, self.answers))

    @property
    def read_tokens(self) -> int:
        """Tokens of all prompts and answers: what one forward pass over them reads."""
        return sum(map(len, self.prompts)) + self.tokens

    def subset(self, rows: Sequence[int]) -> "Answered":
        """These rows, in this order."""
        columns = (self.places, self.prompts, self.answers, self.finished)
        return Answered(*([column[row] for row in rows] for column in columns))


@dataclass
class Work:
    """What a training has read and written, in tokens.

    generated: sampled from the policy (each read once on the way, as are the prompts: `prompted`). scored: read in
    forward passes without a gradient, by policy, reference or reward model. trained: read with a gradient.
    """

    generated: int = 0
    prompted: int = 0
    scored: int = 0
    trained: int = 0
    answers: int = 0

    def metrics(self) -> dict[str, float]:
        """{"tokens_generated": ..., ...}; FLOPs are counted from these (`lab.teaching.training_costs`)."""
        return {f"tokens_{name}" if name != "answers" else "answers": float(n) for name, n in asdict(self).items()}


@dataclass(frozen=True)
class Reward:
    """What answers are worth. `function`: Answered -> a number each. `reads`: forward passes it makes over them."""

    function: Callable[[Answered], Any]
    reads: int = 0

    def of(self, answered: Answered, step: int) -> list[float]:
        """The rewards of `answered`. Raises ValueError, naming step and answer, for what is no number an answer."""
        found = self.function(answered)
        if not isinstance(found, Iterable):
            raise ValueError(f"reward gave {found!r} for {len(answered)} answers at step {step}, not a number each")
        found = list(found)
        if len(found) != len(answered):
            raise ValueError(f"reward gave {len(found)} numbers for {len(answered)} answers at step {step}")
        for number, value in enumerate(found, start=1):
            if not _is_number(value):
                raise ValueError(
                    f"reward is {value!r} at step {step}: training halted; it must give a finite number an answer, and "
                    f"this was answer {number} of {len(found)}"
                )
        return [float(value) for value in found]


def as_reward(reward: Any, questions: Questions, tokenizer: PreTrainedTokenizerBase) -> Reward:
    """What a caller hands in as a reward, in one form.

    reward(prompts, answers): prompts as they were given, answers as texts without their end token. reward(answered):
    ids, places in the usable prompts and whether each answer ended (`Answered`). A model with one label: its logit at
    the row's last token, read from the policy's own ids. Raises TypeError for anything else.
    """
    if isinstance(reward, Reward):
        return reward
    if isinstance(reward, nn.Module):
        return learned_reward(reward, tokenizer)
    if not callable(reward):
        raise TypeError(f"reward must be a function or a reward model, got {reward!r}; {REWARD_FORMS}")
    taken = [one for one in inspect.signature(reward).parameters.values() if one.default is inspect.Parameter.empty]
    if len(taken) == 1:
        return Reward(reward)
    if len(taken) != 2:
        raise TypeError(f"reward{inspect.signature(reward)} cannot be called on answers; {REWARD_FORMS}")
    return Reward(
        lambda answered: reward(
            [questions.prompts[place] for place in answered.places], answer_texts(tokenizer, answered)
        )
    )


def learned_reward(model: nn.Module, tokenizer: PreTrainedTokenizerBase | None = None) -> Reward:
    """A reward model's, in log-odds: a difference of 1 stands for a preference of 73 %.

    `tokenizer`: that of the policy, whose ids the model is to read. Raises ValueError for a model of another vocabulary
    or with more than one label.
    """
    inner = causal_model(model).eval()
    if not hasattr(inner, "score") or inner.config.num_labels != 1:
        raise ValueError(
            f"a reward model gives one number a text (num_labels=1), got {type(inner).__name__} with "
            f"{inner.config.num_labels} labels; make one with train_reward"
        )
    if tokenizer is not None:
        calling.require_fit(inner, tokenizer)

    def rewards(answered: Answered) -> list[float]:
        return reward_models.rewards(inner, answered.prompts, answered.answers, rows_at_once=ROWS_AT_ONCE).tolist()

    return Reward(rewards, reads=1)


def answer(
    policy: nn.Module, questions: Sequence[list[int]], places: Sequence[int], *, max_new_tokens: int, seed: int
) -> Answered:
    """One answer at temperature 1 to each question of `places`; the same seed gives the same answers."""
    prompts = [questions[place] for place in places]
    given: list[Completion] = sample(
        causal_model(policy),
        prompts,
        max_new_tokens=max_new_tokens,
        temperatures=1.0,
        generator=torch.Generator().manual_seed(seed),
    )
    return Answered(list(places), prompts, [list(one.ids) for one in given], [one.finished for one in given])


def answer_texts(tokenizer: PreTrainedTokenizerBase, answered: Answered) -> list[str]:
    """What a reader sees of each answer: role tags stand in it, the end token does not."""
    return [
        tokenizer.decode(ids[:-1] if ended else ids)
        for ids, ended in zip(answered.answers, answered.finished, strict=True)
    ]


def drawn_places(count: int, *, rounds: int, at_once: int, seed: int) -> list[list[int]]:
    """Questions of each round: all `count` in random order, then all in another, dealt out `at_once` by `at_once`."""
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    while len(order) < rounds * at_once:
        order += torch.randperm(count, generator=generator).tolist()
    return [order[place : place + at_once] for place in range(0, rounds * at_once, at_once)]


def repeated(places: Sequence[int], samples: int) -> list[int]:
    """Each question `samples` times in a row: answers to one question stand together."""
    return [place for place in places for _ in range(samples)]


@dataclass(frozen=True)
class Reference:
    """The model that a policy is held close to. `model()`: a context that gives it, in evaluation mode."""

    model: Callable[[], AbstractContextManager[PreTrainedModel]]

    @classmethod
    def of(cls, policy: nn.Module, reference: nn.Module | None) -> "Reference":
        """`reference`; without one the policy as it stands now: its adapters off, or a copy of it.

        Raises ValueError for a reference with another vocabulary or on another device.
        """
        if reference is not None:
            require_comparable(policy, reference)
            return cls(lambda: _evaluated(reference))
        if hasattr(policy, "disable_adapter"):
            return cls(lambda: _adapters_off(policy))
        copied = frozen_copy(policy)
        return cls(lambda: nullcontext(copied))


def frozen_copy(model: nn.Module) -> PreTrainedModel:
    """A copy in evaluation mode that no training touches."""
    copied = copy.deepcopy(causal_model(model)).eval().requires_grad_(False)
    copied.__dict__.pop("forward", None)  # a trainer's, bound to the original: it would run that one's weights
    return copied


def require_comparable(policy: nn.Module, reference: nn.Module) -> None:
    """Raises ValueError unless both models have logits of one width, lie on one device, and the reference stays put."""
    calling.device_of(reference)
    if share_weights(policy, reference):
        raise ValueError("the reference is the policy itself, and would move with it; leave it out, or load it again")
    ours, theirs = (causal_model(one).config.get_text_config().vocab_size for one in (policy, reference))
    if ours != theirs:
        raise ValueError(f"the reference has {theirs} entries in its vocabulary, the policy {ours}: they must be one")
    if calling.device_of(policy) != calling.device_of(reference):
        raise ValueError(
            f"the policy lies on {calling.device_of(policy)}, the reference on {calling.device_of(reference)}: move "
            "one of them"
        )


@contextmanager
def _evaluated(reference: nn.Module) -> Iterator[PreTrainedModel]:
    with evaluating(reference):
        yield causal_model(reference)


@contextmanager
def _adapters_off(policy: Any) -> Iterator[PreTrainedModel]:
    with evaluating(policy), policy.disable_adapter():
        yield causal_model(policy)


def adamw(model: nn.Module, *, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW without decay for all weights that train. Raises ValueError where none does."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if not weights:
        raise ValueError("no weight of the model trains: requires_grad is off for all of them")
    return torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0)


def hidden_states(model: nn.Module, answered: Answered) -> tuple[TokenStates, AnswerMask, TokenIds]:
    """The state from which each token of each answer is predicted, what is an answer's token, and the tokens.

    All of shape (row, token), answers aligned at their first token and padded on the right.
    """
    ids, marks = _rows(answered, model.device)
    if len(ids) > 1 and one_by_one(model, ids.shape[1]) is not None:
        alone = [hidden_states(model, answered.subset([row])) for row in range(len(answered))]
        states, mask, tokens = zip(*alone, strict=True)
        return tuple(pad_sequence([one[0] for one in parts], batch_first=True) for parts in (states, mask, tokens))
    with _autocast(model):
        hidden = last_hidden_states(model, input_ids=ids)[:, :-1].float()
    counted = marks[:, 1:]
    lengths = counted.sum(dim=1)
    mask = torch.arange(int(lengths.max()), device=ids.device)[None] < lengths[:, None]
    states = hidden.new_zeros(*mask.shape, hidden.shape[-1])
    tokens = torch.zeros(mask.shape, dtype=torch.long, device=ids.device)
    states = states.masked_scatter(mask[..., None], hidden[counted])
    return states, mask, tokens.masked_scatter(mask, ids[:, 1:][counted])


def token_log_probs(model: nn.Module, answered: Answered) -> tuple[TokenScores, AnswerMask]:
    """log pi of each token of each answer, with gradient where one is kept, and which places are tokens.

    0 on padding, so that a row's sum is log pi(answer | prompt).
    """
    states, mask, tokens = hidden_states(model, answered)
    return log_probs_of(model, states, mask, tokens), mask


def log_probs_of(model: nn.Module, states: TokenStates, mask: AnswerMask, tokens: TokenIds) -> TokenScores:
    """log pi of `tokens`, each predicted from its state; 0 where `mask` is False."""
    with _autocast(model):
        logits = logits_of(model, states[mask].to(causal_model(model).dtype))
    found = logits.float().log_softmax(dim=-1).gather(1, tokens[mask][:, None]).squeeze(1)
    return torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, found)


def scored(model: nn.Module, answered: Answered) -> TokenScores:
    """`token_log_probs` without a gradient, some rows at once."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(answered), ROWS_AT_ONCE):
            rows = range(start, min(start + ROWS_AT_ONCE, len(answered)))
            parts.append(token_log_probs(model, answered.subset(rows))[0])
    width = max(part.shape[1] for part in parts)
    padded = [torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts]
    return torch.cat(padded).clone()  # a tensor of its own, which autograd may read


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _autocast(model: nn.Module) -> torch.autocast:
    """bfloat16 on GPUs, as the trainers have it; nothing on CPUs."""
    return torch.autocast("cuda", torch.bfloat16, enabled=model.device.type == "cuda")


def _rows(answered: Answered, device: torch.device) -> tuple[TokenIds, TokenMask]:
    """Prompts with their answers, padded on the right, where no counted token sees it; True on the answers' tokens."""
    both = list(zip(answered.prompts, answered.answers, strict=True))
    ids = pad_sequence([torch.tensor([*prompt, *given]) for prompt, given in both], batch_first=True)
    marks = pad_sequence(
        [torch.tensor([False] * len(prompt) + [True] * len(given)) for prompt, given in both], batch_first=True
    )
    return ids.to(device), marks.to(device)
