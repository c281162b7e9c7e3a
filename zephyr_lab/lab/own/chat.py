"""A chat of several turns with a causal model, in its own chat template (Zephyr's where it has none).

from zephyr_lab.lab.own.chat import Chat, talk

chat = Chat(model, tokenizer, system="Answer in one sentence.")
talk(chat, "What is the capital of France?")  # prints the answer as it comes
talk(chat, "And of Spain?")                   # read together with all that was said before
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core.seeds import derive
from zephyr_lab.data.chat import encode_prompts, end_of_answer, require_system_turn
from zephyr_lab.decoding.sampling import stop_tokens
from zephyr_lab.decoding.streaming import spelled, stream
from zephyr_lab.models.causal import positions_of
from zephyr_lab.models.own_template import Message


@dataclass
class Chat:
    """A dialogue that grows by `reply`. system: the system turn, None for none; temperature 0: the likeliest token.

    messages: what both said, without the system turn. Of the last reply: read, the ids that the model read before it;
    left_out, how many of the first turns it had no room for; cut, whether it reached `max_new_tokens`, or was
    interrupted, before its end. ends: the tokens that end an answer.
    """

    model: PreTrainedModel = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    system: str | None = None
    max_new_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0
    messages: list[Message] = field(default_factory=list)
    read: list[int] = field(default_factory=list, init=False, repr=False)
    left_out: int = field(default=0, init=False)
    cut: bool = field(default=False, init=False)
    ends: set[int] = field(init=False)

    def __post_init__(self) -> None:
        if self.system is not None:
            require_system_turn(self.tokenizer)
        self.ends = {*stop_tokens(self.model).tolist(), end_of_answer(self.tokenizer)}

    def reply(self, question: str) -> Iterator[str]:
        """The answer to `question` after all that was said, in pieces as they come; then both are in `messages`.

        The model reads the whole dialogue in its template; where it has no room for it, the first turns are left out.
        What was said before an interruption stays, too. Raises ValueError where the question alone is too long, and
        for a dialogue that the template cannot write.
        """
        asked = {"role": "user", "content": question}
        self.read, self.left_out = self._room_for(asked)
        self.cut, said = True, ""
        try:
            for piece in spelled(self.tokenizer, self._tokens()):
                said += piece
                yield piece
        finally:
            if said or not self.cut:
                self.messages += [asked, {"role": "assistant", "content": said}]

    @property
    def notes(self) -> list[str]:
        """What to know of the last reply, a line each."""
        room, notes = positions_of(self.model), []
        if self.left_out:
            notes.append(
                f"the first {self.left_out} turns were not read: with {self.max_new_tokens} new tokens the dialogue "
                f"exceeds the model's {room} positions"
            )
        if self.cut:
            notes.append(f"cut at {self.max_new_tokens} tokens; a larger max_new_tokens lets it end")
        return notes

    def _room_for(self, asked: Message) -> tuple[list[int], int]:
        """Ids of the dialogue up to where the answer begins, and how many of its turns do not fit."""
        system: list[Message] = [] if self.system is None else [{"role": "system", "content": self.system}]
        room = positions_of(self.model)
        for first in range(0, len(self.messages) + 1, 2):
            (ids,) = encode_prompts(self.tokenizer, [[*system, *self.messages[first:], asked]])
            if room is None or len(ids) + self.max_new_tokens <= room:
                return ids, first
        raise ValueError(
            f"the question has {len(ids)} tokens{' with its system turn' if system else ''}; with "
            f"{self.max_new_tokens} new ones they exceed the model's {room} positions: shorten it, or lower "
            "max_new_tokens"
        )

    def _tokens(self) -> Iterator[int]:
        """The answer's tokens without the one that ends it; then it was not cut."""
        generator = None
        if self.temperature > 0:
            generator = torch.Generator().manual_seed(derive(self.seed, "chat", len(self.messages)))
        settings = {"max_new_tokens": self.max_new_tokens, "temperature": self.temperature, "generator": generator}
        for token in stream(self.model, self.read, ends=self.ends, **settings):
            if token in self.ends:
                self.cut = False
                return
            yield token


def talk(chat: Chat, question: str) -> None:
    """Print the reply to `question` as it comes, and below it, a line each, what to know of it."""
    with closing(chat.reply(question)) as pieces:
        for piece in pieces:
            print(piece, end="", flush=True)
    print()
    for note in chat.notes:
        print(f"[{note}]")
