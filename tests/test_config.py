"""Rows, rounding rules, dilation policies, and what each bad argument is answered with."""

from __future__ import annotations

import dataclasses
import inspect
import json
import pickle
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mnv3lib
from mnv3lib import config, cost, facts
from mnv3lib.config import (
    LARGE,
    SMALL,
    InvertedResidualConfig,
    MobileNetV3Config,
    large,
    large_minimalistic,
    make_divisible,
    minimalistic,
    small,
    small_minimalistic,
)

TABLES = {"large": LARGE, "small": SMALL}
VARIANTS = (large, small, large_minimalistic, small_minimalistic)
NAN, INFINITY = float("nan"), float("inf")


def widths(described: MobileNetV3Config) -> list[int]:
    """The expansions of all rows."""
    return [row.expanded_channels for row in described.rows]


# --- the tables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", TABLES)
def test_rows_are_the_paper_s(variant: str) -> None:
    printed = facts.specification(variant)
    lines = [dict(zip(printed["columns"], line, strict=True)) for line in printed["rows"]]
    bottlenecks = [line for line in lines if line["operator"] == "bneck"]
    columns = ("in_channels", "kernel", "exp", "out", "se", "nl", "s")
    expected = tuple(InvertedResidualConfig(*(line[column] for column in columns)) for line in bottlenecks)
    assert TABLES[variant] == expected

    stem, last_conv, pool, hidden, logits = lines[0], *lines[-4:]
    described = getattr(config, variant)()
    assert described.rows == expected
    assert described.stem_channels == stem["out"] == 16
    assert (stem["kernel"], stem["s"], stem["nl"]) == (3, 2, described.activation)
    assert described.last_conv == last_conv["out"]
    assert described.last_channel == hidden["out"] == logits["in_channels"]
    assert described.in_channels == stem["in_channels"]

    # The column of input sizes is what the strides make of it.
    groups = cost.profile(described, stem["input"]).features
    sizes = [group[0].input[1:] for group in groups[:-1]]
    assert sizes == [(line["input"],) * 2 for line in (stem, *bottlenecks, last_conv)]
    assert groups[-1][0].input == (pool["in_channels"], pool["input"], pool["input"])
    assert groups[-1][0].input[1] == pool["kernel"], "the pooling is global"


@pytest.mark.parametrize("variant", TABLES)
def test_rows_are_torchvision_s(variant: str) -> None:
    theirs = import_module("torchvision.models.mobilenetv3")
    for width in (0.35, 0.75, 1.0, 1.3):
        for tail in (False, True):
            for dilated in (False, True):
                options = {"width_mult": width, "reduced_tail": tail, "dilated": dilated}
                rows, last_channel = theirs._mobilenet_v3_conf(f"mobilenet_v3_{variant}", **options)
                ours = getattr(config, variant)(**options)
                assert ours.last_channel == last_channel
                assert ours.last_conv == 6 * rows[-1].out_channels
                assert [
                    (row.input_channels, row.kernel, row.expanded_channels, row.out_channels, row.use_se,
                     row.activation == "HS", row.stride, row.dilation)
                    for row in ours.rows
                ] == [
                    (row.input_channels, row.kernel, row.expanded_channels, row.out_channels, row.use_se,
                     row.use_hs, row.stride, row.dilation)
                    for row in rows
                ]  # fmt: skip


def test_minimalistic_keeps_widths_and_strides() -> None:
    for table in TABLES.values():
        plain = minimalistic(table)
        assert {(row.kernel, row.use_se, row.activation) for row in plain} == {(3, False, "RE")}
        for ours, original in zip(plain, table, strict=True):
            kept = ("input_channels", "expanded_channels", "out_channels", "stride", "dilation")
            assert [getattr(ours, name) for name in kept] == [getattr(original, name) for name in kept]
    assert large_minimalistic().activation == small_minimalistic().activation == "RE"
    assert cost.profile(large_minimalistic()).parameters == 3_924_288
    assert cost.profile(small_minimalistic()).parameters == 2_044_736


def test_squeeze_is_a_quarter_of_the_expansion() -> None:
    squeezed = [row.squeeze_channels for row in SMALL if row.use_se]
    assert squeezed == [8, 24, 64, 64, 32, 40, 72, 144, 144]
    squeezed = [row.squeeze_channels for row in LARGE if row.use_se]
    assert squeezed == [24, 32, 32, 120, 168, 168, 240, 240]
    assert InvertedResidualConfig(1, 3, 1, 1, True, "RE", 1).squeeze_channels == 8


def test_shortcut_and_expansion_as_in_the_paper() -> None:
    assert [number for number, row in enumerate(LARGE, 1) if row.use_shortcut] == [1, 3, 5, 6, 8, 9, 10, 12, 14, 15]
    assert [number for number, row in enumerate(SMALL, 1) if row.use_shortcut] == [3, 5, 6, 8, 10, 11]
    assert [number for number, row in enumerate(LARGE, 1) if not row.use_expansion] == [1]
    assert [number for number, row in enumerate(SMALL, 1) if not row.use_expansion] == [1]


def test_stages_end_each_resolution() -> None:
    assert large().stages == (1, 3, 6, 12, 16)
    assert small().stages == (0, 1, 3, 8, 12)
    assert large(dilated=True).stages == (1, 3, 6, 16)
    assert small(dilated=True, dilation_policy="paper").stages == (0, 1, 3, 12)
    for variant in VARIANTS:
        described = variant()
        groups = cost.profile(described).features[:-1]
        sides = [group[-1].output[1] for group in groups]
        ends = [index for index, side in enumerate(sides) if index + 1 == len(sides) or sides[index + 1] < side]
        assert list(described.stages) == ends


# --- rounding ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=500)
@given(st.floats(1e-3, 1e5) | st.integers(1, 5000), st.sampled_from((1, 2, 3, 4, 8, 16, 32)))
def test_make_divisible_is_torchvision_s(channels: float, divisor: int) -> None:
    theirs = import_module("torchvision.models._utils")._make_divisible
    ours = make_divisible(channels, divisor)
    assert ours == theirs(channels, divisor)
    assert type(ours) is int
    assert ours % divisor == 0
    assert ours >= divisor
    assert ours >= 0.9 * channels
    assert ours <= max(divisor, channels + divisor)


def test_make_divisible_keeps_nine_tenths() -> None:
    assert [make_divisible(channels) for channels in (1, 8, 11, 12, 16, 20)] == [8, 8, 16, 16, 16, 24]
    # The nearest multiple is 8 below; 11 / 10 of it is reached and the rule goes up.
    assert (make_divisible(8.8), make_divisible(8.89)) == (8, 16)
    assert (make_divisible(17.7), make_divisible(17.78)) == (16, 24)
    assert make_divisible(18) == 24, "floor or nearest would say 16"
    assert make_divisible(50, 16) == 48
    assert make_divisible(35, 16) == 32
    assert make_divisible(36, 16) == 48


def test_the_two_rules_at_three_quarters() -> None:
    by_torchvision, by_paper = large(width_mult=0.75), large(width_mult=0.75, rounding="paper")
    assert by_torchvision.rows[7].expanded_channels == 152
    assert by_torchvision.rows[6].expanded_channels == 184, "round8(240 · ¾ = 180)"
    assert by_paper.rows[6].expanded_channels == 192, "6 · round8(30) = 6 · 32"
    assert (by_torchvision.last_channel, by_paper.last_channel) == (960, 1280)
    assert (by_torchvision.last_conv, by_paper.last_conv) == (720, 720)
    different = sum(a != b for a, b in zip(widths(by_torchvision), widths(by_paper), strict=True))
    assert different == 12
    for described in (by_torchvision, by_paper):
        assert [row.out_channels for row in described.rows] == [16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 88, 88, 120,
                                                                120, 120]  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "width", "by_torchvision", "by_paper"),
    [
        (large, 0.35, 997_064, None),
        (large, 0.5, 1_734_576, 2_689_520),
        (large, 0.75, 3_377_576, 3_993_528),
        (large, 1.0, 5_483_032, 5_483_032),
        (large, 1.25, 8_164_744, 8_256_296),
        (small, 0.35, 558_744, None),
        (small, 0.5, 917_264, 1_592_704),
        (small, 0.75, 1_653_920, 2_041_872),
        (small, 1.0, 2_542_856, 2_542_856),
        (small, 1.25, 3_644_912, None),
    ],
)
def test_parameter_totals_of_both_rules(variant: Any, width: float, by_torchvision: int, by_paper: int | None) -> None:
    assert cost.profile(variant(width_mult=width)).parameters == by_torchvision
    if by_paper is not None:
        assert cost.profile(variant(width_mult=width, rounding="paper")).parameters == by_paper


@pytest.mark.parametrize(("variant", "total"), [(large, 2_689_904), (small, 1_593_224)])
def test_keras_and_timm_do_not_thin_the_stem(variant: Any, total: int) -> None:
    """TF-slim does; beside that, their rule is "paper" up to width 1."""
    described = variant(width_mult=0.5, rounding="paper")
    first = dataclasses.replace(described.rows[0], input_channels=16, expanded_channels=16)
    wide = dataclasses.replace(described, rows=(first, *described.rows[1:]))
    assert (described.stem_channels, wide.stem_channels) == (8, 16)
    assert wide == variant(width_mult=0.5, rounding="timm")
    assert cost.profile(wide).parameters == total


@pytest.mark.parametrize("variant", VARIANTS)
def test_timm_s_rule_is_the_paper_s_but_for_both_ends(variant: Any) -> None:
    for width in (0.75, 1.0):
        assert variant(width_mult=width, rounding="timm") == variant(width_mult=width, rounding="paper")
    for width in (0.3, 0.5, 0.74, 1.25, 2.0):
        by_timm, by_paper = (variant(width_mult=width, rounding=rule) for rule in ("timm", "paper"))
        assert by_timm.rows[1:] == by_paper.rows[1:]
        assert by_timm.last_conv == by_paper.last_conv
        assert by_timm.last_channel == variant().last_channel
        assert by_timm.stem_channels == (16 if width < 0.75 else by_paper.stem_channels)
    twice = (LARGE[0], LARGE[0])
    described = MobileNetV3Config.from_rows(twice, last_channel=64, width_mult=0.5, rounding="timm")
    assert [row.input_channels for row in described.rows] == [16, 8], "the first row's input alone is the stem"


@pytest.mark.parametrize("width", [0.35, 0.5, 0.6, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0])
@pytest.mark.parametrize("variant", TABLES)
def test_timm_s_rule_is_timm_s(variant: str, width: float) -> None:
    import torch

    theirs = import_module("timm.models.mobilenetv3")
    with torch.device("meta"):
        network = theirs._gen_mobilenet_v3(f"mobilenetv3_{variant}_100", width)
    described = getattr(config, variant)(width_mult=width, rounding="timm")
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    expected = [module.out_channels for module in convolutions] + [network.classifier.out_features]
    layers = [layer for layer in cost.profile(described).layers if layer.kind != "pool"]
    assert [layer.output[0] for layer in layers] == expected
    assert cost.profile(described).parameters == sum(parameter.numel() for parameter in network.parameters())


def test_rules_agree_at_width_1_and_heads_below_it() -> None:
    for variant in VARIANTS:
        assert variant() == variant(rounding="paper") == variant(width_mult=1)
        head = variant().last_channel
        for width in (0.25, 0.5, 0.75):
            assert variant(width_mult=width, rounding="paper").last_channel == head
            assert variant(width_mult=width).last_channel == make_divisible(head * width)
        assert variant(width_mult=1.5, rounding="paper").last_channel == make_divisible(head * 1.5)
    # The last convolution: six times the rounded output, or the rounded 576.
    assert (small(width_mult=0.35).last_conv, small(width_mult=0.35, rounding="paper").last_conv) == (192, 200)


# --- tail and dilation ------------------------------------------------------------------------------------------------


def test_reduced_tail_halves_what_detection_halves() -> None:
    def tail(described: MobileNetV3Config) -> list[tuple[int, int, int]]:
        return [(row.input_channels, row.expanded_channels, row.out_channels) for row in described.rows[-3:]]

    assert tail(large(reduced_tail=True)) == [(112, 672, 80), (80, 480, 80), (80, 480, 80)]
    assert tail(small(reduced_tail=True)) == [(48, 288, 48)] * 3
    for variant, table, head in ((large, LARGE, 640), (small, SMALL, 512)):
        described = variant(reduced_tail=True)
        assert described.rows[:-3] == table[:-3]
        assert described.last_channel == head
        assert described.last_conv == 6 * described.rows[-1].out_channels
    # Halved before it is widened.
    assert large(reduced_tail=True, width_mult=0.35).rows[-1].out_channels == make_divisible(80 * 0.35)


@pytest.mark.parametrize("variant", [large, small])
def test_dilation_policies(variant: Any) -> None:
    plain, tail = variant().rows, slice(-3, None)
    by_torchvision = variant(dilated=True).rows
    by_paper = variant(dilated=True, dilation_policy="paper").rows
    assert by_torchvision[:-3] == by_paper[:-3] == plain[:-3]
    assert [row.dilation for row in by_torchvision[tail]] == [2, 2, 2]
    assert [row.dilation for row in by_paper[tail]] == [1, 2, 2]
    for rows in (by_torchvision, by_paper):
        assert [row.conv_stride for row in rows[tail]] == [1, 1, 1]
        assert [row.use_shortcut for row in rows] == [row.use_shortcut for row in plain], "as the table prints it"
    for policy in config.DILATION_POLICIES:
        assert variant(dilation_policy=policy) == variant()
        report = cost.profile(variant(dilated=True, dilation_policy=policy))
        assert report.features[-2][-1].output_stride == 16
        assert report.macs == cost.profile(variant(dilated=True)).macs
        assert report.parameters == cost.profile(variant()).parameters


def test_dilated_takes_no_stride() -> None:
    row = InvertedResidualConfig(8, 5, 16, 8, False, "RE", 2, dilation=2)
    assert (row.conv_stride, row.use_shortcut) == (1, False), "stride 2 in the table: no shortcut, as in torchvision"


# --- the public face --------------------------------------------------------------------------------------------------


def test_configs_are_values() -> None:
    assert small() == small()
    assert hash(small()) == hash(small())
    assert small() != large()
    assert pickle.loads(pickle.dumps(large(width_mult=0.5))) == large(width_mult=0.5)
    assert eval(repr(small()), vars(config)) == small()
    with pytest.raises(dataclasses.FrozenInstanceError):
        small().last_conv = 3  # type: ignore[misc]
    assert MobileNetV3Config(list(SMALL), 576, 1024) == small(), "any sequence of rows"
    assert MobileNetV3Config.from_rows(iter(SMALL), last_channel=1024) == small()
    assert dataclasses.replace(small(), num_classes=7) == small(num_classes=7)


def test_the_map_of_variants_is_what_the_functions_give() -> None:
    assert list(config.VARIANTS) == ["large", "small", "large_minimalistic", "small_minimalistic"]
    for (name, variant), build in zip(config.VARIANTS.items(), VARIANTS, strict=True):
        assert build.__name__ == name
        assert variant.config(width_mult=0.5, num_classes=3) == build(width_mult=0.5, num_classes=3)
        assert variant.label == name.replace("_", " ").capitalize()
        assert build().rows == variant.rows, "as printed"
        assert (build().last_channel, build().activation) == (variant.last_channel, variant.activation)
        with pytest.raises(TypeError, match="activation"):
            build(activation="RE")


def test_a_table_takes_the_keywords_of_a_variant_and_an_activation() -> None:
    from_rows = inspect.signature(MobileNetV3Config.from_rows).parameters
    assert list(from_rows)[:2] == ["rows", "last_channel"]
    shown = {name: parameter.default for name, parameter in from_rows.items()}
    assert set(inspect.signature(large).parameters) == set(shown) - {"rows", "last_channel", "activation"}
    ours = {field.name: field.default for field in dataclasses.fields(MobileNetV3Config)}
    for name in set(ours) - {"rows", "last_conv", "last_channel"}:
        assert shown[name] == ours[name], name
    assert from_rows["width_mult"].default == 1.0
    assert (from_rows["rounding"].default, from_rows["dilation_policy"].default) == ("torchvision", "torchvision")
    assert (from_rows["dilated"].default, from_rows["reduced_tail"].default) == (False, False)
    for name in ("last_conv", "witdh_mult"):
        with pytest.raises(TypeError, match=name):
            MobileNetV3Config.from_rows(SMALL, last_channel=8, **{name: 1})


@pytest.mark.parametrize("variant", VARIANTS)
def test_keywords_are_strict(variant: Any) -> None:
    with pytest.raises(TypeError, match="witdh_mult"):
        variant(witdh_mult=0.5)
    with pytest.raises(TypeError):
        variant(10)
    parameters = inspect.signature(variant).parameters
    assert set(parameters) == {
        "num_classes", "width_mult", "reduced_tail", "dilated", "dropout", "in_channels", "rounding", "dilation_policy",
        "norm_eps", "norm_momentum", "padding", "stochastic_depth",
    }  # fmt: skip
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters.values())
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    assert variant(**defaults) == variant()


def test_a_config_as_plain_data() -> None:
    odd = {"width_mult": 0.35, "dilated": True, "dropout": 0.1, "norm_eps": 1e-5, "norm_momentum": 0.1,
           "padding": "same", "stochastic_depth": 0.3, "num_classes": 3, "in_channels": 5}  # fmt: skip
    for described in (small(), large_minimalistic(**odd), large(**odd, rounding="timm")):
        written = json.loads(json.dumps(described.to_dict()))
        assert MobileNetV3Config.from_dict(written) == described
    written = small().to_dict()
    del written["padding"], written["rows"][0]["dilation"]
    assert MobileNetV3Config.from_dict(written) == small(), "an older version knew fewer"
    for changes, error, words in (
        ({"depth": 2}, ValueError, ("['depth']", "newer version")),
        ({"rows": 3}, TypeError, ("rows", "3")),
        ({"rows": [{"kernel": 3}]}, ValueError, ("row 1", "input_channels")),
        ({"rows": [{**small().to_dict()["rows"][0], "groups": 2}]}, ValueError, ("row 1", "groups")),
        ({"rows": ["RE"]}, TypeError, ("row 1", "'RE'")),
        ({"num_classes": "3"}, TypeError, ("num_classes", "'3'")),
    ):
        complaint(error, lambda changes=changes: MobileNetV3Config.from_dict({**small().to_dict(), **changes}), *words)
    complaint(ValueError, lambda: MobileNetV3Config.from_dict({"rows": []}), "last_conv", "last_channel")
    complaint(TypeError, lambda: MobileNetV3Config.from_dict([]), "config", "[]")


def test_stochastic_depth_rises_to_its_rate() -> None:
    rates = [large(stochastic_depth=0.3).drop_rate(number) for number in range(1, 16)]
    linear = [0.3 * number / 15 for number in range(1, 16)]
    assert rates == [rate if row.use_shortcut else 0 for rate, row in zip(linear, LARGE, strict=True)]
    assert rates[-1] == 0.3
    assert {large().drop_rate(number) for number in range(1, 16)} == {0.0}


# --- bad input --------------------------------------------------------------------------------------------------------


def complaint(error: type[Exception], call: Any, *words: str) -> None:
    """``call`` raises exactly ``error``, with each of ``words`` in its message."""
    with pytest.raises(error) as caught:
        call()
    assert caught.type is error
    for word in words:
        assert word in str(caught.value), f"no {word!r} in {str(caught.value)!r}"


NUMBER, INTEGER, FRACTION = "finite number > 0", "integer >= 1", "number from 0 to 1"
BAD_OPTIONS: list[tuple[str, Any, type[Exception], str]] = [
    ("width_mult", 0, ValueError, NUMBER),
    ("width_mult", -1, ValueError, NUMBER),
    ("width_mult", NAN, ValueError, NUMBER),
    ("width_mult", INFINITY, ValueError, NUMBER),
    ("width_mult", "0.5", TypeError, NUMBER),
    ("width_mult", True, TypeError, NUMBER),
    ("width_mult", None, TypeError, NUMBER),
    ("width_mult", 1j, TypeError, NUMBER),
    ("num_classes", 0, ValueError, INTEGER),
    ("num_classes", -5, ValueError, INTEGER),
    ("num_classes", 2.5, TypeError, INTEGER),
    ("num_classes", 10.0, TypeError, INTEGER),
    ("num_classes", "10", TypeError, INTEGER),
    ("num_classes", True, TypeError, INTEGER),
    ("in_channels", 0, ValueError, INTEGER),
    ("in_channels", 1.5, TypeError, INTEGER),
    ("dropout", -0.1, ValueError, FRACTION),
    ("dropout", 1.5, ValueError, FRACTION),
    ("dropout", NAN, ValueError, FRACTION),
    ("dropout", "0.2", TypeError, FRACTION),
    ("dropout", True, TypeError, FRACTION),
    ("rounding", "tensorflow", ValueError, "'torchvision', 'paper'"),
    ("rounding", None, ValueError, "'torchvision', 'paper'"),
    ("norm_eps", 0, ValueError, NUMBER),
    ("norm_eps", "1e-5", TypeError, NUMBER),
    ("norm_momentum", 1.1, ValueError, FRACTION),
    ("norm_momentum", None, TypeError, FRACTION),
    ("padding", "SAME", ValueError, "'symmetric', 'same'"),
    ("padding", 1, ValueError, "'symmetric', 'same'"),
    ("stochastic_depth", -0.1, ValueError, FRACTION),
    ("stochastic_depth", NAN, ValueError, FRACTION),
    ("dilation_policy", "keras", ValueError, "'torchvision', 'paper'"),
    ("dilation_policy", ["paper"], ValueError, "'torchvision', 'paper'"),
    ("reduced_tail", 1, TypeError, "True or False"),
    ("reduced_tail", "yes", TypeError, "True or False"),
    ("dilated", 0, TypeError, "True or False"),
    ("dilated", None, TypeError, "True or False"),
]


@pytest.mark.parametrize(("name", "value", "error", "allowed"), BAD_OPTIONS)
def test_bad_options(name: str, value: Any, error: type[Exception], allowed: str) -> None:
    for function in (large, small_minimalistic):
        complaint(error, lambda function=function: function(**{name: value}), name, repr(value), allowed)
    complaint(
        error,
        lambda: MobileNetV3Config.from_rows(SMALL, last_channel=8, **{name: value}),
        name, repr(value), allowed,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "error", "allowed"), [case for case in BAD_OPTIONS if case[0] in ("width_mult", "num_classes")]
)
def test_bad_options_of_the_network(name: str, value: Any, error: type[Exception], allowed: str) -> None:
    complaint(error, lambda: mnv3lib.mobilenet_v3_small(**{name: value}), name, repr(value), allowed)


@pytest.mark.parametrize(
    ("value", "error", "shown", "allowed"),
    [
        (0, ValueError, "0", INTEGER),
        (-3, ValueError, "-3", INTEGER),
        (224.5, TypeError, "224.5", INTEGER),
        (224.0, TypeError, "224.0", INTEGER),
        ("224", TypeError, "'224'", INTEGER),
        (True, TypeError, "True", INTEGER),
        (NAN, TypeError, "nan", INTEGER),
        ((224,), ValueError, "(224,)", "(height, width)"),
        ((), ValueError, "()", "(height, width)"),
        ((1, 2, 3), ValueError, "(1, 2, 3)", "(height, width)"),
        ((224, 0), ValueError, "0", INTEGER),
        ((224, "1"), TypeError, "'1'", INTEGER),
        ([224, 224], TypeError, "[224, 224]", INTEGER),
    ],
)
def test_bad_resolution(value: Any, error: type[Exception], shown: str, allowed: str) -> None:
    complaint(error, lambda: cost.profile(small(), value), "resolution", shown, allowed)


def row(**changes: Any) -> InvertedResidualConfig:
    return InvertedResidualConfig(
        **{
            "input_channels": 8,
            "kernel": 3,
            "expanded_channels": 16,
            "out_channels": 8,
            "use_se": False,
            "activation": "RE",
            "stride": 1,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("name", "value", "error", "allowed"),
    [
        ("kernel", 4, ValueError, "odd integer >= 1"),
        ("kernel", 0, ValueError, INTEGER),
        ("kernel", 3.0, TypeError, INTEGER),
        ("stride", 3, ValueError, "1, 2"),
        ("stride", 0, ValueError, "1, 2"),
        ("stride", True, ValueError, "1, 2"),
        ("stride", 2.0, ValueError, "1, 2"),
        ("stride", "2", ValueError, "1, 2"),
        ("activation", "relu", ValueError, "'RE', 'HS'"),
        ("activation", None, ValueError, "'RE', 'HS'"),
        ("activation", "hs", ValueError, "'RE', 'HS'"),
        ("input_channels", 0, ValueError, INTEGER),
        ("expanded_channels", -8, ValueError, INTEGER),
        ("out_channels", 8.0, TypeError, INTEGER),
        ("dilation", 0, ValueError, INTEGER),
        ("use_se", 1, TypeError, "True or False"),
    ],
)
def test_bad_rows(name: str, value: Any, error: type[Exception], allowed: str) -> None:
    complaint(error, lambda: row(**{name: value}), name, repr(value), allowed)


def test_rows_that_do_not_make_a_network() -> None:
    broken = [row(), row(input_channels=12)]
    for build in (
        lambda rows: MobileNetV3Config(rows, 48, 64),
        lambda rows: MobileNetV3Config.from_rows(rows, last_channel=64),
    ):
        complaint(ValueError, lambda build=build: build(broken), "rows", "row 2", "12", "must be 8", "row 1")
        complaint(ValueError, lambda build=build: build([]), "rows", "got 0", "at least 1 InvertedResidualConfig")
        complaint(TypeError, lambda build=build: build([row(), (8, 3)]), "rows", "(8, 3)", "InvertedResidualConfig")
        complaint(TypeError, lambda build=build: build("RE"), "rows", "'R'", "InvertedResidualConfig")
        complaint(TypeError, lambda build=build: build(5), "rows", "5", "InvertedResidualConfig")
        complaint(TypeError, lambda build=build: build(None), "rows", "None", "InvertedResidualConfig")
        complaint(TypeError, lambda build=build: build(row()), "rows", repr(row()), "InvertedResidualConfig")


@pytest.mark.parametrize("name", ["last_conv", "last_channel"])
def test_bad_head(name: str) -> None:
    for value, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), ("8", TypeError)):
        head = {"last_conv": 8, "last_channel": 8, name: value}
        complaint(error, lambda head=head: MobileNetV3Config(SMALL, **head), name, repr(value), INTEGER)
    complaint(ValueError, lambda: MobileNetV3Config(SMALL, 8, 8, activation="GELU"), "activation", "'GELU'", "'HS'")
    complaint(ValueError, lambda: MobileNetV3Config.from_rows(SMALL, last_channel=0), "last_channel", "0", INTEGER)


@pytest.mark.parametrize("option", ["dilated", "reduced_tail"])
def test_a_table_without_strides_has_no_last_stage(option: str) -> None:
    complaint(
        ValueError,
        lambda: MobileNetV3Config.from_rows([row()], last_channel=8, **{option: True}),
        option, "True", "must be False",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((0,), ("channels", "0")), ((NAN,), ("channels", "nan")), ((8, 0), ("divisor", "0"))],
)
def test_bad_channels(arguments: tuple[Any, ...], words: tuple[str, str]) -> None:
    complaint(ValueError, lambda: make_divisible(*arguments), *words)
    complaint(TypeError, lambda: make_divisible("8"), "channels", "'8'", NUMBER)


def test_profile_wants_a_config() -> None:
    complaint(TypeError, lambda: cost.profile("small"), "config", "'small'", "MobileNetV3Config")  # type: ignore[arg-type]
    complaint(ValueError, lambda: cost.profile(small()).peak_memory(bytes_per_value=0), "bytes_per_value", "0", INTEGER)
