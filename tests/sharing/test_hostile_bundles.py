"""Bundles that are damaged or made by an enemy: each is refused with its reason, and nothing of it stays."""

import io
import json
import os
import pickle
import resource
import stat
import struct
import sys
import zipfile

import numpy as np
import pytest
import torch
from bundles import REGULAR, edited, entry, listing, pack, sums_of
from conftest import NAME
from safetensors.torch import load, save

from spinecls.errors import ModelError, ResourceError
from spinecls.sharing.install import import_model

WEIGHTS = "fold_0/model.safetensors"
FOLD = "fold_0/model.json"
HEAT = "finder.heads.heatmap.weight"
SCORES = "fold_0/summary.json"


class Evil:
    """What a pickle could do."""

    def __reduce__(self):
        return (open, ("pickle_was_here", "w"))


def with_member(name, change):
    """The bundle with one member changed, and checksums that fit."""
    return lambda members: pack({**members, name: change(members[name])})


def with_json(name, *path, value):
    return with_member(name, lambda data: edited(data, *path, value=value))


def with_plan(*path, value):
    """The bundle with a number of the first fold's plan changed."""
    return with_json("fold_0/plan.json", "configurations", "3d_fullres", *path, value=value)


def with_readers(number):
    """The bundle whose first fold has so many readers by its plan and its description."""

    def damage(members):
        plan = edited(members["fold_0/plan.json"], "configurations", "3d_fullres", "members", value=number)
        described = edited(members[FOLD], "spec", "members", value=number)
        return pack({**members, "fold_0/plan.json": plan, FOLD: described})

    return damage


def with_tensors(change):
    def changed(data):
        tensors = load(data)
        change(tensors)
        return save(tensors)

    return with_member(WEIGHTS, changed)


def with_more(name, data=b"x", **kind):
    """The bundle with one member more, which the checksums list."""

    def damage(members):
        return pack(members, ((entry(name, **kind), data),), sums_of({**members, name: data}))

    return damage


def with_header(change):
    """The bundle with the first 8 bytes and the header of its tensors changed."""

    def changed(data):
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]

    return with_member(WEIGHTS, changed)


def without(name):
    return lambda members: pack({k: v for k, v in members.items() if k != name})


def patched(find, replace, count=-1):
    """The bundle with bytes of the zip structure replaced."""

    def damage(members):
        data = pack(members)
        assert find in data
        return data.replace(find, replace, count)

    return damage


def central(offset, value):
    """The bundle with a two-byte field of the first entry of the table of contents set."""

    def damage(members):
        data = bytearray(pack(members))
        at = data.index(b"PK\x01\x02") + offset
        data[at : at + 2] = struct.pack("<H", value)
        return bytes(data)

    return damage


def end_record(offset, form, value):
    def damage(members):
        data = bytearray(pack(members))
        struct.pack_into(form, data, len(data) - 22 + offset, value)
        return bytes(data)

    return damage


def same_bytes_twice(members):
    """Two entries of the table of contents that lead to one place, as zip bombs are made."""
    data = bytearray(pack({**members, "fold_1/summary.json": members[SCORES], SCORES: members[SCORES]}))
    places = [i for i in range(len(data)) if data[i : i + 4] == b"PK\x01\x02"]
    offsets = {bytes(data[i + 46 : i + 46 + struct.unpack_from("<H", data, i + 28)[0]]): i + 42 for i in places}
    first = struct.unpack_from("<I", data, offsets[b"fold_0/summary.json"])[0]
    struct.pack_into("<I", data, offsets[b"fold_1/summary.json"], first)
    return bytes(data)


def compressed(members):
    bomb = b" " * 30_000_000
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**members, "MODEL_CARD.md": bomb}.items():
            archive.writestr(entry(name, method=zipfile.ZIP_DEFLATED), data)
    return stream.getvalue()


def overlap(header):
    """Two tensors over the same bytes."""
    other = next(n for n in header if n != HEAT and header[n]["shape"][:1] == header[HEAT]["shape"][:1])
    header[HEAT]["data_offsets"][0] = header[other]["data_offsets"][0]


def deep(levels):
    return ("[" * levels + "]" * levels).encode()


def one(value, index=(0,)):
    def change(tensors):
        tensors[HEAT].view(-1)[index] = value

    return change


def pickled(_):
    return pickle.dumps({"weights": Evil()})


def torch_file(_):
    stream = io.BytesIO()
    torch.save({"weights": Evil()}, stream)
    return stream.getvalue()


def numpy_file(_):
    stream = io.BytesIO()
    np.save(stream, np.array([Evil()], object), allow_pickle=True)
    return stream.getvalue()


NETWORK = ("spec", "network")

DAMAGES = {
    # the file
    "an empty file": (lambda m: b"", "the file is empty"),
    "no zip": (lambda m: b"hello, this is no model at all" * 10, "not a model bundle"),
    "a pickle": (pickled, "not a model bundle"),
    "a checkpoint": (torch_file, "another kind"),
    "cut short": (lambda m: pack(m)[:-100], "cut short"),
    "cut in the middle": (lambda m: pack(m)[:5000], "cut short"),
    "bytes appended": (lambda m: pack(m) + b"more", "something was appended"),
    "a comment": (lambda m: pack(m)[:-2] + b"\x04\x00more", "something was appended"),
    "bytes before": (lambda m: b"PK\x03\x04" + pack(m), "something lies before"),
    "another archive before": (lambda m: pack({}) + pack(m), "something lies before"),
    "a table of contents without end": (end_record(12, "<L", 2**31), "too many members"),
    "more members announced": (end_record(8, "<H", 7), "several parts"),
    "a part of several": (end_record(4, "<H", 1), "several parts"),
    "a table of contents that is nonsense": (patched(b"PK\x01\x02", b"PK\x01\x09", 1), "table of contents is damaged"),
    "five hundred members": (
        lambda m: pack(m, tuple((entry(f"fold_{i}/plan.json"), b"{}") for i in range(500))), "too many members"),
    "a local header of another name": (patched(b"model.json", b"nodel.json", 1), "is damaged"),
    "a byte of a member": (patched(b"# Model card", b"# Modal card", 1), "MODEL_CARD.md is damaged"),
    "members over the same bytes": (same_bytes_twice, "overlaps another member"),
    # the members
    "an absolute path": (with_more("/etc/passwd"), "absolute path"),
    "a way out": (with_more("../outside.txt"), "leads out of the archive"),
    "a way out of a fold": (with_more("fold_0/../../outside.txt"), "leads out of the archive"),
    "a backslash": (with_more("..\\outside.txt"), "backslash"),
    "a drive letter": (with_more("C:/outside.txt"), "colon"),
    "a folder": (with_more("fold_0/", b""), "is a folder"),
    "a folder in disguise": (
        lambda m: pack({k: v for k, v in m.items() if k != SCORES}, ((entry(SCORES, 0x10), b""),)),
        "special file"),
    "a link": (
        with_more("calibration.json", b"/etc/passwd", mode=(stat.S_IFLNK | 0o777) << 16), "link"),
    "a device": (with_more("calibration.json", b"", mode=(stat.S_IFCHR | 0o666) << 16), "special file"),
    "a file that is not asked for": (with_more("run.json"), "'run.json' does not belong"),
    "code": (with_more("trainer.py", b"open('code_was_here', 'w')"), "'trainer.py' does not belong"),
    "a pickle beside": (with_more("fold_0/checkpoint_final.pt", pickled(0)), "does not belong"),
    "a fold of no number": (with_more("fold_x/plan.json"), "does not belong"),
    "a fold with a nought before": (with_more("fold_00/plan.json"), "does not belong"),
    "a fold that is not named": (with_more("fold_7/plan.json"), "fold_7/plan.json belongs to no fold"),
    "a name with a zero byte": (
        lambda m: with_more("calibration.json#")(m).replace(b"json#", b"json\0"), r"json\\x00' does not belong"),
    "a member twice": (with_more("plan.json"), "'plan.json' and 'plan.json'"),
    "names that differ in case": (with_more("Plan.json"), "'plan.json' and 'Plan.json'"),
    "encrypted": (central(8, 1), "encrypted"),
    "a bomb": (compressed, "is compressed"),
    "unknown compression": (central(10, 14), "method 14"),
    "a larger size in the header": (central(24, 9), "packed otherwise"),
    "a member that is too large": (
        with_member("MODEL_CARD.md", lambda data: b" " * (1 << 20) + data), "more than the 1048576 allowed"),
    # the checksums
    "no checksums": (lambda m: pack(m).replace(b"SHA256SUMS", b"SHA256SUMZ"), "does not belong"),
    "a wrong checksum": (
        lambda m: pack(m, sums=sums_of({**m, "plan.json": b"another"})), "checksum of plan.json is not"),
    "a checksum less": (
        lambda m: pack(m, sums=sums_of({k: v for k, v in m.items() if k != "plan.json"})), "no checksum of plan.json"),
    "a checksum more": (
        lambda m: pack(m, sums=sums_of({**m, "calibration.json": b"{}"})), "'calibration.json', which is not"),
    "a checksum twice": (lambda m: pack(m, sums=sums_of(m) * 2), "each name once"),
    "checksums that are none": (lambda m: pack(m, sums=b"\xff\xfe"), "expected a checksum and a name"),
    # what is missing
    "no description": (without("model.json"), "model.json is missing"),
    "no plan": (without("plan.json"), "plan.json is missing"),
    "no model card": (without("MODEL_CARD.md"), "MODEL_CARD.md is missing"),
    "no weights": (without(WEIGHTS), "model.safetensors is missing"),
    # the JSON
    "broken JSON": (with_member("model.json", lambda data: data[:-10]), "not valid JSON"),
    "not an object": (with_member("model.json", lambda data: b"[]"), "expected a JSON object, got list"),
    "bytes that are no text": (with_member("plan.json", lambda data: b"\xff\xfe"), "not UTF-8 text"),
    "a card that is no text": (with_member("MODEL_CARD.md", lambda data: b"\xff\xfe"), "not UTF-8 text"),
    "a card that steers the terminal": (
        with_member("MODEL_CARD.md", lambda data: data + b"\x1b]0;owned\x07"), r"control character '\\x1b'"),
    "not a number": (with_member(FOLD, lambda data: data.replace(b'"seed": 0', b'"seed": NaN')), "not valid JSON"),
    "a number beyond measure": (with_member("plan.json", lambda d: d.replace(b"0.002", b"1e999", 1)), "too large"),
    "an integer beyond measure": (with_json(FOLD, "seed", value=10**60), "integer that is too large"),
    "a hundred thousand levels": (
        with_member("plan.json", lambda data: b'{"a": ' + deep(100_000) + b"}"), "levels deep"),
    "fifty levels": (with_member("plan.json", lambda data: b'{"a": ' + deep(50) + b"}"), "levels deep"),
    "terminal codes": (with_json("plan.json", "class_names", value=["a", "\x1b[2J"]), "control characters"),
    "another format": (with_json("model.json", "format", value="something"), "format 'something'"),
    "a newer version": (with_json("model.json", "format_version", value=3), r"format_version 3.*Install .* or a later"),
    "a version of one network for all": (
        with_json("model.json", "format_version", value=1), r"version 1, .*reads 2\. Install [^.]*\('0.1.0'\)\.$"),
    "an unknown key": (with_json("model.json", "hook", value="os.system"), "unknown key 'hook'"),
    "an unknown key in a plan": (with_json("fold_0/plan.json", "hook", value="x"), "unknown key 'hook'"),
    "an unknown key of a network": (with_json(FOLD, "spec", "init", value="x"), "unknown key 'init'"),
    "a key of a checkpoint that is not known": (with_json(FOLD, "callback", value="x"), "unknown key 'callback'"),
    # names
    "a dataset above": (with_json("model.json", "dataset", value="../../x"), "dataset '../../x'"),
    "a dataset elsewhere": (with_json("model.json", "dataset", value="/tmp/Dataset001_x"), "cannot be part"),
    "a dataset of no number": (with_json("model.json", "dataset", value="Phantom"), "DatasetXXX_Name"),
    "a trainer with a slash": (with_json("model.json", "trainer", value="a/../../b"), "trainer 'a/../../b'"),
    "a trainer that is a function": (with_json("model.json", "trainer", value="subprocess.Popen"), "name of a class"),
    "a trainer that is a file": (with_json("model.json", "trainer", value="evil.py:Trainer"), "cannot be part"),
    "plans that end in a dot": (with_json("model.json", "plans", value="plans."), "cannot be part"),
    "plans of two names": (with_json("model.json", "plans", value="a__b"), "cannot be part"),
    "a Windows device": (with_json("model.json", "plans", value="NUL.txt"), "device on Windows"),
    "an endless name": (with_json("model.json", "plans", value="a" * 300), "cannot be part"),
    "an empty name": (with_json("model.json", "plans", value=""), "cannot be part"),
    "a fold above": (with_json("model.json", "folds", value=["../0"]), "not distinct numbers"),
    "a fold twice": (with_json("model.json", "folds", value=["0", "0"]), "not distinct numbers"),
    "no fold": (with_json("model.json", "folds", value=[]), "not distinct numbers"),
    "a configuration that no plan has": (with_json("model.json", "configuration", value="4d"), "'4d' is not in"),
    # plans and networks
    "a network that is a function": (
        with_plan("network", value="os.system"), "expected an object, got 'os.system'"),
    "a reader that is a module": (
        with_json(FOLD, "spec", "reader", "backbone", value="evil_backbone.Net"), "'evil_backbone.Net' is not known"),
    "a reader that no plan has": (
        with_plan("reader_network", "convs_per_stage", value=3), "reader_network.convs_per_stage: 2 in"),
    "readers that no plan has": (with_json(FOLD, "spec", "members", value=3), "members: 3 in the checkpoint, 2 in"),
    "readers without number": (with_readers(10**9), "number of readers 1000000000 to"),
    "fewer readers than none": (with_readers(-1), "number of readers -1 to -1"),
    "a reader less": (with_tensors(lambda t: t.pop("readers.1.evidence.bias")), "missing, among them readers.1.evi"),
    "a reader more": (
        with_tensors(lambda t: t.update({"readers.2.evidence.bias": t["readers.1.evidence.bias"].clone()})),
        "no part of the network.*'readers.2.evidence.bias'"),
    "a head of a reader": (
        with_json(FOLD, "spec", "reader_heads", value={"level": 27}), "dense head 'level'"),
    "a network that is a module": (
        with_json(FOLD, *NETWORK, "backbone", value="evil_backbone.Net"), "'evil_backbone.Net' is not known"),
    "a pooling that is a function": (with_json(FOLD, "spec", "pooling", value="os.system"), "pooling: os.system in"),
    "a patch without end": (
        with_plan("patch_size", value=[2**20] * 3), "more than 134217728 voxels"),
    "no distance of voxels": (
        with_plan("spacing_mm", value=[0, 1, 1]), "spacing"),
    "strides of nought": (
        with_plan("network", "strides", value=[[0, 0, 0]] * 3), "contradict each other"),
    "another plan than network": (
        with_plan("pooling", value="max"), "pooling: lse in the checkpoint, max in"),
    "another seal than plan": (with_json(FOLD, "seal", value="S0"), "seal: S0 in the checkpoint, S2 in"),
    "folds of other numbers": (
        with_plan("sealing_margin_mm", value=9.0), "sealing_margin_mm: 9.0 in fold 0"),
    "a head under another's name": (
        with_json(FOLD, "spec", "dense_heads", value={"level": 27}), "dense head 'level'"),
    "a head with a dot": (with_json(FOLD, "spec", "dense_heads", value={"a.b": 2}), "dense head 'a.b'"),
    "a head that is a method": (with_json(FOLD, "spec", "dense_heads", value={"keys": 2}), "cannot be built"),
    "a thousand heads": (
        with_json(FOLD, "spec", "dense_heads", value={f"h{i}": 2 for i in range(1000)}), "dense_heads 1000"),
    "a head of a billion channels": (with_json(FOLD, "spec", "dense_heads", value={"h": 10**9}), "channels of dense"),
    # weights
    "a pickle for weights": (with_member(WEIGHTS, pickled), "not a whole safetensors file"),
    "a checkpoint for weights": (with_member(WEIGHTS, torch_file), "not a whole safetensors file"),
    "a numpy pickle for weights": (with_member(WEIGHTS, numpy_file), "not a whole safetensors file"),
    "no bytes for weights": (with_member(WEIGHTS, lambda data: b""), "not a whole safetensors file"),
    "weights cut short": (with_member(WEIGHTS, lambda data: data[:-4]), "not a whole safetensors file"),
    "weights and more": (with_member(WEIGHTS, lambda data: data + b"more"), "not a whole safetensors file"),
    "a header of an exabyte": (
        with_member(WEIGHTS, lambda data: struct.pack("<Q", 2**60) + data[8:]), "not a whole safetensors file"),
    "tensors over the same bytes": (with_header(overlap), "not a whole safetensors file"),
    "a tensor of another shape": (
        with_tensors(lambda t: t.update({HEAT: t[HEAT].flatten()})), rf"{HEAT} has shape \(8,\)"),
    "a tensor of another type": (with_tensors(lambda t: t.update({HEAT: t[HEAT].double()})), "type torch.float64"),
    "a tensor less": (with_tensors(lambda t: t.pop(HEAT)), rf"missing, among them {HEAT}"),
    "a tensor more": (with_tensors(lambda t: t.update(extra=torch.zeros(3))), "no part of the network.*'extra'"),
    "a weight that is no number": (with_tensors(one(float("nan"))), "not finite"),
    "an infinite weight": (with_tensors(one(float("inf"), -1)), "not finite"),
    # scores and what is carried
    "names of cases among the scores": (with_json(SCORES, "predicted", value=["Doe"]), "more than the scores"),
    "names of sites among the scores": (
        with_json(SCORES, "classification", "by_site", value={"Charité": {}}), "more than the scores"),

    "a score that is a text": (
        with_json(SCORES, "classification", "end_to_end", "auc_macro", "estimate", value="best"), "'best', not a"),
    "no class score": (with_json(SCORES, "classification", value={"x": 1}), "has no validation score"),
    "a calibration that is none": (lambda m: pack({**m, "calibration.json": b"{}"}), "missing"),
    "a calibration that is a list": (lambda m: pack({**m, "calibration.json": b"[]"}), "expected a JSON object"),
}  # fmt: skip
"""Name -> (members -> bytes of the file, what the error says)."""


@pytest.fixture
def marked_modules(empty, monkeypatch):
    """Modules that leave a trace when they are imported."""
    for name in ("evil", "evil_backbone"):
        (empty / "home" / f"{name}.py").write_text("open('import_was_here', 'w')\n")
    monkeypatch.syspath_prepend(str(empty / "home"))
    yield
    assert not {"evil", "evil_backbone"} & set(sys.modules)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", DAMAGES)
def test_a_bundle_is_refused_with_its_reason_and_leaves_nothing(name, members, empty, marked_modules):
    damage, message = DAMAGES[name]
    path = empty / "model.spinecls"
    path.write_bytes(damage(members))
    before = listing(empty)
    with pytest.raises(ModelError, match=message) as refused:
        import_model(path)
    assert str(path) in str(refused.value)
    assert listing(empty) == before


PLANNED = {"network": "network", "reader": "reader_network"}
"""Name of a network in a checkpoint's description -> in the plan."""


@pytest.mark.parametrize("which", PLANNED)
def test_a_network_of_hundreds_of_gigabytes_is_refused_without_taking_memory(members, empty, which):
    network = {
        "backbone": "ResidualEncoderUNet", "features": [4096] * 3, "convs_per_stage": 16,
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]], "kernels": [[15, 15, 15]] * 3,
    }  # fmt: skip
    plan = edited(members["fold_0/plan.json"], "configurations", "3d_fullres", PLANNED[which], value=network)
    described = edited(members[FOLD], "spec", which, value=network)
    path = empty / "model.spinecls"
    path.write_bytes(pack({**members, FOLD: described, "fold_0/plan.json": plan}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=r"the network described in the bundle|tensors of the network are missing"):
        import_model(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("which", PLANNED)
@pytest.mark.parametrize(("field", "value"), [("features", [10**9] * 3), ("convs_per_stage", 10**6)])
def test_a_network_beyond_all_bounds_is_refused_before_it_is_built(members, empty, field, value, which):
    plan = edited(members["fold_0/plan.json"], "configurations", "3d_fullres", PLANNED[which], field, value=value)
    described = edited(members[FOLD], "spec", which, field, value=value)
    path = empty / "model.spinecls"
    path.write_bytes(pack({**members, FOLD: described, "fold_0/plan.json": plan}))
    with pytest.raises(ModelError, match=rf"{field} 10{{6,9}} to .*expected 1 to"):
        import_model(path)


def test_random_damage_is_refused_or_changes_nothing(bundle, empty):
    random = np.random.default_rng(0)
    path = empty / "model.spinecls"
    good = bundle.read_bytes()
    import_model(bundle)
    installed = listing(empty / "results")
    (empty / "results").rename(empty / "kept")
    structure = [i for i in range(len(good) - 4) if good[i : i + 2] == b"PK"]
    refused = 0
    places = [*random.integers(0, len(good), 15), *(random.choice(structure, 25) + random.integers(0, 46, 25))]
    for place in places:
        data = bytearray(good)
        data[min(place, len(data) - 1)] ^= 1 << random.integers(8)
        path.write_bytes(bytes(data))
        try:
            import_model(path)
        except ModelError:
            refused += 1
            assert not (empty / "results").exists()
        else:
            assert listing(empty / "results") == installed
            (empty / "results").rename(empty / f"harmless_{place}_{random.integers(10**9)}")
    assert refused > 20


@pytest.mark.parametrize("force", [False, True])
def test_a_link_in_the_place_of_the_model_is_not_followed(bundle, empty, force):
    (empty / "elsewhere").mkdir()
    target = empty / "results" / NAME
    target.parent.mkdir(parents=True)
    target.symlink_to(empty / "elsewhere", target_is_directory=True)
    before = listing(empty)
    with pytest.raises(ModelError, match="symbolic link"):
        import_model(bundle, force)
    assert listing(empty) == before


@pytest.mark.parametrize("place", [NAME, "Dataset001_Phantom"])
def test_a_file_in_the_place_of_a_folder_is_kept(bundle, empty, place):
    (empty / "results" / place).parent.mkdir(parents=True)
    (empty / "results" / place).write_text("mine")
    with pytest.raises(ModelError, match="not a folder"):
        import_model(bundle, force=True)
    assert (empty / "results" / place).read_text() == "mine"


def test_a_model_that_is_there_is_not_replaced_unasked(bundle, empty):
    import_model(bundle)
    before = listing(empty)
    with pytest.raises(ModelError, match=f"{NAME}.*--force"):
        import_model(bundle)
    assert listing(empty) == before


def test_force_replaces_the_model_with_all_its_folds(bundle, empty):
    fresh = import_model(bundle).path
    expected = listing(fresh)
    (fresh / "fold_4").mkdir()
    (fresh / "fold_4/checkpoint_final.pt").write_text("old")
    import_model(bundle, force=True)
    assert listing(fresh) == expected
    assert [path.name for path in fresh.parent.iterdir()] == [fresh.name]


def test_a_replacement_that_is_refused_leaves_the_model_as_it_was(members, bundle, empty):
    import_model(bundle)
    path = empty / "worse.spinecls"
    path.write_bytes(DAMAGES["an infinite weight"][0](members))
    before = listing(empty)
    with pytest.raises(ModelError, match="not finite"):
        import_model(path, force=True)
    assert listing(empty) == before


def test_a_model_that_cannot_be_put_in_place_leaves_the_one_before(bundle, empty, monkeypatch):
    from pathlib import Path

    folder = import_model(bundle).path
    before = listing(empty)
    rename = Path.rename

    def failing(path, target):
        if path.parts[-3].startswith(".tmp-") and path.name == folder.name:
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(ModelError, match="could not be put there"):
        import_model(bundle, force=True)
    assert listing(empty) == before


def test_a_model_in_training_is_not_replaced(bundle, empty):
    from filelock import FileLock

    folder = import_model(bundle).path
    with FileLock(folder / "fold_0/.lock"), pytest.raises(ResourceError, match="fold_0 is being trained"):
        import_model(bundle, force=True)
    assert (folder / "fold_0/checkpoint_final.pt").exists()


def test_a_folder_or_a_pipe_is_no_bundle(empty):
    os.mkfifo(empty / "pipe.spinecls")
    for path in (empty, empty / "pipe.spinecls", empty / "nothing.spinecls"):
        with pytest.raises(ModelError, match="no such file"):
            import_model(path)


def test_the_results_folder_may_lie_behind_a_link(bundle, empty):
    (empty / "disk").mkdir()
    (empty / "results").symlink_to(empty / "disk", target_is_directory=True)
    import_model(bundle)
    assert (empty / "disk" / NAME / "plan.json").exists()


def test_a_regular_member_may_be_marked_as_such(members, empty):
    path = empty / "model.spinecls"
    card = members["MODEL_CARD.md"]
    rest = {name: data for name, data in members.items() if name != "MODEL_CARD.md"}
    path.write_bytes(pack(rest, ((entry("MODEL_CARD.md", REGULAR), card),), sums_of(members)))
    assert import_model(path).path.joinpath("MODEL_CARD.md").read_bytes() == card
