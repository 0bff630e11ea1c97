"""The simulated loop: what no schedule can do, and what each setting does to one."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest

WORK = [600.0 + 37 * (task % 7) for task in range(40)]


@pytest.fixture
def cluster():
    from schedule import Cluster

    return Cluster(
        places=6, start=60, failures_an_hour=2.0, slow_share=0.2, slow_factor=2.0, lost=120.0, attempts=50, wait=10
    )


def loop(cluster, work=WORK, seed=3):
    from schedule import run_loop

    return run_loop(work, cluster, seed)


def at_once(pods):
    """Pods alive together, at most."""
    changes = sorted([(pod.begins, 1) for pod in pods] + [(pod.ends, -1) for pod in pods])
    alive, most = 0, 0
    for _, change in changes:
        alive += change
        most = max(most, alive)
    return most


def test_every_second_of_work_is_done_once_or_left(cluster):
    for attempts in (0, 1, 50):
        played = loop(replace(cluster, attempts=attempts, failures_an_hour=6.0))
        for task, work in enumerate(WORK):
            done = sum(pod.done for pod in played.pods if pod.task == task)
            assert done + played.left[task] == pytest.approx(work)
        assert played.failed == sum(left > 0 for left in played.left)
        assert (played.failed == 0) is (attempts == 50)


def test_pods_never_outnumber_the_places_and_fill_them(cluster):
    for places in (1, 2, 5, 6, 40):
        played = loop(replace(cluster, places=places))
        assert at_once(played.pods) <= places
    assert at_once(loop(replace(cluster, failures_an_hour=0.0)).pods) == 6


def test_a_task_has_one_pod_at_a_time_and_waits_longer_each_time(cluster):
    played = loop(replace(cluster, failures_an_hour=20.0))
    waits = []
    for task in range(len(WORK)):
        pods = [pod for pod in played.pods if pod.task == task]
        assert [pod.attempt for pod in pods] == list(range(len(pods)))
        assert [pod.failed for pod in pods] == [True] * (len(pods) - 1) + [False]
        waits.append([later.begins - earlier.ends for earlier, later in pairwise(pods)])
    longest = max(waits, key=len)
    assert len(longest) > 4
    assert longest == pytest.approx([10 * 2**number for number in range(len(longest))]), "Argo knows no longest wait"


def test_more_places_never_make_a_loop_longer(cluster):
    seconds = [loop(replace(cluster, places=places)).seconds for places in range(1, 45)]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] > 5 * seconds[-1]
    assert seconds[39] == seconds[43], "a place for each task is enough"


def test_failures_slow_machines_and_slow_starts_only_ever_add_time(cluster):
    calm = replace(cluster, failures_an_hour=0.0, slow_share=0.0)
    by_failures = [loop(replace(calm, failures_an_hour=rate)).seconds for rate in (0.0, 0.5, 1.0, 2.0, 4.0)]
    by_slowness = [loop(replace(calm, slow_share=share)).seconds for share in (0.0, 0.1, 0.5, 1.0)]
    by_start = [loop(replace(calm, start=start)).seconds for start in (0.0, 60.0, 600.0)]
    for rising in (by_failures, by_slowness, by_start):
        assert rising == sorted(rising)
        assert rising[-1] > rising[0]


def test_without_trouble_a_loop_takes_what_its_work_takes(cluster):
    calm = replace(cluster, failures_an_hour=0.0, slow_share=0.0, start=0.0)
    played = loop(replace(calm, places=1))
    assert played.seconds == pytest.approx(sum(WORK))
    assert played.useful_share == pytest.approx(1.0)
    assert (played.retries, played.failed, len(played.pods)) == (0, 0, len(WORK))
    spread = loop(replace(calm, places=4), work=[100.0] * 8)
    assert (spread.seconds, spread.pod_seconds) == (pytest.approx(200.0), pytest.approx(800.0))


def test_a_failure_loses_at_most_what_was_not_written_yet(cluster):
    careful = loop(replace(cluster, lost=0.0, slow_share=0.0, start=0.0))
    careless = loop(replace(cluster, lost=300.0, slow_share=0.0, start=0.0))
    assert sum(pod.ends - pod.begins for pod in careful.pods) == pytest.approx(sum(WORK))
    assert careful.seconds < careless.seconds
    over = [pod.ends - pod.begins - pod.done for pod in careless.pods if pod.failed]
    assert 0 < max(over) <= 300.0


def test_a_place_is_kept_between_attempts_as_argo_keeps_it(cluster):
    played = loop(replace(cluster, places=1, failures_an_hour=20.0))
    order = [pod.task for pod in sorted(played.pods, key=lambda pod: pod.begins)]
    assert order == sorted(order)


def test_the_same_seed_plays_the_same_loop_and_another_plays_another(cluster):
    assert loop(cluster) == loop(cluster)
    assert loop(cluster).seconds != loop(cluster, seed=4).seconds
    assert math.isclose(loop(cluster, work=[]).seconds, 0.0)
