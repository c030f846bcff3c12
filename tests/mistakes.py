"""Canonical mistakes: what is easily done wrong in a MobileNetV3, its training, its data and its figures.

Each is one replacement of text that occurs exactly once, and names the tests that must notice it.
"""

from __future__ import annotations

from typing import NamedTuple

#: The tests of rows, costs and networks, most telling first.
CORE = (
    "test_parity.py::test_convolution_is_the_paper_s",
    "test_parity.py::test_gate_is_hard",
    "test_parity.py::test_gate_is_theirs_and_the_paper_s",
    "test_parity.py::test_block_is_theirs_and_the_paper_s",
    "test_cost.py::test_known_totals",
    "test_config.py",
    "test_parity.py::test_equal_to_torchvision",
    "test_properties.py::test_any_rows_are_what_the_paper_describes",
    "test_properties.py::test_any_table_is_what_torchvision_builds",
    "test_cost.py::test_layers_equal_the_modules_they_name",
    "test_cost.py::test_receptive_field_is_what_the_gradient_reaches",
    "test_cost.py::test_peak_activations",
    "test_network.py::test_taps_give_the_last_map_of_each_resolution",
)


class Mistake(NamedTuple):
    """One replacement in one file.

    Attributes:
        name: what is done wrong, for the table of the proof ledger.
        file: in the library, or ``figures/…`` for one of the book's.
        old: what stands there.
        new: what takes its place.
        tests: that must notice, relative to ``tests/``; most telling first.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = CORE


MISTAKES = [
    # The network, its rows and its cost
    Mistake("no squeeze-and-excitation", "blocks.py", "        if row.use_se:\n", "        if False:\n"),
    Mistake(
        "sigmoid as the gate",
        "blocks.py",
        "self.scale_activation = nn.Hardsigmoid()",
        "self.scale_activation = nn.Sigmoid()",
    ),
    Mistake(
        "squeeze-and-excitation before the activation",
        "blocks.py",
        "            layers.append(SqueezeExcitation(expanded, row.squeeze_channels))\n",
        "            act, layers[-1][2] = layers[-1][2], nn.Identity()\n"
        "            layers.append(SqueezeExcitation(expanded, row.squeeze_channels))\n"
        "            layers[-1].register_forward_hook(lambda module, inputs, output: act(output))\n",
    ),
    Mistake(
        "squeeze to a quarter of the block's output",
        "blocks.py",
        "SqueezeExcitation(expanded, row.squeeze_channels)",
        "SqueezeExcitation(expanded, make_divisible(max(1, row.out_channels // 4)))",
    ),
    Mistake(
        "squeezed width not rounded to 8",
        "rows.py",
        "        return make_divisible(max(1, self.expanded_channels // 4))",
        "        return max(1, self.expanded_channels // 4)",
    ),
    Mistake(
        "squeeze and excite registered in the other order",
        "blocks.py",
        "        self.fc1 = nn.Conv2d(channels, squeeze_channels, 1)\n"
        "        self.fc2 = nn.Conv2d(squeeze_channels, channels, 1)\n",
        "        self.fc2 = nn.Conv2d(squeeze_channels, channels, 1)\n"
        "        self.fc1 = nn.Conv2d(channels, squeeze_channels, 1)\n",
    ),
    Mistake(
        "squeeze by a linear layer: the same sums, other bits",
        "blocks.py",
        "self.fc1(self.avgpool(x))",
        "nn.functional.linear(self.avgpool(x).flatten(1), self.fc1.weight.flatten(1), self.fc1.bias)[:, :, None, None]",
    ),
    Mistake("no shortcut", "blocks.py", "return y + x if self.use_res_connect else y", "return y"),
    Mistake(
        "shortcut wherever the convolution takes no stride",
        "rows.py",
        "return self.stride == 1 and self.input",
        "return self.conv_stride == 1 and self.input",
    ),
    Mistake("ReLU for h-swish", "blocks.py", "return nn.Hardswish(inplace=True) if", "return nn.ReLU(inplace=True) if"),
    Mistake(
        "swish for h-swish", "blocks.py", "return nn.Hardswish(inplace=True) if", "return nn.SiLU(inplace=True) if"
    ),
    Mistake(
        "activation after the projection",
        "blocks.py",
        "ConvNormActivation(expanded, row.out_channels, norm=norm)",
        "ConvNormActivation(expanded, row.out_channels, norm=norm, activation=row.activation)",
    ),
    Mistake("batch norm's ε left at 1e-5", "blocks.py", "eps=0.001, ", ""),
    Mistake("batch norm's momentum left at 0.1", "blocks.py", "eps=0.001, momentum=0.01", "eps=0.001"),
    Mistake(
        "dilation without its padding",
        "blocks.py",
        'zeros = (kernel_size - 1) * positive_int("dilation", dilation)',
        "zeros = kernel_size - 1",
    ),
    Mistake("kernel 3 where the table says 5", "blocks.py", "kernel_size=row.kernel,", "kernel_size=3,"),
    Mistake(
        "expansion kept where it does not widen",
        "rows.py",
        "return self.expanded_channels != self.input_channels",
        "return True",
    ),
    Mistake("stem of stride 1", "network.py", "                stride=2,\n", "                stride=1,\n"),
    Mistake("ε of the configuration ignored", "network.py", "eps=config.norm_eps, ", ""),
    Mistake("momentum of the configuration ignored", "network.py", "momentum=config.norm_momentum)", "momentum=0.01)"),
    Mistake(
        "SAME pads top and left first",
        "blocks.py",
        "return needed // 2, most - needed // 2",
        "return (needed + 1) // 2, most - (needed + 1) // 2",
    ),
    Mistake(
        "SAME on odd sides too as on even ones",
        "blocks.py",
        "needed = most - (size - 1) % self.stride[0]",
        "needed = most - 1",
    ),
    Mistake("SAME in the blocks, not in the stem", "network.py", "                padding=config.padding,\n", ""),
    Mistake(
        "stochastic depth also outside training",
        "blocks.py",
        "if not self.training or self.rate == 0:",
        "if self.rate == 0:",
    ),
    Mistake(
        "stochastic depth for the whole batch at once",
        "blocks.py",
        "torch.empty(x.shape[0], dtype",
        "torch.empty(1, dtype",
    ),
    Mistake(
        "what stochastic depth keeps is not scaled",
        "blocks.py",
        "scale = kept / (1 - self.rate) if self.rate < 1 else kept",
        "scale = kept",
    ),
    Mistake(
        "stochastic depth as often in the first block as in the last",
        "config.py",
        "self.stochastic_depth * number / len(self.rows)",
        "self.stochastic_depth",
    ),
    Mistake(
        "no activation in the head",
        "network.py",
        "            activation_layer(config.activation),\n",
        "            nn.Identity(),\n",
    ),
    Mistake(
        "dropout after the last linear layer",
        "network.py",
        '            nn.Dropout(config.dropout, inplace=config.activation == "HS"),\n'
        "            nn.Linear(config.last_channel, config.num_classes),\n",
        "            nn.Linear(config.last_channel, config.num_classes),\n"
        '            nn.Dropout(config.dropout, inplace=config.activation == "HS"),\n',
    ),
    Mistake("initialised by fan-in", "network.py", 'mode="fan_out"', 'mode="fan_in"'),
    Mistake(
        "nearest multiple of 8 without the 90 % rule",
        "rows.py",
        "return rounded if rounded >= 0.9 * channels else rounded + divisor",
        "return rounded",
    ),
    Mistake("rounding down instead of to the nearest", "rows.py", "int(channels + divisor / 2)", "int(channels)"),
    Mistake(
        "last convolution six times its block's input",
        "_scaling.py",
        "return scaled, 6 * scaled[-1].out_channels,",
        "return scaled, 6 * scaled[-1].input_channels,",
    ),
    Mistake(
        "reduced tail halves the first expansion too",
        "_scaling.py",
        "halved = [replace(rows[start], out_channels",
        "halved = [replace(rows[start], expanded_channels=rows[start].expanded_channels // 2, out_channels",
    ),
    Mistake("the paper's rule thins the head", "_scaling.py", "last_channel * max(1.0, width)", "last_channel * width"),
    Mistake(
        "timm's rule thins the stem",
        "_scaling.py",
        'printed_stem = self.rounding == "timm" and width < 0.75',
        "printed_stem = False",
    ),
    Mistake("timm's rule widens the head", "_scaling.py", 'last_channel if self.rounding == "timm" else ', ""),
    Mistake(
        "dilation policies swapped",
        "_scaling.py",
        'dilation=2) if policy == "torchvision" else',
        'dilation=2) if policy == "paper" else',
    ),
    Mistake(
        "depthwise counted as a standard convolution",
        "_walk.py",
        "weights = out * (channels // groups) * kernel",
        "weights = out * channels * kernel",
    ),
    Mistake("batch norm's parameters not counted", "_walk.py", "weights + 2 * out, ", "weights, "),
    Mistake("biases not counted", "_walk.py", "weights + out * bias, weights * cells", "weights, weights * cells"),
    Mistake(
        "map sides rounded down",
        "_walk.py",
        "-(-height // stride), -(-width // stride)",
        "height // stride, width // stride",
    ),
    Mistake(
        "receptive field without dilation",
        "_walk.py",
        "(kernel - 1) * dilation * self.output_stride",
        "(kernel - 1) * self.output_stride",
    ),
    Mistake("memory of the shortcut forgotten", "_walk.py", "before + after + self.waiting)", "before + after)"),
    Mistake(
        "taps one layer late",
        "network.py",
        "            if index in self.indices:\n",
        "            if index - 1 in self.indices:\n",
    ),
    # Training
    Mistake(
        "the same order in every epoch",
        "training/order.py",
        'derive(self.seed, "order", epoch)',
        'derive(self.seed, "order")',
        ("test_reproducible.py",),
    ),
    Mistake(
        "Python's random numbers not seeded for an image",
        "training/order.py",
        "    random.seed(seed)\n",
        "",
        ("test_reproducible.py",),
    ),
    Mistake(
        "NumPy's random numbers not seeded for an image",
        "training/order.py",
        "    np.random.seed(seed & 0xFFFFFFFF)\n",
        "",
        ("test_reproducible.py",),
    ),
    Mistake(
        "an epoch that ends before its last images",
        "training/order.py",
        "(step + 1) * self.images // self.steps",
        "(step + 1) * (self.images // self.steps)",
        ("test_reproducible.py",),
    ),
    Mistake(
        "the same dropout masks in every step",
        "training/loop.py",
        'reseed(recipe.seed, "network", epoch, step, piece)',
        'reseed(recipe.seed, "network", epoch, piece)',
        ("test_reproducible.py",),
    ),
    Mistake(
        "clipping before unscaling",
        "training/loop.py",
        "            self.scaler.unscale_(self.optimiser)\n"
        "            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)\n",
        "            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)\n"
        "            self.scaler.unscale_(self.optimiser)\n",
        ("test_reproducible.py",),
    ),
    Mistake(
        "accumulated batches count alike, whatever their size",
        "training/loop.py",
        "share = len(images) / order.size(step) * order.world",
        "share = 1 / recipe.accumulate",
        ("test_loop.py::test_accumulated_batches_are_one_step",),
    ),
    Mistake(
        "measured in training mode", "training/evaluation.py", "    module.eval()\n", "", ("test_reproducible.py",)
    ),
    Mistake(
        "warm-up from zero",
        "recipe/schedule.py",
        "schedule.warmup_factor + (1 - schedule.warmup_factor) * epoch / warmup",
        "epoch / warmup",
        ("test_schedule.py::test_once_an_epoch_as_torch",),
    ),
    Mistake(
        "curve over the whole run, warm-up included",
        "recipe/schedule.py",
        "done = max(0.0, at - warmup) / (epochs - warmup)",
        "done = at / epochs",
        ("test_schedule.py::test_once_an_epoch_as_torch",),
    ),
    Mistake(
        "steps counted from the end of warm-up",
        "recipe/schedule.py",
        "floor(epoch / schedule.step_epochs + 1e-9)",
        "floor((epoch - schedule.warmup_epochs) / schedule.step_epochs + 1e-9)",
        ("test_schedule.py::test_steps_and_milestones_count_from_the_start_of_the_run",),
    ),
    Mistake(
        "first weights stay in the average",
        "training/averaging.py",
        "        if self.updates == 0:\n            return 0.0\n",
        "",
        ("test_averaging.py::test_as_torchvision_averages",),
    ),
    Mistake(
        "checkpoints averaged in single precision",
        "training/averaging.py",
        '.to("cpu", torch.float64)',
        '.to("cpu", torch.float32)',
        ("test_averaging.py::test_the_mean_of_checkpoints",),
    ),
    Mistake(
        "batch norm's statistics not averaged",
        "training/averaging.py",
        "floating = [name for name, tensor in ours.items() if tensor.is_floating_point()]",
        'floating = [n for n, tensor in ours.items() if tensor.is_floating_point() and "running" not in n]',
        ("test_averaging.py::test_as_torchvision_averages",),
    ),
    Mistake(
        "mean squares start at zero",
        "training/optimisers.py",
        "torch.ones_like(weight",
        "torch.zeros_like(weight",
        ("test_optimisers.py::test_rmsprop_as_tensorflow_documents_it",),
    ),
    Mistake(
        "ε outside of the root",
        "training/optimisers.py",
        '        roots = torch._foreach_add(squares, group["eps"])\n        torch._foreach_sqrt_(roots)\n',
        '        roots = torch._foreach_sqrt(squares)\n        torch._foreach_add_(roots, group["eps"])\n',
        ("test_optimisers.py::test_rmsprop_as_tensorflow_documents_it",),
    ),
    Mistake(
        "norms and biases decay like weights",
        "training/optimisers.py",
        "decay = optimiser.weight_decay if is_weight else",
        "decay = optimiser.weight_decay if True else",
        ("test_optimisers.py::test_parameters_are_grouped_by_kind",),
    ),
    Mistake(
        "mixup's α ignored",
        "training/augment.py",
        "alpha=augment.mixup,",
        "alpha=1.0,",
        ("test_augment.py::test_the_parameter_of_mixing_is_the_recipes",),
    ),
    # Networks for segmentation
    Mistake(
        "batch norm of DeepLabV3's head with the backbone's ε",
        "tasks/deeplabv3.py",
        "        nn.BatchNorm2d(out_channels),\n",
        "        nn.BatchNorm2d(out_channels, eps=0.001),\n",
        ("test_segmentation.py::test_equal_to_torchvision",),
    ),
    Mistake(
        "torchvision's LR-ASPP with a bias in its gate",
        "tasks/lraspp.py",
        "bias=self.paper),",
        "bias=True),",
        ("test_segmentation.py::test_equal_to_torchvision",),
    ),
    Mistake(
        "the paper's LR-ASPP with a soft gate",
        "tasks/lraspp.py",
        "nn.Hardsigmoid() if self.paper else nn.Sigmoid()",
        "nn.Sigmoid()",
        ("test_segmentation.py::test_the_paper_s_form_is_its_description",),
    ),
    Mistake(
        "the paper's halved stage with its first expansion whole",
        "heads.py",
        "expanded_channels=row.expanded_channels // 2",
        "expanded_channels=row.expanded_channels // (1 if index == start else 2)",
        ("test_segmentation.py::test_published_parameters_are_reproduced",),
    ),
    Mistake(
        "memory of the map that a head needs forgotten",
        "cost.py",
        "    walk.waiting = after + inside\n",
        "    walk.waiting = held\n",
        ("test_costs_segmentation.py::test_the_finer_map_waits_in_the_backbone",),
    ),
    # Networks for detection
    Mistake(
        "batch norm of Faster R-CNN with a classification's ε",
        "detectors.py",
        "norm_eps: float = 1e-5",
        "norm_eps: float = 0.001",
        ("test_detection.py::test_the_defaults_are_torchvision_s",),
    ),
    Mistake(
        "SSDLite's backbone with a classification's initial weights",
        "tasks/ssdlite.py",
        "features_of(config, initialise=_draw)",
        "features_of(config)",
        ("test_detection.py::test_equal_to_torchvision",),
    ),
    Mistake(
        "predictions of a map column by column",
        "tasks/ssdlite.py",
        ".permute(0, 3, 4, 1, 2)",
        ".permute(0, 4, 3, 1, 2)",
        ("test_detection.py::test_equal_to_torchvision",),
    ),
    Mistake(
        "six default boxes on the first map of the paper's SSDLite",
        "detectors.py",
        "return 3 if self.fewer_boxes else 6, ",
        "return 6, ",
        ("test_detection.py::test_published_parameters_are_reproduced",),
    ),
    Mistake(
        "weights that all levels of a pyramid share counted at each",
        "cost.py",
        "layer._replace(parameters=0)",
        "layer",
        ("test_costs_detection.py::test_costs_equal_torch_s",),
    ),
    Mistake(
        "ground outside of a mask counted as a class",
        "tasks/segmentation.py",
        'fill={tv_tensors.Mask: IGNORE_INDEX, "others": 0}',
        "fill=0",
        ("test_augment.py::test_outside_of_a_small_image_nothing_is_labelled",),
    ),
    Mistake(
        "test images squeezed instead of cropped",
        "tasks/classification.py",
        "if resize is None else [v2.Resize(resize), v2.CenterCrop(size)]",
        "if True else []",
        ("test_augment.py::test_evaluation_is_torchvisions",),
    ),
    # Data
    Mistake(
        "boxes end a pixel early",
        "data/render.py",
        "places[0], places[-1] + 1",
        "places[0], places[-1]",
        ("test_scenes.py::test_boxes_and_instances_agree",),
    ),
    Mistake(
        "all that ink touches belongs to the digit",
        "data/render.py",
        "coverage >= 128",
        "coverage >= 1",
        ("test_scenes.py::test_scenes_have_the_bytes_they_always_had",),
    ),
    Mistake(
        "the first class is the background's",
        "data/scenes.py",
        "labels = classes + 1",
        "labels = classes",
        ("test_scenes.py::test_segmentation_and_detection_tell_of_the_same_scene",),
    ),
    Mistake(
        "seed left out of the cache's key",
        "data/scenes.py",
        '            "seed": self.seed,\n',
        "",
        ("test_scenes.py::test_other_parameters_are_another_file",),
    ),
    Mistake(
        "sources left out of the cache's key",
        "data/scenes.py",
        '            "sources": fingerprint(),\n',
        "",
        ("test_scene_cache.py",),
    ),
    Mistake(
        "a cache is not checked against its sum",
        "data/cache.py",
        'total.hexdigest() == header.get("sha256")',
        "True",
        ("test_scenes.py::test_a_damaged_cache_is_found_out_and_made_anew",),
    ),
    Mistake(
        "what was found is remembered whatever is asked",
        "data/cache.py",
        'and found["key"] == key',
        "",
        ("test_scene_cache.py",),
    ),
    Mistake(
        "boxes beyond the edge of their image",
        "data/coco.py",
        "        corners[:, 0::2].clamp_(min=0, max=size[1])\n",
        "",
        ("test_coco.py::test_coco_boxes",),
    ),
    Mistake(
        "boxes clipped to the image turned on its side",
        "data/coco.py",
        "corners[:, 0::2].clamp_(min=0, max=size[1])\n        corners[:, 1::2].clamp_(min=0, max=size[0])",
        "corners[:, 0::2].clamp_(min=0, max=size[0])\n        corners[:, 1::2].clamp_(min=0, max=size[1])",
        ("test_coco.py::test_coco_boxes",),
    ),
    Mistake(
        "sizes of boxes taken for corners",
        "data/coco.py",
        "        corners[:, 2:] += corners[:, :2]\n",
        "",
        ("test_coco.py::test_coco_boxes",),
    ),
    Mistake(
        "crowds learnt as single objects",
        "data/coco.py",
        'if self.evaluation or not entry["iscrowd"]',
        "if True",
        ("test_coco.py::test_coco_boxes",),
    ),
    Mistake(
        "overlapping objects given to one of them",
        "data/coco.py",
        "        mask[covered > 1] = 255\n",
        "",
        ("test_coco.py::test_coco_masks",),
    ),
    Mistake(
        "a first layer adapted in half precision",
        "weights/fitting.py",
        "weight = tensor.to(torch.promote_types(tensor.dtype, torch.float32))",
        "weight = tensor",
        ("test_weight_tensors.py::test_the_first_layer_is_adapted_as_exactly_as_the_network_can_hold",),
    ),
    Mistake(
        "channels of a first layer repeated at full size",
        "weights/fitting.py",
        " * (3 / channels)\n",
        "\n",
        ("test_weight_fit.py::test_another_number_of_channels_is_adapted_as_timm_does",),
    ),
    Mistake(
        "padding of a file not compared",
        "weights/fitting.py",
        'for name in ("norm_eps", "padding", "activation"):',
        'for name in ("norm_eps", "activation"):',
        ("test_weight_saving.py::test_a_saved_network_is_built_from_its_file",),
    ),
    Mistake(
        "Faster R-CNN with the ε of the others",
        "weights/names.py",
        "settings=((1e-5, _SYMMETRIC),),",
        "settings=((1e-3, _SYMMETRIC),),",
        ("test_weights.py::test_torchvision_s_faster_rcnn_has_another_eps",),
    ),
    Mistake(
        "timm's squeeze and excitation swapped",
        "weights/names.py",
        '.fc1"] = f"{theirs}.se.conv_reduce"',
        '.fc1"] = f"{theirs}.se.conv_expand"',
        ("test_weights.py::test_round_trip_with_timm",),
    ),
    Mistake(
        "a file in the cache is not checked against its sum",
        "weights/download.py",
        "if not target.is_file() or (expected and not sha256_of(target).startswith(expected)):",
        "if not target.is_file():",
        ("test_downloads.py::test_a_download_is_kept",),
    ),
    # Figures
    Mistake(
        "colours of two kinds of layers swapped",
        "explore/palette.py",
        '"expand": COLOURS["blue"],\n    "depthwise": COLOURS["orange"],',
        '"expand": COLOURS["orange"],\n    "depthwise": COLOURS["blue"],',
        ("book/test_figures_keep_their_signs.py",),
    ),
    Mistake(
        "the map's shades swapped",
        "explore/netmap.py",
        "(0.9 if marked else 0.3) if filled",
        "(0.9 if marked else 0.3) if not filled",
        ("book/test_figures_keep_their_signs.py",),
    ),
    Mistake(
        "a linear axis of memory",
        "figures/counting_cost.py",
        'xscale="log", xlim=(low',
        "xlim=(low",
        ("book/test_figures_counting_cost.py::test_bars_end_at_their_sizes_on_an_axis_that_stands_still",),
    ),
    Mistake(
        "a linear axis of learning rates",
        "figures/training_recipe.py",
        'ylabel="learning rate", yscale="log"',
        'ylabel="learning rate"',
        ("book/test_figures_keep_their_signs.py",),
    ),
    Mistake(
        "a linear axis of output channels",
        "figures/convolution_cost.py",
        '    axes.set_xscale("log")\n    axes.set_xticks([1, 4',
        "    axes.set_xticks([1, 4",
        ("book/test_figures_keep_their_signs.py",),
    ),
    # Networks in the wild
    Mistake(
        "a gate of slope 1/6 for weights that were trained with 0.2",
        "wild/direction.py",
        "HardSigmoid(0.2)",
        "HardSigmoid(1 / 6)",
        ("test_wild.py::test_logits_are_those_of_the_published_file",),
    ),
    Mistake(
        "blocks that halve the width as well",
        "wild/direction.py",
        "(row.conv_stride, 1)",
        "(row.conv_stride, row.conv_stride)",
        ("test_wild.py::test_logits_are_those_of_the_published_file",),
    ),
    Mistake(
        "no maximum before the mean",
        "wild/direction.py",
        "self.avgpool(self.maxpool(self.features(x)))",
        "self.avgpool(self.features(x))",
        ("test_wild.py::test_logits_are_those_of_the_published_file",),
    ),
    Mistake(
        "RGB where BGR was trained with",
        "wild/lines.py",
        "resized(pixels[..., ::-1], ",
        "resized(pixels, ",
        ("test_wild.py::test_logits_are_those_of_the_published_file",),
    ),
    Mistake(
        "a hard gate where a sigmoid was trained with",
        "wild/portrait.py",
        "row.squeeze_channels, nn.Sigmoid())",
        "row.squeeze_channels, nn.Hardsigmoid())",
        ("test_portrait.py::test_probabilities_are_those_of_the_published_file",),
    ),
    Mistake(
        "symmetric padding for weights that were trained with SAME",
        "wild/portrait.py",
        'norm=nn.Identity, padding="same")\n        if',
        "norm=nn.Identity)\n        if",
        ("test_portrait.py::test_probabilities_are_those_of_the_published_file",),
    ),
    Mistake(
        "a decoder that forgets what the gate weighs",
        "wild/portrait.py",
        "self.fuse(skip * self.gate.gate(skip + up) + up)",
        "self.fuse(self.gate.gate(skip + up) + up)",
        ("test_portrait.py::test_probabilities_are_those_of_the_published_file",),
    ),
    Mistake(
        "corners aligned where centres at halves were trained with",
        "wild/portrait.py",
        'mode="bilinear", align_corners=False',
        'mode="bilinear", align_corners=True',
        ("test_portrait.py::test_probabilities_are_those_of_the_published_file",),
    ),
    Mistake(
        "means drawn where medians are said",
        "figures/studies.py",
        "[median(curve[width][1])",
        "[fmean(curve[width][1])",
        ("book/test_figures_studies.py::test_accuracy_is_drawn_over_multiply_adds_with_every_seed",),
    ),
    Mistake(
        "every picture on a scale of grey of its own",
        "figures/squeeze_excitation.py",
        'cmap="gray", vmin=0, vmax=1',
        'cmap="gray"',
        ("book/test_figures_squeeze_excitation.py::test_a_closed_gate_leaves_black_and_titles_give_the_gates",),
    ),
    Mistake(
        "multiply-adds of a layer under another kind",
        "figures/counting_cost.py",
        '"projection": ("project", ("project",))',
        '"projection": ("project", ("expand",))',
        ("book/test_figures_counting_cost.py::test_shares_are_those_of_the_profile_and_leave_no_kind_out",),
    ),
]
