"""Which frames are taken, by rules that are written out here by hand."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tgdfer.config.data import FramesParams
from tgdfer.media.sampling import Sampler, choose


def at(fps: float, count: int, start: float = 0.0) -> list[float]:
    """The times of a clip with a constant frame rate, in whole microseconds as ffmpeg lists them."""
    return [round(start + index / fps, 6) for index in range(count)]


@pytest.mark.parametrize(
    ("rule", "times", "expected"),
    [
        ({"sampling": "all"}, at(25, 4), [0, 1, 2, 3]),
        ({"sampling": "every", "every": 3}, at(25, 7), [0, 3, 6]),
        ({"sampling": "every", "every": 1}, at(25, 3), [0, 1, 2]),
        ({"sampling": "uniform", "max_frames": 3}, at(25, 9), [1, 4, 7]),
        ({"sampling": "uniform", "max_frames": 3}, at(25, 10), [1, 5, 8]),
        ({"sampling": "uniform", "max_frames": 1}, at(25, 4), [2]),
        ({"sampling": "uniform", "max_frames": 2}, at(25, 3), [0, 2]),
        ({"sampling": "uniform", "max_frames": 3}, at(25, 3), [0, 1, 2]),
        ({"sampling": "uniform", "max_frames": 4}, at(25, 3), [0, 1, 2]),
        ({"sampling": "fps", "fps": 2}, at(4, 7), [0, 2, 4, 6]),
        ({"sampling": "fps", "fps": 4}, at(10, 11), [0, 3, 5, 8, 10]),
        ({"sampling": "fps", "fps": 50}, at(25, 3), [0, 1, 2]),
        # the clock starts with the first frame, whatever its time
        ({"sampling": "fps", "fps": 2}, at(4, 7, start=0.4), [0, 2, 4, 6]),
        ({"sampling": "fps", "fps": 1}, [7.9, 8.1, 8.8, 8.9, 9.5, 9.95], [0, 3, 5]),
        # 0.7 s is a tick of 10 a second, although 0.7 * 10 or 2.3 - 1.6 may fall short of it in floating point
        ({"sampling": "fps", "fps": 10}, at(20, 17, start=1.6), list(range(0, 17, 2))),
        # a time in microseconds falls short of a tick by less than half of one
        ({"sampling": "fps", "fps": 1}, [0.0, 0.999998, 0.999999, 1.5, 2.0], [0, 2, 4]),
        # a gap skips the ticks in it
        ({"sampling": "fps", "fps": 1}, [0, 0.5, 3.2, 3.9, 4.1], [0, 2, 4]),
    ],
)
def test_the_rules(rule: dict, times: list[float], expected: list[int]) -> None:
    assert choose(times, FramesParams(**rule)) == expected


@pytest.mark.parametrize("rule", [{}, {"sampling": "fps"}, {"sampling": "every"}, {"sampling": "all"}])
def test_no_frames_are_taken_of_an_empty_clip(rule: dict) -> None:
    assert choose([], FramesParams(**rule)) == []


def test_uniform_sampling_survives_a_count_of_no_frames() -> None:
    sampler = Sampler(FramesParams(sampling="uniform"), total=0)
    assert sampler.takes(0.0)
    assert "/0" not in str(sampler.expression())


def chosen_by_ffmpeg(times: list[float], params: FramesParams) -> list[int]:
    """The frames that ffmpeg's ``select`` takes by the expression, which is evaluated here."""
    expression = Sampler(params, len(times)).expression()
    if expression is None:
        return list(range(len(times)))
    names: dict[str, Any] = {"ceil": math.ceil, "trunc": math.trunc, "mod": math.fmod, "isnan": math.isnan}
    names |= {"gt": lambda a, b: float(a > b), "not_": lambda a: float(not a)}
    chosen: list[int] = []
    for n, time in enumerate(times):
        names |= {"n": n, "pts": round(time * 1e6), "start_pts": round(times[0] * 1e6)}
        names["prev_selected_pts"] = round(times[chosen[-1]] * 1e6) if chosen else math.nan
        # trunc(NaN) is NaN for ffmpeg and an error for Python; only isnan() decides there
        before, plus, after = expression.partition("+gt(")
        decided = not chosen and "isnan" in before
        if eval((before if decided else before + plus + after).replace("not(", "not_("), names):
            chosen.append(n)
    return chosen


@pytest.mark.parametrize("start", [0.0, 3.2])
@pytest.mark.parametrize(
    "rule",
    [
        {"sampling": "all"},
        *({"sampling": "every", "every": every} for every in (1, 2, 5)),
        *({"sampling": "fps", "fps": fps} for fps in (0.5, 4, 12.5, 100)),
        *({"sampling": "uniform", "max_frames": most} for most in (1, 2, 7, 16, 61, 80)),
    ],
)
def test_ffmpeg_is_asked_for_the_same_frames(rule: dict, start: float) -> None:
    times = at(30, 61, start)
    assert chosen_by_ffmpeg(times, FramesParams(**rule)) == choose(times, FramesParams(**rule))


@given(st.integers(0, 2000), st.integers(1, 64))
def test_uniform_sampling_takes_the_middle_of_each_segment(total: int, max_frames: int) -> None:
    chosen = choose([0.0] * total, FramesParams(sampling="uniform", max_frames=max_frames))
    if total <= max_frames:
        assert chosen == list(range(total))
    else:
        assert chosen == [int((segment + 0.5) * total / max_frames) for segment in range(max_frames)]


@given(st.lists(st.integers(1, 10**6), max_size=60), st.integers(1, 120))
def test_fps_sampling_takes_the_first_frame_of_each_tick(steps: list[int], half_fps: int) -> None:
    microseconds = np.cumsum([0, *steps]).tolist()
    millionths = [(time * half_fps + 2) / 2 for time in microseconds]  # of a tick, with the tolerance of one
    assume(all(one % 10**6 for one in millionths))  # exactly at a tick, floating point decides
    ticks = [one // 10**6 for one in millionths]
    expected = [index for index, tick in enumerate(ticks) if index == 0 or tick > max(ticks[:index])]
    times = [5.0 + time / 1e6 for time in microseconds]
    assert choose(times, FramesParams(sampling="fps", fps=half_fps / 2)) == expected
