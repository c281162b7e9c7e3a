"""Recipe of measuring drafts: which drafts, on which prompts, at which draft lengths. Plain values only, no torch."""

from dataclasses import dataclass

from zephyr_lab.methods.recipes import limits

TARGET, PROMPTS = "target", "prompts"  # the inputs that are no drafts
GREEDY, DRAWN, CANDIDATES = "greedy", "drawn", "candidates"  # how drafts are made and verified


@dataclass(frozen=True, kw_only=True)
class DraftScores:
    """Acceptance lengths of several drafts against one target on the prompts of dialogues.

    drafts: names in the result; inputs: the stage's input that holds each; folders: the draft's folder inside it (the
    arm's name, or "<arm>/steps/<n>"). target_folder: folder inside input "target". split: "train" or "test" of input
    "prompts"; prompts: at most how many dialogues of it, 0 for all; each is asked up to its last answer.
    lengths: drafted tokens of a pass, all measured from the same answers. temperature: of the sampled answers (the
    greedy ones come besides); samples: sampled answers a prompt.

    The real decoding loop, besides: loop_prompts: how many prompts it answers (0: none); loop_length: its draft length;
    tree_top, tree_depth, tree_nodes: a dynamic tree's widths, 0 for a chain alone.
    timed: measure wall time as well, against plain decoding, on a target enlarged by `extra_layers` layers that change
    nothing. rows_at_once: rows of a batch of the loop; published speed-ups are at 1.
    """

    drafts: tuple[str, ...]
    inputs: tuple[str, ...]
    folders: tuple[str, ...]
    target_folder: str
    split: str
    prompts: int
    system_turn: bool
    max_new_tokens: int
    lengths: tuple[int, ...]
    temperature: float
    samples: int
    loop_prompts: int
    loop_length: int
    tree_top: int
    tree_depth: int
    tree_nodes: int
    timed: bool
    extra_layers: int
    rows_at_once: int
    device: str

    def __post_init__(self) -> None:
        limits.require_different("drafts", self.drafts)
        if not len(self.drafts) == len(self.inputs) == len(self.folders):
            raise ValueError(
                f"each draft needs its input and folder, got {len(self.drafts)} drafts, {len(self.inputs)} inputs and "
                f"{len(self.folders)} folders"
            )
        limits.require_one_of("split", self.split, ("train", "test"))
        if not self.lengths or min(self.lengths) < 1:
            raise ValueError(f"lengths must be draft lengths of at least 1, got {self.lengths}")
        if self.temperature <= 0:
            raise ValueError(f"temperature of the sampled answers must be positive, got {self.temperature}")
        limits.require_at_least(
            1, max_new_tokens=self.max_new_tokens, loop_length=self.loop_length, rows_at_once=self.rows_at_once
        )
        for name in ("prompts", "samples", "loop_prompts", "extra_layers", "tree_top", "tree_depth", "tree_nodes"):
            limits.require_not_negative(**{name: getattr(self, name)})
        if len({bool(self.tree_top), bool(self.tree_depth), bool(self.tree_nodes)}) > 1:
            raise ValueError("tree_top, tree_depth and tree_nodes must all be 0 (chains alone) or all at least 1")
        if self.timed and not self.loop_prompts:
            raise ValueError("timed needs loop_prompts of at least 1: time is measured in the real loop")
        limits.require_device(self.device)


@dataclass(frozen=True, kw_only=True)
class DraftLossless:
    """Greedy answers to `prompts` prompts (0: all) with and without the draft, token by token; and sampled answers of
    `sampled_tokens` tokens to the first `sampled_prompts`, `samples` each at `temperature`.

    target_folder, draft_folder: inside their stages. length: drafted tokens of a pass.
    """

    target_folder: str
    draft_folder: str
    prompts: int
    max_new_tokens: int
    length: int
    sampled_prompts: int
    samples: int
    sampled_tokens: int
    temperature: float
    device: str

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "length", "sampled_prompts", "samples", "sampled_tokens"):
            limits.require_at_least(1, **{name: getattr(self, name)})
        limits.require_not_negative(prompts=self.prompts)
        if self.temperature <= 0:
            raise ValueError(f"temperature of the sampled answers must be positive, got {self.temperature}")
