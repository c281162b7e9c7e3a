"""A draft's training rows as its models see them: answered by the target, and scored for a selection."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.chat import encode_dialogues, encode_prompts
from zephyr_lab.data.file_steps import write_rows
from zephyr_lab.data.splits import TEST, TRAIN, Messages, row_messages, stage_rows
from zephyr_lab.decoding.sampling import sample
from zephyr_lab.losses.draft import soft_cross_entropies
from zephyr_lab.methods import process
from zephyr_lab.methods.examples import SHOWN
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.recipes.draft_data import LABEL, Regeneration, RowScores
from zephyr_lab.models import draft_files, saved
from zephyr_lab.models.draft import FeatureDraft, require_fit
from zephyr_lab.models.logits import last_hidden_states, logits_of
from zephyr_lab.models.tokenizer import decode
from zephyr_lab.scoring.representation_shift import Matrix, shift_score, shrunk_covariance

Tokens = tuple[list[int], list[bool]]  # ids of a row, and which of them belong to an answer


def build_answers(
    recipe: Regeneration, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Answer the prompts of `inputs["pool"]` with `inputs["target"]`: what its draft is aligned on and tested with.

    Turn by turn, each after the target's own answer to the turn before, as in use. Writes train.jsonl and test.jsonl;
    rows keep id and benchmark. Rows whose answers do not end within the limit are set aside: their cut ends would be
    false labels. Metrics: rows, unfinished (training rows).

    Raises ValueError for prompts that leave no room for an answer, and where no answer ends.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["target"] / recipe.folder
    model, tokenizer = saved.load_model(start).to(device), saved.load_chat_tokenizer(start)
    metrics = {}
    for split in (TEST, TRAIN):
        dialogues = stage_rows(inputs["pool"], split)
        answered = regenerate(
            model,
            tokenizer,
            [[turn["content"] for turn in row_messages(row) if turn["role"] == "user"] for row in dialogues],
            max_new_tokens=recipe.max_new_tokens,
            temperature=recipe.temperature,
            seed=derive(seed, "regenerate", split),
        )
        rows = [
            {"id": row.get("id"), "messages": messages, LABEL: row.get(LABEL)}
            for row, messages in zip(dialogues, answered, strict=True)
            if messages
        ]
        if not rows:
            raise ValueError(
                f"none of {len(dialogues)} answers ends within {recipe.max_new_tokens} tokens; raise max_new_tokens"
            )
        write_rows(out / f"{split}.jsonl", rows)
        metrics = {"rows": float(len(rows)), "unfinished": float(len(dialogues) - len(rows))}
    return metrics


def regenerate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Sequence[str]],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> list[Messages | None]:
    """Each list of user turns as a dialogue with the model's answers; None where an answer did not end in time."""
    dialogues: list[Messages | None] = [[] for _ in questions]
    for turn in range(max(len(turns) for turns in questions)):
        going_on = [row for row, turns in enumerate(questions) if turn < len(turns) and dialogues[row] is not None]
        if not going_on:
            break
        asked = [[*(dialogues[row] or []), {"role": "user", "content": questions[row][turn]}] for row in going_on]
        completions = sample(
            model,
            encode_prompts(tokenizer, asked),
            max_new_tokens=max_new_tokens,
            temperatures=temperature,
            generator=torch.Generator().manual_seed(derive(seed, turn)) if temperature else None,
        )
        for row, messages, completion in zip(going_on, asked, completions, strict=True):
            # Without role tags that a model may emit: as content they would be encoded as other tokens.
            answer = {"role": "assistant", "content": decode(tokenizer, list(completion.ids[:-1]))}
            dialogues[row] = [*messages, answer] if completion.finished else None
    return dialogues


def build_scores(
    recipe: RowScores, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """Score the training rows of `inputs["data"]`, so that `draft_data.build_selection` can choose among them.

    shift: how far `inputs["target"]` moved away from `inputs["base"]` on the row (`scoring.representation_shift`);
    loss: of `inputs["draft"]`, which is to adapt. Writes scores.json: columns id, benchmark, shift, loss, in the rows'
    order. Metrics: rows, mean_shift, mean_loss.

    Raises ValueError for models of unlike vocabulary or width, and for a row without an answer token (named).
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    target_folder = inputs["target"] / recipe.target_folder
    base = saved.load_model(inputs["base"] / recipe.base_folder).to(device)
    target = saved.load_model(target_folder).to(device)
    draft = draft_files.load(inputs["draft"] / recipe.draft_folder).to(device)
    sizes = [(model.config.vocab_size, model.config.hidden_size) for model in (base, target)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"base and target must share vocabulary and width, got {sizes[0]} and {sizes[1]}")
    dialogues = stage_rows(inputs["data"], TRAIN)
    encoded = encode_dialogues(saved.load_chat_tokenizer(target_folder), [row_messages(row) for row in dialogues])
    rows = [(list(one.ids[: recipe.max_length]), list(one.answer_mask[: recipe.max_length])) for one in encoded]
    require_guessable(rows, range(1, len(rows) + 1), max_length=recipe.max_length)
    before, after = (list(answer_features(model, rows, recipe.rows_at_once)) for model in (base, target))
    covariance = shrunk_covariance(np.concatenate(before), shrinkage=recipe.shrinkage)
    shifts = [shift_score(*both, covariance) for both in zip(before, after, strict=True)]
    columns = {name: [row.get(name) for row in dialogues] for name in ("id", LABEL)}
    losses = [draft_loss(draft, target, row) for row in rows]
    files.write_json(out / "scores.json", {**columns, "shift": shifts, "loss": losses})
    return {"rows": float(len(rows)), "mean_shift": float(np.mean(shifts)), "mean_loss": float(np.mean(losses))}


def require_guessable(rows: Sequence[Tokens], numbers: Sequence[int], *, max_length: int) -> None:
    """Raises ValueError, naming rows by their numbers, where a draft could predict no answer token of some of them."""
    mute = [str(number) for number, (_, mask) in zip(numbers, rows, strict=True) if not any(mask[2:])]
    if mute:
        raise ValueError(
            f"{len(mute)} of {len(rows)} rows have no answer token within max_length {max_length} (rows "
            f"{', '.join(mute[:SHOWN])}{', ...' if len(mute) > SHOWN else ''}): raise max_length, or take them out of "
            "the data; a selection wants a score for each row"
        )


def answer_features(model: PreTrainedModel, rows: Sequence[Tokens], rows_at_once: int) -> Iterator[Matrix]:
    """The last layer's features (after the final norm) on the answer tokens of each row, shape (token, width)."""
    for start in range(0, len(rows), rows_at_once):
        batch = rows[start : start + rows_at_once]
        ids = pad_sequence([torch.tensor(ids) for ids, _ in batch], batch_first=True).to(model.device)
        with torch.inference_mode():  # padding on the right: no token that counts sees it
            hidden = last_hidden_states(model, input_ids=ids).double().cpu().numpy()
        for features, (_, mask) in zip(hidden, batch, strict=True):
            yield features[: len(mask)][np.array(mask)]


def draft_loss(draft: FeatureDraft, target: PreTrainedModel, row: Tokens) -> float:
    """Soft cross entropy of a draft on a row, in nats: the mean over the answer tokens that it would predict."""
    ids, mask = torch.tensor([row[0]], device=target.device), torch.tensor(row[1], device=target.device)
    require_fit(draft, target)
    with torch.inference_mode():
        features = last_hidden_states(target, input_ids=ids)
        places = torch.arange(1, ids.shape[1], device=ids.device)[None]
        guessed, _ = draft(ids[:, 1:], features[:, :-1], places)
        counted = mask[2:]  # the guess at t is of the token at t + 2
        losses = soft_cross_entropies(
            logits_of(target, guessed[0, :-1][counted]), logits_of(target, features[0, 1:-1][counted])
        )
    return losses.double().mean().item()
