"""Names of the tensor axes that losses share, checked as the tests run; beside those of `core.shapes`.

head: a query head; kv_head: a key head, shared by a group of query heads; dim: of one head. prompt: one of a batch;
sample: one of the answers drawn to it; token: a position in an answer, with padding on the right.
"""

from jaxtyping import Bool, Float
from torch import Tensor

Scalar = Float[Tensor, ""]
RowFlags = Bool[Tensor, " row"]
AnyScores = Float[Tensor, "..."]

# Distillation. A teacher's axes are not bound to the student's: where they must be equal, an error says so in one line.
TokenScores = Float[Tensor, "row position"]  # one number a position, the first and the last included
AttentionMaps = Float[Tensor, "row head position position"]  # [row, head, query, key]; query rows sum to 1
HeadScores = Float[Tensor, "row head position"]
Queries = Float[Tensor, "row head position dim"]
Keys = Float[Tensor, "row kv_head position dim"]
TeacherLogits = Float[Tensor, "teacher_row teacher_position teacher_entry"]
TeacherMaps = Float[Tensor, "teacher_row teacher_head teacher_query teacher_key"]
TeacherQueries = Float[Tensor, "teacher_row teacher_head teacher_position teacher_dim"]
TeacherKeys = Float[Tensor, "teacher_row teacher_kv_head teacher_position teacher_dim"]
Allowed = Bool[Tensor, "#row 1 position position"]  # [row, all heads, query, key]: True where the query may look

# Sampled answers.
GroupRewards = Float[Tensor, "prompt sample"]
AnswerScores = Float[Tensor, "row token"]
AnswerMask = Bool[Tensor, "row token"]
Distribution = Float[Tensor, "... answer"]  # log-probabilities over all answers
