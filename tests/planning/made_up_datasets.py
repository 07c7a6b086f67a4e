"""Fingerprints of datasets that do not exist, for the planner's tests."""

from __future__ import annotations

from spinecls.planning.fingerprint_types import CaseFingerprint, ChannelIntensities, Fingerprint, VertebraFingerprint
from spinecls.planning.rules_configuration import MachineProfile
from spinecls.records import DatasetDescription

CPU = MachineProfile(device="cpu", memory_gb=16, cores=2, gflop_per_second=100)
LUMBAR = ("L1", "L2", "L3", "L4", "L5")
CERVICAL = ("C2", "C3", "C4", "C5", "C6", "C7")
THORACIC = tuple(f"T{i}" for i in range(1, 13))


def gpu(memory_gb: float) -> MachineProfile:
    return MachineProfile(device="cuda", memory_gb=memory_gb, cores=8, gflop_per_second=5000)


def make_case(
    index: int,
    shape=(19, 224, 224),
    spacing_mm=(4.0, 1.0, 1.0),
    levels=LUMBAR,
    classes=("normal", "normal", "normal", "lesion", "lesion"),
    extent_mm=(46.0, 30.0, 36.0),
    pitch_mm=36.0,
    lesions_mm=(6.0, 8.0),
    patient=None,
    site="",
    channels=1,
    outlined=True,
) -> CaseFingerprint:
    """One case whose vertebrae are all alike; `classes` are given to the levels in turn."""
    vertebrae = tuple(
        VertebraFingerprint(
            level=level,
            class_name=classes[i % len(classes)] if classes else "",
            centre_lps=(0.0, 0.0, -pitch_mm * i),
            extent_mm=extent_mm if outlined else None,
            own_extent_mm=extent_mm if outlined else None,
            pitch_mm=pitch_mm if i + 1 < len(levels) else None,
        )
        for i, level in enumerate(levels)
    )
    return CaseFingerprint(
        case=f"case_{index:03d}",
        patient=patient or f"patient_{index:03d}",
        site=site,
        shape=shape,
        spacing_mm=spacing_mm,
        channels=(ChannelIntensities(p005=0.0, p50=100.0, p995=400.0, mad=40.0),) * channels,
        body_start=(0, 0, 0),
        body_stop=shape,
        vertebrae=vertebrae,
        lesions_mm=lesions_mm,
    )


def make_dataset(num_cases=25, class_names=("normal", "lesion"), class_order=False, each=None, **case) -> Fingerprint:
    """A dataset of like cases; `each` gives by index what is different in a case."""
    cases = [make_case(i, **(case | (each(i) if each else {}))) for i in range(num_cases)]
    return Fingerprint(
        dataset_name="Dataset900_MadeUp",
        class_names=class_names,
        class_order=class_order,
        cases={c.case: c for c in cases},
    )


def describe(fingerprint: Fingerprint, channel_names=("T2",), **other) -> DatasetDescription:
    return DatasetDescription(
        name=fingerprint.dataset_name,
        channel_names=channel_names,
        class_names=fingerprint.class_names,
        class_order=fingerprint.class_order,
        file_ending=".nii.gz",
        **other,
    )
