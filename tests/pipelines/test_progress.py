"""One bar a stage, also where the stage does one shard after another."""

from itertools import count

from pipelines.progress import bar, shared_bar


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


def test_a_line_has_the_figures_of_its_own_moment(capsys, monkeypatch):
    """Not those of the line before: in a log that is all one sees for minutes."""
    clock = count(0.0, 100.0)
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock))
    advance = bar("search", "trial")
    advance(0, 3, best=None)
    capsys.readouterr()

    advance(1, 3, best=0.25)

    assert "best=0.25" in capsys.readouterr().err
    advance(3, 3)
