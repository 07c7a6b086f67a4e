"""No score may be better than the truth without a word: what is missing, learned from or of another image is named."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from evaluation.conftest import make_case, make_vertebra
from evaluation.scans import CASES, build_dataset, build_split, write_perfect

from spinecls.cli.evaluate import Split, evaluate
from spinecls.errors import DatasetError, UsageError
from spinecls.evaluation.acceptance import Accept
from spinecls.io import predictions as prediction_files
from spinecls.io.image_digests import image_digests
from spinecls.io.images import read_image
from spinecls.io.kept_results import output_digests

TESTS = {"t": (1, 1, 0), "u": (0, 1, 0), "v": (0, 0, 0)}
STRANGER = {"dataset": "Dataset001_Other", "training_images": []}
"""A model that has learned from other images only."""


@pytest.fixture
def dataset(tmp_path):
    folder = build_dataset(tmp_path / "Dataset009_Tiny")
    build_split(folder, "Ts", TESTS)
    return folder


def digests(dataset, *names, split="Tr"):
    paths = [dataset / f"images{split}" / f"{name}_0000.nii.gz" for name in names]
    return sorted(digest for path in paths for digest in image_digests(read_image([path]).array))


def trained_on(dataset, *names):
    return {"dataset": dataset.name, "training_images": digests(dataset, *names)}


def evaluated(folder, dataset, split=Split.Ts, **options):
    evaluate(folder, str(dataset), split, draws=5, **options)
    return json.loads((folder / "summary.json").read_text())


def identified(content):
    return content["location"]["identification_rate"]["estimate"]


def remarks(content):
    return "\n".join(content["remarks"])


def test_plain_score_has_no_remark(tmp_path, dataset):
    folder = write_perfect(dataset, tmp_path / "p", *TESTS, split="Ts", model=STRANGER)
    content = evaluated(folder, dataset)
    assert (content["cases"], content["remarks"], content["training_images_known"]) == (3, [], True)


def test_test_case_without_a_prediction_is_missed_and_named(tmp_path, dataset, capsys):
    folder = write_perfect(dataset, tmp_path / "p", "t", "u", split="Ts", model=STRANGER)
    content = evaluated(folder, dataset)
    assert identified(content) == pytest.approx(6 / 9)
    assert content["missed_cases"] == {"v": "no prediction"}
    text = capsys.readouterr().out
    assert "Without a prediction, all their vertebrae count as missed: 1 (v)." in text
    assert "test cases: 3 cases (1 without prediction)" in text


def test_missing_cases_can_be_left_out_and_are_named_then_too(tmp_path, dataset):
    folder = write_perfect(dataset, tmp_path / "p", "t", "u", split="Ts", model=STRANGER)
    content = evaluated(folder, dataset, accept=[Accept.missing])
    assert (identified(content), content["cases"], content["accepted"]) == (1.0, 2, ["missing"])
    assert "Annotated but neither predicted nor scored: 1 (v)." in content["remarks"]


def test_failed_test_case_is_missed_with_its_reason(tmp_path, dataset):
    folder = write_perfect(dataset, tmp_path / "p", "t", "u", split="Ts", model=STRANGER)
    prediction_files.write_failures(folder, [("v", "no memory")])
    content = evaluated(folder, dataset)
    assert (content["failed_cases"], identified(content)) == (["v"], pytest.approx(6 / 9))
    assert content["remarks"] == ["v: failed: no memory; all its vertebrae count as missed."]


@pytest.mark.parametrize("model", [STRANGER, {}], ids=["known", "unknown"])
def test_folder_in_which_every_case_failed_scores_nothing_found(tmp_path, dataset, model):
    folder = tmp_path / "p"
    folder.mkdir()
    prediction_files.write_failures(folder, [(name, "no memory") for name in TESTS])
    content = evaluated(folder, dataset)
    assert (content["cases"], identified(content)) == (3, 0.0)


def test_training_image_among_test_images_is_left_out_and_named(tmp_path, dataset):
    shutil.copy(dataset / "imagesTr/a_0000.nii.gz", dataset / "imagesTs/t_0000.nii.gz")
    folder = write_perfect(dataset, tmp_path / "p", *TESTS, split="Ts", model=trained_on(dataset, "a", "b"))
    content = evaluated(folder, dataset)
    assert (content["cases"], content["cases_learned_from"]) == (2, ["t"])
    assert content["remarks"] == ["Left out, because their images are training images: 1 (t)."]


def test_image_learned_from_is_known_again_in_another_format(tmp_path, dataset):
    image = sitk.Cast(sitk.ReadImage(str(dataset / "imagesTr/a_0000.nii.gz")), sitk.sitkFloat64)
    sitk.WriteImage(image, str(dataset / "imagesTs/t_0000.nii.gz"), useCompression=False)
    folder = write_perfect(dataset, tmp_path / "p", *TESTS, split="Ts", model=trained_on(dataset, "a"))
    assert evaluated(folder, dataset)["cases_learned_from"] == ["t"]


def test_training_image_is_found_where_the_model_says_nothing(tmp_path, dataset):
    shutil.copy(dataset / "imagesTr/a_0000.nii.gz", dataset / "imagesTs/t_0000.nii.gz")
    folder = write_perfect(dataset, tmp_path / "p", *TESTS, split="Ts")
    content = evaluated(folder, dataset)
    assert (content["cases_learned_from"], content["training_images_known"]) == (["t"], False)
    assert "NOT KNOWN WHICH IMAGES THE MODEL LEARNED FROM" in remarks(content)


def test_cases_learned_from_are_scored_on_request_and_loudly(tmp_path, dataset, capsys):
    folder = write_perfect(dataset, tmp_path / "p", *CASES, model=trained_on(dataset, "a", "b"))
    content = evaluated(folder, dataset, Split.Tr, accept=[Accept.learned])
    assert content["cases"] == 4
    assert "SCORED ALTHOUGH THEIR IMAGES ARE TRAINING IMAGES: 2 (a, b)." in capsys.readouterr().out


def test_training_cases_learned_from_are_left_out(tmp_path, dataset):
    folder = write_perfect(dataset, tmp_path / "p", *CASES, model=trained_on(dataset, "a", "b"))
    content = evaluated(folder, dataset, Split.Tr)
    assert (content["cases"], content["cases_learned_from"]) == (2, ["a", "b"])


def test_only_cases_learned_from_are_refused_with_the_remedy(tmp_path, dataset):
    folder = write_perfect(dataset, tmp_path / "p", "a", "b", model=trained_on(dataset, *CASES))
    with pytest.raises(DatasetError, match=r"from the images of all 2 predicted cases \(a, b\).*--accept learned"):
        evaluate(folder, str(dataset))


def test_only_failed_cases_learned_from_are_refused_too(roots, tmp_path):
    dataset = build_dataset(roots / "raw/Dataset009_Tiny")
    folder = write_perfect(dataset, tmp_path / "p", "a", model=trained_on(dataset, "a", "b"))
    prediction_files.write_failures(folder, [("b", "no memory")])
    with pytest.raises(DatasetError, match=r"from the images of all 2 predicted cases \(a, b\)"):
        evaluate(folder, str(dataset))


def test_held_out_training_case_without_a_prediction_is_missed(tmp_path, dataset):
    folder = write_perfect(dataset, tmp_path / "p", "c", model=trained_on(dataset, "a", "b"))
    content = evaluated(folder, dataset, Split.Tr)
    assert (content["missed_cases"], identified(content)) == ({"d": "no prediction"}, 0.5)


def test_training_cases_of_an_unknown_model_are_not_taken_as_missing_but_named(tmp_path, dataset):
    content = evaluated(write_perfect(dataset, tmp_path / "p", "c"), dataset, Split.Tr)
    assert (content["cases"], content["missed_cases"]) == (1, {})
    assert content["cases_not_predicted"] == ["a", "b", "d"]
    assert "neither predicted nor scored: 3 (a, b, d)." in remarks(content)


def test_mean_of_models_has_learned_from_what_any_of_them_has(tmp_path, dataset):
    model = {"ensemble": [trained_on(dataset, "a"), trained_on(dataset, "b")]}
    folder = write_perfect(dataset, tmp_path / "p", *CASES, model=model)
    assert evaluated(folder, dataset, Split.Tr)["cases_learned_from"] == ["a", "b"]


def test_validation_of_several_folds_together_is_honest(tmp_path, dataset):
    folder = tmp_path / "p"
    write_perfect(dataset, folder, "a", "b", model={"fold": "fold_0", **trained_on(dataset, "c", "d")})
    write_perfect(dataset, folder, "c", "d", model={"fold": "fold_1", **trained_on(dataset, "a", "b")})
    content = evaluated(folder, dataset, Split.Tr)
    assert (content["cases"], content["cases_learned_from"], content["models"]) == (4, [], 2)
    assert content["remarks"] == ["The cases were predicted by 2 models; the scores are of all together."]


def write_run(folder, *names):
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"cases": names}))


def test_records_of_the_model_say_what_earlier_predictions_do_not(roots, tmp_path):
    dataset = build_dataset(roots / "raw/Dataset009_Tiny")
    names = {"dataset": dataset.name, "trainer": "T", "plans": "P", "configuration": "c", "folds": ["0", "1"]}
    for fold, cases in (("0", ["a", "b"]), ("1", ["b", "c"])):
        write_run(roots / f"results/{dataset.name}/T__P__c/fold_{fold}", *cases)
    content = evaluated(write_perfect(dataset, tmp_path / "p", *CASES, model=names), dataset, Split.Tr)
    assert (content["cases"], content["cases_learned_from"]) == (1, ["a", "b", "c"])


def test_validation_of_an_earlier_version_is_known_by_the_record_of_its_fold(roots):
    dataset = build_dataset(roots / "raw/Dataset009_Tiny")
    fold = roots / f"results/{dataset.name}/T__P__c/fold_0"
    write_run(fold, "a", "b")
    folder = write_perfect(dataset, fold / "validation", "c", "d", model={"fold": "fold_0"})
    content = evaluated(folder, dataset, Split.Tr)
    assert (content["cases"], content["remarks"]) == (2, [])


def test_scores_of_training_are_not_replaced(tmp_path, dataset, capsys):
    folder = write_perfect(dataset, tmp_path / "validation", "c", "d", model=trained_on(dataset, "a", "b"))
    own = '{"fold": "fold_0"}'
    (folder / "summary.json").write_text(own)
    evaluate(folder, str(dataset), draws=5)
    assert (folder / "summary.json").read_text() == own
    assert (folder / "evaluation/summary.json").exists()
    assert f"All scores in {folder / 'evaluation/summary.csv'}" in capsys.readouterr().out
    with pytest.raises(UsageError, match="holds the scores that training wrote"):
        evaluate(folder, str(dataset), output=folder)


def test_second_evaluation_beside_the_scores_of_training_works(tmp_path, dataset):
    folder = write_perfect(dataset, tmp_path / "validation", "c", "d", model=trained_on(dataset, "a", "b"))
    (folder / "summary.json").write_text('{"fold": "fold_0"}')
    for _ in range(2):
        evaluate(folder, str(dataset), draws=5)


def voxels_of(dataset, name, split="Ts"):
    return {"voxels": digests(dataset, name, split=split)}


def test_prediction_of_the_image_of_the_dataset_is_known_by_its_voxels(tmp_path, dataset):
    folder = write_perfect(dataset, tmp_path / "p", "t", split="Ts", model=STRANGER, input=voxels_of(dataset, "t"))
    assert evaluated(folder, dataset, accept=[Accept.missing])["cases_from_other_image"] == []


OTHERS = {
    "voxels": lambda dataset: {"input": voxels_of(dataset, "u")},
    "shape": lambda dataset: {"geometry": moved(dataset, shape=(4, 60, 21))},
    "place": lambda dataset: {"geometry": moved(dataset, shift_mm=5.0)},
}


def moved(dataset, shape=None, shift_mm=0.0):
    grid = read_image([dataset / "imagesTs/t_0000.nii.gz"]).geometry
    origin_lps = tuple(value + shift_mm for value in grid.origin_lps)
    return dataclasses.replace(grid, shape=shape or grid.shape, origin_lps=origin_lps)


@pytest.mark.parametrize("what", OTHERS)
def test_prediction_of_another_image_is_refused_or_named(tmp_path, dataset, what):
    more = OTHERS[what](dataset)
    folder = write_perfect(dataset, tmp_path / "p", "t", split="Ts", model=STRANGER, **more)
    with pytest.raises(DatasetError, match=r"1 of 1 cases were predicted from another image .*: t\. .*other_image"):
        evaluate(folder, str(dataset), Split.Ts)
    content = evaluated(folder, dataset, accept=[Accept.other_image])
    assert content["cases_from_other_image"] == ["t"]
    assert "Predicted from another image than the dataset's: 1 (t)." in content["remarks"]


def test_case_predicted_from_a_training_image_under_its_name_is_learned_from(tmp_path, dataset):
    model, other = trained_on(dataset, "a"), voxels_of(dataset, "a", "Tr")
    folder = write_perfect(dataset, tmp_path / "p", "t", split="Ts", model=model, input=other)
    write_perfect(dataset, folder, "u", "v", split="Ts", model=model)
    assert evaluated(folder, dataset)["cases_learned_from"] == ["t"]


def test_image_that_changed_after_the_training_is_known_by_its_name(roots, tmp_path):
    dataset = build_dataset(roots / "raw/Dataset009_Tiny")
    names = {"dataset": dataset.name, "trainer": "T", "plans": "P", "configuration": "c", "folds": ["0"]}
    write_run(roots / f"results/{dataset.name}/T__P__c/fold_0", "a", "b")
    model = names | {"training_images": ["of another export"]}
    content = evaluated(write_perfect(dataset, tmp_path / "p", *CASES, model=model), dataset, Split.Tr)
    assert content["cases_learned_from"] == ["a", "b"]


def test_image_that_changes_between_two_evaluations_is_read_again(tmp_path, dataset):
    folder = write_perfect(dataset, tmp_path / "p", *TESTS, split="Ts", model=trained_on(dataset, "a"))
    assert evaluated(folder, dataset)["cases_learned_from"] == []
    shutil.copy(dataset / "imagesTr/a_0000.nii.gz", dataset / "imagesTs/t_0000.nii.gz")
    assert evaluated(folder, dataset)["cases_learned_from"] == ["t"]


def test_same_image_under_two_names_is_told(tmp_path, dataset):
    shutil.copy(dataset / "imagesTs/t_0000.nii.gz", dataset / "imagesTs/u_0000.nii.gz")
    content = evaluated(write_perfect(dataset, tmp_path / "p", *TESTS, split="Ts", model=STRANGER), dataset)
    assert content["cases_repeated"] == ["u"]
    assert content["remarks"] == ["With the image of a case before, counted again: 1 (u)."]


@pytest.mark.parametrize("what", ["JSON", "map", "nothing"])
def test_predictions_that_were_changed_afterwards_are_named(tmp_path, dataset, what):
    folder = write_perfect(dataset, tmp_path / "p", *TESTS, split="Ts", model=STRANGER)
    for name in TESTS:
        case = prediction_files.read_case_json(folder / f"{name}.json")
        written = dataclasses.replace(case, outputs=output_digests(folder, [f"{name}.nii.gz"]))
        prediction_files.write_case_json(folder, written)
    if what == "JSON":
        content = json.loads((folder / "t.json").read_text())
        content["vertebrae"][0]["class_probabilities"] = {"normal": 0.5, "oedema": 0.5}
        (folder / "t.json").write_text(json.dumps(content))
    if what == "map":
        image = sitk.ReadImage(str(folder / "t.nii.gz"))
        image[0, 0, 0] = 1
        sitk.WriteImage(image, str(folder / "t.nii.gz"))
    content = evaluated(folder, dataset)
    assert content["cases_changed"] == ([] if what == "nothing" else ["t"])
    assert ("NOT AS THEY WERE PREDICTED, the JSON or map is another: 1 (t)." in remarks(content)) == (what != "nothing")


def test_empty_map_of_a_test_case_is_refused(tmp_path, dataset):
    folder = write_perfect(dataset, tmp_path / "p", *TESTS, split="Ts", model=STRANGER)
    path = str(dataset / "labelsTs/t.nii.gz")
    sitk.WriteImage(sitk.ReadImage(path) * 0, path)
    with pytest.raises(DatasetError, match=r"\[E604\] empty map"):
        evaluate(folder, str(dataset), Split.Ts)


def with_patients(dataset, split, patients):
    path = dataset / f"vertebrae{split}.csv"
    rows = [line.split(",") for line in path.read_text().split()]
    lines = [",".join([*rows[0], "patient"])] + [",".join([*row, patients.get(row[0], row[0])]) for row in rows[1:]]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("model", [{}, {"dataset": "Dataset009_Tiny", "training_images": []}], ids=["unknown", "known"])
def test_other_scan_of_a_training_patient_is_named(tmp_path, dataset, model):
    with_patients(dataset, "Tr", {"a": "anna"})
    with_patients(dataset, "Ts", {"t": "anna"})
    content = evaluated(write_perfect(dataset, tmp_path / "p", *TESTS, split="Ts", model=model), dataset)
    assert content["cases_of_training_patients"] == ["t"]
    assert "Other scans of their patients were trained on: 1 (t)." in content["remarks"]


def test_patients_of_another_dataset_are_other_patients(tmp_path, dataset):
    with_patients(dataset, "Tr", {"a": "anna"})
    with_patients(dataset, "Ts", {"t": "anna"})
    content = evaluated(write_perfect(dataset, tmp_path / "p", *TESTS, split="Ts", model=STRANGER), dataset)
    assert content["remarks"] == []


@pytest.mark.parametrize("names", [("oedema", "normal"), ("normal", "fracture"), ("normal", "oedema", "other"), ()])
def test_model_of_other_classes_is_refused(tmp_path, dataset, names):
    folder = write_perfect(dataset, tmp_path / "p", "t", split="Ts", model=STRANGER)
    chances = np.full(len(names), 1 / max(1, len(names)))
    prediction_files.write_case_json(folder, make_case("u", [make_vertebra("L3", (0, 0, 0), chances)], names))
    with pytest.raises(DatasetError, match=r"case u: classes .*; expected those of Dataset009_Tiny: normal, oedema"):
        evaluate(folder, str(dataset), Split.Ts)


@pytest.mark.parametrize("empty_folder", [False, True])
def test_dataset_of_test_cases_alone_is_scored(tmp_path, dataset, empty_folder):
    folder = write_perfect(dataset, tmp_path / "p", *TESTS, split="Ts", model=STRANGER)
    for name in ("imagesTr", "labelsTr"):
        shutil.rmtree(dataset / name)
        if empty_folder:
            (dataset / name).mkdir()
    (dataset / "vertebraeTr.csv").unlink()
    content = evaluated(folder, dataset)
    assert identified(content) == 1.0
    assert content["training_reference"]["taken_from"].startswith("the scored cases themselves")


def test_maps_without_classes_are_scored_by_place_and_name(tmp_path, dataset, capsys):
    folder = write_perfect(dataset, tmp_path / "p", *TESTS, split="Ts", model=STRANGER)
    (dataset / "vertebraeTs.csv").unlink()
    content = evaluated(folder, dataset)
    assert (identified(content), content["location"]["dice"]["estimate"]) == (1.0, 1.0)
    text = capsys.readouterr().out
    assert "No vertebra of these cases has a class in vertebraeTs.csv, so classes are not scored." in text
    assert "Classified" not in text


def test_points_alone_are_scored(tmp_path, dataset):
    folder = write_perfect(dataset, tmp_path / "p", *TESTS, split="Ts", model=STRANGER, maps=False)
    rows = ["case,vertebra,class,x_mm,y_mm,z_mm"]
    for case in prediction_files.read_folder(folder):
        rows += [",".join(map(str, (case.identifier, v.level, "normal", *v.centre_lps))) for v in case.vertebrae]
    (dataset / "vertebraeTs.csv").write_text("\n".join(rows) + "\n")
    shutil.rmtree(dataset / "labelsTs")
    content = evaluated(folder, dataset)
    assert (identified(content), content["vertebrae_without_position"]) == (1.0, 0)


def test_test_images_without_any_annotation_are_refused(tmp_path, dataset):
    folder = write_perfect(dataset, tmp_path / "p", *TESTS, split="Ts", model=STRANGER)
    shutil.rmtree(dataset / "labelsTs")
    (dataset / "vertebraeTs.csv").unlink()
    with pytest.raises(DatasetError, match=r"none of its 3 cases \(t, u, v\) is an annotated Ts case of .* \(none\)"):
        evaluate(folder, str(dataset), Split.Ts)


def shrink(dataset, *cases):
    """Leave some of the test cases."""
    for name in TESTS.keys() - set(cases):
        (dataset / f"imagesTs/{name}_0000.nii.gz").unlink()
        (dataset / f"labelsTs/{name}.nii.gz").unlink()
    lines = (dataset / "vertebraeTs.csv").read_text().splitlines()
    kept = [line for line in lines[1:] if line.split(",")[0] in cases]
    (dataset / "vertebraeTs.csv").write_text("\n".join([lines[0], *kept]) + "\n")


def nothing_found(folder):
    for case in prediction_files.read_folder(folder):
        prediction_files.write_case_json(folder, dataclasses.replace(case, vertebrae=()))


SMALL = {
    "one case": (lambda d, f: None, ["t"]),
    "one class": (lambda d, f: None, ["v"]),
    "one patient": (lambda d, f: with_patients(d, "Ts", dict.fromkeys(TESTS, "p")), list(TESTS)),
    "nothing identified": (lambda d, f: nothing_found(f), list(TESTS)),
    "nothing identified in one case": (lambda d, f: nothing_found(f), ["t"]),
    "nothing read": (lambda d, f: (d / "vertebraeTs.csv").write_text("case,vertebra,class\nt,L3,\n"), list(TESTS)),
    "all failed": (lambda d, f: [
        [path.unlink() for path in f.glob("*")],
        prediction_files.write_failures(f, [(name, "no memory") for name in TESTS]),
    ], list(TESTS)),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("what", SMALL)
def test_small_and_empty_scores_have_no_senseless_number(tmp_path, dataset, capsys, what):
    change, cases = SMALL[what]
    shrink(dataset, *cases)
    folder = write_perfect(dataset, tmp_path / "p", *cases, split="Ts", model=STRANGER)
    change(dataset, folder)
    evaluated(folder, dataset)
    text = capsys.readouterr().out
    assert "nan" not in text
    assert "inf" not in text
    assert "NaN" not in (folder / "summary.json").read_text()
    for picture in (folder / "figures").glob("*.png"):
        assert sitk.GetArrayFromImage(sitk.ReadImage(str(picture))).std() > 5


def test_figures_say_what_was_scored(tmp_path, dataset, monkeypatch):
    from spinecls.evaluation import figures

    notes = []
    monkeypatch.setattr(figures, "_save", lambda figure, path, note: notes.append(note))
    folder = write_perfect(dataset, tmp_path / "p", "t", "u", split="Ts")
    evaluated(folder, dataset)
    assert set(notes) == {"3 cases; 1 of them without prediction, missed; not known what the model learned from"}
