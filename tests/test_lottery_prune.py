from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import MINI, mini_weights
from mirl.errors import MirlError
from mirl.layers import parameter_count, parameters
from mirl.lottery.prune import (
    dense_masks,
    empty_layers,
    initial_scales,
    plan_levels,
    prunable_parameters,
    scores,
    shrink_masks,
)
from mirl.recipe import PruneConfig, paper, small, tiny

WEIGHTS = mini_weights()


def count(masks: dict) -> int:
    return sum(int(mask.sum()) for mask in masks.values())


def pruned(config: PruneConfig, keep: int, weights: dict = WEIGHTS, masks: dict | None = None) -> dict:
    ranking = scores(weights, initial_scales(WEIGHTS, MINI, config), MINI, config)
    return shrink_masks(dense_masks(MINI, config) if masks is None else masks, ranking, keep, config)


def test_norms_biases_and_temperatures_are_never_prunable():
    names = {p.name for p in prunable_parameters(MINI, PruneConfig())}
    others = {p.name for p in parameters(MINI)} - names
    assert all("norm" in n or n.endswith(("bias", "temperature")) for n in others)
    assert not any("norm" in n or n.endswith(("bias", "temperature")) for n in names)
    assert {
        "prompt1.values",
        "embed.weight",
        "prompt2.select.weight",
        "latent.0.attention.qkv_depthwise.weight",
    } <= names


def test_options_exempt_prompts_and_depthwise_filters():
    spared = {p.name for p in prunable_parameters(MINI, PruneConfig(prompts=False, depthwise=False))}
    assert "prompt1.values" not in spared
    assert not any("depthwise" in n for n in spared)


@pytest.mark.parametrize("network", [MINI, tiny().network, small().network, paper().network])
@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.7])
def test_levels_land_at_or_just_under_the_density(network, fraction: float):
    config = PruneConfig(keep=0.25, fraction=fraction)
    plan, total = plan_levels(network, config), parameter_count(network)
    unpruned = total - plan[0]
    assert (plan[-1] + unpruned) / total <= 0.25 < (plan[-1] + unpruned + 1) / total
    assert all(b >= round(a * (1 - fraction)) for a, b in pairwise(plan))
    assert all(b < a for a, b in pairwise(plan))
    assert plan[-2] > plan[-1]


def test_paper_at_ten_percent_takes_eleven_levels_of_twenty_percent():
    assert len(plan_levels(paper().network, paper().prune)) - 1 == 11


def test_a_density_below_what_is_never_pruned_is_refused():
    with pytest.raises(MirlError, match="never pruned"):
        plan_levels(MINI, PruneConfig(keep=0.001))


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0, 1), st.floats(0, 1), st.sampled_from(["global", "layer"]), st.sampled_from(["magnitude", "macs", "lamp"]),
    st.sampled_from(["initial-rms", "prompts", "none"]), st.sampled_from([0.0, 0.05, 0.2]), st.integers(0, 99),
    st.booleans(),
)  # fmt: skip
def test_pruning_is_exact_nested_and_never_revives_a_weight(first, second, scope, score, normalise, floor, seed, ties):
    config = PruneConfig(scope=scope, score=score, normalise=normalise, min_layer_density=floor)
    rng = np.random.default_rng(seed)
    trained = {n: w + rng.normal(0, 0.1, w.shape).astype(np.float32) for n, w in WEIGHTS.items()}
    if ties:
        trained = {n: np.round(w * 4) / 4 for n, w in trained.items()}
    everything = count(dense_masks(MINI, config))
    least = sum(-(-m.size // 5) for m in dense_masks(MINI, config).values())
    k1 = int(least + first * (everything - least))
    k2 = int(least + second * (k1 - least))
    once = pruned(config, k1, trained)
    masked = {n: w * once[n] if n in once else w for n, w in trained.items()}
    twice = pruned(config, k2, masked, once)
    assert count(once) == k1
    assert count(twice) == k2
    assert all(not np.any(twice[n] & ~once[n]) for n in once)
    assert all(m.sum() >= min(np.ceil(floor * m.size), once[n].sum()) for n, m in twice.items())


def test_global_pruning_takes_the_smallest_of_all():
    config = PruneConfig(normalise="none")
    masks = pruned(config, 500)
    kept = np.concatenate([np.abs(WEIGHTS[n][m]) for n, m in masks.items()])
    gone = np.concatenate([np.abs(WEIGHTS[n][~m]) for n, m in masks.items()])
    assert kept.min() >= gone.max()


def test_raw_magnitude_never_meets_the_prompts_and_the_initial_scales_does():
    keep = plan_levels(MINI, PruneConfig(keep=0.5))[-1]

    def prompts(normalise) -> float:
        masks = pruned(PruneConfig(normalise=normalise), keep)
        return float(np.mean([masks[f"prompt{i}.values"].mean() for i in (1, 2, 3)]))

    assert prompts("none") > 0.8
    assert prompts("prompts") < 0.8
    assert abs(prompts("initial-rms") - keep / count(dense_masks(MINI, PruneConfig()))) < 0.08


def test_layer_scope_gives_every_tensor_the_same_density_and_the_output_half_the_loss():
    masks = pruned(PruneConfig(scope="layer"), round(0.6 * count(dense_masks(MINI, PruneConfig()))))
    for name, mask in masks.items():
        expected = 0.8 if name == "output.weight" else 0.6
        assert abs(mask.mean() - expected) <= 1 / mask.size + 0.003, name


def test_the_macs_score_leaves_fewer_multiplications_at_the_same_count():
    uses = {p.name: p.uses_per_pixel for p in parameters(MINI)}
    keep = round(0.3 * count(dense_masks(MINI, PruneConfig())))
    cost = {s: sum(uses[n] * m.sum() for n, m in pruned(PruneConfig(score=s), keep).items()) for s in ("magnitude", "macs")}
    assert cost["macs"] < 0.7 * cost["magnitude"]


def test_the_lamp_score_is_the_square_over_all_squares_that_are_not_smaller():
    weights = {n: w.copy() for n, w in WEIGHTS.items()}
    name = "down1.weight"
    flat = weights[name].reshape(-1)
    flat[:] = 0
    flat[[2, 5, 7]] = (1.0, -2.0, 3.0)
    score = scores(weights, {}, MINI, PruneConfig(score="lamp"))[name].reshape(-1)
    np.testing.assert_allclose(score[[2, 5, 7]], [1 / 14, 4 / 13, 1.0], rtol=1e-6)
    assert np.count_nonzero(score) == 3


def test_the_lamp_score_keeps_a_layer_of_small_weights_where_magnitude_empties_it():
    weights = {n: w.copy() for n, w in WEIGHTS.items()}
    weights["down2.weight"] *= 1e-6
    keep = round(0.3 * count(dense_masks(MINI, PruneConfig())))
    by_magnitude, by_lamp = (pruned(PruneConfig(score=s), keep, weights) for s in ("magnitude", "lamp"))
    assert empty_layers(by_magnitude) == ["down2.weight"]
    assert empty_layers(by_lamp) == []
    same = pruned(PruneConfig(score="lamp"), keep)  # a tensor's scale does not matter
    assert np.array_equal(same["down2.weight"], by_lamp["down2.weight"])


def test_a_layer_about_to_become_empty_is_named_and_a_floor_prevents_it():
    weights = {n: w.copy() for n, w in WEIGHTS.items()}
    weights["down2.weight"] *= 1e-6
    keep = round(0.3 * count(dense_masks(MINI, PruneConfig())))
    assert empty_layers(pruned(PruneConfig(), keep, weights)) == ["down2.weight"]
    assert empty_layers(pruned(PruneConfig(min_layer_density=0.01), keep, weights)) == []


def test_a_floor_that_leaves_no_way_is_refused():
    with pytest.raises(MirlError, match="protects"):
        pruned(PruneConfig(min_layer_density=0.9), 100)


def test_keeping_more_than_is_left_is_refused():
    masks = pruned(PruneConfig(), 100)
    with pytest.raises(MirlError, match="never revives"):
        pruned(PruneConfig(), 101, masks=masks)


def test_a_tensor_that_starts_at_zero_can_be_ranked():
    zeros = {n: np.zeros_like(w) for n, w in WEIGHTS.items()}
    for normalise in ("initial-rms", "prompts", "none"):
        assert set(initial_scales(zeros, MINI, PruneConfig(normalise=normalise)).values()) == {1.0}


def test_scaling_only_the_prompts_leaves_narrow_layers_denser():
    keep = round(0.3 * count(dense_masks(MINI, PruneConfig())))
    narrow = {
        n: pruned(PruneConfig(normalise=n), keep)["encoder1.0.attention.qkv.weight"].mean()
        for n in ("prompts", "initial-rms")
    }
    assert narrow["prompts"] > 1.5 * narrow["initial-rms"]


def test_tiny_fractions_always_remove_something_or_are_refused():
    with pytest.raises(MirlError, match="levels"):
        plan_levels(MINI, PruneConfig(keep=0.1, fraction=1e-7))
    unpruned = parameter_count(MINI) - sum(p.size for p in prunable_parameters(MINI, PruneConfig()))
    plan = plan_levels(MINI, PruneConfig(keep=(unpruned + 1) / parameter_count(MINI), fraction=0.2))
    assert plan[-1] == 1
    assert all(b < a for a, b in pairwise(plan))
