"""Names of the tensor axes of distillation, checked as the tests run; beside those of `core.shapes`.

head: a query head; kv_head: a key head, shared by a group of query heads; dim: of one head.
"""

from jaxtyping import Bool, Float
from torch import Tensor

TokenScores = Float[Tensor, "row position"]  # one number a position, the first and the last included
RowFlags = Bool[Tensor, " row"]
Scalar = Float[Tensor, ""]
AttentionMaps = Float[Tensor, "row head position position"]  # [row, head, query, key]; query rows sum to 1
HeadScores = Float[Tensor, "row head position"]
Queries = Float[Tensor, "row head position dim"]
Keys = Float[Tensor, "row kv_head position dim"]
# A teacher's axes are not bound to the student's: where they must be equal, an error says so in one line.
TeacherLogits = Float[Tensor, "teacher_row teacher_position teacher_entry"]
TeacherMaps = Float[Tensor, "teacher_row teacher_head teacher_query teacher_key"]
TeacherQueries = Float[Tensor, "teacher_row teacher_head teacher_position teacher_dim"]
TeacherKeys = Float[Tensor, "teacher_row teacher_kv_head teacher_position teacher_dim"]
Allowed = Bool[Tensor, "#row 1 position position"]  # [row, all heads, query, key]: True where the query may look
