"""A causal model's logits from its hidden states, whatever it does to them on the way.

The output embedding alone does not give them: Granite and Cohere scale, Gemma caps, BERT-like heads have layers of
their own. So the model's own forward pass makes them, with these hidden states in the place of what its body gives. No
list of families is kept; each model shows on its first call that its logits depend on nothing else.
"""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from zephyr_lab.models.causal import accepted, causal_model, evaluating, instead

PROBE = 3  # tokens
WHOLE = "take its whole logits, model(...).logits, instead"
FAILURES = (AttributeError, TypeError, LookupError, RuntimeError, ValueError)  # of a pass that a model is not made for
SLOW_PATH = "compute whole logits and use losses.kd instead"
HiddenStates = Float[Tensor, "*places hidden"]


@dataclass(frozen=True, slots=True)
class Body:
    """What a model makes its logits of: the module that it asks for hidden states, their width, and the type of its
    answer."""

    module: nn.Module
    width: int
    output: type


_bodies: WeakKeyDictionary[PreTrainedModel, Body] = WeakKeyDictionary()


def logits_of(model: nn.Module, hidden: HiddenStates) -> Float[Tensor, "*places entry"]:
    """The logits that `model` makes of its `last_hidden_states`, or of a draft's guess of them, at any places; with
    gradients where `hidden` or the head has them.

    Raises ValueError for a model whose logits depend on more than these.
    """
    causal = causal_model(model)
    return _logits(causal, body_of(causal), hidden)


def last_hidden_states(model: nn.Module, **inputs: Any) -> Float[Tensor, "row position hidden"]:
    """What `model` makes its logits of, by its body alone: no logits are made. Raises ValueError as `logits_of`."""
    body = body_of(model).module
    return body(**{**accepted(body, use_cache=False), **inputs}).last_hidden_state


def body_of(model: nn.Module) -> Body:
    """The part of `model` whose last hidden states are all that its logits are made of.

    Found on the first call, by comparing on a few tokens. Raises ValueError, naming what to do instead, where there is
    none.
    """
    causal = causal_model(model)
    if causal not in _bodies:
        _bodies[causal] = _shown(causal)
    return _bodies[causal]


def probe_ids(model: PreTrainedModel, rows: int = 1, tokens: int = PROBE) -> Tensor:
    """A few ids to try a model on, (row, token)."""
    ids = torch.arange(3, 3 + rows * tokens, device=model.device) % model.config.get_text_config().vocab_size
    return ids.view(rows, tokens)


@torch.no_grad()
def plain_head(model: nn.Module) -> nn.Linear:
    """The model's output head, after the model itself has shown that its logits are that head's and nothing more.

    Tied embeddings, a bias and adapters below the head are fine. Raises ValueError, naming the slow path, where the
    head is no plain linear layer (an adapter on it, say), or where hidden states are changed before it or logits after
    it (capped, scaled, shifted): the model's own forward pass is given hidden states and, in the head's place, logits
    from tiny to large, and has to pass on both as they are.
    """
    causal = causal_model(model)
    head = causal.get_output_embeddings()
    if type(head) is not nn.Linear:
        raise ValueError(
            f"{type(causal).__name__} has a head of type {type(head).__name__}, a fused head needs a plain linear one "
            f"(merge an adapter into it first); or {SLOW_PATH}"
        )
    body = body_of(causal)  # before the head is replaced: the model is tried with its own
    entries = len(head.weight)
    states = torch.linspace(-1.0, 1.0, body.width, dtype=head.weight.dtype, device=head.weight.device)[None]
    # Up to a thousand: a soft cap shows on no small logit.
    shown = torch.logspace(-3, 3, entries, dtype=torch.float32, device=head.weight.device).to(head.weight.dtype)
    shown[::2] *= -1
    reached: list[Tensor] = []

    def in_its_place(hidden: Tensor) -> Tensor:
        reached.append(hidden)
        return shown.expand(*hidden.shape[:-1], entries).clone()

    with evaluating(causal), instead(head, in_its_place):
        logits = logits_of(causal, states)
    if len(reached) != 1 or not torch.equal(reached[0], states[None]):
        raise ValueError(f"{type(causal).__name__} changes hidden states before its head; {SLOW_PATH}")
    if not torch.equal(logits[0].to(shown.dtype), shown):
        raise ValueError(
            f"{type(causal).__name__} changes its logits after the head (soft-capping, scaling), which a fused head "
            f"does not know; {SLOW_PATH}"
        )
    return head


@torch.no_grad()
def _shown(model: PreTrainedModel) -> Body:
    try:
        with evaluating(model):
            expected, asked = _asked(model, ids := probe_ids(model))
    except FAILURES as error:
        raise _refusal(model, f"it does not read ids alone: {_line(error)}") from error
    why = "no part of it gives last hidden states"
    for module, output in reversed(asked.items()):  # the outermost part first: it answers last
        if not isinstance(getattr(output, "last_hidden_state", None), Tensor):
            continue
        body = Body(module, output.last_hidden_state.shape[-1], type(output))
        try:
            with evaluating(model):
                hidden = module(input_ids=ids, **accepted(module, use_cache=False)).last_hidden_state
                if _same(_logits(model, body, hidden), expected):
                    return body
            why = "its forward pass makes other logits of them"
        except FAILURES as error:
            why = _line(error)
    raise _refusal(model, why)


def _asked(model: PreTrainedModel, ids: Tensor) -> tuple[Tensor, dict[nn.Module, Any]]:
    """The model's logits, and the answers of the parts that it asked on the way, in the order in which they ended."""
    answers: dict[nn.Module, Any] = {}
    hooks = [
        part.register_forward_hook(lambda part, args, output: answers.update({part: output}))
        for part in model.modules()
        if isinstance(part, PreTrainedModel) and part is not model
    ]
    try:
        return _own(model, ids), answers
    finally:
        for hook in hooks:
            hook.remove()


def _logits(model: PreTrainedModel, body: Body, hidden: Tensor) -> Tensor:
    rows = hidden.reshape(1, -1, hidden.shape[-1]) if hidden.ndim != 3 else hidden
    calls: list[None] = []

    def hidden_states(*_: Any, **__: Any) -> Any:
        calls.append(None)
        return body.output(last_hidden_state=rows)

    ids = torch.zeros(rows.shape[:2], dtype=torch.long, device=rows.device)
    with instead(body.module, hidden_states):
        logits = _own(model, ids)
    if len(calls) != 1:
        raise _refusal(model, f"its forward pass asks for them {len(calls)} times")
    return logits.reshape(*hidden.shape[:-1], logits.shape[-1])


def _own(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Logits by the forward pass of the model's class: trainers put others into an instance's place."""
    return type(model).forward(model, input_ids=ids, **accepted(model, use_cache=False)).logits


def _same(logits: Tensor, expected: Tensor) -> bool:
    if logits.shape != expected.shape:
        return False
    limits = torch.finfo(expected.dtype)
    tolerance = 16 * limits.eps * max(float(expected.nan_to_num().abs().max()), limits.tiny)
    return torch.allclose(logits, expected, rtol=0.0, atol=tolerance, equal_nan=True)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _refusal(model: PreTrainedModel, why: str) -> ValueError:
    return ValueError(
        f"the logits of {type(model).__name__} do not follow from its last hidden states alone ({why}); {WHOLE}"
    )
