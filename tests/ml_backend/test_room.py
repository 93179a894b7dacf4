"""The memory of decoded images: bounded for people too, and nobody is refused because of a batch job."""

import threading
from collections.abc import Callable

import pytest

from ml_backend.serving.batching import Lane
from ml_backend.serving.room import MAX_DECODED_BYTES, Room

WAIT_S = 10


def take_later(room: Room, size: int, read_lane: Callable[[], Lane]) -> tuple[threading.Thread, threading.Event]:
    taken = threading.Event()

    def run() -> None:
        room.take(size, read_lane)
        taken.set()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, taken


def test_batch_jobs_leave_half_of_the_room_to_people() -> None:
    room = Room(100)
    room.take(50, lambda: Lane.BATCH)
    thread, is_taken = take_later(room, 1, lambda: Lane.BATCH)

    room.take(50, lambda: Lane.PERSON)  # goes in at once

    assert (room.taken_bytes, is_taken.is_set()) == (100, False)
    room.leave(50)
    room.leave(50)
    thread.join(WAIT_S)
    assert room.taken_bytes == 1


def test_a_person_waits_for_other_peoples_images() -> None:
    room = Room(100)
    room.take(60, lambda: Lane.PERSON)
    thread, is_taken = take_later(room, 60, lambda: Lane.PERSON)

    room.take(40, lambda: Lane.PERSON)  # there is room for this one

    assert (room.taken_bytes, is_taken.is_set()) == (100, False)
    room.leave(60)
    thread.join(WAIT_S)
    assert room.taken_bytes == 100


def test_an_image_that_a_person_comes_to_wait_for_is_let_in_as_a_persons() -> None:
    room, lanes = Room(100), [Lane.BATCH]
    room.take(50, lambda: Lane.BATCH)
    thread, is_taken = take_later(room, 50, lambda: lanes[0])

    lanes[0] = Lane.PERSON
    room.look_again()

    thread.join(WAIT_S)
    assert (is_taken.is_set(), room.taken_bytes) == (True, 100)


def test_an_image_larger_than_all_of_it_goes_in_alone() -> None:
    room = Room(100)

    room.take(1000, lambda: Lane.BATCH)

    assert room.taken_bytes == 1000


def test_what_a_block_held_is_given_back_whatever_happens_in_it() -> None:
    room = Room(100)

    taken = []

    def fail() -> None:
        with room.hold(70, Lane.PERSON):
            taken.append(room.taken_bytes)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert (taken, room.taken_bytes) == ([70], 0)


def test_the_largest_image_of_a_person_fits_beside_those_of_batch_jobs() -> None:
    from labels.limits import MAX_PIXELS

    assert MAX_PIXELS * 3 <= MAX_DECODED_BYTES // 2
