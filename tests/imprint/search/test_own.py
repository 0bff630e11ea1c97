"""Configs of users' own, shard by shard: who is in which study, who runs it, and who is given what it found."""

import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from imprint.memory.config import MemoryConfig
from imprint.search.own import choices_table, count_own, own_configs
from imprint.search.scoping import members_of, study_groups
from imprint.search.selection import Choice
from imprint.search.settings import SearchSettings

INDEX = [
    {"user_id": user_id, "shard": shard, "role": role, "fingerprint": f"rows of {user_id}"}
    for user_id, shard, role in [
        ("u1", 1, "reported"),
        ("u2", 0, "pilot"),
        ("u3", 0, "reported"),
        ("u4", 2, "background"),
        ("u5", 1, "reported"),
        ("u6", 4, "reported"),
        ("u7", 0, "reported"),
    ]
]
NAMES = ("shard-00000", "shard-00001", "shard-00004")


def no_base():
    pytest.fail("the base is loaded for nothing")


def grouped(scope, **changes):
    settings = SearchSettings(scope=scope, **changes)
    return pads.dataset(study_groups(no_base, None, INDEX, settings, 1))


def config(epochs):
    return MemoryConfig(ranks=(2,), targets=("down",), alpha_ratio=2.0, n_memories=1, learning_rate=1e-3, epochs=epochs)


def chosen(**epochs):
    """Choices of studies, as one shard leaves them."""
    found = {
        study: Choice(study=study, tid=2, config=config(count), objective_value=1.5) for study, count in epochs.items()
    }
    return pads.dataset(choices_table(found, "search-of-" + "-".join(epochs)))


def test_in_scope_user_a_user_is_searched_for_in_their_own_shard():
    groups = grouped("user")
    assert [members_of(groups, name) for name in NAMES] == [
        {"user/u3": ["u3"], "user/u7": ["u7"]},
        {"user/u1": ["u1"], "user/u5": ["u5"]},
        {"user/u6": ["u6"]},
    ]
    assert groups.count_rows() == 5, "pilots and background users have no study of their own"


def test_in_scope_population_nobody_has_a_study_of_their_own():
    groups = grouped("population")
    assert members_of(groups, "shard-00000") == {}
    assert own_configs(groups, lambda name: pytest.fail("there is none"), "shard-00000").configs == {}


def histories(words):
    """Users who write one word each, whatever they are asked."""
    rows = [
        {"user_id": user, "record_id": f"{user}-{n}", "query": word, "response": f"{word} {word}", "split": split}
        | {"persona": None, "order": n, "attributes": None, "task": "dialogue"}
        for user, word in words.items()
        for n, split in enumerate(["train", "train", "train", "validation"])
    ]
    texts = [(name, pa.string()) for name in ("user_id", "record_id", "query", "response", "split", "task")]
    kinds = {"persona": pa.list_(pa.string()), "order": pa.int64(), "attributes": pa.map_(pa.string(), pa.string())}
    return pads.dataset(pa.Table.from_pylist(rows, schema=pa.schema([*texts, *kinds.items()])))


def in_cohorts(base, words, count):
    table = study_groups(lambda: base, histories(words), INDEX, SearchSettings(scope="cohort", cohorts=count), 1)
    return pads.dataset(table)


TWO_KINDS = {"u1": "apple", "u3": "apple", "u6": "apple", "u5": "river", "u7": "river"}
FIVE_KINDS = dict(zip(TWO_KINDS, ("apple", "river", "stone", "cloud", "green"), strict=True))


def test_a_cohort_is_one_shards_work_whatever_shards_its_users_are_in(llama):
    """The larger cohort is given away first, each to the shard with least to do."""
    first, second, third = (members_of(in_cohorts(llama, TWO_KINDS, 2), name) for name in NAMES)

    assert [sorted(members) for members in first.values()] == [["u1", "u3", "u6"]]
    assert [sorted(members) for members in second.values()] == [["u5", "u7"]]
    assert third == {}


def test_cohorts_are_spread_over_the_shards(llama):
    groups = in_cohorts(llama, FIVE_KINDS, 5)
    assert [len(members_of(groups, name)) for name in NAMES] == [2, 2, 1]


def test_a_user_is_given_what_their_own_study_found_wherever_it_ran(llama):
    groups = in_cohorts(llama, TWO_KINDS, 2)
    (large,), (small,) = (members_of(groups, name) for name in NAMES[:2])
    tables = {NAMES[0]: chosen(**{large: 3}), NAMES[1]: chosen(**{small: 7})}

    given = own_configs(groups, tables.__getitem__, "shard-00000")

    assert {user: config.epochs for user, config in given.configs.items()} == {"u3": 3, "u7": 7}
    assert len(given.searches) == 2
    assert own_configs(groups, tables.__getitem__, NAMES[2]).configs == {"u6": config(3)}


def test_in_scope_user_no_other_shards_choices_are_read_and_a_study_that_found_nothing_gives_nothing():
    groups, tables = grouped("user"), {"shard-00001": chosen(**{"user/u1": 9})}
    given = own_configs(groups, tables.__getitem__, "shard-00001")
    assert given.configs == {"u1": config(9)}
    assert given.searches == ("search-of-user/u1",)


def test_the_report_counts_studies_and_the_users_who_gained_a_config():
    tables = {NAMES[0]: chosen(**{"user/u3": 1, "user/u7": 2}), NAMES[1]: chosen(**{"user/u1": 3}), NAMES[2]: chosen()}
    found = count_own(grouped("user"), tables.__getitem__, NAMES, config(2))
    assert found == {"studies": 5, "own_users": 3, "stayed": 1, "own_strengths": 0}
