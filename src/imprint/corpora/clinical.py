"""MTS-Dialog and ACI-Bench: conversations of doctors and patients, written for the notes that go with them.

MTS-Dialog. Provenance: Ben Abacha, Yim, Fan, Lin, "An Empirical Study of Clinical Note Generation from Doctor-Patient
Encounters", EACL 2023, https://github.com/abachaa/MTS-Dialog, CSV `ID, section_header, section_text, dialogue`. Licence
as stated: CC BY 4.0. Rows: 1,701 conversations (1,201 training, 100 validation, 200 and 200 test), 15,935 turns.
ACI-Bench. Provenance: Yim et al., "ACI-BENCH: a Novel Ambient Clinical Intelligence Dataset for Benchmarking Automatic
Visit Note Generation", Scientific Data 10, 2023, https://github.com/wyim/aci-bench, CSV `dataset, encounter_id,
dialogue, note`. Licence as stated: CC BY 4.0. Rows: 207 encounters, 11,436 turns.

A user is one speaker of one conversation, `<file>/<id>/<role>`, for the corpora know roles and no people: nobody comes
back, and one user "doctor" would pool strangers. Histories are short, so these corpora teach a base model, or pooled
adapters, rather than memories. The response is a turn, the query the turn before it. Notes are not read.

Known defects: MTS-Dialog spells roles in several ways (`Guest_clinican`, `Gest_family`; one user each here), a few
lines begin with a quotation mark; its augmented files translate the same conversations and are left out. ACI-Bench
separates every token by spaces, is in lower case in part, breaks some turns over several lines (put together), and has
swapped speakers where speech recognition did. Patients are invented, and so are their names.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

from imprint.corpora.reading import READ, RawRow, Reader
from imprint.corpora.records import csv_rows, files_of
from imprint.corpora.turns import Turn, rows_of_turns, spoken
from imprint.errors import CorpusError

SPELLINGS = {"guest_clinican": "guest_clinician", "gest_family": "guest_family", "guest_family2": "guest_family_2"}
"""Roles of MTS-Dialog that are misspelt, as they are elsewhere."""


class ConversationCsv(Reader):
    """CSV files with a conversation a record; the subclass says which columns, and how a speaker is written."""

    columns: ClassVar[tuple[str, str]]
    """The column with the id, and the one with the conversation."""
    left_out: ClassVar[re.Pattern[str]]
    """Files of the release that hold no conversations, or the same ones again."""
    speaker: ClassVar[re.Pattern[str]]

    def check(self) -> None:
        """Raise `CorpusError` where there is no file, or one without the columns."""
        found = files_of(self.settings, ["*.csv"], f"*.csv files with a column {self.columns[1]!r}")
        self._files = [file for file in found if not self.left_out.search(str(file))]
        if not self._files:
            raise CorpusError(
                f"corpus.path {self.settings.path!r} has only files that {self.settings.format!r} leaves out. "
                "Next: name the folder with the conversations themselves."
            )
        for file in self._files:
            next(csv_rows(file, self.columns), None)

    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """A row a turn; kinds of records: `conversations`, `blank lines`, `unreadable`."""
        for file in self._files:
            for line, record, problem in csv_rows(file, self.columns):
                counts[READ] += 1
                where = f"{file.name}:{line}"
                if record is None:
                    counts["unreadable" if problem else "blank lines"] += 1
                    if problem:
                        yield RawRow(where=where, source_id=where, task=self.task, problem=problem)
                    continue
                counts["conversations"] += 1
                name, conversation = (record[column] for column in self.columns)
                dialogue = f"{file.stem}/{name}"
                turns = (
                    Turn(f"{dialogue}/{role_of(who)}" if who else None, said, attributes=self.kept(record))
                    for who, said in spoken(conversation, self.speaker)
                )
                yield from rows_of_turns(turns, where, self.task, dialogue)

    @abstractmethod
    def kept(self, record: dict[str, str]) -> dict[str, str]:
        """What else of a record goes into the attributes."""

    def names(self) -> Iterator[str]:
        """None: speakers are roles."""
        return iter(())


class MtsDialog(ConversationCsv):
    """`MTS-Dialog-*.csv`."""

    columns = ("ID", "dialogue")
    left_out = re.compile(r"Augmented")
    speaker = re.compile(r'\s*"?((?:Doctor|Patient|Gu?est_[A-Za-z]+(?:_?\d)?))\s*:')

    def kept(self, record: dict[str, str]) -> dict[str, str]:
        """The section of the note that the conversation is about."""
        return {"section": record["section_header"]} if record.get("section_header") else {}


class AciBench(ConversationCsv):
    """The CSV files of `challenge_data`."""

    columns = ("encounter_id", "dialogue")
    left_out = re.compile(r"metadata|src_experiment_data")
    speaker = re.compile(r"\s*\[(doctor|patient|patient_guest)\]")

    def kept(self, record: dict[str, str]) -> dict[str, str]:
        """How the encounter was recorded: `aci`, `virtassist` or `virtscribe`."""
        return {"recorded": record["dataset"]} if record.get("dataset") else {}


def role_of(written: str) -> str:
    """A role in lower case and one spelling."""
    role = written.strip().lower()
    return SPELLINGS.get(role, role)
