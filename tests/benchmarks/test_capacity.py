"""docs/scale.md says what the script prints, and the arithmetic under it is that of the library."""

import re

import pytest
import yaml
from repository import ROOT

PAGE = ROOT / "docs/scale.md"


def test_the_page_has_the_tables_that_the_script_makes():
    from capacity import TABLES, with_tables

    page = PAGE.read_text()
    assert with_tables(page) == page, "next: python benchmarks/capacity.py --write docs/scale.md"
    assert page.count("<!-- table:") == len(TABLES) >= 7


def test_another_figure_changes_the_page_and_a_page_without_a_place_is_refused(tmp_path, monkeypatch):
    import capacity
    import population

    monkeypatch.setattr(capacity, "TABLES", {"user": capacity.user_table})
    monkeypatch.setitem(population.MEASURED, "seconds_a_user", population.MEASURED["seconds_a_user"])
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: user -->\nold\n<!-- end: user -->\nafter\n")
    capacity.main(["--write", str(page), "--measured", "seconds_a_user=36"])
    assert "old" not in page.read_text()
    assert "| embedded, two cores: measured | 36 | 100 |" in page.read_text()
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("\nafter\n")

    for broken in ("none", "<!-- end: user --><!-- table: user -->", "<!-- table: user --><!-- end: user -->" * 2):
        with pytest.raises(ValueError, match="table: user"):
            capacity.with_tables(broken)
    with pytest.raises(SystemExit):
        capacity.main(["--measured", "seconds_a_usr=36"])


def test_each_measured_figure_stands_on_the_page_that_it_names():
    from population import MEASURED

    results = ROOT / "docs/results"
    assert len(MEASURED) > 5
    for name, figure in MEASURED.items():
        if name == "rows_a_user":  # the page has it by split
            continue
        plain = {f"{figure.value:g}", f"{figure.value:.0f}", f"{figure.value:,.0f}"}
        text = (results / figure.page).read_text()
        assert any(re.search(rf"\b{re.escape(one)}\b", text) for one in plain), (name, plain)


def test_the_settings_that_are_counted_with_are_those_of_a_run():
    import population

    def conf(file, *keys):
        found = yaml.safe_load((ROOT / "conf" / file).read_text())
        for key in keys:
            found = found[key]
        return found

    fixed = conf("base/parameters_inject.yml", "memory", "fixed_config")
    assert (fixed["ranks"], fixed["epochs"]) == ([population.RANK], population.EPOCHS)
    assert fixed["targets"] == ["gate", "up", "down"]
    assert conf("base/parameters_inject.yml", "memory", "fleet", "crew") == population.CREW
    assert conf("base/parameters_search.yml", "search", "own_trials") == population.OWN_TRIALS
    assert conf("cluster/kubeflow.yml", "profiles", "default", "retry", "attempts") == population.ATTEMPTS


def test_operations_and_bytes_are_those_of_the_library_s_own_count():
    from flops import necessary_flops
    from population import LLAMA_1B, Shape, memory_bytes, training_operations
    from setting import LLAMAS, Options, make_setting

    shape = LLAMAS["llama-1b"]
    assert {key: getattr(LLAMA_1B, key) for key in shape} == shape
    options = Options(2, True, "cpu", "llama-toy", 1, 1, (), "")
    setting = make_setting(options, 2)
    toy = Shape(**LLAMAS["llama-toy"], vocabulary=setting.base.model.config.vocab_size)
    examples = setting.users[0].examples
    tokens = sum(len(one.input_ids) for one in examples)
    config = setting.fixed
    counted = necessary_flops(setting.base, config, examples)
    assert training_operations(toy, tokens, config.ranks[0], config.epochs) == pytest.approx(counted, rel=0.15)
    lora = sum(
        8 * (site.in_features + site.out_features) for site in setting.base.sites if site.target in config.targets
    )
    assert memory_bytes(toy, rank=8) == 4 * lora


def test_a_run_has_room_for_its_shards_and_all_users_have_a_shard():
    from population import SCALES, most_shards, shards_for

    assert len(SCALES) == 3
    for users in (1, 100, *SCALES):
        shards, runs = shards_for(users)
        assert shards % runs == 0
        assert shards // runs <= most_shards()
        assert shards >= runs >= 1
    assert shards_for(SCALES[2])[0] == pytest.approx(100 * shards_for(SCALES[1])[0], rel=0.02)


def test_a_shard_s_work_is_its_users_work_with_their_differences():
    from population import card_seconds, shard_work

    for shards in (10, 1000):
        work = shard_work(1_000_000, shards, 1, "likely")
        assert sum(work) == pytest.approx(1_000_000 * card_seconds("likely"), rel=0.01)
        assert min(work) < max(work)
    few, many = shard_work(1_000_000, 10, 1, "likely"), shard_work(1_000_000, 1000, 1, "likely")
    assert max(few) / min(few) < max(many) / min(many), "large shards are more alike"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.0123, "0.012"), (1.86, "1.9"), (18.4, "18"), (337.2, "337"), (2374, "2,370"), (3.12e14, "3.12e+14")],
)
def test_numbers_are_short_and_no_more_exact_than_they_are(value, shown):
    from capacity import number

    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(12, "12 B"), (688_128, "688 kB"), (15.7e6, "16 MB"), (1.6e15, "1.6 PB"), (2.5e18, "2,500 PB")]
)
def test_bytes_are_in_the_unit_that_keeps_them_short(value, shown):
    from capacity import size

    assert size(value) == shown
