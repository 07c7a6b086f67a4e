"""What a plan says of itself."""

import pytest

from spinecls.errors import PlanError
from spinecls.planning.plan import Configuration, NetworkPlan

DEEP = NetworkPlan(
    features=(4, 8, 8), strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)), kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3))
)
FLAT = NetworkPlan(features=(4, 8), strides=((1, 1, 1), (1, 2, 2)), kernels=((1, 3, 3), (3, 3, 3)))


def made(**values):
    usual = {
        "name": "3d_fullres", "spacing_mm": (4.0, 2.0, 2.0), "patch_size": (8, 32, 24),
        "sealed_spacing_mm": (4.0, 1.0, 1.0), "sealed_size": (7, 18, 18), "network": DEEP, "reader_network": FLAT,
    }  # fmt: skip
    return Configuration(**usual | values)


def test_a_fold_takes_the_finder_and_then_every_reader():
    configuration = made(
        steps=600, estimated_step_seconds=0.5, members=3, reader_steps=200, estimated_reader_step_seconds=0.1
    )
    # 600 x 0.5 s and 3 x 200 x 0.1 s
    assert configuration.estimated_minutes == pytest.approx((300 + 60) / 60)


def test_patches_and_crops_are_each_multiples_of_their_own_network():
    made()
    with pytest.raises(PlanError, match=r"3d_fullres.patch_size: \(7, 32, 24\) must be multiples of \(2, 4, 4\)"):
        made(patch_size=(7, 32, 24))
    with pytest.raises(PlanError, match=r"3d_fullres.sealed_size: \(7, 17, 18\) must be multiples of \(1, 2, 2\)"):
        made(sealed_size=(7, 17, 18))
