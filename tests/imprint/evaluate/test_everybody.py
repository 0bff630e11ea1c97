"""What all users say together is read once, however many shards ask."""

from partitioned import history, table_of

from imprint.evaluate.everybody import Everybody

ROWS = [
    *history("ann", "category", ["music", " film"], "train"),
    *history("bob", "category", ["music", "games"], "train"),
    *history("bob", "dialogue", ["hello", "there"]),
]


class Counting:
    """A table that counts how often it was scanned."""

    def __init__(self, table):
        self.table, self.scans = table, 0

    def scanner(self, **given):
        self.scans += 1
        return self.table.scanner(**given)


def test_answers_counts_and_facts_are_read_once(tmp_path):
    table = Counting(table_of(ROWS, tmp_path))
    everybody = Everybody(table)

    def ask():
        return everybody.answers["category"].texts, everybody.counts("category"), everybody.facts

    labels, counts, facts = ask()
    read = table.scans

    assert sorted(labels) == ["film", "games", "music"]
    assert counts == {"music": 2, "film": 1, "games": 1}
    assert facts == {}
    assert ask() == (labels, counts, facts)
    assert table.scans == read
