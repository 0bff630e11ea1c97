"""A LoRA that is taught to read histories: untaught it is the base, taught it reads better, and it never cheats."""

import methods
import pytest
import torch
from families import KINDS
from toys import base_of, invented_rows, score_alone

from imprint.base.settings import FitSettings
from imprint.errors import SettingsError
from imprint.personalizers.choosers import Latest
from imprint.personalizers.conditioned import Conditioned
from imprint.personalizers.prompted import Prompted
from imprint.personalizers.protocol import Question
from imprint.personalizers.settings import TunedHistorySettings
from imprint.personalizers.shared import taught, teach
from imprint.personalizers.tuned_history import HistoryConditioner
from imprint.personalizers.unpersonalised import Unpersonalised

FIT = FitSettings(learning_rate=5e-3, epochs=2, batch_rows=8)
SETTINGS = TunedHistorySettings(budget_tokens=40, lora_rank=4, fit=FIT)
TEACHERS = {user: invented_rows(user, 8) for user in ("tom", "una")}


def trained(base, workspace, teachers=TEACHERS, settings=SETTINGS):
    conditioner = HistoryConditioner(base, settings, 1)
    record = teach(conditioner, "tuned_history", teachers, settings, settings.fit, 1, workspace)
    return record, lambda: taught(HistoryConditioner(base, settings, 1), record)


def recent_history(base):
    return Prompted("recent_history", Unpersonalised("pooled", base, 2), Latest(), SETTINGS.budget_tokens)


@pytest.mark.parametrize("family", KINDS)
def test_untaught_it_is_recent_history_exactly(family, tokenizer):
    """The same prompts, and a LoRA whose B is zero."""
    base = base_of(family, tokenizer)
    untaught = Conditioned("tuned_history", HistoryConditioner(base, SETTINGS, 1), frozenset(), "none")
    prompted, rows = recent_history(base), methods.asked_rows()
    for method in (untaught, prompted):
        method.fit(methods.histories())

    assert methods.same(methods.answers(untaught, rows), methods.answers(prompted, rows))
    assert untaught.bytes_of("ann") == prompted.bytes_of("ann")


@pytest.mark.parametrize("family", KINDS)
def test_it_breaches_nothing(family, tokenizer, tmp_path):
    make = trained(base_of(family, tokenizer), tmp_path)[1]

    assert not methods.sees_the_future(make)
    assert methods.sees_the_future(methods.clairvoyant(make))
    assert not methods.sees_its_response(make)
    assert not methods.sees_its_company(make)
    assert methods.forgets(make)


def test_training_helps_where_the_history_tells_the_answer(repeating, tmp_path):
    """Everybody always says a word of their own: from histories alone, of users who taught nothing."""
    teachers = {f"t{number}": methods.one_word(f"t{number}", methods.EIGHT[number % 8], 6) for number in range(24)}
    fit = FitSettings(learning_rate=5e-3, epochs=6, batch_rows=16)
    settings = TunedHistorySettings(budget_tokens=60, lora_rank=8, fit=fit)
    method = trained(repeating, tmp_path, teachers, settings)[1]()

    own, swapped, base = methods.losses_of_new_users(method, repeating)

    assert own < swapped - 0.5
    assert own < base - 0.5
    assert own < methods.losses_of_new_users(recent_history(repeating), repeating)[0]
    question = Question("new-apple", "window table")
    method.fit({"new-apple": methods.one_word("new-apple", "stone", 6)})
    assert method.respond([question], 2) == ["stone stone"], "its answers come from the LoRA too"


def test_the_base_is_left_alone_and_history_is_paid_for(llama, tmp_path):
    before = {name: weight.clone() for name, weight in llama.model.named_parameters()}
    rows = methods.asked_rows()
    plain = score_alone(llama.model, llama.encoder.examples(rows))

    record, make = trained(llama, tmp_path)

    assert all(torch.equal(weight, before[name]) for name, weight in llama.model.named_parameters())
    assert score_alone(llama.model, llama.encoder.examples(rows)) == plain
    alone = sum(len(llama.encoder.example(row).input_ids) for rows in TEACHERS.values() for row in rows)
    assert record.training_tokens > 2 * alone * 1.5, "two epochs, and in each the history before every query"
    assert record.lessons == 16
    traces = make().forget("tom")
    assert len(traces) == 1
    assert record.fingerprint in traces[0]


def test_a_budget_beyond_learned_positions_is_refused(tokenizer):
    base = base_of("gpt2", tokenizer)
    with pytest.raises(SettingsError, match="positions for"):
        HistoryConditioner(base, SETTINGS.model_copy(update={"budget_tokens": 5000}), 1)
