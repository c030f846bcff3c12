"""What decides how the scenes of DigitScenes look, and what a scene is stored as."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any, TypedDict

from mnv3lib._checks import fraction, positive_int

if TYPE_CHECKING:
    import numpy as np

__all__ = ["COLOURS", "LABELS", "SIZE", "SceneConfig", "SceneOptions", "record_type"]

#: The inks, a sixth of the colour circle apart.
COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")

#: What can be asked about a digit, and the names of the answers.
LABELS: dict[str, tuple[str, ...]] = {
    "digit": tuple("0123456789"),
    "parity": ("even", "odd"),
    "colour": COLOURS,
}

#: Images of a split, unless its size is said.
SIZE = 10_000

_LARGEST = 4096  # pixels of the image's side: fixed-point coordinates and records of more would overflow
_SMALLEST = 16  # pixels of the image's side, and of the side of a square as large as a digit in the image
_EASY = {"scale": (0.6, 0.95), "contrast": (0.75, 1.0), "noise": 0.03, "blur": 0.0, "rotation": 10.0, "warp": 0.1}
_HARD = {"scale": (0.3, 0.75), "contrast": (0.4, 0.9), "noise": 0.12, "blur": 0.016, "rotation": 35.0, "warp": 0.3}


def _range(name: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} must be two numbers, lowest and highest, got {value!r}")
    low, high = (fraction(name, part) for part in value)
    if not 0 < low <= high:
        raise ValueError(f"{name} must be two numbers with 0 < lowest <= highest <= 1, got {value!r}")
    return low, high


def _real(name: str, value: Any, highest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number from 0 to {highest:g}, got {value!r}")
    if not isfinite(value) or not 0 <= float(value) <= highest:
        raise ValueError(f"{name} must be a number from 0 to {highest:g}, got {value!r}")
    return float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneConfig:
    """Everything that decides what scenes look like.

    Attributes:
        resolution: side of the square image in pixels, from 16 to 4096.
        digits: least and most digits in a scene. With n of them the image is divided into n cells, and each digit
            stays in its own: none covers another.
        scale: side of a digit's 8×8 square as a part of its cell's shorter side (of the image, if it is alone),
            lowest and highest; never below 8 pixels.
        contrast: opacity of the ink, lowest and highest.
        noise: standard deviation of the noise on each value, black to white being 1.
        blur: most standard deviation of the blur, as a part of the image's side; a scene has up to that.
        rotation: most degrees by which a digit is turned, either way.
        warp: most shear, and most change of width against height, either way.
        saturation: of the photograph, 1 as it was taken, 0 for shades of grey; the ink keeps its colour.
        hue: degrees by which all colours, of ink and photograph, are turned about grey.
    """

    resolution: int = 64
    digits: tuple[int, int] = (1, 1)
    scale: tuple[float, float] = (0.6, 0.95)
    contrast: tuple[float, float] = (0.75, 1.0)
    noise: float = 0.03
    blur: float = 0.0
    rotation: float = 10.0
    warp: float = 0.1
    saturation: float = 1.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put("resolution", positive_int("resolution", self.resolution))
        if not _SMALLEST <= self.resolution <= _LARGEST:
            raise ValueError(f"resolution must be an integer from {_SMALLEST} to {_LARGEST}, got {self.resolution}")
        if not isinstance(self.digits, (tuple, list)) or len(self.digits) != 2:
            raise TypeError(f"digits must be two integers, lowest and highest, got {self.digits!r}")
        put("digits", tuple(positive_int("digits", value) for value in self.digits))
        most = min((self.resolution // _SMALLEST) ** 2, 100)
        if not self.digits[0] <= self.digits[1] <= most:
            raise ValueError(
                f"digits must be lowest <= highest <= {most} at a resolution of {self.resolution}, got {self.digits}"
            )
        put("scale", _range("scale", self.scale))
        put("contrast", _range("contrast", self.contrast))
        put("noise", _real("noise", self.noise, 1))
        put("blur", _real("blur", self.blur, 0.1))
        put("rotation", _real("rotation", self.rotation, 90))
        put("warp", _real("warp", self.warp, 0.5))
        put("saturation", _real("saturation", self.saturation, 1))
        put("hue", _real("hue", self.hue, 360))

    @classmethod
    def from_difficulty(cls, difficulty: float = 0.0, **overrides: Any) -> SceneConfig:
        """On the straight line from easy (0) to hard (1); ``overrides`` are attributes that do not follow it.

        >>> SceneConfig.from_difficulty(1.0, noise=0.05)
        SceneConfig(resolution=64, digits=(1, 1), scale=(0.3, 0.75), contrast=(0.4, 0.9), noise=0.05, blur=0.016, \
rotation=35.0, warp=0.3, saturation=1.0, hue=0.0)
        """
        t = fraction("difficulty", difficulty)

        def between(easy: Any, hard: Any) -> Any:
            if isinstance(easy, tuple):
                return tuple(map(between, easy, hard))
            return round((1 - t) * easy + t * hard, 6)

        unknown = sorted(set(overrides) - set(cls.__slots__))
        if unknown:
            raise TypeError(f"there is no {', '.join(map(repr, unknown))}, only {', '.join(cls.__slots__)}")
        return replace(cls(), **{name: between(_EASY[name], _HARD[name]) for name in _EASY} | overrides)

    def as_dict(self) -> dict[str, Any]:
        """The attributes by name, as JSON has them: lists for tuples."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


class SceneOptions(TypedDict, total=False):
    """Attributes of :class:`SceneConfig` that do not follow the difficulty."""

    digits: tuple[int, int]
    scale: tuple[float, float]
    contrast: tuple[float, float]
    noise: float
    blur: float
    rotation: float
    warp: float
    saturation: float
    hue: float


def record_type(config: SceneConfig) -> np.dtype[np.void]:
    """What a scene is stored as.

    ``image`` (3, R, R) uint8; ``instances`` (R, R) uint8, 0 for the photograph and j + 1 for the j-th digit; and for
    each of the most digits that a scene may have ``digits`` and ``colours`` (NOTHING where there is none) and ``boxes``
    (left, top, right, bottom) in pixels, right and bottom excluded: the tightest around the digit's instance.
    """
    side, most = config.resolution, config.digits[1]
    import numpy as np  # here, so that a plan needs none

    return np.dtype(
        [
            ("image", "u1", (3, side, side)),
            ("instances", "u1", (side, side)),
            ("digits", "u1", (most,)),
            ("colours", "u1", (most,)),
            ("boxes", "<i2", (most, 4)),
        ]
    )
