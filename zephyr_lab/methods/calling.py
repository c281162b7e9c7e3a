"""What every training function shares: settings by keyword, a log as a frame, and a run that needs no stage.

A stage passes a folder for checkpoints and a progress listener; a call in a notebook passes neither, shows a progress
bar and writes no file.
"""

import dataclasses
import difflib
import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from zephyr_lab.core import files
from zephyr_lab.core.libraries import COUNTED_VERSIONS
from zephyr_lab.core.settings import of_type
from zephyr_lab.engine import event_files
from zephyr_lab.engine.progress import bar
from zephyr_lab.methods import adapters
from zephyr_lab.methods.loop import has_checkpoint
from zephyr_lab.models.causal import causal_model, positions_of

Function = TypeVar("Function", bound=Callable[..., Any])
Progress = Callable[..., None]  # (step, of, **numbers)
SEED = dataclasses.make_dataclass("_", [("seed", int)]).__dataclass_fields__["seed"]
TENSORBOARD = inspect.Parameter(
    "tensorboard", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Path | str | None
)
BEGUN = "settings.json"  # beside a run's checkpoints: its settings


def settings_by_keyword(kind: type) -> Callable[[Function], Function]:
    """Let a function with a parameter `recipe: kind` take the fields of `kind`, a frozen dataclass, as keywords too.

    `recipe` is an instance of `kind` or of a subclass, by default `kind()`; keywords win over it. A keyword that is
    neither a field nor a parameter raises TypeError naming the settings there are. One more keyword, `tensorboard`,
    names a folder: the log that the function returns goes there, too, as TensorBoard reads it.
    """

    def decorate(function: Function) -> Function:
        own = inspect.signature(function)

        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            recipe, board = keywords.pop("recipe", None), keywords.pop("tensorboard", None)
            if recipe is not None and not isinstance(recipe, kind):
                raise TypeError(f"{function.__name__} takes a {kind.__name__} as recipe, got {recipe!r:.60}")
            known = {field.name: field for field in dataclasses.fields(kind if recipe is None else recipe)}
            for name in own.parameters.keys() & known.keys():  # of a stage's recipe with a field of that name
                del known[name]
            changes = {
                name: of_type(known[name], keywords.pop(name), function.__name__)
                for name in list(keywords)
                if name in known
            }
            for name in keywords:
                if name not in own.parameters:
                    raise TypeError(_unknown(function.__name__, name, [*known, *own.parameters, TENSORBOARD.name]))
            if "seed" in keywords:
                keywords["seed"] = of_type(SEED, keywords["seed"], function.__name__)
            if recipe is None:
                recipe = kind(**changes)
            else:
                recipe = dataclasses.replace(recipe, **_filled_in(recipe, changes), **changes)
            if board is None:
                return function(*arguments, recipe=recipe, **keywords)
            event_files.require()  # before the first step
            log = function(*arguments, recipe=recipe, **keywords)
            event_files.write(log_rows(log), board)
            return log

        call.__signature__ = _signature(own, dataclasses.fields(kind))
        return call

    return decorate


def _filled_in(recipe: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of the fields that `recipe` filled in by itself (a micro-batch of the batch, say): with the `changes`
    they are chosen anew."""
    defaults = {}
    for field in dataclasses.fields(recipe):
        if field.default in (dataclasses.MISSING, getattr(recipe, field.name)) or field.name in changes:
            continue
        try:
            is_filled_in = dataclasses.replace(recipe, **{field.name: field.default}) == recipe
        except ValueError:
            continue
        if is_filled_in:
            defaults[field.name] = field.default
    return defaults


def _signature(own: inspect.Signature, fields: Iterable[dataclasses.Field]) -> inspect.Signature:
    """The function's own parameters, then a keyword a field, then `recipe`: what help and completion show."""
    parameters = [parameter for name, parameter in own.parameters.items() if name != "recipe"]
    for field in fields:
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        parameters.append(
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=field.type)
        )
    recipe = own.parameters["recipe"].replace(kind=inspect.Parameter.KEYWORD_ONLY, default=None)
    return own.replace(parameters=[*parameters, recipe, TENSORBOARD])


def _unknown(function: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{function} has no setting {name!r}{hint} Settings: {', '.join(sorted(set(known) - {'recipe'}))}"


@dataclass(frozen=True)
class Run:
    """Where a training keeps its checkpoints (None: nowhere, it cannot be resumed), and what hears of each step."""

    checkpoints: Path | None
    progress: Progress

    @classmethod
    def of(
        cls, name: str, checkpoints: Path | None, progress: Progress | None, *, recipe: Any = None, seed: int = 0
    ) -> "Run":
        """The run of a call: the folder is made where it is missing, and without a listener a bar shows.

        With a `recipe`, raises ValueError for a folder that holds the checkpoints of another method, other settings or
        another seed.
        """
        if checkpoints is not None:
            checkpoints = Path(checkpoints)
            checkpoints.mkdir(parents=True, exist_ok=True)
            if recipe is not None:
                _require_same_run(checkpoints, {"method": name, "seed": seed, **dataclasses.asdict(recipe)})
        return cls(checkpoints, bar(name) if progress is None else progress)

    @classmethod
    def begin(
        cls,
        name: str,
        model: Any,
        tokenizer: Any,
        checkpoints: Path | None,
        progress: Progress | None,
        *,
        recipe: Any,
        seed: int,
    ) -> "Run":
        """`of`, once `model` is known to train (`require_trainable`) and to fit its tokenizer (`require_fit`)."""
        require_trainable(model)
        require_fit(model, tokenizer)
        return cls.of(name, checkpoints, progress, recipe=recipe, seed=seed)

    def trains_on(self, rows: Iterable[Any], model: nn.Module | None = None, **besides: str) -> None:
        """Write down a digest of the rows, and what no setting says: a loss by its name, the base of an adapter.

        Raises ValueError where the folder's checkpoints are of other rows or another base: training would go on
        from those.
        """
        if self.checkpoints is not None:
            digest = hashlib.sha256()
            for row in rows:
                digest.update(repr(row).encode("utf-8", "backslashreplace"))
            besides |= {} if model is None else adapters.identity(model)  # whose checkpoints leave its base out
            others = {f"its {name}": value for name, value in besides.items()}  # no setting is called so
            _require_same_run(self.checkpoints, {"rows read": digest.hexdigest()[:16], **others})

    def folder(self, name: str) -> Path | None:
        """A folder of its own inside the checkpoints, not made yet."""
        return None if self.checkpoints is None else self.checkpoints / name


def _require_same_run(folder: Path, settings: dict[str, Any]) -> None:
    """Raises ValueError where `folder` holds checkpoints of other settings; a new setting does not count."""
    now = json.loads(json.dumps(settings))
    before = files.read_json(folder / BEGUN) if (folder / BEGUN).is_file() else {}
    if not has_checkpoint(folder):
        files.write_json(folder / BEGUN, {**before, **now})
        return
    changed = [name for name in now if name in before and before[name] != now[name] and name != "checkpoint_every"]
    if changed:
        differences = ", ".join(f"{name} was {before[name]!r} and is {now[name]!r}" for name in changed)
        raise ValueError(
            f"{folder} holds checkpoints of another run: {differences}; take another folder, or empty this one"
        )


def log_frame(
    logged: Iterable[Mapping[str, float | int]],
    *,
    method: str,
    recipe: Any,
    seed: int,
    **notes: Any,
) -> pd.DataFrame:
    """The log: a row an optimiser step, `step` from 1, each loss that of the weights before the step's update.

    `attrs`: "held_out" (rows of held-out measurements, "eval_..."), what makes the log again (method, settings, seed,
    library versions), and the `notes`.
    """
    logged = [dict(row) for row in logged]
    frame = pd.DataFrame([row for row in logged if not _is_held_out(row)])
    frame.attrs = {
        "method": method,
        "settings": dataclasses.asdict(recipe),
        "seed": seed,
        "versions": versions(),
        "held_out": [row for row in logged if _is_held_out(row)],
        **notes,
    }
    return frame


def log_rows(log: pd.DataFrame) -> list[dict[str, float | int]]:
    """The rows of a log as plain values in the order of time, held-out measurements after the step they follow."""
    trained = [
        {
            "step": int(row["step"]),
            **{name: row[name] for name in sorted(row) if name != "step" and pd.notna(row[name])},
        }
        for row in log.to_dict("records")
    ]
    return sorted([*trained, *log.attrs["held_out"]], key=lambda row: (row["step"], _is_held_out(row)))


def _is_held_out(row: Mapping[str, Any]) -> bool:
    return any(name.startswith("eval_") for name in row)


def versions() -> dict[str, str]:
    """Installed versions of the libraries whose arithmetic shows."""
    installed = {}
    for name in COUNTED_VERSIONS:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = "absent"
    return installed


def device_of(model: Any) -> torch.device:
    """The one device of a model. Raises TypeError for what is not a model, ValueError for weights on several."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a model in memory, got {model!r:.60}; load it, e.g. by from_pretrained(...)")
    devices = sorted({str(weight.device) for weight in model.parameters()})
    if len(devices) != 1 or "meta" in devices:
        raise ValueError(
            f"the model's weights lie on {', '.join(devices)}; training takes a model on one device: model.to(...), or "
            "load it without device_map"
        )
    return torch.device(devices[0])


def require_trainable(model: Any) -> torch.device:
    """The one device of a model. Raises ValueError as `device_of`, where no weight trains or none could."""
    device = device_of(model)
    adapters.require_unpacked(model)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ValueError("no weight of the model trains: requires_grad is off for all of them")
    return device


def require_room(longest: int, *models: nn.Module | None) -> None:
    """Raises ValueError where a row of `longest` tokens has more than a model has learned positions for (GPT-2: 1024).

    Rotary positions go on beyond what a model was made for.
    """
    for model in models:
        causal = None if model is None else causal_model(model)
        room = None if causal is None else positions_of(causal)
        if room is not None and longest > room and _learns_positions(causal, room):
            raise ValueError(
                f"a row has {longest} tokens, and {type(causal).__name__} has positions for {room}: set max_length to "
                f"{room} or less"
            )


def _learns_positions(model: nn.Module, room: int) -> bool:
    words = model.get_input_embeddings()
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding) and module is not words]
    return any(room <= table.num_embeddings <= room + 2 for table in tables)  # OPT has two more


def require_fit(model: nn.Module, tokenizer: Any) -> None:
    """Raises ValueError where the tokenizer has ids that the model has no embedding for."""
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise TypeError(f"expected a tokenizer of transformers, got {tokenizer!r:.60}; pass the model's own")
    entries = model.get_input_embeddings().weight.shape[0]
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= entries:
        raise ValueError(
            f"the tokenizer {tokenizer.name_or_path!r} has ids up to {largest}, the model embeddings for {entries}: "
            "they do not match; take the model's own tokenizer, or model.resize_token_embeddings(len(tokenizer))"
        )


def require_one_label(model: nn.Module) -> None:
    """Raises ValueError, saying how to get one, for a model that does not give one number a text."""
    inner = causal_model(model)
    if not hasattr(inner, "score") or inner.config.num_labels != 1:
        labels = f" with {inner.config.num_labels} labels" if hasattr(inner, "score") else ""
        raise ValueError(
            f"a reward model gives one number a text (num_labels=1), got {type(inner).__name__}{labels}; make one of a "
            "causal LM by models.reward.of_causal(model) and train_reward"
        )
