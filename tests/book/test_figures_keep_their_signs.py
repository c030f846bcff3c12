"""The signs that all figures share: colours of the kinds of layers, shades of the map, which axes are logarithmic."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from figures.convolution_cost import intensities, savings
from figures.training_recipe import learning_rates

from mnv3lib.config import MobileNetV3Config, large, small
from mnv3lib.explore.netmap import NetworkMap
from mnv3lib.explore.palette import ACCENT, COLOURS, KINDS, LABELS
from mnv3lib.recipe import load, names


def test_a_kind_of_layer_has_its_colour_on_every_page() -> None:
    colours = {"stem": "sky", "expand": "blue", "depthwise": "orange", "se": "purple", "project": "green"}
    assert {kind: COLOURS[name] for kind, name in colours.items()} | {
        "last conv": "#56B4E9",
        "classifier": "#D55E00",
    } == KINDS
    assert list(LABELS) == list(KINDS)
    assert (COLOURS["orange"], COLOURS["blue"], ACCENT) == ("#E69F00", "#0072B2", "#0072B2")


@pytest.mark.parametrize("config", [large(), small()])
def test_h_swish_is_filled_relu_is_pale_and_what_is_marked_is_stronger(config: MobileNetV3Config) -> None:
    last = len(config.rows) + 1
    marked = (1, last - 1, last)
    svg = ElementTree.fromstring(NetworkMap(config, highlight=marked, name="it").svg)
    shades = [float(column.get("fill-opacity", "nan")) for column in svg.iter("{http://www.w3.org/2000/svg}rect")]
    swish = [config.activation, *(row.activation for row in config.rows), config.activation, config.activation]
    expected = {("HS", True): 0.9, ("HS", False): 0.3, ("RE", True): 0.14, ("RE", False): 0.05}
    assert shades == [expected[activation, place in marked] for place, activation in enumerate(swish)]


def test_what_is_said_to_be_logarithmic_is() -> None:
    scales = {}
    for name, drawing in {
        "savings": savings((3, 5), {"small": [(row.kernel, row.out_channels) for row in small().rows]}),
        "intensities": intensities({"depthwise": [(900_000, 200_000), (1_800_000, 1_000_000)]}),
        "learning rates": learning_rates([load(name) for name in names()[:2]]),
    }.items():
        assert "logarithmic ax" in drawing.alt
        (frame,) = drawing.figure.axes
        scales[name] = (frame.get_xscale(), frame.get_yscale())
    assert scales == {"savings": ("log", "linear"), "intensities": ("log", "log"), "learning rates": ("linear", "log")}
