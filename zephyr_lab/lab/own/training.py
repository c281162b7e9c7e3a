"""One training on a file of one's own, from the rows to a folder with the model, its log, its card and its provenance.

Everything is known before the first step: what the rows hold, what the model's folder holds, whether the memory is
enough. A run that was killed goes on from its checkpoints when it is called again.
"""

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from zephyr_lab.core import files, provenance
from zephyr_lab.core.row_files import default_rejected_path, write_rejected
from zephyr_lab.data import own_rows
from zephyr_lab.data.chat import prompt_ids
from zephyr_lab.data.own_rows import OwnRows
from zephyr_lab.data.splits import Split
from zephyr_lab.lab.own import card, judges, measures, samples
from zephyr_lab.methods import kd
from zephyr_lab.methods.dpo import train_dpo
from zephyr_lab.methods.examples import read_dialogues, read_pairs
from zephyr_lab.methods.held_out_pairs import pair_log_probs
from zephyr_lab.methods.kd import train_kd
from zephyr_lab.methods.recipes.kd import KD
from zephyr_lab.methods.recipes.pairs import DPO
from zephyr_lab.methods.recipes.training import SFT, Training
from zephyr_lab.methods.sft import train_sft
from zephyr_lab.models import own_folder, saved
from zephyr_lab.models.causal import positions_of
from zephyr_lab.models.own_folder import Contents, Memory
from zephyr_lab.scoring.intervals import Estimate

CHECKPOINTS, DONE, COUNTS, LOG = "checkpoints", "provenance.json", "rows.json", "log.csv"
LORA_FACTOR = 10  # adapters take ten times the learning rate of whole weights
ANSWER_TOKENS, SHOWN = 64, 3
LINES = 20  # of progress
SAID = {"loss": "loss", "rewards/margins": "margin", "rewards/accuracies": "accuracy"}
HELD_OUT_AT_ONCE = 4
Measured = dict[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What somebody asks for. learning_rate: None for the method's own, ten times that with LoRA; lora: rank of an
    adapter, 0 for none; held_out: share of the prompts; beta: of DPO alone, teacher: of KD alone."""

    method: str
    model: str
    data: str
    teacher: str | None = None
    epochs: int = 1
    batch: int = 8
    micro_batch: int = 1
    learning_rate: float | None = None
    beta: float | None = None
    max_length: int = 1024
    lora: int = 0
    seed: int = 0
    held_out: float = 0.1
    checkpoint_every: int = 50

    def __post_init__(self) -> None:
        if self.method not in WAYS:
            raise ValueError(f"no method {self.method!r}; allowed: {', '.join(WAYS)}")
        for name, owner in (("beta", "dpo"), ("teacher", "kd")):
            if getattr(self, name) is not None and self.method != owner:
                raise ValueError(f"{name} is a setting of {owner}, not of {self.method}; leave it out")
        if self.method == "kd" and self.teacher is None:
            raise ValueError("kd takes a teacher, a model of the same tokenizer: --teacher FOLDER")
        if self.lora < 0:
            raise ValueError(f"the rank of LoRA must be 1 or more, or 0 for none, got {self.lora}")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"the held-out share must be from 0 to below 1, got {self.held_out:g}")

    def recipe(self) -> Training:
        """The method's settings. Raises ValueError for one that is out of its range."""
        way = WAYS[self.method]
        rate = self.learning_rate
        if rate is None:
            rate = way.learning_rate * (LORA_FACTOR if self.lora else 1)
        return way.recipe(
            self,
            epochs=self.epochs,
            batch=self.batch,
            micro_batch=self.micro_batch,
            learning_rate=rate,
            max_length=self.max_length,
            checkpoint_every=self.checkpoint_every,
        )


@dataclass(frozen=True)
class Way:
    """How one method reads rows, trains, and is measured.

    measure: a model (and what it is compared with) on held-out rows; sides: rows of one pass for each of a micro-batch.
    """

    learning_rate: float
    recipe: Callable[..., Training]
    rows: Callable[[OwnRows], Split[Any]]
    train: Callable[..., pd.DataFrame]
    examples: Callable[..., tuple[list[Any], Any]]
    start: Callable[..., Any]
    measure: Callable[..., Measured]
    sides: int = 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that is known before the first step."""

    request: Request
    recipe: Training
    rows: OwnRows
    checks: pd.DataFrame
    train: Split[Any]
    held_out: Split[Any] | None
    model: Contents
    teacher: Contents | None
    tokenizer: PreTrainedTokenizerBase
    memory: Memory

    def require_memory(self) -> None:
        """Raises ValueError, with what to do, where less is free than the training takes."""
        free = own_folder.free_memory()
        if free is not None and self.memory.total > free:
            steps = ["a smaller --max-length"]
            steps += ["--micro-batch 1"] * (self.recipe.micro_batch > 1)
            steps += ["--lora 16, which trains an adapter alone"] * (not self.request.lora)
            raise ValueError(
                f"training takes {self.memory.line()}; {free / 1e9:.2g} GB are free: take {', or '.join(steps)}, or a "
                "smaller model"
            )


def plan(request: Request) -> Plan:
    """Read and check everything. Raises ValueError or OSError, in one line, for what cannot be trained on or with."""
    way, recipe = WAYS[request.method], request.recipe()
    folder = own_folder.located(request.model)
    contents = own_folder.inspect(folder)
    teacher = None if request.teacher is None else own_folder.inspect(own_folder.located(request.teacher))
    rows = own_rows.read(request.data)
    of_method = way.rows(rows)
    tokenizer = saved.load_chat_tokenizer(folder)
    checks = own_rows.checks(rows, tokenizer, max_length=request.max_length)
    if request.held_out:
        try:
            train, held_out = measures.hold_out(of_method, request.held_out, seed=request.seed)
        except ValueError as error:
            raise ValueError(f"{error}; --held-out 0 holds none out, and measures nothing") from error
    else:
        train, held_out = of_method, None
    adapter = _adapter_size(contents, request.lora) if request.lora else None
    sizes = {"rows": way.sides * recipe.micro_batch, "tokens": min(request.max_length, _longest(checks))}
    memory = own_folder.memory(contents, **sizes, trained=adapter, teacher=teacher)
    return Plan(
        request=request, recipe=recipe, rows=rows, checks=checks, train=train, held_out=held_out, model=contents,
        teacher=teacher, tokenizer=tokenizer, memory=memory,
    )  # fmt: skip


def _longest(checks: pd.DataFrame) -> int:
    says = checks.loc[checks["check"] == own_rows.TOKENS, "says"]
    return int(says.iloc[0].rsplit(" ", 1)[1]) if len(says) else 1


def _adapter_size(model: Contents, rank: int) -> int:
    """Numbers of an adapter on seven linear layers a block, about."""
    config = model.config
    hidden = int(config.get("hidden_size") or config.get("n_embd") or 0)
    inner = int(config.get("intermediate_size") or config.get("n_inner") or 4 * hidden)
    layers = int(config.get("num_hidden_layers") or config.get("n_layer") or 0)
    return rank * layers * (11 * hidden + 3 * inner)


def set_rejected_aside(rows: OwnRows, named: Path | None) -> Path | None:
    """Where the rows that are left out were written; None where there are none."""
    if not rows.bad:
        return None
    path = named or default_rejected_path(Path(rows.source.replace("/", "_")), "train")
    write_rejected(rows.bad, path)
    return path


def finished(request: Request, out: Path) -> bool:
    """Whether `out` holds the model of this very request already.

    Raises ValueError where it holds that of another one, or other files of somebody's.
    """
    if not (out / DONE).is_file():
        if out.is_file():
            raise ValueError(f"--out names a file, {out}; name a folder")
        others = [path.name for path in out.iterdir() if path.name not in (CHECKPOINTS, COUNTS)] if out.is_dir() else []
        if others and not (out / CHECKPOINTS).is_dir():
            raise ValueError(f"{out} holds other files ({others[0]}); take another folder for --out")
        return False
    before, now = files.read_json(out / DONE).get("request"), _as_json(request)
    if before != now:
        changed = ", ".join(name for name in now if (before or {}).get(name) != now[name])
        raise ValueError(f"{out} holds a finished model of other settings ({changed}); take another folder for --out")
    return True


def _as_json(request: Request) -> dict[str, Any]:
    source = Path(request.data)
    digest = {"data_sha256": files.sha256(source)} if source.is_file() else {}
    return {**dataclasses.asdict(request), **digest}


def run(plan: Plan, out: Path, *, judge: str | None = None, say: Callable[[str], None] = print) -> pd.DataFrame:
    """Train and write into `out`: the model in safetensors with its tokenizer, log.csv, rows.json, README.md (the card)
    and provenance.json, last; an adapter by itself in adapter/. Returns the held-out measures.

    Raises as the method does: for a loss that is not finite, and for checkpoints of another run.
    """
    request, way = plan.request, WAYS[plan.request.method]
    verdict = None if judge is None else judges.load(judge)
    model, tokenizer = saved.load_model(plan.model.folder), plan.tokenizer
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    teacher = None if plan.teacher is None else saved.load_model(plan.teacher.folder).to(device)
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / COUNTS, counts(plan))
    results: dict[str, Measured] = {}
    prompts, said, start = [], {}, None
    if plan.held_out is not None:
        examples, _ = way.examples(plan.recipe, tokenizer, plan.held_out, name="held out")
        start = way.start(model, examples)
        results["start"] = way.measure(plan, model, start, teacher, examples)
        prompts = _answerable(plan, model)[: None if verdict else SHOWN]
        said["start"] = _answers(model, tokenizer, prompts)
    trained = model
    if request.lora:
        from zephyr_lab.methods import adapters

        trained = adapters.lora(model, request.lora, seed=request.seed)
    taught = (
        {} if teacher is None else {"teacher": teacher, "teacher_tokenizer": saved.load_tokenizer(plan.teacher.folder)}
    )
    log = way.train(
        trained,
        tokenizer,
        plan.train,
        recipe=plan.recipe,
        seed=request.seed,
        checkpoints=out / CHECKPOINTS,
        progress=_unheard,
        callbacks=[Lines(say)],
        **taught,
    )
    if request.lora:
        adapters.save(trained, out / "adapter")
        trained = adapters.merged(trained)
    log.to_csv(out / LOG, index=False)
    not_measured = []
    if plan.held_out is not None:
        results[request.method] = way.measure(plan, trained, start, teacher, examples)
        said[request.method] = _answers(trained, tokenizer, prompts)
        if verdict:
            questions = [judges.question_of(prompt) for prompt in prompts]
            results[request.method] |= measures.win_rate(verdict, questions, said[request.method], said["start"])
        else:
            not_measured.append("a win rate: no judge was named")
    else:
        not_measured.append("anything on held-out rows: none were held out")
    saved.save(trained.cpu(), tokenizer, out)
    _write_card(plan, out, log, results, samples.beside(prompts, {"temperature 0": said}, shown=SHOWN), not_measured)
    made = {"request": _as_json(request), "settings": log.attrs["settings"], "path": log.attrs["path"]}
    files.write_json(out / DONE, {**made, "steps": log.attrs["steps"], "machine": provenance.describe()})
    shutil.rmtree(out / CHECKPOINTS)
    return measures.frame(results)


def counts(plan: Plan) -> dict[str, Any]:
    """What rows.json holds: how the rows were read, counts, checks, and the rows left out with their reasons."""
    return {
        "source": plan.rows.source,
        "layout": plan.rows.layout,
        "ignored_columns": list(plan.rows.ignored),
        **{str(name): int(number) for name, number in plan.rows.counts.itertuples(index=False)},
        "trained_on": len(plan.train.rows),
        "held_out": 0 if plan.held_out is None else len(plan.held_out.rows),
        "checks": plan.checks.to_dict("records"),
        "rejected": [{"row": row, "reason": reason} for row, reason in plan.rows.rejected],
    }


class Lines(TrainerCallback):
    """Says every twentieth of the steps, and the last: step, loss of its batch before the update, time left."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._begun: tuple[float, int] | None = None

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        step, of = state.global_step, state.max_steps
        if "loss" not in logs or (step % max(of // LINES, 1) and step not in (1, of)):
            return
        shown = [f"{name} {logs[key]:.4f}" for key, name in SAID.items() if key in logs]
        now = time.monotonic()
        begun, first = self._begun = self._begun or (now, step)
        left = f", {(now - begun) / (step - first) * (of - step):.0f} s left" if first < step < of else ""
        self._say(f"step {step} of {of}, {', '.join(shown)}{left}")


def _unheard(*steps: int, **numbers: float) -> None:
    """In the place of a progress bar: `Lines` says more, in words that a log keeps."""


def _answerable(plan: Plan, model: PreTrainedModel) -> list[Any]:
    """The held-out prompts that leave room for an answer."""
    prompts = samples.writable(plan.tokenizer, [measures.prompt_of(row) for row in plan.held_out.rows])
    room = min(plan.request.max_length, positions_of(model) or plan.request.max_length) - ANSWER_TOKENS
    lengths = map(len, prompt_ids(plan.tokenizer, prompts))
    return [prompt for prompt, length in zip(prompts, lengths, strict=True) if length <= room]


def _answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[Any]) -> list[str]:
    if not prompts:
        return []
    return samples.answers(model, tokenizer, prompts, temperature=0.0, max_new_tokens=ANSWER_TOKENS)


def _write_card(
    plan: Plan,
    out: Path,
    log: pd.DataFrame,
    results: Mapping[str, Measured],
    shown: pd.DataFrame,
    not_measured: list[str],
) -> None:
    request, source = plan.request, Path(plan.request.data)
    card.write(
        out,
        card.Card(
            title=f"{request.method} on {source.name}",
            base=Path(request.model).name,
            source=source.name,
            digest=files.sha256(source) if source.is_file() else "",
            rows=len(plan.rows.usable.rows) + len(plan.rows.bad),
            trained=len(plan.train.rows),
            held_out=0 if plan.held_out is None else len(plan.held_out.rows),
            left_out=[f"row {number}: {reason}" for number, reason in plan.rows.rejected],
            checks=plan.checks,
            settings={request.method: {**log.attrs["settings"], "lora": request.lora, "seed": request.seed}},
            results=results,
            samples=shown,
            not_measured=not_measured,
        ),
    )


def _dialogues(rows: OwnRows) -> Split[Any]:
    """The dialogues, of pairs the chosen answers after their prompts."""
    return measures.chosen(rows.pairs) if rows.pairs is not None else rows.dialogues


def _pairs(rows: OwnRows) -> Split[Any]:
    if rows.pairs is None:
        raise ValueError(
            f"dpo takes pairs (prompt, chosen, rejected), and {rows.source} holds {rows.layout}; `zephyr-lab binarise` "
            "makes pairs of scored completions, and `zephyr-lab train sft` takes dialogues"
        )
    return rows.pairs


def _log_probs(model: PreTrainedModel, examples: list[Any]) -> Any:
    return pair_log_probs(model, examples, rows_at_once=HELD_OUT_AT_ONCE)


def _dpo_recipe(request: Request, **shared: Any) -> DPO:
    beta = {} if request.beta is None else {"beta": request.beta}
    return DPO(max_prompt_length=max(request.max_length // 2, 1), **beta, **shared)


WAYS = {
    "sft": Way(
        learning_rate=2e-5,
        recipe=lambda request, **shared: SFT(**shared),
        rows=_dialogues,
        train=train_sft,
        examples=read_dialogues,
        start=lambda model, examples: None,
        measure=lambda plan, model, start, teacher, examples: measures.of_dialogues(model, examples),
    ),
    "dpo": Way(
        learning_rate=5e-6,
        recipe=_dpo_recipe,
        rows=_pairs,
        train=train_dpo,
        examples=read_pairs,
        start=_log_probs,
        measure=lambda plan, model, start, teacher, examples: measures.of_pairs(
            _log_probs(model, examples), start, examples, beta=plan.recipe.beta
        ),
        sides=2,
    ),
    "kd": Way(
        learning_rate=2e-5,
        # attention maps of two real models rarely pair; the answers' tokens are what is to be learned
        recipe=lambda request, **shared: KD(attention_weight=0.0, tokens="answers", **shared),
        rows=_dialogues,
        train=train_kd,
        examples=lambda recipe, tokenizer, rows, name: kd.read(recipe, rows, tokenizer, name),
        start=lambda model, examples: None,
        measure=lambda plan, model, start, teacher, examples: measures.of_distillation(model, teacher, examples),
    ),
}
