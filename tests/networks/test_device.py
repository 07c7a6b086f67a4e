"""In which numbers training computes."""

import torch

from spinecls.networks.device import half_precision


def test_a_cpu_computes_in_single_precision():
    # Gradients of half precision write beyond their memory there on some processors.
    assert not half_precision(torch.device("cpu"))
