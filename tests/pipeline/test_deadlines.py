import threading

from headstart.pipeline.deadlines import Deadline, Deadlines


def test_a_call_that_takes_too_long_is_told_to_end_once_and_others_are_not():
    deadlines, told, other = Deadlines(), threading.Event(), threading.Event()
    with deadlines.within(3600, other.set) as late, deadlines.within(0.1, told.set) as early:
        assert told.wait(60)
        assert early.is_over
        assert not late.is_over
    deadlines.close()
    assert not other.is_set()


def test_it_is_told_once():
    told = []
    deadline = Deadline(1.0, lambda: told.append(1))
    for _ in range(5):
        deadline.tick(0.5)
    assert told == [1]


def test_a_call_that_is_over_is_not_told():
    deadlines, told, done = Deadlines(), [], threading.Event()
    with deadlines.within(0.3, lambda: told.append(1)):
        pass
    with deadlines.within(0.9, done.set):
        assert done.wait(60)
    deadlines.close()
    assert not told
