"""Answers that a policy gives while it learns: prompts, sampling, log-probabilities by token, rewards, and their cost.

What PPO, RLOO, GRPO and online DPO share. The policy is any causal model, with adapters or without; its answers are
rewarded by a function or by a reward model.
"""

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.core.shapes import TokenIds
from zephyr_lab.data.chat import prompt_ids
from zephyr_lab.data.splits import TRAIN, Prompt
from zephyr_lab.data.splits import prompts as read_prompts
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.losses.shapes import AnswerMask, AnswerScores
from zephyr_lab.methods import calling
from zephyr_lab.methods.examples import Account
from zephyr_lab.methods.held_out_pairs import padded_rows
from zephyr_lab.methods.loop import drawn_places, has_checkpoint, require_finite
from zephyr_lab.methods.recipes.rollouts import OnAnswers
from zephyr_lab.models import reward as reward_models
from zephyr_lab.models.causal import causal_model, evaluating, one_by_one, positions_of, share_weights
from zephyr_lab.models.logits import last_hidden_states, logits_of
from zephyr_lab.models.own_template import Unwritable

ROWS_AT_ONCE = 64
LOG = "rollouts.json"
PATH = "plain: log-probabilities of the answers' tokens alone"
TokenStates = Float[Tensor, "row token hidden"]
Watch = Callable[[int, nn.Module], None]  # (rollouts taken, the policy), before each further rollout
REWARD_FORMS = "write reward(prompts, answers), or reward(answered), or pass a reward model"


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

        Prints what was set aside. Raises ValueError where too few are left for a batch.
        """
        read = read_prompts(rows)
        ids = prompt_ids(tokenizer, read.rows)
        room = positions_of(causal_model(model)) or math.inf
        account, kept = Account(len(ids)), []
        for place, (number, one) in enumerate(zip(read.numbers, ids, strict=True)):
            if isinstance(one, Unwritable):
                account.note(one.kind, number, set_aside=True)
            elif not one or len(one) > room - settings.max_new_tokens:
                account.note("no room for an answer behind the prompt", number, set_aside=True)
            else:
                kept.append(place)
        account.used = len(kept)
        line = read.line(account.line())
        if read.bad or account.findings:
            print(f"prompts: {line}")
        if len(kept) < settings.batch:
            raise ValueError(f"batch must be at most the number of usable prompts, got {settings.batch}: {line}")
        return cls([read.rows[place] for place in kept], [ids[place] for place in kept], account)


@dataclass(frozen=True)
class Answered:
    """Answers of a policy: `places` in the questions, ids of prompts and of answers, and whether each answer ended."""

    places: list[int]
    prompts: list[list[int]]
    answers: list[list[int]]
    finished: list[bool]

    def __len__(self) -> int:
        return len(self.places)

    def __add__(self, other: "Answered") -> "Answered":
        """The rows of both."""
        return Answered(
            self.places + other.places,
            self.prompts + other.prompts,
            self.answers + other.answers,
            self.finished + other.finished,
        )

    @property
    def tokens(self) -> int:
        """Tokens of all answers."""
        return sum(map(len, self.answers))

    @property
    def read_tokens(self) -> int:
        """Tokens of all prompts and answers: what one forward pass over them reads."""
        return sum(map(len, self.prompts)) + self.tokens

    @property
    def mean_length(self) -> float:
        """Tokens of an answer."""
        return self.tokens / len(self)

    def subset(self, rows: Sequence[int]) -> "Answered":
        """These rows, in this order."""
        columns = (self.places, self.prompts, self.answers, self.finished)
        return Answered(*([column[row] for row in rows] for column in columns))


@dataclass(frozen=True)
class Reward:
    """What answers are worth. `function`: Answered -> a number each. `reads`: forward passes it makes over them."""

    function: Callable[[Answered], Any]
    reads: int = 0

    def of(self, answered: Answered, step: int) -> list[float]:
        """The rewards of `answered`. Raises ValueError, naming step and answer, unless each has a finite number."""
        rewards = self.function(answered)
        if not isinstance(rewards, Iterable):
            raise ValueError(f"reward gave {rewards!r} for {len(answered)} answers at step {step}, not a number each")
        rewards = list(rewards)
        if len(rewards) != len(answered):
            raise ValueError(f"reward gave {len(rewards)} numbers for {len(answered)} answers at step {step}")
        for number, value in enumerate(rewards, start=1):
            if not _is_number(value):
                raise ValueError(
                    f"reward is {value!r} at step {step}: training halted; it must give a finite number an answer, and "
                    f"this was answer {number} of {len(rewards)}"
                )
        return [float(value) for value in rewards]


class PolicyLog:
    """Rows by rollout, 0, 1, ...; each holds means over its answers, and the tokens spent on it.

    With a folder a row is written as it is made, so that a resumed run finds those of the steps it does not take again.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / LOG
        self._rows: dict[str, dict[str, float]] = {}
        if self._path is not None and self._path.is_file() and has_checkpoint(folder):
            self._rows = files.read_json(self._path)

    def add(self, rollout: int, row: dict[str, float]) -> None:
        """Write the row of `rollout`, in place of an older one of the same number.

        Raises ValueError for a number that is not finite.
        """
        for name, value in row.items():
            require_finite(name, value, rollout)
        self._rows[str(rollout)] = row
        if self._path is not None:
            files.write_json(self._path, self._rows)

    def rows(self) -> list[dict[str, float]]:
        """The rows in the order of the rollouts."""
        return [self._rows[number] for number in sorted(self._rows, key=int)]


@dataclass(frozen=True)
class Rollouts:
    """The rollouts of one training: their prompts and answers, what these are worth, and a log of them.

    watch(rollouts taken, policy) is called before each.
    """

    recipe: OnAnswers
    seed: int
    questions: Questions
    reward: Reward
    log: PolicyLog
    watch: Watch | None = None

    @cached_property
    def rounds(self) -> list[list[int]]:
        """The questions of each rollout."""
        return drawn_places(
            len(self.questions.ids),
            rounds=self.recipe.steps,
            at_once=self.recipe.batch,
            seed=derive(self.seed, "prompts"),
        )

    def draw(self, policy: nn.Module, number: int) -> Answered:
        """The policy's answers in rollout `number`, `samples` to each of its questions."""
        if self.watch is not None:
            self.watch(number, policy)
        return self.answers(policy, repeated(self.rounds[number], self.recipe.samples), number)

    def answers(self, policy: nn.Module, places: Sequence[int], number: int) -> Answered:
        """The policy's answers to the questions of `places` in rollout `number`."""
        return answer(
            policy,
            self.questions.ids,
            places,
            max_new_tokens=self.recipe.max_new_tokens,
            seed=derive(self.seed, "answers", number),
        )

    def note(self, number: int, answered: Answered, *, scored: int, trained: int, **numbers: float) -> None:
        """Write the row of rollout `number` into the log; `lab.teaching.training_costs` counts FLOPs from its tokens.

        numbers: means over the answers. scored: tokens read in forward passes without a gradient, by policy or
        reference; those that a reward model reads are added. trained: tokens read with a gradient. Generated tokens are
        read once on the way, as are the prompts' (tokens_prompted).
        """
        spent = {
            "tokens_generated": answered.tokens,
            "tokens_prompted": answered.read_tokens - answered.tokens,
            "tokens_scored": scored + self.reward.reads * answered.read_tokens,
            "tokens_trained": trained,
            "answers": len(answered),
        }
        self.log.add(number, {**numbers, **{name: float(count) for name, count in spent.items()}})

    def frame(self, losses: Sequence[float], *, method: str, **notes: Any) -> pd.DataFrame:
        """`calling.log_frame` of the log's rows in order, `losses` beside them, one a rollout."""
        rows = [
            {"step": step, **row, "loss": loss}
            for step, (row, loss) in enumerate(zip(self.log.rows(), losses, strict=True), start=1)
        ]
        accounts = {TRAIN: asdict(self.questions.account)}
        return calling.log_frame(
            rows, method=method, recipe=self.recipe, seed=self.seed, path=PATH, rows=accounts, **notes
        )


def rollouts_of(
    prompts: Any,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    recipe: OnAnswers,
    *,
    reward: Any,
    seed: int,
    run: calling.Run,
    watch: Watch | None = None,
) -> Rollouts:
    """The rollouts of a call of one of the methods. Raises as `Questions.of` and `as_reward`."""
    questions = Questions.of(prompts, model, tokenizer, recipe)
    return Rollouts(recipe, seed, questions, as_reward(reward, questions, tokenizer), PolicyLog(run.checkpoints), watch)


def as_reward(reward: Any, questions: Questions, tokenizer: PreTrainedTokenizerBase) -> Reward:
    """A caller's reward in one form.

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
    calling.require_one_label(model)
    inner = causal_model(model).eval()
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
    completions = sample(
        causal_model(policy),
        prompts,
        max_new_tokens=max_new_tokens,
        temperatures=1.0,
        generator=torch.Generator().manual_seed(seed),
    )
    answers, finished = [list(one.ids) for one in completions], [one.finished for one in completions]
    return Answered(list(places), prompts, answers, finished)


def answer_texts(tokenizer: PreTrainedTokenizerBase, answered: Answered) -> list[str]:
    """What a reader sees of each answer: role tags included, the end token not."""
    return [
        tokenizer.decode(ids[:-1] if ended else ids)
        for ids, ended in zip(answered.answers, answered.finished, strict=True)
    ]


def repeated(places: Sequence[int], samples: int) -> list[int]:
    """Each question `samples` times in a row: answers to one question are neighbours."""
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
    """AdamW without decay for all weights that train."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0)


def hidden_states(model: nn.Module, answered: Answered) -> tuple[TokenStates, AnswerMask, TokenIds]:
    """The state from which each token of each answer is predicted, what is an answer's token, and the tokens.

    All of shape (row, token), answers aligned at their first token and padded on the right.
    """
    ids, marks = padded_rows(answered.prompts, answered.answers, model.device)
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


def token_log_probs(model: nn.Module, answered: Answered) -> tuple[AnswerScores, AnswerMask]:
    """log pi of each token of each answer, with gradient where one is kept, and which places are tokens.

    0 on padding, so that a row's sum is log pi(answer | prompt).
    """
    states, mask, tokens = hidden_states(model, answered)
    return log_probs_of(model, states, mask, tokens), mask


def log_probs_of(model: nn.Module, states: TokenStates, mask: AnswerMask, tokens: TokenIds) -> AnswerScores:
    """log pi of `tokens`, each predicted from its state; 0 where `mask` is False."""
    with _autocast(model):
        logits = logits_of(model, states[mask].to(causal_model(model).dtype))
    log_probs = logits.float().log_softmax(dim=-1).gather(1, tokens[mask][:, None]).squeeze(1)
    return torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, log_probs)


def scored(model: nn.Module, answered: Answered) -> AnswerScores:
    """`token_log_probs` without a gradient, some rows at once."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(answered), ROWS_AT_ONCE):
            rows = range(start, min(start + ROWS_AT_ONCE, len(answered)))
            parts.append(token_log_probs(model, answered.subset(rows))[0])
    width = max(part.shape[1] for part in parts)
    padded = [torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts]
    return torch.cat(padded).clone()  # a tensor of its own, which autograd may read


def rollout_rows(log: pd.DataFrame) -> list[dict[str, float]]:
    """The rows of a log of rollouts as a stage keeps them: "step" counts the rollouts taken before."""
    kept = log.drop(columns=["step", "loss"])
    return [
        {"step": float(step - 1), **{name: float(value) for name, value in row.items()}}
        for step, row in zip(log["step"], kept.to_dict("records"), strict=True)
    ]


def tokens_spent(log: pd.DataFrame) -> dict[str, float]:
    """Tokens of all rows of a log of rollouts."""
    return {name: float(sum(log[name])) for name in log if name.startswith("tokens_") or name == "answers"}


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _autocast(model: nn.Module) -> torch.autocast:
    """bfloat16 on GPUs, as the trainers have it; nothing on CPUs."""
    return torch.autocast("cuda", torch.bfloat16, enabled=model.device.type == "cuda")
