"""Which frames of a clip to take: one rule, as Python and as an expression for ffmpeg's ``select`` filter."""

from collections.abc import Sequence

from tgdfer.config.data import FramesParams


class Sampler:
    """Decides for the frames of a clip, in their order, which ones to take.

    - ``all``: every frame.
    - ``every``: every k-th frame, beginning with the first.
    - ``fps``: the first frame at or after each tick of a clock that starts with the first frame.
    - ``uniform``: the middle frame of each of ``max_frames`` equal segments; all frames of a clip that has no more.
      Only this rule needs ``total``, the number of frames in the clip.
    """

    def __init__(self, params: FramesParams, total: int = 0) -> None:
        self._params = params
        self.total = max(1, total)
        self._start: float
        self._last_tick = -1
        self.seen = 0
        """The number of frames decided so far."""

    def takes(self, time_s: float) -> bool:
        """Whether to take the next frame, which is at ``time_s`` (seconds, in whole microseconds)."""
        index = self.seen
        self.seen += 1
        if self._params.sampling == "every":
            return index % self._params.every == 0
        if self._params.sampling == "uniform":
            return self._middles_before(index + 1) > self._middles_before(index)
        if self._params.sampling == "fps":
            if index == 0:
                self._start = time_s
            tick = int((time_s - self._start) * self._params.fps + 1e-6)
            if tick <= self._last_tick:
                return False
            self._last_tick = tick
        return True

    def _middles_before(self, index: int) -> int:
        # the k-th middle is frame floor((2k + 1) total / (2 max_frames)): count the k for which it is below index
        return -((self.total - 2 * self._params.max_frames * index) // (2 * self.total))

    def expression(self) -> str | None:
        """The rule for ffmpeg, whose time base must be microseconds; None where it takes every frame.

        Its length does not depend on the number of frames, and it computes in the same double precision as
        ``takes``.
        """
        if self._params.sampling == "every":
            return f"not(mod(n,{self._params.every}))"
        if self._params.sampling == "uniform":
            middles = f"ceil(({2 * self._params.max_frames}*{{}}-{self.total})/{2 * self.total})"
            return f"gt({middles.format('(n+1)')},{middles.format('n')})"
        if self._params.sampling == "fps":
            tick = f"trunc(({{}}/1000000-start_pts/1000000)*{self._params.fps!r}+1e-6)"
            return f"isnan(prev_selected_pts)+gt({tick.format('pts')},{tick.format('prev_selected_pts')})"
        return None


def choose(times: Sequence[float], params: FramesParams) -> list[int]:
    """The numbers of the frames to take of a clip whose frames are at ``times`` (seconds, ascending)."""
    sampler = Sampler(params, len(times))
    return [index for index, time in enumerate(times) if sampler.takes(time)]
