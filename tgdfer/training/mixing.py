"""Mixing of clips in feature space: mixup (Zhang et al., ICLR 2018) of whole bags, instance by instance."""

import numpy as np
import torch
import torch.nn.functional as F

from tgdfer.features.bags import BagBatch


def mix(batch: BagBatch, alpha: float, classes: int, seed: int) -> tuple[BagBatch, torch.Tensor]:
    """Blend each bag with another one of the batch.

    Where only one of the two has an instance, it is blended with the padding of the other: its last frame.

    Args:
        batch: B bags.
        alpha: A share is drawn from Beta(alpha, alpha) for the batch; the bag itself gets the larger part.
        classes: C.
        seed: Decides the share and the pairs.

    Returns:
        The blended bags, with the class and the frame numbers of the larger part, and their shares of the classes,
        float32 [B, C].
    """
    random = np.random.default_rng(seed)
    share = float(random.beta(alpha, alpha))
    share = max(share, 1 - share)
    other = torch.from_numpy(random.permutation(len(batch.y))).to(batch.y.device)
    target = F.one_hot(batch.y, classes).float()
    blended = batch._replace(x=torch.lerp(batch.x[other], batch.x, share), mask=batch.mask | batch.mask[other])
    return blended, torch.lerp(target[other], target, share)
