"""What is said of long things where there is no terminal."""

from worldmodel import progress


def test_the_first_line_comes_soon_and_then_they_are_few(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.Progress() as bar:
        task = bar.add_task("long", total=100)
        for second in range(1, 26):
            now[0] = second
            bar.update(task, completed=second)
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["2", "12", "22"]


def test_a_tracked_loop_says_how_far_it_is_before_its_end(capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    numbers = iter(progress.track([5, 6, 7], "counted"))
    assert [next(numbers), next(numbers)] == [5, 6]
    assert capsys.readouterr().out.startswith("counted 1 of 3, ")
    assert list(numbers) == [7]
    assert capsys.readouterr().out.splitlines()[-1].startswith("counted 3 of 3, ")
    assert list(progress.track(range(3), "in silence", disable=True)) == [0, 1, 2]
    assert capsys.readouterr().out == ""
