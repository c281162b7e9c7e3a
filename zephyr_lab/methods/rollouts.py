"""Answers that a policy gives while it learns: prompts, sampling, log-probabilities by token, rewards, and their cost.

What PPO, RLOO, GRPO and online DPO share. Prompts are those of the preference pairs, so that all methods learn from the
same questions; a prompt keeps its task, which the judge needs and the policy never sees.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core.seeds import derive
from zephyr_lab.core.shapes import TokenIds, TokenMask
from zephyr_lab.data.chat import encode_prompts
from zephyr_lab.data.splits import TRAIN
from zephyr_lab.decoding.sampling import Completion, sample
from zephyr_lab.losses.rollout_shapes import AnswerMask, TokenScores
from zephyr_lab.methods.loop import require_finite
from zephyr_lab.methods.recipes.rlhf import LEARNED, Rollouts
from zephyr_lab.methods.recipes.worlds import require_world
from zephyr_lab.models import reward as reward_models
from zephyr_lab.models.context import one_by_one
from zephyr_lab.models.logits import last_hidden_states, logits_of
from zephyr_lab.world import completions
from zephyr_lab.world.generators import Prompt
from zephyr_lab.world.judge import grade
from zephyr_lab.world.objectives import value

ROWS_AT_ONCE = 64
TokenStates = Float[Tensor, "row token hidden"]


@dataclass(frozen=True)
class Questions:
    """The prompts of an experiment, with their ids: place in the list names a question from here on."""

    prompts: list[Prompt]
    ids: list[list[int]]

    @classmethod
    def of_pairs(cls, tokenizer: PreTrainedTokenizerBase, *, world: str, prompts: int, seed: int) -> "Questions":
        """The prompts that `world_data.build_pairs` draws for training under the same world, count and seed."""
        drawn = completions.prompts(derive(seed, "pairs", TRAIN), prompts, size=require_world(world))
        return cls.of(tokenizer, drawn)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> "Questions":
        """These prompts, encoded."""
        return cls(list(prompts), encode_prompts(tokenizer, [prompt.messages for prompt in prompts]))


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
        """{"tokens_generated": ..., ...}; FLOPs are counted from these (`lab.rlhf_costs`)."""
        return {f"tokens_{name}" if name != "answers" else "answers": float(n) for name, n in asdict(self).items()}


Reward = Callable[[Answered], list[float]]  # rewards of answers, one each


def finite_rewards(reward: Reward, answered: Answered, step: int) -> list[float]:
    """The rewards of `answered`. Raises ValueError naming the step for one that is no number: nothing could follow."""
    found = reward(answered)
    require_finite("reward", sum(found), step)
    return found


@dataclass(frozen=True)
class JudgeReward:
    """The exact judge's objective, in points. `asked`: the questions that the answers are to."""

    questions: Questions
    tokenizer: PreTrainedTokenizerBase
    objective: str

    def __call__(self, answered: Answered) -> list[float]:
        texts = answer_texts(self.tokenizer, answered)
        return [
            value(grade(self.questions.prompts[place].turn, text, ended=ended), self.objective)
            for place, text, ended in zip(answered.places, texts, answered.finished, strict=True)
        ]


@dataclass(frozen=True)
class LearnedReward:
    """A reward model's, in log-odds: a difference of 1 stands for a preference of 73 %."""

    model: PreTrainedModel

    def __call__(self, answered: Answered) -> list[float]:
        found = reward_models.rewards(self.model, answered.prompts, answered.answers, rows_at_once=ROWS_AT_ONCE)
        return found.tolist()


def reward_for(
    recipe: Rollouts,
    questions: Questions,
    tokenizer: PreTrainedTokenizerBase,
    inputs: dict[str, Path],
    device: torch.device,
) -> Reward:
    """The reward that `recipe` names. Raises ValueError where it is a reward model's and there is no input "reward"."""
    if recipe.reward != LEARNED:
        return JudgeReward(questions, tokenizer, recipe.reward)
    if "reward" not in inputs:
        raise ValueError("a learned reward needs an input 'reward'; the judge's objectives need none")
    return LearnedReward(reward_models.load(inputs["reward"]).to(device))


def answer(
    policy: PreTrainedModel, questions: Questions, places: Sequence[int], *, max_new_tokens: int, seed: int
) -> Answered:
    """One answer at temperature 1 to each question of `places`; the same seed gives the same answers."""
    prompts = [questions.ids[place] for place in places]
    given: list[Completion] = sample(
        policy,
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


def hidden_states(model: PreTrainedModel, answered: Answered) -> tuple[TokenStates, AnswerMask, TokenIds]:
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


def token_log_probs(model: PreTrainedModel, answered: Answered) -> tuple[TokenScores, AnswerMask]:
    """log pi of each token of each answer, with gradient where one is kept, and which places are tokens.

    0 on padding, so that a row's sum is log pi(answer | prompt).
    """
    states, mask, tokens = hidden_states(model, answered)
    return log_probs_of(model, states, mask, tokens), mask


def log_probs_of(model: PreTrainedModel, states: TokenStates, mask: AnswerMask, tokens: TokenIds) -> TokenScores:
    """log pi of `tokens`, each predicted from its state; 0 where `mask` is False."""
    with _autocast(model):
        logits = logits_of(model, states[mask])
    found = logits.float().log_softmax(dim=-1).gather(1, tokens[mask][:, None]).squeeze(1)
    return torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, found)


def scored(model: PreTrainedModel, answered: Answered) -> TokenScores:
    """`token_log_probs` without a gradient, some rows at once."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(answered), ROWS_AT_ONCE):
            rows = range(start, min(start + ROWS_AT_ONCE, len(answered)))
            parts.append(token_log_probs(model, answered.subset(rows))[0])
    width = max(part.shape[1] for part in parts)
    padded = [torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts]
    return torch.cat(padded).clone()  # a tensor of its own, which autograd may read


def _autocast(model: PreTrainedModel) -> torch.autocast:
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
