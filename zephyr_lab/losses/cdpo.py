"""Conservative DPO: the labels are believed with some doubt, so no margin is worth an unlimited one.

Mitchell 2023, "A note on DPO with noisy preferences and relationship to IPO". Log-probabilities in, losses out.
"""

from torch.nn.functional import logsigmoid

from zephyr_lab.core.shapes import PairScores
from zephyr_lab.losses.dpo import margins
from zephyr_lab.losses.log_probs import PairLogProbs


def cdpo_loss(policy: PairLogProbs, reference: PairLogProbs, *, beta: float, label_smoothing: float) -> PairScores:
    """DPO loss of each pair in expectation over a label that is wrong with chance `label_smoothing`, shape (pair,).

    (1 - e) * -log sigmoid(m) + e * -log sigmoid(-m) with DPO's margin m (eq. 3 of the note); 0 gives DPO. One pair
    alone is at its minimum at m = log((1 - e) / e). It does not undo noise: it is what DPO does on pairs of which the
    share e is flipped. Raises ValueError for a `label_smoothing` outside [0, 0.5).
    """
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing must be in [0, 0.5), got {label_smoothing} (a share of wrong labels)")
    margin = margins(policy, reference, beta=beta)
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
