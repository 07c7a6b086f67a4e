"""Integrated gradients of a class logit (Sundararajan, Taly and Yan, ICML 2017), by captum, which is optional.

Imported only where captum is installed.
"""

from __future__ import annotations

import torch
from captum.attr import IntegratedGradients

from spinecls.networks.reader import Reader
from spinecls.sealing.crop import FILL
from spinecls.verification.instrument import Crops, Instrument

STEPS = 32
AT_ONCE = 8


def integrated_gradients(instrument: Instrument, crop: Crops, target: int) -> torch.Tensor:
    """Attribution of the logit of class `target`, summed over readers, to the channels of one crop.

    The path leads from a crop that shows nothing (`FILL` everywhere) to the crop; the region stays.

    Parameters
    ----------
    crop : a single one

    Returns
    -------
    (C, s, r, a) float tensor
    """
    channels = crop.images[:, :-1]
    total = torch.zeros_like(channels[0])
    for reader in instrument.readers:

        def logit(batch: torch.Tensor, reader: Reader = reader) -> torch.Tensor:
            inputs = crop.with_channels(batch.cpu())
            logits, _ = reader.sealed_pass(inputs.images.to(batch.device), inputs.pooled.to(batch.device))
            return logits[:, target]

        explained = IntegratedGradients(logit).attribute(
            channels.to(instrument.device), baselines=FILL, n_steps=STEPS, internal_batch_size=AT_ONCE
        )
        total += explained[0].detach().float().cpu()
    return total
