"""JSON lines, CSV and Parquet with a column map: what is read, what becomes a problem, what stops at once."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from imprint.corpora import CorpusSettings, open_corpus
from imprint.corpora.columns import UnreadableRowError, parsed_time
from imprint.corpora.reading import READ
from imprint.errors import CorpusError
from imprint.schema import raw_schema

GOOD = {"user_id": "ann", "query": "tea?", "response": "yes please"}


def opened(path, kind="jsonl", **settings):
    return open_corpus(CorpusSettings(format=kind, path=str(path), **settings))


def rows_of(corpus):
    rows = [row for batch in corpus.batches() for row in batch.to_pylist()]
    kinds = {kind: number for kind, number in corpus.counts.items() if kind != READ}
    assert sum(kinds.values()) == corpus.counts[READ]
    return rows


def jsonl(folder, *lines):
    path = folder / "chat.jsonl"
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(encoded) + b"\n")
    return path


class TestBeforeAnyWork:
    """`open_corpus` refuses what no pass could read."""

    def test_a_missing_file_is_named(self, tmp_path):
        """The message has the path as it was given."""
        with pytest.raises(CorpusError, match=r"nowhere\.jsonl' does not exist"):
            opened(tmp_path / "nowhere.jsonl")

    def test_a_folder_is_no_file(self, tmp_path):
        """A folder with the file inside is a common slip."""
        with pytest.raises(CorpusError, match=r"is a folder; corpus\.format 'jsonl' needs one file"):
            opened(tmp_path)

    @pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
    def test_an_empty_file_is_refused(self, tmp_path, kind):
        """An interrupted export must not look like a corpus without users."""
        path = tmp_path / "empty"
        path.touch()
        with pytest.raises(CorpusError, match="is empty"):
            opened(path, kind)

    @pytest.mark.parametrize("kind", ["jsonl", "csv"])
    def test_utf_16_is_refused(self, tmp_path, kind):
        """Spreadsheets export it; read as UTF-8 every row would be quarantined."""
        path = tmp_path / "wide"
        path.write_bytes("user_id,query,response\na,b,c\n".encode("utf-16"))
        with pytest.raises(CorpusError, match=r"UTF-16.*iconv"):
            opened(path, kind)

    def test_a_missing_column_names_what_is_there_and_which_key_to_set(self, tmp_path):
        """Nobody should have to open the file to correct the YAML."""
        path = jsonl(tmp_path, {"author": "a", "query": "q", "response": "r"})
        with pytest.raises(CorpusError, match=r"no column 'user_id'.*corpus.columns.user.*author, query, response"):
            opened(path)

    def test_an_optional_column_named_by_hand_must_exist(self, tmp_path):
        """A name somebody chose is a promise; the default names, which the shipped YAML spells out, are none."""
        path = jsonl(tmp_path, GOOD)
        opened(path)
        opened(path, columns={"time": "time", "id": "id", "persona": "persona"})
        with pytest.raises(CorpusError, match=r"corpus\.columns\.time"):
            opened(path, columns={"time": "when"})

    def test_an_attribute_column_must_exist(self, tmp_path):
        """The same for attributes to keep."""
        with pytest.raises(CorpusError, match=r"corpus\.attributes\.mood"):
            opened(jsonl(tmp_path, GOOD), attributes={"mood": "feeling"})

    def test_text_that_is_not_jsonl_is_refused(self, tmp_path):
        """A CSV file under `jsonl` is a wrong format, not a file of broken lines."""
        with pytest.raises(CorpusError, match="is a JSON object"):
            opened(jsonl(tmp_path, b"user_id,query,response", b"a,b,c"))

    def test_bytes_that_are_not_parquet_are_refused(self, tmp_path):
        """The footer is read when the corpus is opened."""
        with pytest.raises(CorpusError, match="not a Parquet file"):
            opened(jsonl(tmp_path, GOOD), "parquet")


class TestJsonLines:
    """One row a line, whatever the line is."""

    def test_a_row_has_the_columns_of_the_contract(self, tmp_path):
        """The batch follows `raw_schema`, with the default id of its line."""
        corpus = opened(jsonl(tmp_path, GOOD | {"persona": ["I bake."], "time": "2024-05-01T10:00:00Z"}))
        (batch,) = corpus.batches()
        assert batch.schema == raw_schema()
        (row,) = batch.to_pylist()
        assert (row["user"], row["source_id"], row["where"]) == ("ann", "row-1", "chat.jsonl:1")
        assert row["persona"] == ["I bake."]
        assert row["time"] == datetime(2024, 5, 1, 10, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            (b'{"user_id": "secretive", "que', "not JSON"),
            (b'["secretive"]', "is a list, not an object"),
            ('{"user_id": "secretive", "query": "é", "response": "x"}'.encode("latin-1"), "bytes are not utf-8"),
            (json.dumps(GOOD | {"time": "secretive"}).encode(), "neither ISO 8601"),
            (json.dumps(GOOD | {"response": ["secretive"]}).encode(), "response is a list, not text"),
            (json.dumps(GOOD | {"persona": {"secretive": 1}}).encode(), "persona is an object, not a list"),
        ],
    )
    def test_an_unreadable_line_becomes_a_row_with_a_problem_and_no_content(self, tmp_path, line, problem):
        """It is quarantined later, never dropped, and what it held is repeated nowhere."""
        rows = rows_of(opened(jsonl(tmp_path, GOOD, line, GOOD)))
        assert [row["problem"] is None for row in rows] == [True, False, True]
        assert problem in rows[1]["problem"]
        assert rows[1]["where"] == "chat.jsonl:2"
        assert "secretive" not in json.dumps(rows[1], default=str)

    @pytest.mark.parametrize("user", [None, "", "  ", "null", "None", "NaN"])
    def test_a_user_that_names_nobody_is_null(self, tmp_path, user):
        """Strangers whose exporter wrote "null" must not become one user."""
        rows = rows_of(opened(jsonl(tmp_path, GOOD | {"user_id": user})))
        assert rows[0]["user"] is None
        assert rows[0]["problem"] is None

    def test_a_missing_response_stays_null_and_an_empty_query_stays_empty(self, tmp_path):
        """Validation decides about them."""
        rows = rows_of(opened(jsonl(tmp_path, GOOD, {"user_id": "a", "query": "", "response": None})))
        assert (rows[1]["query"], rows[1]["response"]) == ("", None)

    def test_numbers_are_taken_by_their_digits(self, tmp_path):
        """Exporters turn ids into 7 and, beside a null, into 7.0: both are user 7."""
        rows = rows_of(opened(jsonl(tmp_path, *(GOOD | {"user_id": user, "id": user} for user in (7, 7.0, "7")))))
        assert {row["user"] for row in rows} == {"7"}
        assert {row["source_id"] for row in rows} == {"7"}

    def test_control_characters_stay_for_validation_to_refuse_and_lone_surrogates_become_one_mark(self, tmp_path):
        """Neither can be shown, and a lone surrogate cannot be stored."""
        rows = rows_of(opened(jsonl(tmp_path, GOOD | {"response": "a\x00b\x1b[0m\r\nc\td\ud800"})))
        assert rows[0]["response"] == "a\x00b\x1b[0m\nc\td\ufffd"

    def test_a_megabyte_message_is_read_whole(self, tmp_path):
        """Length is for validation to judge."""
        rows = rows_of(opened(jsonl(tmp_path, GOOD | {"response": "word " * 200_000})))
        assert len(rows[0]["response"]) == 1_000_000

    def test_blank_lines_are_counted_and_are_no_rows(self, tmp_path):
        """Files end in blank lines; the counts still add up."""
        corpus = opened(jsonl(tmp_path, GOOD, b"", b"  ", GOOD))
        assert len(rows_of(corpus)) == 2
        assert corpus.counts["blank lines"] == 2

    def test_a_byte_order_mark_is_no_part_of_the_first_line(self, tmp_path):
        """UTF-8 files from Windows start with one."""
        assert rows_of(opened(jsonl(tmp_path, b"\xef\xbb\xbf" + json.dumps(GOOD).encode())))[0]["user"] == "ann"

    def test_another_encoding_can_be_named(self, tmp_path):
        """Latin-1 bytes are a problem only where UTF-8 was promised."""
        path = jsonl(tmp_path, json.dumps(GOOD | {"query": "thé?"}, ensure_ascii=False).encode("latin-1"))
        assert rows_of(opened(path, encoding="latin-1"))[0]["query"] == "thé?"

    def test_columns_and_attributes_are_mapped(self, tmp_path):
        """Any names will do, and further columns can be kept."""
        path = jsonl(tmp_path, {"who": "a", "said": "hi", "kind": "text", "stars": 4, "other": 1})
        rows = rows_of(
            opened(
                path,
                columns={"user": "who", "query": None, "response": "said", "task": "kind"},
                attributes={"rating": "stars"},
            )
        )
        assert (rows[0]["query"], rows[0]["response"], rows[0]["task"]) == ("", "hi", "text")
        assert rows[0]["attributes"] == [("rating", "4")]

    def test_every_call_of_batches_starts_anew(self, tmp_path):
        """Ingest takes several passes."""
        corpus = opened(jsonl(tmp_path, *[GOOD] * 5000))
        sizes = [[batch.num_rows for batch in corpus.batches()] for _ in range(2)]
        assert sizes == [[4096, 904]] * 2
        assert list(corpus.user_names()) == ["ann"]

    def test_duplicate_ids_pass_through(self, tmp_path):
        """The reader reports what is there; validation quarantines."""
        rows = rows_of(opened(jsonl(tmp_path, GOOD | {"id": "x"}, GOOD | {"id": "x"})))
        assert [row["source_id"] for row in rows] == ["x", "x"]


class TestCsv:
    """CSV with the corners that real exports have."""

    def test_quotes_commas_newlines_crlf_and_bom(self, tmp_path):
        """All five in one file."""
        path = tmp_path / "chat.csv"
        path.write_bytes(b'\xef\xbb\xbfuser_id,query,response\r\nann,"a, ""b""","two\r\nlines"\r\nbo,,hi\r\n')
        rows = rows_of(opened(path, "csv"))
        assert [(row["user"], row["query"], row["response"]) for row in rows] == [
            ("ann", 'a, "b"', "two\nlines"),
            ("bo", "", "hi"),
        ]

    def test_an_empty_cell_is_null_except_for_the_query(self, tmp_path):
        """CSV has no null: an empty response was not given."""
        path = tmp_path / "chat.csv"
        path.write_text("user_id,query,response,time\n,q,,\n")
        (row,) = rows_of(opened(path, "csv"))
        assert (row["user"], row["query"], row["response"], row["time"]) == (None, "q", None, None)

    @pytest.mark.parametrize(
        ("record", "problem"),
        [(b"a,b", "2 cells, the header 3"), (b"a,b,c,d", "4 cells"), (b"a,b,caf\xe9", "bytes are not utf-8")],
    )
    def test_a_broken_record_becomes_a_row_with_a_problem(self, tmp_path, record, problem):
        """And the records around it are read."""
        path = tmp_path / "chat.csv"
        path.write_bytes(b"user_id,query,response\nann,q,r\n" + record + b"\nbo,q,r\n")
        rows = rows_of(opened(path, "csv"))
        assert [row["user"] for row in rows] == ["ann", None, "bo"]
        assert problem in rows[1]["problem"]
        assert rows[1]["response"] is None

    def test_a_megabyte_cell_is_read(self, tmp_path):
        """Python's own limit for a cell is 131,072 characters."""
        path = tmp_path / "chat.csv"
        path.write_text("user_id,query,response\nann,q," + "x" * 1_000_000 + "\n")
        assert len(rows_of(opened(path, "csv"))[0]["response"]) == 1_000_000


class TestParquet:
    """Parquet, with the types that pandas and Spark write."""

    def test_typed_columns_are_read(self, tmp_path):
        """Integer ids, timestamps without zone and lists of strings."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(
            {
                "user_id": pa.array([5, None]),
                "query": ["q", None],
                "response": ["r", "s"],
                "time": pa.array([datetime(2024, 1, 2), None], pa.timestamp("us")),
                "persona": [["I sail."], None],
                "unused": [1, 2],
            }
        )
        pq.write_table(table, tmp_path / "chat.parquet")
        rows = rows_of(opened(tmp_path / "chat.parquet", "parquet"))
        assert [row["user"] for row in rows] == ["5", None]
        assert rows[0]["time"] == datetime(2024, 1, 2, tzinfo=UTC)
        assert rows[0]["persona"] == ["I sail."]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-05-01T12:00:00+02:00", datetime(2024, 5, 1, 10, tzinfo=UTC)),
        ("2024-05-01 10:00", datetime(2024, 5, 1, 10, tzinfo=UTC)),
        (1714557600, datetime(2024, 5, 1, 10, tzinfo=UTC)),
        (1714557600000, datetime(2024, 5, 1, 10, tzinfo=UTC)),
        ("1714557600.5", datetime(2024, 5, 1, 10, 0, 0, 500_000, tzinfo=UTC)),
        ("", None),
        (None, None),
    ],
)
def test_times_in_all_forms_mean_the_same(value, expected):
    """ISO 8601 with and without zone, epoch seconds and milliseconds."""
    assert parsed_time(value) == expected


@pytest.mark.parametrize("value", ["yesterday", "2024-13-01", float("inf"), 1e300, True, {"at": 1}])
def test_a_time_that_is_none_is_refused(value):
    """A wrong time would put the row into a wrong split."""
    with pytest.raises(UnreadableRowError):
        parsed_time(value)


def test_a_response_outside_the_labels_of_its_task_is_a_row_with_a_problem(tmp_path):
    """Scoring over labels would count it as wrong for every method; the user stays known, the words do not."""
    path = jsonl(tmp_path, *(GOOD | {"response": stars} for stars in ("4", 5, "secretive", "", None)))
    rows = rows_of(opened(path, task="rating"))
    assert [row["problem"] is None for row in rows] == [True, True, False, True, True]
    assert "none of the labels of task 'rating': 1, 2, 3, 4, 5" in rows[2]["problem"]
    assert (rows[2]["user"], rows[2]["response"]) == ("ann", None)
    assert "secretive" not in json.dumps(rows[2], default=str)


def test_a_task_the_format_does_not_offer_is_refused(tmp_path):
    """Logs of a chat have no ratings."""
    (tmp_path / "2010-01-01.raw.txt").write_text("[10:00] <ann> hi\n")
    with pytest.raises(CorpusError, match=r"corpus\.task is 'rating'; corpus\.format 'irc' offers dialogue"):
        opened(tmp_path, "irc", task="rating")
