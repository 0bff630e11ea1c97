"""User-LLM's encoder of timelines, and what an interaction is as an event."""

from dataclasses import replace

import methods
import pytest
import torch
from toys import invented_rows

from imprint.base.settings import FitSettings
from imprint.personalizers.events import UNKNOWN, EventVocabulary, values_of
from imprint.personalizers.settings import EventFeature, UserLLMSettings
from imprint.personalizers.user_encoder import UserEncoder

FIT = FitSettings(learning_rate=5e-3, epochs=2, batch_rows=8)
EVENTS = (
    EventFeature(attribute="item"),
    EventFeature(attribute="rating"),
    EventFeature(attribute="categories", separator="|"),
)
TOM = methods.with_events(invented_rows("tom", 9))


def settings(**changes):
    return UserLLMSettings(width=16, layers=1, heads=2, max_events=8, pretrain=FIT, fit=FIT, **changes)


def encoder_and_events(fusion):
    vocabulary = EventVocabulary.of(TOM, EVENTS, 100)
    encoder = UserEncoder(settings(features=EVENTS, fusion=fusion), vocabulary.sizes, 0).eval()
    return encoder, vocabulary.events(TOM)[:8]


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_a_state_knows_the_events_before_it_and_no_other(fusion):
    encoder, events = encoder_and_events(fusion)
    whole = encoder(events[None])[0]

    assert whole.shape == (9, 16)
    for count in (0, 3, 7):
        assert torch.allclose(encoder(events[None, :count])[0], whole[: count + 1], atol=1e-5)
    changed = events.clone()
    changed[4, 0] = 2 + (changed[4, 0] + 1) % 5
    moved = (encoder(changed[None])[0] - whole).abs().amax(-1) > 1e-6
    assert moved.tolist() == [False] * 5 + [True] * 4


def test_late_fusion_has_an_encoder_for_each_feature():
    early, late = (encoder_and_events(fusion)[0] for fusion in ("early", "late"))
    assert (len(early.towers), len(late.towers)) == (1, 3)
    assert len(early.tables) == len(late.tables) == 3


def test_next_event_loss_is_the_sum_of_cross_entropies_over_features():
    encoder, events = encoder_and_events("early")
    real = torch.ones(1, 8, dtype=torch.bool)
    states = encoder(events[None])[0]

    expected = 0.0
    for place, head in enumerate(encoder.heads):
        logs = head(states[:-1]).log_softmax(-1)
        nats = []
        for step in range(8):
            values = [value for value in events[step, place].tolist() if value]
            nats.append(-sum(logs[step, value] for value in values) / len(values))
        expected += sum(nats) / 8

    assert encoder.next_event_loss(events[None], real).item() == pytest.approx(expected.item(), rel=1e-4)


def test_vectors_are_told_from_the_others_of_the_batch():
    encoder = UserEncoder(settings(), [], 6).eval()
    events = torch.randn(2, 3, 6)
    real = torch.tensor([[True, True, True], [True, False, False]])
    said = encoder.heads[0](encoder(events)[:, :-1])[real]
    likeness = torch.nn.functional.cosine_similarity(said[:, None], events[real][None], dim=-1) / 0.1

    expected = torch.nn.functional.cross_entropy(likeness, torch.arange(4))

    assert encoder.next_event_loss(events, real).item() == pytest.approx(expected.item(), rel=1e-4)


def test_features_have_values_unknown_ones_and_none():
    vocabulary = EventVocabulary.of(TOM, EVENTS, 4)
    row = TOM[1]

    assert vocabulary.sizes == [6, 5, 4]  # four of five items, three ratings, two categories, two special ids each
    assert values_of(row, EVENTS[2]) == ["drama", "war"]
    new = replace(row, attributes=(("item", "never seen"), ("categories", " | ")))
    events = vocabulary.events([row, new])
    assert events.shape == (2, 3, 2)
    assert events[0, 2].tolist() == [2, 3]  # drama is the more frequent
    assert events[1].tolist() == [[1, 0], [0, 0], [0, 0]]


def test_what_one_event_alone_has_teaches_the_vector_of_the_unknown():
    """Without it a new user's new item would be read by a vector that no training has touched."""
    once = replace(TOM[0], attributes=(("item", "once"), ("rating", "1"), ("categories", "drama")))
    vocabulary = EventVocabulary.of([*TOM, once], EVENTS, 100)

    assert "once" not in vocabulary.values[0]
    assert vocabulary.events([once])[0, 0, 0] == UNKNOWN
    encoder = UserEncoder(settings(features=EVENTS), vocabulary.sizes, 0)
    encoder.next_event_loss(vocabulary.events([*TOM, once])[None, -8:], torch.ones(1, 8, dtype=torch.bool)).backward()
    assert encoder.heads[0].weight.grad[UNKNOWN].any()
    encoder.zero_grad()
    encoder.next_event_loss(vocabulary.events([once, *TOM])[None, :8], torch.ones(1, 8, dtype=torch.bool)).backward()
    assert encoder.tables[0].weight.grad[UNKNOWN].any()
