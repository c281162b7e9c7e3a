"""KD from a file: a teacher's likeliest tokens at each position of some rows, written once, learned from without it.

Written by a model in memory or by an OpenAI-compatible server that returns a prompt's log-probabilities. The loss is
`losses.top_k.top_k_kl`. A row is known by a digest of its ids: one that the teacher did not read is refused.
"""

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase, TrainerCallback

from zephyr_lab.core import files
from zephyr_lab.core.shapes import at_least_float32
from zephyr_lab.data import splits
from zephyr_lab.data.splits import TEST, TRAIN
from zephyr_lab.engine.progress import bar
from zephyr_lab.losses import kd as losses
from zephyr_lab.losses.cross_entropy import next_token_losses
from zephyr_lab.losses.top_k import UNKNOWN, top_k_kl
from zephyr_lab.methods import distillation, kd
from zephyr_lab.methods.calling import Progress, Run, device_of, require_fit, require_room, settings_by_keyword
from zephyr_lab.methods.distillation import Batch
from zephyr_lab.methods.examples import DialogueExample
from zephyr_lab.methods.lean_kd import Parts
from zephyr_lab.methods.recipes.kd import OfflineKD
from zephyr_lab.models.causal import evaluating

NOTES, NUMBERS = "teacher.json", "teacher.safetensors"
PATIENCE = 600  # seconds for one row of a server
ROUNDING = 1e-3  # by which a server's probabilities may sum to more than 1


class Top(NamedTuple):
    """Of each position of a row: k ids (UNKNOWN where fewer), their log-probabilities, and that of all others."""

    ids: Tensor
    log_probs: Tensor
    rest: Tensor


Reader = Callable[[list[list[int]]], list[Top]]


@dataclass(frozen=True, slots=True)
class OfflineTeacher:
    """What a file holds: `notes` (model, k, entries, tokenizer, rows) and each row's numbers by its digest."""

    notes: dict[str, Any]
    rows: dict[str, Top]

    @classmethod
    def load(cls, folder: Path) -> "OfflineTeacher":
        """Raises FileNotFoundError where there is none, ValueError for a file cut short or changed since."""
        folder = Path(folder)
        if not (folder / NOTES).is_file() or not (folder / NUMBERS).is_file():
            raise FileNotFoundError(f"{folder} lacks {NOTES} or {NUMBERS}: write them by offline_teacher.write")
        notes = files.read_json(folder / NOTES)
        if files.sha256(folder / NUMBERS) != notes["sha256"]:
            raise ValueError(f"{folder / NUMBERS} is not the file that {NOTES} was written with: write both again")
        try:
            numbers = load_file(folder / NUMBERS)
        except SafetensorError as error:
            raise ValueError(f"{folder / NUMBERS} cannot be read ({error}): write it again") from error
        parts = [numbers[name].split(notes["tokens"]) for name in Top._fields]
        return cls(notes, dict(zip(notes["rows"], map(Top._make, zip(*parts, strict=True)), strict=True)))

    def of(self, ids: Sequence[int]) -> Top | None:
        """The numbers of a row; None where the teacher has not read these ids."""
        return self.rows.get(digest(ids))


def digest(ids: Sequence[int]) -> str:
    """The name of a row: a SHA-256 of its ids."""
    return files.sha256_bytes(json.dumps(list(ids)).encode())[:32]


def vocabulary_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """A digest of a tokenizer's tokens and their ids."""
    return files.sha256_bytes(json.dumps(sorted(tokenizer.get_vocab().items())).encode())[:32]


@settings_by_keyword(OfflineKD)
def write(
    teacher: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Any,
    folder: Path,
    *,
    recipe: OfflineKD,
    k: int,
    name: str = "",
    progress: Progress | None = None,
) -> OfflineTeacher:
    """The `k` likeliest next tokens of `teacher` at each position of the dialogues, read as `train_offline_kd` will.

    Written to `folder`: teacher.safetensors (float32, about 8 k bytes a token) and teacher.json (model's `name`, k, the
    rows' digests). Raises ValueError for a k that the vocabulary does not have, and where no row can be read.
    """
    entries = teacher.config.get_text_config().vocab_size
    if not 1 <= k <= entries:
        raise ValueError(f"k must be from 1 to the teacher's {entries} entries, got {k}")
    require_fit(teacher, tokenizer)
    examples = _read(recipe, tokenizer, dialogues, TRAIN)
    require_room(max(len(one.input_ids) for one in examples), teacher)
    name = name or teacher.config.name_or_path or type(teacher).__name__
    with evaluating(teacher):
        return _write(
            partial(top_of_model, teacher, k=k), examples, tokenizer, folder, size=recipe.micro_batch,
            progress=progress, model=name, k=k, entries=entries,
        )  # fmt: skip


@settings_by_keyword(OfflineKD)
def write_from_server(
    url: str,
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Any,
    folder: Path,
    *,
    recipe: OfflineKD,
    model: str,
    k: int,
    entries: int,
    api_key: str = "",
    progress: Progress | None = None,
) -> OfflineTeacher:
    """As `write`, from an OpenAI-compatible server at `url` (http://.../v1): completions with echo and log-probs.

    Rows are sent as ids of `tokenizer`, which must be the model's; entries: of the model's output layer. Servers name
    tokens by text, or as vLLM does with return_tokens_as_token_ids by "token_id:7". A text that belongs to no token or
    to several counts to the rest, which leaves the loss a lower bound. Raises ValueError for a server that does not
    echo, or whose names of a row's own tokens are not the tokenizer's.
    """
    examples = _read(recipe, tokenizer, dialogues, TRAIN)
    named = ids_by_text(tokenizer)
    url = f"{url.rstrip('/')}/completions"

    def ask(rows: list[list[int]]) -> list[Top]:
        return [top_of_reply(completion(url, row, model=model, k=k, api_key=api_key), row, named, k) for row in rows]

    return _write(
        ask, examples, tokenizer, folder, size=1, progress=progress, model=f"{model} at {url}", k=k, entries=entries
    )


@torch.no_grad()
def top_of_model(teacher: nn.Module, rows: list[list[int]], *, k: int) -> list[Top]:
    """Each row's numbers by a model in memory, computed in float32 at least from the logits it gives."""
    device = device_of(teacher)
    ids = pad_sequence([torch.tensor(row, device=device) for row in rows], batch_first=True)
    found = []
    for row, logits in zip(rows, teacher(input_ids=ids, use_cache=False).logits, strict=True):
        log_probs = at_least_float32(logits[: len(row)]).log_softmax(dim=-1)
        top = log_probs.topk(k, dim=-1)
        rest = log_probs.scatter(-1, top.indices, float("-inf")).logsumexp(dim=-1)
        found.append(Top(top.indices.int().cpu(), top.values.float().cpu(), rest.float().cpu()))
    return found


def completion(url: str, ids: list[int], *, model: str, k: int, api_key: str) -> dict[str, Any]:
    """A server's log-probabilities of a prompt and one token after it. Raises ValueError naming what it answered."""
    asked = {"model": model, "prompt": ids, "max_tokens": 1, "echo": True, "logprobs": k, "temperature": 0}
    key = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    request = urllib.request.Request(url, json.dumps(asked).encode(), {"Content-Type": "application/json", **key})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            (choice,) = json.load(reply)["choices"]
        return {name: choice["logprobs"][name] for name in ("tokens", "top_logprobs")}
    except urllib.error.HTTPError as error:
        said = error.read(300).decode("utf-8", "replace")
        raise ValueError(f"{url} answered {error.code}: {said}; it must serve completions with echo") from error
    except (urllib.error.URLError, OSError) as error:
        raise ValueError(f"{url} does not answer ({error}): start the server, or name another") from error
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{url} sent no tokens and top_logprobs ({error}): it must echo with logprobs") from error


def top_of_reply(reply: dict[str, Any], ids: list[int], named: dict[str, int], k: int) -> Top:
    """A row's numbers from a server's reply, whose entry n tells what was foreseen in the place of token n.

    After the last token there is an entry only where the server went on by a token; without one nothing is known there.
    """
    texts, tops = reply["tokens"], reply["top_logprobs"]
    if len(tops) < len(ids) or len(texts) < len(ids):
        raise ValueError(f"the server gave {len(tops)} tokens for a prompt of {len(ids)}: it does not echo the prompt")
    for place, (own, text) in enumerate(zip(ids, texts, strict=False)):
        if (read := _id_of(text, named)) not in (own, UNKNOWN):
            raise ValueError(f"token {place + 1} of a row is {own}, and the server calls it {text!r}, which is {read}")
    numbers = torch.full((len(ids), k), UNKNOWN, dtype=torch.int32), torch.full((len(ids), k), float("-inf"))
    for place, foreseen in enumerate(tops[1 : len(ids) + 1]):
        pairs = [(_id_of(text, named), value) for text, value in (foreseen or {}).items()]
        pairs = sorted((one for one in pairs if one[0] != UNKNOWN), key=lambda one: -one[1])[:k]
        for rank, (one, value) in enumerate(pairs):
            numbers[0][place, rank], numbers[1][place, rank] = one, value
    covered = numbers[1].double().exp().sum(dim=-1)
    if covered.max() > 1 + ROUNDING:
        raise ValueError(f"the server's probabilities sum to {covered.max():.4f} at a position: not of one token each")
    return Top(*numbers, torch.log1p(-covered.clamp(max=1)).float())


def ids_by_text(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The id of each text that one token alone is written as."""
    named: dict[str, int] = {}
    for one in sorted(tokenizer.get_vocab().values()):
        text = tokenizer.decode([one], clean_up_tokenization_spaces=False)
        named[text] = UNKNOWN if text in named else one
    return named


def _id_of(text: str, named: dict[str, int]) -> int:
    _, is_number, number = text.partition("token_id:")
    return int(number) if is_number and number.isdigit() else named.get(text, UNKNOWN)


def _read(recipe: OfflineKD, tokenizer: PreTrainedTokenizerBase, data: Any, split: str) -> list[DialogueExample]:
    return kd.read(recipe, splits.dialogues(data), tokenizer, split)[0]


def _write(
    read: Reader, examples: list[DialogueExample], tokenizer: PreTrainedTokenizerBase, folder: Path, *, size: int,
    progress: Progress | None, **notes: Any,
) -> OfflineTeacher:  # fmt: skip
    rows = list({digest(one.input_ids): one.input_ids for one in examples}.items())
    listener, tops = bar("offline teacher") if progress is None else progress, []
    for start in range(0, len(rows), size):
        tops += read([ids for _, ids in rows[start : start + size]])
        listener(len(tops), len(rows))
    content = save({name: torch.cat(part) for name, part in zip(Top._fields, zip(*tops, strict=True), strict=True)})
    files.write_bytes(Path(folder) / NUMBERS, content)
    told = {
        **notes,
        "tokenizer": vocabulary_of(tokenizer),
        "sha256": hashlib.sha256(content).hexdigest(),
        "rows": [name for name, _ in rows],
        "tokens": [len(ids) for _, ids in rows],
    }
    files.write_json(Path(folder) / NOTES, told)
    return OfflineTeacher(told, dict(zip(told["rows"], tops, strict=True)))


@settings_by_keyword(OfflineKD)
def train_offline_kd(
    student: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Any,
    *,
    recipe: OfflineKD,
    teacher: OfflineTeacher | Path,
    held_out: Any = None,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> pd.DataFrame:
    """As `kd.train_kd` without a teacher in memory: from what one wrote of the same rows (`write`), in `teacher`.

    prediction_loss in the log is the divergence over the known tokens and the rest (`losses.top_k`), a lower bound of
    eq. (2). Raises as `train_kd`, and ValueError for rows that the teacher has not read, held-out ones too, another
    tokenizer, and tokens that the student has no entry for.

    >>> from tempfile import mkdtemp
    >>> from zephyr_lab.models.example import example_model
    >>> (student, tokenizer), (other, _) = example_model(), example_model(seed=1)
    >>> chats = [{"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4."}]}] * 4
    >>> file = write(other, tokenizer, chats, Path(mkdtemp()), k=16, progress=lambda *step: None)
    train: 0 unusable rows; 4 rows, 4 used
    >>> log = train_offline_kd(student, tokenizer, chats, teacher=file, epochs=3, batch=4, learning_rate=1e-2)
    train: 0 unusable rows; 4 rows, 4 used
    >>> bool(log["prediction_loss"].iloc[-1] < log["prediction_loss"].iloc[0])
    True
    """
    told = teacher if isinstance(teacher, OfflineTeacher) else OfflineTeacher.load(teacher)
    distillation.require_alike(student, tokenizer, {}, {})
    _require_same(told, student, tokenizer)
    examples, accounts = {}, {}
    for split, data in ((TRAIN, dialogues), (TEST, held_out)):
        if data is not None:
            examples[split], accounts[split] = kd.read(recipe, splits.dialogues(data), tokenizer, split)
            _require_read(told, examples[split], split)
    require_room(max(len(one.input_ids) for of_split in examples.values() for one in of_split), student)
    run = Run.of("offline KD", checkpoints, progress, recipe=recipe, seed=seed)
    run.trains_on(examples[TRAIN], teacher=told.notes["sha256"])
    form = TopKKD(told)
    return distillation.train(
        kd.KDTrainer,
        "train_offline_kd",
        recipe,
        student,
        tokenizer,
        {split: kd.rows_of(recipe, of_split) for split, of_split in examples.items()},
        teachers=[],
        choose=lambda: (form, f"plain: the {told.notes['k']} likeliest tokens of {told.notes['model']}"),
        measure=partial(kd.measure, recipe, student),
        accounts=accounts,
        seed=seed,
        run=run,
        callbacks=callbacks,
    )


@dataclass(frozen=True, slots=True)
class TopKKD:
    """The losses of `kd.PlainKD` from whole logits of the student and a file's numbers."""

    teacher: OfflineTeacher

    def parts(self, recipe: OfflineKD, student: nn.Module, rows: Batch) -> Parts:
        """The losses of a batch. One that is not trained carries no gradient."""
        logits = distillation.logits(student, rows)
        prediction_of = logits if recipe.prediction_weight else logits.detach()
        scores = top_k_kl(prediction_of, *self.padded(rows))
        prediction = distillation.reduced(recipe, scores, rows.counted(recipe.tokens))
        entropy_of = logits if recipe.ce_weight else logits.detach()
        known = rows.predicted(recipe.tokens)[:, :-1]
        cross_entropy = losses.mean_of_tokens(next_token_losses(entropy_of, rows.ids), known)
        loss = losses.kd_loss(
            prediction,
            prediction.new_zeros(()),
            cross_entropy,
            prediction_weight=recipe.prediction_weight,
            attention_weight=0.0,
            ce_weight=recipe.ce_weight,
        )
        return Parts(loss, prediction.detach(), None, cross_entropy.detach())

    def padded(self, rows: Batch) -> Top:
        """The file's numbers of a batch; on padding nothing is known."""
        lengths = rows.real.sum(dim=1).tolist()
        tops = [self.teacher.of(ids[:length]) for ids, length in zip(rows.ids.tolist(), lengths, strict=True)]
        filled = zip(zip(*tops, strict=True), (UNKNOWN, float("-inf"), 0.0), strict=True)
        return Top(*(pad_sequence(list(part), batch_first=True, padding_value=one).to(rows.ids.device)
                     for part, one in filled))  # fmt: skip


def _require_same(told: OfflineTeacher, student: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
    if told.notes["tokenizer"] != vocabulary_of(tokenizer):
        raise ValueError(
            f"the file of {told.notes['model']} was written with another tokenizer; distil from a teacher with the "
            "student's"
        )
    entries = student.config.get_text_config().vocab_size
    largest = max(int(top.ids.max()) for top in told.rows.values())
    if largest >= entries:
        raise ValueError(
            f"the file of {told.notes['model']} has tokens up to {largest}, the student {entries} entries: write it "
            "with a smaller k, or resize the student's embeddings"
        )


def _require_read(told: OfflineTeacher, examples: Iterable[DialogueExample], split: str) -> None:
    unread = [number for number, one in enumerate(examples, start=1) if told.of(one.input_ids) is None]
    if unread:
        raise ValueError(
            f"{len(unread)} rows of {split} are not those that {told.notes['model']} read (first: usable row "
            f"{unread[0]}): another text, chat template, system_turn or max_length; write the file with these"
        )
