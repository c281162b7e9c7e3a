import pytest
import torch

from zephyr_lab.core.shapes import require_same_shape


def test_tensors_of_one_shape_pass():
    require_same_shape(policy=torch.zeros(2, 3), reference=torch.ones(2, 3))


def test_a_shape_that_torch_would_broadcast_is_refused_by_name():
    with pytest.raises(ValueError, match=r"policy \(2,\), reference \(1,\)"):
        require_same_shape(policy=torch.zeros(2), reference=torch.zeros(1))
