"""Targets and drafts of a handful of words for tests of speculative decoding."""

import torch
from transformers import GenerationConfig, MistralConfig, MistralForCausalLM

from zephyr_lab.models import draft as feature_draft
from zephyr_lab.models.draft import FeatureDraft

STOP = 2
SEQUENCE = 3  # new tokens whose joint distribution is enumerated


def little_target(seed: int = 0, *, entries: int = 6, layers: int = 2, **changes) -> MistralForCausalLM:
    """A random Mistral over `entries` words, in float64, that any of them may follow."""
    sizes = {
        "vocab_size": entries,
        "hidden_size": 8,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "intermediate_size": 12,
        "sliding_window": 4,
        "max_position_embeddings": 40,
        "initializer_range": 0.6,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": STOP,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MistralForCausalLM(MistralConfig(**{**sizes, **changes})).eval()
    model.generation_config = GenerationConfig(pad_token_id=0, bos_token_id=1, eos_token_id=STOP)
    return model.double()


def first_layers_of(target: MistralForCausalLM, layers: int = 1) -> MistralForCausalLM:
    """A causal draft that agrees with the target now and then: its first layers under its own norm and head."""
    draft = little_target(layers=layers, entries=target.config.vocab_size)
    kept = {name: tensor for name, tensor in target.state_dict().items() if name in draft.state_dict()}
    draft.load_state_dict(kept)
    return draft


def little_feature_draft(target: MistralForCausalLM, *, seed: int = 0, steps: int = 60) -> FeatureDraft:
    """A feature draft in float64, fitted to the target on random text for a few steps: it is right now and then."""
    shape = feature_draft.shape_for(
        target,
        heads=2,
        kv_heads=1,
        shared_experts=1,
        private_experts=1,
        shared_width=12,
        private_width=6,
        top=1,
        routers=True,
    )
    draft = feature_draft.build(shape, target, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(feature_draft.trainable(draft, "all"), lr=2e-2)
    for _ in range(steps):
        ids = torch.randint(3, target.config.vocab_size, (16, 10), generator=generator)
        with torch.no_grad():
            output = target(input_ids=ids, output_hidden_states=True)
        places = torch.arange(1, 9).expand(16, -1)
        guessed, _ = draft(ids[:, 1:-1], output.hidden_states[-1][:, :-2], places)
        logits = guessed @ target.get_output_embeddings().weight.T
        loss = -(output.logits[:, 1:-1].softmax(dim=-1) * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return draft.eval()


def sequence_probabilities(target: MistralForCausalLM, prompt: list[int], temperature: float) -> dict[tuple, float]:
    """The exact probability of each answer of up to `SEQUENCE` tokens, ended by the stop token or the limit."""
    open_answers, found = {(): 1.0}, {}
    for place in range(SEQUENCE):
        rows = torch.tensor([[*prompt, *answer] for answer in open_answers])
        with torch.inference_mode():
            probabilities = (target(input_ids=rows).logits[:, -1] / temperature).softmax(dim=-1).tolist()
        grown = {}
        for (answer, chance), row in zip(open_answers.items(), probabilities, strict=True):
            for token, own in enumerate(row):
                ended = token == STOP or place == SEQUENCE - 1
                (found if ended else grown)[(*answer, token)] = chance * own
        open_answers = grown
    return found
