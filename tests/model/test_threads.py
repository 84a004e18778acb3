from __future__ import annotations

import pytest
import torch

from threadmatch.model.threads import torch_threads


def test_threads_are_what_they_were_after_success_and_failure() -> None:
    before = torch.get_num_threads()
    with torch_threads(1):
        assert torch.get_num_threads() == 1
    with pytest.raises(RuntimeError, match="as it goes"), torch_threads(before + 1):
        raise RuntimeError("as it goes")
    assert torch.get_num_threads() == before
