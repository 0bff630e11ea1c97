"""The page is one file, loads nothing, escapes everything, and says what is missing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from imprint.report.page import chosen_examples, flattened, missing, render_report, shown, telling_examples

Make = Callable[..., dict[str, Any]]
HOSTILE = "</style><script>alert('mine')</script><img src=x onerror=alert(1)>"
LOADS = re.compile(
    r"""(?:src|href|action|srcset|data|poster)\s*=\s*["']?\s*(?:https?:)?//|@import|url\(\s*["']?(?!data:)|<link|<iframe""",
    re.I,
)


def own_part(page: str) -> str:
    """The page without the inlined plotly library, whose source is plotly's affair."""
    library = re.compile(r"<script>/\*\*\s*\* plotly\.js.*?</script>", re.S)
    assert len(library.findall(page)) <= 1
    return library.sub("", page)


def test_the_whole_page_has_every_part(full: dict[str, Any]) -> None:
    """Headline, four figures, the table, the counts that add up, examples, definitions and conditions."""
    page = own_part(render_report(**full))
    assert "<h1>Users&#39; own memories predict their words better than the pooled model" in page
    for figure in ("gains", "specificity", "convergence", "pareto"):
        assert f'id="figure-{figure}"' in page
    assert "5,000 rows in = 4,988 rows out + 12 quarantined" in page
    assert "do not add up" not in page
    assert "Every row has a user." in page
    assert "No row is there twice." not in page  # a check that refused nothing is not a finding
    assert "Cross-entropy of the user&#39;s test responses" in page
    assert "fingerprints.data" in page
    assert "Made from data 0123456789abcdef, with seed 7, on 2 cores of Invented 9 (x86_64, Linux)" in page
    assert "uncommitted" not in page
    assert 'class="absent"' not in page
    assert "well hello, lentil stew number 0" in page


def test_equal_inputs_give_equal_bytes(full: dict[str, Any]) -> None:
    """No clock and no random identifier in the page."""
    assert render_report(**full) == render_report(**full)


def test_the_page_loads_nothing_and_forbids_it(full: dict[str, Any]) -> None:
    """No address in the page's own part, plotly inlined exactly once, and a policy that makes the browser refuse."""
    page = render_report(**full)
    assert page.count("* plotly.js v") == 1
    assert not LOADS.search(own_part(page))
    assert "http://" not in own_part(page)
    assert "https://" not in own_part(page)
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    "bad",
    [
        '<script src="https://host/x.js">',
        "<img src=//host/x>",
        "@import 'x.css'",
        "url(https://host/f)",
        '<link rel="x">',
    ],
)
def test_the_search_for_loads_finds_loads(bad: str) -> None:
    """The guard above can fail."""
    assert LOADS.search(bad)


def test_hostile_text_stays_text_wherever_it_comes_from(full: dict[str, Any]) -> None:
    """Users, models, corpora, errors and records cannot write markup into the page."""
    for example in full["examples"]:
        example.update(query=HOSTILE, reference=HOSTILE, responses=dict.fromkeys(example["responses"], HOSTILE))
        example["user_id"] += HOSTILE
    full["trials"][2]["error"] = HOSTILE
    full["trials"][7]["config"] = {"targets": [HOSTILE]}
    full["ingest"]["corpus"] = HOSTILE
    full["validation"]["checks"][0]["description"] = HOSTILE
    full["base"][HOSTILE] = HOSTILE
    full["partition"]["users"][HOSTILE] = 1
    full["metrics"]["run"][HOSTILE] = HOSTILE
    full["metrics"]["methods"][HOSTILE] = full["metrics"]["methods"]["base"]
    full["specificity"]["users"] = [HOSTILE + user for user in full["specificity"]["users"]]
    full["scores"] = [(method, HOSTILE + user, loss) for method, user, loss in full["scores"]]
    page = render_report(**full)
    assert "&lt;script&gt;alert" in page
    assert "<script>alert" not in page
    assert "<img" not in own_part(page)
    assert page.count("</script>") == page.count("<script")  # nobody closed a script early


def test_control_and_direction_characters_are_made_visible_and_long_texts_cut() -> None:
    """A message must not turn the text around it, nor fill the page."""
    assert shown("a\u202eb\x00c\nd") == "a\ufffdb\ufffdc\nd"
    assert shown("x" * 1000) == "x" * 599 + "…"
    assert shown("x" * 600) == "x" * 600


def test_counts_that_do_not_add_up_are_shouted_and_not_hidden(full: dict[str, Any]) -> None:
    """Rows in = rows out + rows quarantined is the auditor's first question."""
    full["validation"]["rows_out"] -= 1
    assert "These do not add up" in render_report(**full)


def test_pairs_of_the_loss_stand_open_and_all_others_are_folded_and_counted(full: dict[str, Any]) -> None:
    """Every pair is on the page once."""
    pairs = full["metrics"]["comparisons"]
    others = sum(pair["metric"] != "loss" for pair in pairs)
    page = render_report(**full)
    part = page[page.index("Paired comparisons") : page.index("Differences are taken user by user")]
    opened, _, folded = part.partition("<details>")
    assert f"<summary>{others} comparisons of other metrics</summary>" in folded
    assert opened.count("<tr>") - 1 == len(pairs) - others > 0
    assert folded.count("<tr>") - 1 == others > 0


def test_a_dirty_checkout_is_named_at_the_top(full: dict[str, Any]) -> None:
    """Numbers that no commit can repeat carry a warning."""
    full["metrics"]["run"]["code"]["dirty"] = True
    assert "uncommitted changes" in render_report(**full)


def test_an_empty_run_still_renders_and_says_what_is_missing() -> None:
    """Nothing was measured, and the page says so part by part."""
    page = render_report({"methods": {}, "comparisons": [], "run": {}})
    assert "plotly.js" not in page
    for sentence in (
        "No memory was evaluated in this run",
        "No method was measured",
        "No paired comparison was made",
        "No trials were recorded",
        "No ingest report",
        "No validation result",
        "No partition summary",
        "No record of the base model",
        "There are no responses",
        "no definitions",
        "no run conditions",
    ):
        assert sentence in page


def test_generation_off_and_missing_methods_are_named(evaluation: Make) -> None:
    """What a reader would look for and not find."""
    said = missing(evaluation({"base": 2.6, "memory": 1.9}, generated=False, compared=False)["metrics"])
    assert said == [
        "Not evaluated in this run: pooled, fixed_memory.",
        "No responses were generated, so ROUGE, BLEU and Persona-F1 are not measured.",
        "No methods were compared pair by pair, so no difference here is tested.",
    ]
    assert missing(evaluation()["metrics"]) == []


def test_one_trial_and_failed_trials_only_still_render(full: dict[str, Any], trial: Make) -> None:
    """A search of one, and a search that found nothing."""
    assert "The best trial</h3>" in render_report(**{**full, "trials": [trial("tpe", 0, 2.0)]})
    page = render_report(**{**full, "trials": [trial("tpe", 0, None, None), trial("random", 0, None, None)]})
    assert "there is no best config" in page
    assert "None of the 2 trials finished" in page
    assert 'id="figure-pareto"' not in page


def test_examples_are_chosen_by_rule(examples: list[dict[str, Any]]) -> None:
    """Largest gains down, smallest gains up, one of a user a side, none on both sides, whatever the order given."""
    best, worst = chosen_examples(examples)
    assert [one.user_id for one in best] == [one["user_id"] for one in examples[0:6:2]]
    assert [one.user_id for one in worst] == [one["user_id"] for one in examples[:-6:-2]]
    assert best[0].gain == pytest.approx(0.6)
    assert worst[0].gain == pytest.approx(-0.18)
    assert chosen_examples(examples[::-1]) == (best, worst)


def test_shard_by_shard_the_same_examples_are_chosen(examples: list[dict[str, Any]]) -> None:
    """Of each shard only a few are kept, and whoever is chosen is among them."""
    users = sorted({one["user_id"] for one in examples})
    more = [{**one, "user_id": f"{one['user_id']}-{copy}"} for one in examples for copy in range(9)]
    shards = [[one for one in more if int(one["user_id"][-1]) % 3 == shard] for shard in range(3)]
    kept = [one for shard in shards for one in telling_examples(shard)]
    assert len(users) > 3
    assert len(kept) <= 3 * 4 * 3 < len(more)
    assert chosen_examples(kept) == chosen_examples(more)
    assert telling_examples([]) == []


def test_few_examples_are_not_shown_twice(examples: list[dict[str, Any]]) -> None:
    """One example is a gain or a loss, not both."""
    best, worst = chosen_examples(examples[:1])
    assert (len(best), len(worst)) == (1, 0)
    best, worst = chosen_examples(examples[:2])
    assert (len(best), len(worst)) == (1, 1)
    assert chosen_examples([]) == ([], [])


def test_examples_fall_back_to_base_and_need_a_memory(examples: list[dict[str, Any]]) -> None:
    """Without pooled the gain is over base; an example that memory did not answer is not one."""
    for example in examples:
        del example["rouge1"]["pooled"]
    assert chosen_examples(examples)[0][0].opponent == "base"
    for example in examples:
        del example["rouge1"]["memory"]
    assert chosen_examples(examples) == ([], [])


def test_a_losing_example_is_labelled_bad(full: dict[str, Any]) -> None:
    """The label follows the sign of the gain and not the heading."""
    page = render_report(**full)
    assert "good: ROUGE-1 +0.60 over pooled" in page
    assert "bad: ROUGE-1 -0.18 over pooled" in page


def test_conditions_are_flattened_without_losing_any() -> None:
    """Nested records become dotted keys; what is not known is said to be so."""
    assert flattened({"seed": 1, "code": {"commit": None}, "tags": ["a", "b"], "cards": []}) == [
        ("seed", "1"),
        ("code.commit", "not known"),
        ("tags", "a, b"),
        ("cards", "none"),
    ]


@pytest.mark.parametrize(
    ("untimed", "order", "later"),
    [
        (0, "splits follow time within a user", "which come later and"),
        (9, "time, and rows without one (9) come last, in the order of the file, within", "which come later and"),
        (4997, "the order of the file, for no row has a time, within", "which come later in the file and"),
    ],
)
def test_the_page_says_by_what_order_earlier_and_later_are_told(full: dict[str, Any], untimed, order, later) -> None:
    """Of 5,000 rows three could not be read, and have no time for that reason alone."""
    page = " ".join(render_report(**{**full, "ingest": {**full["ingest"], "without_time": untimed}}).split())
    assert order in page
    assert later in page
