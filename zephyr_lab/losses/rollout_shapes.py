"""Names of the axes that losses on sampled answers use, beside those of `core.shapes`.

prompt: one of a batch; sample: one of the answers drawn to it; token: a place in an answer, padding on the right.
"""

from jaxtyping import Bool, Float
from torch import Tensor

GroupRewards = Float[Tensor, "prompt sample"]
TokenScores = Float[Tensor, "row token"]
AnswerMask = Bool[Tensor, "row token"]
AnyScores = Float[Tensor, "..."]
Distribution = Float[Tensor, "... answer"]  # log-probabilities over all answers
