"""Conversations between invented people: PersonaChat, Synthetic-Persona-Chat, CRD3, MTS-Dialog, ACI-Bench."""

from __future__ import annotations

import json

import pytest
from corpus_rows import names_of, rows_of, written

from imprint.corpora.turns import persona_user
from imprint.errors import CorpusError


def said(rows):
    return [(row["user"], row["query"], row["response"]) for row in rows]


def test_a_persona_is_the_same_user_in_any_order_and_case():
    """Files shuffle the lines."""
    assert persona_user(["I sail.", "i have a KITE. "]) == persona_user(["I have a  kite.", "I sail."])
    assert persona_user(["I sail."]) != persona_user(["I row."])
    assert persona_user([" ", ""]) is None


PARLAI = """1 your persona: i sail .
2 your persona: i have a kite .
3 partner's persona: i row .
4 __SILENCE__\thi there\t\thi there|bye
5 do you row ?\tno , i sail .\t\tyes|no
1 your persona: i have a kite .
2 your persona: i sail .
3 hello\thi again
"""


def test_personachat_gives_the_replies_of_the_side_with_your_persona(tmp_path):
    """Numbers that begin again begin a conversation; one persona is one user over all of them."""
    sailor = persona_user(["i sail .", "i have a kite ."])
    rows, counts = rows_of("personachat", written(tmp_path / "train_both_original.txt", PARLAI))
    assert said(rows) == [
        (sailor, "", "hi there"),
        (sailor, "do you row ?", "no , i sail ."),
        (sailor, "hello", "hi again"),
    ]
    assert rows[2]["persona"] == ["i have a kite .", "i sail ."]
    assert [row["attributes"]["dialogue"] for row in rows] == ["train_both_original.txt:1"] * 2 + [
        "train_both_original.txt:6"
    ]
    assert counts == {"read": 8, "persona lines": 5, "exchanges": 3}
    assert names_of("personachat", tmp_path) == []


def test_lines_parlai_does_not_write_are_quarantined(tmp_path):
    """A conversation without persona has no user; a line without reply has no response."""
    text = "no number\n\n1 hello\thi\t\tx\n2 alone\n"
    rows, counts = rows_of("personachat", written(tmp_path / "a.txt", text))
    assert rows[0]["problem"].startswith("the line is not a number and an utterance")
    assert said(rows[1:]) == [(None, "hello", "hi"), (None, "alone", None)]
    assert (counts["blank lines"], counts["unreadable"]) == (1, 1)


def synthetic(folder, conversation, header="user 1 personas,user 2 personas,Best Generated Conversation"):
    return written(folder / "chat.csv", f'{header}\r\n"I sail.\nI fly.","I row.","{conversation}"\r\n')


def test_synthetic_turns_of_several_lines_belong_to_one_speaker(tmp_path):
    """Recipes and lists; both speakers are users."""
    conversation = "User 1: Hi!\nUser 2: A recipe:\n\nFlour\nWater\nUser 1: Thanks."
    rows, counts = rows_of("synthetic_persona_chat", synthetic(tmp_path, conversation))
    first, second = persona_user(["I fly.", "I sail."]), persona_user(["I row."])
    assert said(rows) == [
        (first, "", "Hi!"),
        (second, "Hi!", "A recipe:\n\nFlour\nWater"),
        (first, "A recipe:\n\nFlour\nWater", "Thanks."),
    ]
    assert rows[0]["persona"] == ["I sail.", "I fly."]
    assert rows[1]["attributes"] == {"dialogue": "chat:1", "counterpart": first}
    assert counts["conversations"] == 1


def test_words_before_the_first_speaker_are_nobodys(tmp_path):
    """They are quarantined, and still the query of what follows."""
    rows, _ = rows_of("synthetic_persona_chat", synthetic(tmp_path, "[Note: a chat]\nUser 2: Hi"))
    assert [(row["user"] is None, row["query"]) for row in rows] == [(True, ""), (False, "[Note: a chat]")]


def test_the_other_release_has_other_names_for_its_columns(tmp_path):
    """And a file with neither is refused."""
    header = "User 1 Personas,User 2 Personas,Conversation"
    assert len(rows_of("synthetic_persona_chat", synthetic(tmp_path, "User 1: Hi", header))[0]) == 1
    synthetic(tmp_path, "x", "a,b,c")
    with pytest.raises(CorpusError, match="no column 'user 1 personas'"):
        rows_of("synthetic_persona_chat", tmp_path)


def test_a_broken_synthetic_record_costs_no_other(tmp_path):
    """A record with too few cells."""
    folder = synthetic(tmp_path, "User 1: Hi")
    path = folder / "chat.csv"
    path.write_text(path.read_text() + 'only,two\n\n"a","b","User 2: Yo"\n')
    rows, counts = rows_of("synthetic_persona_chat", folder)
    assert [row["response"] for row in rows] == ["Hi", None, "Yo"]
    assert (counts["unreadable"], counts["blank lines"], counts["conversations"]) == (1, 1, 2)


def episode(folder, name, *turns):
    records = [
        {"NAMES": list(names), "UTTERANCES": lines, "NUMBER": number} for number, (names, lines) in enumerate(turns)
    ]
    return written(folder / name, json.dumps({"METADATA": {}, "TURNS": records}))


def test_crd3_episodes_come_in_order_and_captions_are_joined(tmp_path):
    """Campaign 2 after campaign 1, episode 10 after episode 9; turns of roles are nobody's."""
    episode(tmp_path / "A folder", "C2E001.json", (["OWLET"], ["Later."]))
    episode(tmp_path, "C1E010.json", (["OWLET"], ["Now."]))
    turns = [(["WREN"], ["Fly, ", "little kite."]), (["ALL"], ["(laughter)"]), (["WREN", "OWLET"], ["Yes!"])]
    folder = episode(tmp_path, "C1E009.json", *turns, (["ALL - WREN"], ["No!"]), (["OWLET"], ["Rain."]))
    rows, counts = rows_of("crd3", folder)
    assert said(rows) == [
        ("wren", "", "Fly, little kite."),
        (None, "Fly, little kite.", "(laughter)"),
        (None, "(laughter)", "Yes!"),
        (None, "Yes!", "No!"),
        ("owlet", "No!", "Rain."),
        ("owlet", "", "Now."),
        ("owlet", "", "Later."),
    ]
    assert rows[1]["attributes"]["counterpart"] == "wren"
    assert counts["turns of several or of roles"] == 3
    assert sorted(names_of("crd3", folder)) == ["owlet", "wren"]


def test_a_broken_turn_is_quarantined_and_a_broken_episode_stops(tmp_path):
    """The turn after a broken one has the last readable turn as its query."""
    folder = episode(tmp_path, "C1E001.json", (["WREN"], ["One."]), (["WREN"], [1]), (["OWLET"], ["Two."]))
    rows, counts = rows_of("crd3", folder)
    assert sorted((row["response"] or "", row["query"] or "") for row in rows) == [
        ("", ""),
        ("One.", ""),
        ("Two.", "One."),
    ]
    assert counts["unreadable"] == 1
    written(folder / "C1E002.json", "{}")
    with pytest.raises(CorpusError, match=r"C1E002\.json is not an episode"):
        rows_of("crd3", folder)


def test_a_folder_without_episodes_is_refused(tmp_path):
    """The message says which folder holds them."""
    written(tmp_path / "CxEy.json", "{}")
    with pytest.raises(CorpusError, match="cleaned data"):
        rows_of("crd3", tmp_path)


def clinical(folder, name, header, *records):
    return written(folder / name, header + "\n" + "".join(f'{cells},"{text}"\n' for cells, text in records))


def test_mts_dialog_speakers_are_users_of_one_conversation(tmp_path):
    """Misspelt roles are the role; the same id in another file is another conversation."""
    text = "Doctor: Hi.\n Patient: Hello.\nGuest_clinican: Ahem.\nGuest_clinician: I say.\nGuest_family_2: Me too."
    header = "ID,section_header,dialogue"
    clinical(tmp_path, "MTS-Dialog-A.csv", header, ("0,CC", text))
    clinical(tmp_path, "MTS-Dialog-Augmented-B.csv", header, ("0,CC", text))
    clinical(tmp_path, "MTS-Dialog-C.csv", header, ("0,", "Doctor: Bye."))
    rows, counts = rows_of("mts_dialog", tmp_path)
    assert said(rows) == [
        ("MTS-Dialog-A/0/doctor", "", "Hi."),
        ("MTS-Dialog-A/0/patient", "Hi.", "Hello."),
        ("MTS-Dialog-A/0/guest_clinician", "Hello.", "Ahem."),
        ("MTS-Dialog-A/0/guest_clinician", "Ahem.", "I say."),
        ("MTS-Dialog-A/0/guest_family_2", "I say.", "Me too."),
        ("MTS-Dialog-C/0/doctor", "", "Bye."),
    ]
    assert rows[0]["attributes"] == {"dialogue": "MTS-Dialog-A/0", "section": "CC"}
    assert counts["conversations"] == 2


def test_aci_bench_puts_broken_turns_together(tmp_path):
    """Its metadata files are no conversations."""
    text = "[doctor] hi .\nhow are you ?\n[patient_guest] he is fine ."
    clinical(tmp_path, "train.csv", "dataset,encounter_id,dialogue", ("aci,D1", text))
    clinical(tmp_path, "train_metadata.csv", "dataset,encounter_id", ("aci", "D1"))
    rows, _ = rows_of("aci_bench", tmp_path)
    assert said(rows) == [
        ("train/D1/doctor", "", "hi .\nhow are you ?"),
        ("train/D1/patient_guest", "hi .\nhow are you ?", "he is fine ."),
    ]
    assert rows[0]["attributes"]["recorded"] == "aci"


def test_clinical_files_without_conversations_are_refused(tmp_path):
    """The wrong folder, and the wrong columns."""
    clinical(tmp_path, "train_metadata.csv", "dataset,encounter_id", ("aci", "D1"))
    with pytest.raises(CorpusError, match="only files that 'aci_bench' leaves out"):
        rows_of("aci_bench", tmp_path)
    with pytest.raises(CorpusError, match="no column 'ID'"):
        rows_of("mts_dialog", tmp_path)


def test_a_broken_clinical_record_costs_no_other(tmp_path):
    """Too many cells, and a blank line."""
    folder = clinical(tmp_path, "a.csv", "ID,dialogue", ("0", "Doctor: Hi."), ("1,2", "x"), ("2", "Patient: Yo."))
    rows, counts = rows_of("mts_dialog", folder)
    assert [row["response"] for row in rows] == ["Hi.", None, "Yo."]
    assert counts["unreadable"] == 1
