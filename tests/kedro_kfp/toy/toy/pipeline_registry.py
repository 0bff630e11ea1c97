from kedro.pipeline import Node, Pipeline

from toy.nodes import page, square, total, write_shards


def register_pipelines():
    heavy = ["group.square", "res.heavy", "fanout.shard_names"]
    spine = Pipeline(
        [
            Node(write_shards, ["params:rows", "params:shards"], ["shards", "shard_names"], name="write_shards"),
            Node(
                square,
                ["shards", "shard_names", "params:shard", "params:fault"],
                "squares",
                name="square_numbers",
                tags=heavy,
            ),
            Node(total, ["squares", "shard_names"], "metrics", name="total", tags="group.finish"),
            Node(page, "metrics", "report", name="page", tags="group.finish"),
        ]
    )
    return {"__default__": spine}
