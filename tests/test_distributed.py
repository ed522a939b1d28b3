"""A single process needs nothing special; two are tested with the loop (test_train.py)."""

import pytest
import torch

from sightline import distributed
from sightline.errors import SightlineError
from tests.tiny import Tiny


def test_one_process_is_the_whole_world() -> None:
    model, values = Tiny(), torch.tensor([1.0, 2.0])
    with distributed.joined("cpu") as device:
        assert device == torch.device("cpu")
        assert (distributed.rank(), distributed.world()) == (0, 1)
        assert distributed.wrap(model, device) is model
        assert torch.equal(distributed.total(values), values)
        assert distributed.gathered("a") == ["a"]
        assert distributed.agreed(True)
        assert not distributed.agreed(False)
        with distributed.unsynced(model):
            distributed.same_buffers(model)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line() -> None:
    with pytest.raises(SightlineError, match="device cuda: process 0 finds 0 GPUs"):
        distributed.pick_device("cuda")
    assert distributed.pick_device("auto") == torch.device("cpu")
