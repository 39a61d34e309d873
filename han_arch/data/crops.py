"""Where sub-images lie in an image: the same windows for HR and, divided by the scale, for LR."""

from dataclasses import dataclass

from han_arch.errors import UserError


@dataclass(frozen=True)
class CropGrid:
    """Overlapping square windows over an HR image.

    Attributes:
        size: side of a window in HR pixels.
        step: distance between neighbouring windows in HR pixels.
    """

    size: int = 480
    step: int = 240

    def check(self, scale: int) -> None:
        """Raise UserError when size or step is not a positive multiple of `scale`; names the nearest legal ones."""
        for name, value in (("crop size", self.size), ("step", self.step)):
            if value < 1 or value % scale:
                below = max(value - value % scale, scale)
                raise UserError(
                    f"{name} {value} is not a multiple of scale {scale}; the nearest are {below}, {below + scale}"
                )

    def starts(self, length: int) -> list[int]:
        """First pixels of the windows along a side; the last window ends flush with the side.

        A side shorter than the window gives one window, the whole side. The side of a mod-cropped image gives starts
        that are multiples of the scale.
        """
        if length <= self.size:
            return [0]
        starts = list(range(0, length - self.size + 1, self.step))
        if starts[-1] + self.size < length:
            starts.append(length - self.size)
        return starts

    def windows(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """Row and column slices of all windows of an image, row by row."""
        return [
            (slice(top, min(top + self.size, height)), slice(left, min(left + self.size, width)))
            for top in self.starts(height)
            for left in self.starts(width)
        ]


def sub_image_names(stem: str, count: int) -> list[str]:
    """Names without extension of an image's sub-images, numbered from 1 as BasicSR's script does: 0001_s001."""
    return [f"{stem}_s{number:03d}" for number in range(1, count + 1)]


def shrink(window: tuple[slice, slice], scale: int) -> tuple[slice, slice]:
    """The LR window of an HR window whose bounds are multiples of `scale`."""
    rows, columns = window
    return (
        slice(rows.start // scale, rows.stop // scale),
        slice(columns.start // scale, columns.stop // scale),
    )
