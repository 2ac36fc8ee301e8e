"""Arithmetic of stacked arrays, where its doctests do not say enough."""

import numpy as np
import pytest
import torch

from dln.base.stacked import cosine


@pytest.mark.long
def test_no_cosine_is_beyond_one():
    """Not by rounding either, which takes that of parallel vectors there."""
    a = torch.from_numpy(np.random.default_rng(0).standard_normal((1000, 30)))
    b = 3 * a
    ab, aa, bb = (a * b).sum(-1), (a * a).sum(-1), (b * b).sum(-1)
    assert (ab / (aa * bb).sqrt() > 1).any()
    for sign in (-1, 1):
        found = sign * cosine(sign * ab, aa, bb)
        assert ((found > 1 - 1e-15) & (found <= 1)).all()
