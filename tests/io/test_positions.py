"""Guards against points and boxes that are believed blindly: in another frame, unit or order, or of no vertebra."""

import column_dataset as column
import numpy as np
import pytest
import tiny_dataset as tiny

from spinecls.io.dataset import check_dataset


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "Dataset001_Column"
    path.mkdir()
    return path


def told(folder):
    """Errors and warnings of the positions of case a1 or of the whole dataset."""
    findings = check_dataset(folder, verify_voxels=False).findings
    return [f.line for f in findings if f.case in ("", "a1") and f.code[1:] not in ("717", "716")]


def exchanged(points, _):
    changed = points.copy()
    changed[[2, 3]] = changed[[3, 2]]
    return changed


def constant(axis, value=None):
    def change(points, _):
        changed = points.copy()
        changed[:, axis] = points[0, axis] if value is None else value
        return changed

    return change


def test_good_points_have_no_finding(folder):
    column.write_points(folder, column.rows_of())
    assert told(folder) == []


def test_points_for_some_vertebrae_have_no_finding(folder):
    column.write_points(folder, column.rows_of()[1::2])
    assert told(folder) == []


@pytest.mark.parametrize(
    ("change", "reading"),
    [
        (lambda p, _: p * (-1, -1, 1), "RAS millimetres (change the signs of x_mm and y_mm)"),
        (column.file_indices, "voxel indices (i, j, k) of the image file"),
        (lambda p, case: column.file_indices(p, case)[:, ::-1], "voxel indices (k, j, i) of an array"),
        (lambda p, _: p / 10, "centimetres (multiply by 10)"),
        (lambda p, _: p * (-0.1, -0.1, 0.1), "RAS centimetres"),
        (lambda p, _: p / 1000, "metres (multiply by 1000)"),
        (lambda p, case: column.file_indices(p, case) * (2, 2, 4), "millimetres from the first voxel of the file"),
        (lambda p, _: p[:, [0, 2, 1]], "millimetres with y_mm and z_mm exchanged"),
        (lambda p, _: p[:, [2, 1, 0]], "millimetres with x_mm and z_mm exchanged"),
        (lambda p, _: p * (1, -1, 1), "millimetres with the sign of y_mm reversed"),
        (lambda p, _: p * (1, 1, -1), "millimetres with the sign of z_mm reversed"),
        (lambda p, case: column.file_indices(p, case)[:, [1, 0, 2]], "voxel indices (j, i, k) of the image file"),
        (lambda p, case: column.file_indices(p, case)[:, [1, 2, 0]], "voxel indices (j, k, i) of the image file"),
        (lambda p, case: column.file_indices(p, case)[:, [2, 0, 1]], "voxel indices (k, i, j) of the image file"),
        # The file runs to P, I and R, so turned to RAS its last index comes first, and the others are counted back.
        (
            lambda p, case: np.abs(column.file_indices(p, case)[:, [2, 0, 1]] - (0, 49, 129)),
            "voxel indices of the image turned to RAS",
        ),
    ],
)
@pytest.mark.parametrize("cases", [("a1",), ("a1", "a2", "a3")])
def test_another_meaning_of_the_numbers_is_named(folder, change, reading, cases):
    column.write_points(folder, column.rows_of(change, cases))
    lines = told(folder)
    assert lines[0].startswith("[E")
    assert f"They fit if read as {reading}." in lines[0]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda p, _: p[::-1], "E605", "S1 lies 204 mm above T12. Is the case upside down"),
        (exchanged, "E606", "L3 lies 34 mm above L2"),
        (lambda p, _: np.where(np.arange(7)[:, None] == 3, p[2], p), "E723", "L2 and L3 have one point"),
        (lambda p, _: p * 0 + p[3], "E723", "T12 and L1 have one point (37.0, -89.2, 28.0), and 20 more pairs"),
        (lambda p, _: p + (0, 500, 0), "E714", "T12: its point (37.0, 410.0, 130.0) lies outside the image, as 6"),
        (constant(1), "W724", "y_mm is -90 for all of T12 to S1"),
        (lambda p, _: p[3] + (p - p[3]) * 0.4, "W724", "too close to each other, 0.38 times what is usual"),
        (lambda p, _: p + np.where(np.arange(7)[:, None] == 3, (0, 0, 22), 0), "W724", "L2 and L3 lie 0.3"),
        (
            lambda p, _: p + np.where(np.arange(7)[:, None] < 3, (0, 0, 14), (0, 0, -16)),
            "W724",
            "L2 and L3 lie 1.8 times as far from each other as the other neighbours do.",
        ),
        (lambda p, case: column.points("a2"), "E714", "They would fit the image of a2."),
    ],
)
def test_positions_that_no_column_has_are_told(folder, change, code, words):
    column.write_points(folder, column.rows_of(change, ("a1",)))
    assert any(line.startswith(f"[{code}]") and words in line for line in told(folder)), told(folder)


def test_a_constant_z_is_an_error(folder):
    column.write_points(folder, column.rows_of(constant(2), ("a1",)))
    assert any(line.startswith(("[E723]", "[E724]")) for line in told(folder)), told(folder)


def test_an_x_of_zero_everywhere_is_told(folder, monkeypatch):
    monkeypatch.setitem(column.CORNERS, "a1", (30.0, -130.0, 150.0))
    column.write_points(folder, column.rows_of(constant(0, 0.0), ("a1",)))
    assert told(folder) == ["[W724] a1: x_mm is 0 for all of T12 to S1"]


def test_points_of_one_sagittal_slice_may_share_their_x(folder):
    column.write_points(folder, column.rows_of(constant(0)))
    assert told(folder) == []


def test_positions_of_another_case_are_told(folder, monkeypatch):
    monkeypatch.setitem(column.CORNERS, "a2", (60.0, -132.0, 152.0))
    column.write_points(folder, column.rows_of(lambda p, _: column.points("a1"), ("a2",)))
    report = check_dataset(folder, verify_voxels=False)
    assert [f.line for f in report.findings if f.code == "W736"] == [
        "[W736] a2: the points are those of a1, and the images lie differently. Was a row copied?"
    ]


def test_a_mirrored_column_inside_the_image_is_told(folder, monkeypatch):
    for case in column.CORNERS:
        monkeypatch.setitem(column.CORNERS, case, (33.0, -130.0, 150.0))
    column.write_points(folder, column.rows_of(lambda p, _: p * (-1, 1, 1)))
    # The image reaches from x = 33 to -11 mm, so its middle is 11; the mirrored points lie at -10, the others at 10 mm.
    assert (
        "[W725] the points lie 21 mm beside the middle of the images, and would lie 1 mm beside it if read as "
        in (told(folder)[0])
    )
    assert "millimetres with the sign of x_mm reversed" in told(folder)[0]


@pytest.mark.parametrize(
    ("half_mm", "factor", "words"),
    [
        ((300, 300, 300), 1, "measures 600 x 600 x 600 mm (x, y, z), expected sides of 3 to 180 mm. 6 more boxes"),
        ((0.5, 0.5, 0.5), 1, "measures 1 x 1 x 1 mm"),
        ((20, 15, 13), 0.1, "Are they in centimetres?"),
    ],
)
def test_a_box_of_a_size_that_no_vertebra_has_is_an_error(folder, half_mm, factor, words):
    column.write_boxes(folder, half_mm, factor)
    assert any(line.startswith("[E734] a1: T12") and words in line for line in told(folder)), told(folder)


@pytest.mark.parametrize("half_mm", [(20, 15, 13), (2, 15, 13), (45, 40, 30)])
def test_good_boxes_of_bodies_slices_and_whole_vertebrae_have_no_finding(folder, half_mm):
    column.write_boxes(folder, half_mm)
    assert told(folder) == []


def test_a_box_over_a_neighbour_is_told_unless_it_is_declared_loose(folder):
    column.write_boxes(folder, (20, 20, 40))
    assert "[W735] a1: T12: its box holds the centre of L1 too." in told(folder)[0]
    (folder / "annotationsTr.json").write_text('{"default": {"vertebrae": {"form": "box", "slack_mm": 25}}}')
    assert told(folder) == []


def test_boxes_upside_down_are_told_as_points_are(folder):
    column.write_boxes(folder, (20, 15, 13), factor=-1)
    table = (folder / "vertebraeTr.csv").read_text().splitlines()
    header = "case,patient,vertebra,class,x_max_mm,y_max_mm,z_max_mm,x_min_mm,y_min_mm,z_min_mm"
    tiny.table(folder, header, *table[1:])
    assert "box centre" in told(folder)[0]
    assert told(folder)[0].startswith("[E714]")


@pytest.mark.parametrize(
    ("shift_mm", "told_as"),
    [
        ((0, 0, 0), None),
        # The centre of a whole vertebra lies behind and below that of its body.
        ((0, 18, -8), None),
        ((0, 35, 0), "[W722] a1: L1: its point lies 35 mm from its centre in the map"),
        ((0, 0, -34), "[E722] a1: L1: its point lies 34 mm from its centre in the map, and 0 mm from that of L2."),
    ],
)
def test_a_point_is_compared_with_the_map(folder, shift_mm, told_as):
    column.write_maps(folder, lambda a: a, classes={"normal": 0, "fracture": 1}, vertebrae=column.CODES)
    rows = [line.rsplit(",", 3)[0] + ",,," for line in column.rows_of()]
    tiny.table(folder, "case,patient,vertebra,class,x_mm,y_mm,z_mm", *rows)
    # In the map L1 lies in the middle: slices 1 to 10, columns 13 to 27, rows 20 to 33.
    place = np.array(column.CORNERS["a1"]) + (-5.5 * 4, 20 * 2, -26.5 * 2) + shift_mm
    tiny.replace_in_table(folder, "a1,p0,L1,1,,,", "a1,p0,L1,1," + ",".join(map(str, place)))
    assert [line.partition(" Correct")[0] for line in told(folder)] == ([told_as] if told_as else [])


def test_a_point_is_ordered_among_the_vertebrae_of_the_map(folder):
    column.write_maps(folder, lambda a: np.where(a == 22, 0, a), classes={"normal": 0, "fracture": 1},
                      vertebrae=column.CODES)  # fmt: skip
    rows = [line.rsplit(",", 3)[0] + ",,," for line in column.rows_of() if ",L3," not in line]
    x, y, z = column.points("a1")[0] + (0, 0, 15)
    tiny.table(folder, "case,patient,vertebra,class,x_mm,y_mm,z_mm", *rows, f"a1,p0,L3,0,{x},{y},{z}")
    assert any(line.startswith("[E606] a1: L3 lies") for line in told(folder)), told(folder)


def test_points_that_fit_the_map_in_another_frame_are_told_so(folder):
    column.write_maps(folder, lambda a: a, classes={"normal": 0, "fracture": 1}, vertebrae=column.CODES)
    tiny.table(folder, "case,patient,vertebra,class,x_mm,y_mm,z_mm", *column.rows_of(column.file_indices, ("a1",)))
    assert "They fit if read as voxel indices (i, j, k) of the image file." in told(folder)[0]


def test_points_beside_the_middle_of_all_images_are_told(folder, monkeypatch):
    monkeypatch.setattr(column, "SHAPE", (16, 130, 50))
    column.write_points(folder, column.rows_of(lambda p, _: p + (-24, 0, 0)))
    text = "[W725] the points lie 17 mm beside the middle of the images, where spines mostly are. Is x_mm right?"
    assert told(folder) == [text]


def test_points_of_other_vertebrae_than_named_are_told_by_all_cases_together(folder, monkeypatch):
    monkeypatch.setattr(column, "PITCH_MM", 32.0)
    monkeypatch.setattr(column, "LEVELS", ("T5", "T6", "T7", "T8", "T9", "T10", "T11"))
    monkeypatch.setattr(column, "CODES", dict(zip(column.LEVELS, range(12, 19), strict=True)))
    column.write_points(folder, column.rows_of())
    # 32 mm over 23 to 27 of adults.
    assert told(folder) == [
        "[W724] in the median of 3 cases, the points lie 1.3 times as far from each other as is usual in adults, as "
        "those of lumbar vertebrae do. Are the names right?"
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((-1, -1, 1, -1, -1, 1), "Then exchange minimum and maximum of x and y too."),
        ((1, 1, 1, 1, 1, -1), "are two corners (LPS mm), the smaller of each axis first; no size, no centre."),
    ],
)
def test_a_reversed_box_is_told_with_its_likely_cause(folder, change, words):
    column.write_boxes(folder, (14, 15, 13))
    head, *rows = (folder / "vertebraeTr.csv").read_text().splitlines()
    cells = [row.split(",") for row in rows]
    changed = [[*c[:4], *(str(sign * float(v)) for sign, v in zip(change, c[4:], strict=True))] for c in cells]
    tiny.table(folder, head, *(",".join(c) for c in changed))
    assert told(folder)[0].endswith(words)
