"""The rules of sizes and costs, as equations and as Python."""

from __future__ import annotations

from typing import NamedTuple

from figures.reference.tables import Table


class Formula(NamedTuple):
    """A rule as an equation, and as Python, which the tests compute.

    Attributes:
        what: it gives.
        latex: the equation.
        python: the same, of the same letters.
    """

    what: str
    latex: str
    python: str


#: n side, k kernel, s stride, d dilation, p padding, g groups, c and o channels in and out, h × w positions of the
#: output, e expanded channels, q squeeze width, N images, B batch.
FORMULAS = (
    Formula("output side", r"\left\lfloor \frac{n + 2p - d(k-1) - 1}{s} \right\rfloor + 1",
            "(n + 2*p - d*(k - 1) - 1)//s + 1"),
    Formula("padding that keeps the side at stride 1", r"d\,\frac{k-1}{2}", "d*(k - 1)//2"),
    Formula("output side with that padding", r"\left\lceil \frac{n}{s} \right\rceil", "-(-n//s)"),
    Formula("multiply-adds of a convolution", r"k^2\,\frac{c}{g}\,o\,h\,w", "k*k * c//g * o * h*w"),
    Formula("parameters of a convolution with batch norm", r"k^2\,\frac{c}{g}\,o + 2o", "k*k * c//g * o + 2*o"),
    Formula("parameters of a convolution or linear layer with bias", r"k^2\,\frac{c}{g}\,o + o",
            "k*k * c//g * o + o"),
    Formula("rounding to multiples of 8", r"\begin{cases} r & r \ge 0.9\,c \\ r + 8 & \text{else} \end{cases},\ "
            r"r = \max\!\left(8,\ 8\left\lfloor \tfrac{c + 4}{8} \right\rfloor\right)",
            "(r := max(8, int(c + 4)//8*8)) + 8*(r < 0.9*c)"),
    Formula("squeeze width", r"q = \operatorname{round}_8 \lfloor e / 4 \rfloor", "round8(e//4)"),
    Formula("parameters of squeeze-and-excitation", r"2\,e\,q + q + e", "2*e*q + q + e"),
    Formula("multiply-adds of squeeze-and-excitation", r"2\,e\,q", "2*e*q"),
    Formula("receptive field, j pixels from one input to the next", r"r + (k-1)\,d\,j", "r + (k - 1)*d*j"),
    Formula("steps of an epoch", r"\left\lceil \frac{N}{B} \right\rceil", "-(-N//B)"),
    Formula("hard sigmoid", r"\frac{\min(\max(x + 3,\ 0),\ 6)}{6}", "min(max(x + 3, 0), 6)/6"),
    Formula("h-swish", r"x\,\frac{\min(\max(x + 3,\ 0),\ 6)}{6}", "x*min(max(x + 3, 0), 6)/6"),
)  # fmt: skip


def formulas() -> Table:
    """The rules, as equations and as Python."""
    return Table(["", "equation", "Python"], [[each.what, f"${each.latex}$", f"`{each.python}`"] for each in FORMULAS])
