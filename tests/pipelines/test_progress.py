"""One bar a stage, also where the stage does one shard after another."""

from pipelines.progress import shared_bar


def test_pieces_of_work_share_a_bar_that_ends_with_the_last(capsys):
    advance = shared_bar("memories", "user", {"a": 3, "b": 0, "c": 2})
    for done in (1, 2, 3, 3):  # a piece may say twice that it is done
        advance["a"](done, 3)
    advance["b"](0, 0)
    assert "\n" not in capsys.readouterr().err, "the bar is open still"
    for done in (1, 2, 2):
        advance["c"](done, 2, best=1.5)

    drawn = capsys.readouterr().err
    assert drawn.count("\n") == 1
    assert "5/5" in drawn.splitlines()[-1]
    assert "best=1.5" in drawn


def test_a_stage_with_nothing_to_do_leaves_no_bar_open(capsys):
    shared_bar("own configs", "trial", {"a": 0})["a"](0, 0)
    assert capsys.readouterr().err.count("\n") == 1
