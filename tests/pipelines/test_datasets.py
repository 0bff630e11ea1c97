"""The catalog's datasets: whole or not there."""

import inspect

import pyarrow as pa
import pytest
from kedro.io import DatasetError

from imprint.data.tables import write_table
from pipelines.datasets import RecordLines, Table, WholeFigure, WholeJSON, WholeText, Workspace

ROWS = pa.table({"n": [1, 2, 3]})


def test_records_and_text_come_back(tmp_path):
    for dataset, value in (
        (WholeJSON(filepath=str(tmp_path / "a" / "one.json")), {"name": "Zoë", "n": [1, 2]}),
        (WholeText(filepath=str(tmp_path / "a" / "two.html")), "<p>Zoë</p>\n"),
        (RecordLines(filepath=str(tmp_path / "a" / "three.jsonl")), [{"n": "a\u2028b\ud800"}, {"n": 2}]),
    ):
        assert not dataset.exists()
        dataset.save(value)
        assert dataset.exists()
        assert dataset.load() == value


def test_what_cannot_be_written_leaves_what_was_there(tmp_path):
    dataset = WholeJSON(filepath=str(tmp_path / "one.json"))
    dataset.save({"old": 1})

    with pytest.raises(DatasetError):
        dataset.save({"new": object()})

    assert dataset.load() == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["one.json"]


def test_a_figure_can_be_previewed(tmp_path):
    from plotly.graph_objects import Figure

    dataset = WholeFigure(filepath=str(tmp_path / "figure.json"))
    assert not dataset.exists()
    with pytest.raises(DatasetError, match="run the stage that draws it"):
        dataset.preview()
    dataset.save(Figure(layout={"title": "A finding"}))

    assert dataset.load().layout.title.text == "A finding"
    assert "A finding" in str(dataset.preview())
    assert str(inspect.signature(dataset.preview).return_annotation) == "PlotlyPreview", "by which kedro-viz draws it"


def test_a_table_is_saved_from_memory_or_moved_from_where_it_was_made(tmp_path):
    dataset = Table(filepath=str(tmp_path / "table"))
    dataset.save(ROWS)
    assert dataset.load().to_table().equals(ROWS)

    write_table(tmp_path / "scratch", ROWS.slice(1).to_batches(), ROWS.schema)
    dataset.save(tmp_path / "scratch")
    assert dataset.load().to_table().column("n").to_pylist() == [2, 3]
    assert not (tmp_path / "scratch").exists()
    assert [batch.num_rows for batch in Table(filepath=str(tmp_path / "table"), batches=True).load()] == [2]


def test_an_unfinished_table_is_not_there(tmp_path):
    dataset = Table(filepath=str(tmp_path / "table"))
    dataset.save(ROWS)
    (tmp_path / "table" / "manifest.json").unlink()

    assert not dataset.exists()
    with pytest.raises(DatasetError, match=r"no manifest\.json"):
        dataset.load()


def test_a_workspace_is_a_place_and_no_output(tmp_path):
    dataset = Workspace(filepath=str(tmp_path / "deep" / "place"))
    assert dataset.load() == tmp_path / "deep" / "place"
    assert (tmp_path / "deep").is_dir()
    with pytest.raises(DatasetError, match="input"):
        dataset.save(tmp_path)
