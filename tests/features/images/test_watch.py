"""A picture that takes too long costs its own row, whoever decodes it; all others are what they are without it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from headstart.features.images import watch
from headstart.features.images.decode import ImageError, decode
from headstart.features.images.reader import Decoding
from headstart.features.images.watch import Decoders, WatchedDecode, picture_seconds, read_within
from headstart.features.manifest.parts import Row
from headstart.features.sources.source import Image
from headstart.pipeline.errors import HeadstartError, ItemHung
from tests.features.samples import CENTER, endless_jpeg, picture, saved

PIXELS = np.full((2, 3, 3), 7, np.uint8)


@pytest.fixture
def over():
    """Set when the test is done: what hangs comes back then."""
    over = threading.Event()
    yield over
    over.set()


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setenv("HEADSTART_PICTURE_S", "0.3")


def computing_until(event):
    while not event.is_set():
        pass
    return PIXELS


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "soon", "1e999", "5 s"])
def test_a_time_that_is_none_is_refused_by_name(monkeypatch, given):
    monkeypatch.setenv("HEADSTART_PICTURE_S", given)
    with pytest.raises(HeadstartError, match=r"HEADSTART_PICTURE_S is .* expected seconds"):
        picture_seconds()


@pytest.mark.parametrize(("given", "seconds"), [("", 30.0), (" 2.5 ", 2.5)])
def test_a_picture_has_half_a_minute_unless_told_otherwise(monkeypatch, given, seconds):
    monkeypatch.setenv("HEADSTART_PICTURE_S", given)
    assert picture_seconds() == seconds


def test_a_picture_that_takes_too_long_costs_its_own_row(short, over):
    decoders = Decoders(2)
    decoding = Decoding(range(6), (2, 3), lambda row: computing_until(over) if row == 2 else PIXELS, decoders)
    assert list(decoding.good()) == [0, 1, 3, 4, 5]
    assert [(i, error.code) for i, error in decoding.errors.items()] == [(2, "killed")]
    assert "0.3 s" in decoding.errors[2].reason
    assert decoders.left_behind == 1
    decoders.shutdown()


def test_more_that_hang_than_there_are_threads_hold_up_nobody(short, over):
    decoders = Decoders(1)
    decoding = Decoding(range(4), (2, 3), lambda row: computing_until(over) if row < 3 else PIXELS, decoders)
    assert list(decoding.good()) == [3]
    decoders.shutdown()


def test_a_picture_that_waits_is_not_blamed(short, over):
    arrived = threading.Timer(1.0, over.set)  # more than three times what a picture may compute
    arrived.start()
    decoding = Decoding(range(1), (2, 3), lambda row: PIXELS if over.wait(60) else None, Decoders(1))
    assert list(decoding.good()) == [0]


def test_a_picture_that_nobody_waited_long_for_costs_no_system_call(monkeypatch):
    monkeypatch.setattr(watch.time, "clock_gettime", lambda clock: pytest.fail("a decoder's thread was held up"))
    effort = watch.Effort()
    monkeypatch.undo()
    assert not effort.is_beyond(1e9)


def test_a_picture_is_blamed_for_what_it_computes_after_it_was_first_looked_at(monkeypatch):
    computed_s = iter([100.0, 100.0, 102.9, 103.1])
    monkeypatch.setattr(watch.time, "clock_gettime", lambda clock: next(computed_s))
    now_s = iter([0.0, 31.0, 40.0, 50.0])
    monkeypatch.setattr(watch.time, "monotonic", lambda: next(now_s))
    effort = watch.Effort()
    assert [effort.is_beyond(30.0) for _ in range(3)] == [False, False, True]


def test_what_a_picture_raises_while_it_is_waited_for_is_raised(over):
    threading.Timer(3 * watch.TICK_S, over.set).start()

    def read(row):
        over.wait(60)
        raise TimeoutError("of the disk")

    with pytest.raises(TimeoutError, match="of the disk"):
        list(Decoding(range(1), (2, 3), read, Decoders(1)).good())


def test_a_worker_is_told_which_picture_it_is_that_hangs(short, over):
    with ThreadPoolExecutor(1) as pool:
        decoding = Decoding([Row(Image("cats/a.jpg", "", "", "", 0, 0), 0)], (2, 3), lambda row: computing_until(over), pool)
        with pytest.raises(ItemHung, match=r"cats/a.jpg: decoding it took more than 0.3 s; HEADSTART_PICTURE_S"):
            list(decoding.good())
        over.set()


def test_calls_that_did_not_begin_are_cancelled_at_the_end(over):
    decoders = Decoders(1)
    begun = threading.Event()
    running = decoders.submit(lambda: (begun.set(), over.wait(60))[1])
    waiting = decoders.submit(over.wait, 60)
    begun.wait(60)
    decoders.shutdown(cancel_futures=True)
    assert waiting.cancelled()
    over.set()
    assert running.result(60)


@pytest.fixture
def in_children(monkeypatch):
    """Decoding after a thread was left behind."""
    decoders = Decoders(1)
    decoders.left_behind = 1

    def here(data):
        raise AssertionError("decoded in this process")

    made = WatchedDecode(here, CENTER, decoders)
    yield made
    made.close()
    decoders.shutdown()


def test_a_child_decodes_as_this_process_does(in_children):
    data = saved(picture(50, 40), "PNG")
    for _ in range(2):
        np.testing.assert_array_equal(in_children(data), decode(data, CENTER))


@pytest.mark.parametrize(("data", "code"), [(b"", "not_an_image"), (b"what?", "not_an_image"), (b"GIF8", "truncated")])
def test_a_child_says_what_is_wrong_and_goes_on(in_children, data, code):
    with pytest.raises(ImageError) as caught:
        in_children(data)
    assert caught.value.code == code
    good = saved(picture(50, 40), "PNG")
    np.testing.assert_array_equal(in_children(good), decode(good, CENTER))


def test_a_child_that_hangs_is_ended_and_the_next_picture_has_a_new_one(monkeypatch):
    monkeypatch.setenv("HEADSTART_PICTURE_S", "1")
    decoders = Decoders(1)
    decoders.left_behind = 1
    watched = WatchedDecode(lambda data: decode(data, CENTER), CENTER, decoders)
    with pytest.raises(ImageError, match="killed: decoding it did not end within 2 s"):
        watched(endless_jpeg())
    good = saved(picture(50, 40), "PNG")
    np.testing.assert_array_equal(watched(good), decode(good, CENTER))
    watched.close()
    decoders.shutdown()


def test_a_child_that_takes_too_much_memory_is_ended(monkeypatch, in_children):
    monkeypatch.setattr(watch, "PICTURE_BYTES", 1)
    with pytest.raises(ImageError, match="killed: decoding it took more than"):
        in_children(endless_jpeg())


def test_one_picture_alone_is_not_waited_for_for_ever(short, over):
    assert read_within(lambda: PIXELS) is PIXELS
    with pytest.raises(ImageError, match="killed"):
        read_within(lambda: computing_until(over))


def test_what_reading_one_raises_is_raised():
    def read():
        raise ImageError("truncated", "cut off")

    with pytest.raises(ImageError, match="truncated: cut off"):
        read_within(read)


def test_no_more_than_a_few_that_hang_are_left_behind_in_one_process(short, over):
    def try_one():
        with pytest.raises((ImageError, HeadstartError)) as caught:
            read_within(lambda: computing_until(over))
        return caught.type

    assert [try_one() for _ in range(4)] == [ImageError, ImageError, ImageError, HeadstartError]
