from spinecls.io.case_table import read_sequences


def test_sequences_are_read_as_they_are_written(tmp_path):
    (tmp_path / "cases.csv").write_text("case,age,sequence\na,44, T1 \nb,31,t2_tse\n")
    assert read_sequences(tmp_path) == {"a": "T1", "b": "t2_tse"}


def test_case_without_a_sequence_is_passed_over(tmp_path):
    (tmp_path / "cases.csv").write_text("case,sequence\na,\nb,STIR\n")
    assert read_sequences(tmp_path) == {"b": "STIR"}


def test_table_without_the_column_tells_no_sequence(tmp_path):
    (tmp_path / "cases.csv").write_text("case,age\na,44\n")
    assert read_sequences(tmp_path) == {}


def test_dataset_without_the_table_tells_no_sequence(tmp_path):
    assert read_sequences(tmp_path) == {}
