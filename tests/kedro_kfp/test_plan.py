"""From a pipeline to steps, and each refusal with the pipeline, catalog or settings that deserve it."""

import pytest
from kedro.pipeline import Node, Pipeline
from toy_kedro import toy_catalog, toy_settings

from kedro_kfp.datasets import read_facts
from kedro_kfp.errors import PlanError
from kedro_kfp.plan import make_plan
from kedro_kfp.settings import read_settings

JSON = "json.JSONDataset"


def one(given):
    return given


def pair(given):
    return given, given


def node(name, inputs, outputs, *tags, **keywords):
    function = {0: one, 1: one, 2: pair}[len(outputs) if isinstance(outputs, list) else 1]
    if isinstance(inputs, list) and len(inputs) > 1:
        function = (lambda *given: given) if isinstance(outputs, list) else (lambda *given: given[0])
    return Node(function, inputs, outputs, name=name, tags=tags, **keywords)


def stored(*names, **changed):
    """A catalog with a JSON file on the volume for each name."""
    return toy_catalog(**{name: {"type": JSON, "filepath": f"data/{name}.json"} for name in names}, **changed)


def plan(nodes, catalog, **settings):
    pipeline = Pipeline(nodes)
    names = [name for name in pipeline.datasets() if not name.startswith("params:")]
    return make_plan("toy", pipeline, read_facts(names, catalog), read_settings(toy_settings(steps={}, **settings)))


def refusals(nodes, catalog, **settings):
    with pytest.raises(PlanError) as caught:
        plan(nodes, catalog, **settings)
    return caught.value.refusals


WRITE = node("write", "params:rows", ["shards", "shard_names"])
SQUARE = node("square", ["shards", "params:shard"], "squares", "fanout.shard_names", "res.heavy")
TOTAL = node("total", "squares", "metrics")


def test_steps_carry_nodes_edges_loops_and_resources():
    made = plan([TOTAL, SQUARE, WRITE], toy_catalog())
    write, square, total = made.steps
    assert (write.nodes, square.nodes, total.nodes) == (("write",), ("square",), ("total",))
    assert (write.needs, square.needs, total.needs) == ((), ("write",), ("square",))
    assert (write.lists, square.lists) == ("shard_names", None)
    assert (square.loop.over, square.loop.source, square.loop.settings.parameter) == ("shard_names", "write", "shard")
    assert write.loop is None
    assert total.loop is None
    assert (write.profile.cpu, square.profile.cpu) == ("500m", "4")
    assert square.profile.timeout_seconds == 600, "what a profile does not say, the default says"
    assert set(total.artifacts) == {"metrics"}
    assert "one task for each of shard_names, 2 at a time" in made.describe()


def test_a_fan_out_waits_for_the_list_even_where_its_nodes_do_not_read_it():
    names = node("names", "params:rows", "shard_names")
    alone = node("square", "params:shard", "squares", "fanout.shard_names")
    assert [(step.name, step.needs) for step in plan([alone, names], toy_catalog()).steps] == [
        ("names", ()),
        ("square", ("names",)),
    ]


def test_a_step_s_own_wishes_stand_over_its_profile():
    settings = read_settings(toy_settings(steps={"square": {"memory": "99Gi"}, "write": {"profile": "heavy"}}))
    pipeline = Pipeline([WRITE, SQUARE])
    facts = read_facts(["shards", "shard_names", "squares"], toy_catalog())
    write, square = make_plan("toy", pipeline, facts, settings).steps
    assert (square.profile.memory, square.profile.cpu) == ("99Gi", "4")
    assert (write.profile.memory, write.profile.accelerator.count) == ("16Gi", 1)


def test_a_tag_groups_nodes_whatever_their_namespace_and_namespaces_group_the_rest():
    nodes = [
        node("a", "x", "y", "group.Both_Of"),
        node("b", "y", "z", "group.Both_Of", namespace="ns"),
        node("c", "z", "v", namespace="ns"),
        node("d", "v", "w", namespace="ns.inner"),
    ]
    catalog = stored("x", "z", "w")  # y and v stay inside one pod each
    by_namespace = plan(nodes, catalog, group_by="namespace")
    assert [step.name for step in by_namespace.steps] == ["both-of", "ns"]
    with pytest.raises(PlanError, match="'v' is in memory only"):
        plan(nodes, catalog, group_by="node")


def test_a_dataset_in_memory_crosses_no_pods():
    (refusal,) = refusals([node("a", "x", "y"), node("b", "y", "z")], stored("x", "z"))
    for part in ("'y'", "'a'", "'b'", "catalog", "group.*"):
        assert part in refusal
    grouped = [node("a", "x", "y", "group.g"), node("b", "y", "z", "group.g")]
    assert [step.name for step in plan(grouped, stored("x", "z")).steps] == ["g"]


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "kedro.io.MemoryDataset"},
        {"type": JSON, "filepath": "memory://y.json"},
        {"type": "kedro.io.CachedDataset", "dataset": {"type": "MemoryDataset"}},
    ],
)
def test_an_entry_that_keeps_nothing_is_memory_too(entry):
    (refusal,) = refusals([node("a", "x", "y"), node("b", "y", "z")], stored("x", "z", y=entry))
    assert "'y' is in memory only" in refusal


def test_a_cache_before_a_file_is_a_file_and_a_transcoded_dataset_is_one():
    cached = {"type": "kedro.io.CachedDataset", "dataset": {"type": JSON, "filepath": "data/y.json"}}
    assert len(plan([node("a", "x", "y"), node("b", "y", "z")], stored("x", "z", y=cached)).steps) == 2
    transcoded = [node("a", "x", "y@one"), node("b", "y@two", "z")]
    assert plan(transcoded, stored("x", "z", "y@one", "y@two")).steps[1].needs == ("a",)
    (refusal,) = refusals(transcoded, stored("x", "z", "y@one"))
    assert "'y@two' is in memory only" in refusal


def test_groups_that_wait_for_each_other_are_refused_by_name():
    nodes = [node("a", "x", "y", "group.one"), node("b", "y", "z", "group.two"), node("c", "z", "w", "group.one")]
    (refusal,) = refusals(nodes, stored("x", "y", "z", "w"))
    for part in ("one", "two", "'y'", "'z'", "'a'", "'b'", "'c'", "split one of the groups"):
        assert part in refusal


def test_two_lists_from_one_step_are_refused():
    lists = [
        node("write", "params:rows", ["shard_names", "pairs"], "group.w"),
        node("s", ["shard_names", "params:shard"], "squares", "fanout.shard_names"),
        node("p", ["pairs", "params:pair"], "shards", "fanout.pairs"),
    ]
    both = {"shard_names": {"parameter": "shard", "parallelism": 2}, "pairs": {"parameter": "pair", "parallelism": 2}}
    (refusal,) = refusals(lists, stored("pairs"), fan_outs=both)
    for part in ("two lists", "shard_names", "pairs", "'write'", "different group.* tags"):
        assert part in refusal


@pytest.mark.parametrize(
    ("nodes", "catalog", "says"),
    [
        ([WRITE, node("square", "shards", "squares", "fanout.shard_names")], {}, "no node reads params:shard"),
        ([node("square", ["shards", "params:shard"], "squares", "fanout.shard_names")], {}, "which no node of this"),
        (
            [WRITE, node("square", ["shards", "params:shard"], "squares", "fanout.shards")],
            {},
            "which kubeflow.yml does not know; known are ['shard_names']",
        ),
        (
            [
                WRITE,
                node("square", ["shards", "params:shard"], "squares", "fanout.shard_names", "group.g"),
                node("total", "squares", "metrics", "group.g"),
            ],
            {},
            "{'square': ['shard_names'], 'total': []}; allowed is the same one for all",
        ),
        (
            [WRITE, node("square", ["shards", "params:shard"], "metrics", "fanout.shard_names")],
            {},
            "'metrics' is one file, and every task of node 'square' would write it",
        ),
        (
            [WRITE, SQUARE],
            {"squares": {**toy_catalog()["squares"], "overwrite": True}},
            "'squares' has overwrite: true, so that each task of node 'square' would delete",
        ),
        (
            [
                node("write", "params:rows", ["shards", "shard_names"], "group.g", "fanout.shard_names"),
                node("square", ["shards", "params:shard"], "squares", "group.g", "fanout.shard_names"),
            ],
            {"shard_names": {**toy_catalog()["squares"]}},
            "its own node 'write' writes",
        ),
        (
            [
                WRITE,
                node("square", ["shards", "params:shard"], ["squares", "again"], "fanout.shard_names"),
                node("total", ["again", "params:again"], "metrics", "fanout.again"),
            ],
            {"again": {**toy_catalog()["squares"]}},
            "step 'square' fans out over ['shard_names'] and writes the list ['again'] itself",
        ),
    ],
)
def test_a_fan_out_that_cannot_work_is_refused(nodes, catalog, says):
    assert any(says in refusal for refusal in refusals(nodes, toy_catalog(**catalog)))


@pytest.mark.parametrize("given", ["params:deep", "params:deep.shard", "parameters"])
def test_the_parameter_of_a_fan_out_may_lie_inside_a_block(given):
    nodes = [WRITE, node("square", ["shards", given], "squares", "fanout.shard_names")]
    deep = {"shard_names": {"parameter": "deep.shard", "parallelism": 1}}
    assert plan(nodes, toy_catalog(), fan_outs=deep).steps[1].loop.settings.parameter == "deep.shard"


def test_a_dataset_that_keeps_items_apart_may_say_so():
    said = {"type": JSON, "filepath": "data/metrics.json", "metadata": {"kedro-kfp": {"sharded": True}}}
    nodes = [WRITE, node("square", ["shards", "params:shard"], "metrics", "fanout.shard_names")]
    assert plan(nodes, toy_catalog(metrics=said)).steps[1].loop.over == "shard_names"


def test_unknown_profiles_and_steps_are_refused():
    huge = [node("a", "x", "y", "res.huge"), node("b", "y", "z", "res.huge"), node("c", "z", "w")]
    (refusal,) = refusals(huge, stored("x", "y", "z", "w"))
    assert "the nodes ['a', 'b'] ask for the resource profile 'huge'" in refusal
    assert "['default', 'heavy']" in refusal
    pipeline, facts = Pipeline([node("a", "x", "y")]), read_facts(["x", "y"], stored("x", "y"))
    wrong = read_settings(toy_settings(steps={"b": {}, "a": {"profile": "huge"}}))
    with pytest.raises(PlanError) as caught:
        make_plan("toy", pipeline, facts, wrong)
    assert [refusal.partition(":")[0] for refusal in caught.value.refusals] == ["steps.b", "steps.a.profile"]


def test_nodes_of_one_step_agree_on_their_resources_or_the_step_chooses():
    nodes = [node("a", "x", "y", "group.g", "res.heavy"), node("b", "y", "z", "group.g", "res.default")]
    (refusal,) = refusals(nodes, stored("x", "z"))
    assert "steps.g.profile" in refusal
    settings = read_settings(toy_settings(steps={"g": {"profile": "heavy"}}))
    facts = read_facts(["x", "y", "z"], stored("x", "z"))
    assert make_plan("toy", Pipeline(nodes), facts, settings).steps[0].profile.cpu == "4"


@pytest.mark.parametrize("path", ["elsewhere/y.json", "/data/y.json", "data2/y.json", "data/../y.json"])
def test_a_local_path_that_no_volume_backs_is_refused(path):
    (refusal,) = refusals([node("a", "x", "y")], stored("x", y={"type": JSON, "filepath": path}))
    for part in ("'y'", "'a'", "/home/toy/data", "Next:"):
        assert part in refusal


def test_a_bucket_a_volume_and_the_image_back_a_path():
    nodes = [node("a", "x", "y"), node("b", "y", "z")]
    x = {"type": JSON, "filepath": "conf/base/x.json"}
    y = {"type": JSON, "filepath": "s3://bucket/y.json", "credentials": "nobody_knows_them_here"}
    assert len(plan(nodes, stored("z", x=x, y=y)).steps) == 2
    secret = {"type": JSON, "filepath": "/home/toy/secrets/x.json"}
    assert len(plan(nodes, stored("z", x=secret, y=y)).steps) == 2
    for carried, why in ((x, "what the image carries may be read only"), (secret, "and so may a secret")):
        (refusal,) = refusals(nodes, stored("x", "z", y=carried))
        assert "'y'" in refusal, why
    outside = [{"claim": "c", "mount_path": "/"}]
    assert len(plan(nodes, stored("x", "z", y={"type": JSON, "filepath": "/y.json"}), volumes=outside).steps) == 2


def test_a_dataset_at_a_url_with_a_password_is_refused_without_telling_it():
    for entry in (
        {"type": JSON, "filepath": "s3://me:se/cret@bucket/y.json"},
        {"type": JSON, "filepath": "s3://bucket/y.json", "fs_args": {"proxy": "http://me:se/cret@proxy"}},
    ):
        (refusal,) = refusals([node("a", "x", "y")], stored("x", y=entry))
        assert "dataset 'y' lies at a URL with a user and a password" in refusal
        assert "se/cret" not in refusal


def test_a_run_s_outcome_needs_a_place_that_stays():
    nodes = [node("a", "x", "y")]
    (refusal,) = refusals(nodes, stored("x", "y"), run={"outcome_folder": "outcomes"})
    assert "run.outcome_folder lies at /home/toy/outcomes" in refusal
    for kept in ("s3://bucket/outcomes", "data/outcomes"):
        assert plan(nodes, stored("x", "y"), run={"outcome_folder": kept}).steps


def test_names_that_kubernetes_cannot_tell_apart_are_refused():
    nodes = [node("a", "x", "y", "group.My_Step"), node("b", "x", "z", "group.my-step")]
    (refusal,) = refusals(nodes, stored("x", "y", "z"))
    assert "['My_Step', 'my-step'] would both be the step 'my-step'" in refusal
    (refusal,) = refusals([node("a", "x", "y", "group.one", "group.two")], stored("x", "y"))
    assert "node 'a' has the tags ['group.one', 'group.two']" in refusal


def test_all_refusals_come_at_once_each_on_a_line_of_its_own():
    nodes = [node("a", "x", "y", "res.huge"), node("b", "y", "z")]
    with pytest.raises(PlanError) as caught:
        plan(nodes, stored("x", z={"type": JSON, "filepath": "z.json"}))
    assert len(caught.value.refusals) == 3
    assert str(caught.value).count("\n") == 3


def test_catalog_patterns_are_resolved_as_kedro_does():
    pattern = {"{name}_json": {"type": JSON, "filepath": "data/{name}.json"}}
    assert len(plan([node("a", "x_json", "y_json"), node("b", "y_json", "z_json")], pattern).steps) == 2
