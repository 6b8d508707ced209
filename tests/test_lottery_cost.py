"""What a ticket costs to compute, by the way it was pruned."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import MINI, mini_weights
from mirl.layers import parameters
from mirl.lottery.prune import Masks, Weights, dense_masks, initial_scales, plan_levels, scores, shrink_masks
from mirl.recipe import NetworkConfig, PruneConfig, small_laboratory
from mirl.ticket import Ticket

NORMALISE = ("initial-rms", "prompts", "none")
SMALL = small_laboratory().network
START = {network: mini_weights(network=network) for network in (MINI, SMALL)}


def pruned(network: NetworkConfig, prune: PruneConfig, weights: Weights | None = None, keep: int | None = None) -> Masks:
    start = START[network]
    ranking = scores(weights or start, initial_scales(start, network, prune), network, prune)
    count = plan_levels(network, prune)[-1] if keep is None else keep
    return shrink_masks(dense_masks(network, prune), ranking, count, prune)


def macs(network: NetworkConfig, masks: Masks) -> float:
    return sum(p.uses_per_pixel * int(np.count_nonzero(masks[p.name])) for p in parameters(network) if p.name in masks)


@pytest.mark.parametrize("normalise", NORMALISE)
@pytest.mark.parametrize("depthwise", [True, False])
@pytest.mark.parametrize("floor", [0.0, 0.01])
def test_score_macs_never_costs_more_macs_than_magnitude_at_the_same_density(normalise, depthwise, floor):
    found = {
        score: pruned(SMALL, PruneConfig(score=score, normalise=normalise, depthwise=depthwise, min_layer_density=floor))
        for score in ("magnitude", "macs")
    }
    kept = {score: sum(int(mask.sum()) for mask in masks.values()) for score, masks in found.items()}
    assert kept["macs"] == kept["magnitude"]
    assert macs(SMALL, found["macs"]) <= macs(SMALL, found["magnitude"])


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(NORMALISE), st.sampled_from([0.0, 0.05]), st.floats(0.1, 1), st.integers(0, 99), st.booleans())
def test_score_macs_never_costs_more_whatever_training_did(normalise, floor, share, seed, ties):
    rng = np.random.default_rng(seed)
    weights = {n: w + rng.normal(0, 0.1, w.shape).astype(np.float32) for n, w in START[MINI].items()}
    if ties:
        weights = {n: np.round(w * 4) / 4 for n, w in weights.items()}
    keep = int(share * sum(mask.size for mask in dense_masks(MINI, PruneConfig()).values()))
    cost = {
        score: macs(
            MINI, pruned(MINI, PruneConfig(score=score, normalise=normalise, min_layer_density=floor), weights, keep)
        )
        for score in ("magnitude", "macs")
    }
    assert cost["macs"] <= cost["magnitude"]


@pytest.mark.parametrize("normalise", NORMALISE)
def test_score_macs_leaves_less_than_half_of_the_work_after_compaction(normalise):
    sparse = pytest.importorskip("mirl.engine.sparse")
    left = {}
    for score in ("magnitude", "macs"):
        masks = pruned(SMALL, PruneConfig(score=score, normalise=normalise, min_layer_density=0.01))
        weights = {name: weight * masks[name] if name in masks else weight for name, weight in START[SMALL].items()}
        left[score] = sparse.NativeBackend(Ticket(SMALL, weights, masks), threads=1).facts.macs_per_pixel
    assert left["macs"] < 0.5 * left["magnitude"]


@pytest.mark.parametrize("depthwise", [True, False])
def test_in_the_scope_of_a_layer_both_scores_keep_the_same_weights(depthwise):
    magnitude, by_macs = (
        pruned(SMALL, PruneConfig(scope="layer", score=score, depthwise=depthwise)) for score in ("magnitude", "macs")
    )
    assert all(np.array_equal(mask, by_macs[name]) for name, mask in magnitude.items())


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("score", ["magnitude", "macs"])
def test_depthwise_filters_stay_whole_when_told_to_and_the_others_make_up_for_them(scope, score):
    filters = {p.name for p in parameters(SMALL) if p.kind == "depthwise"}
    total = sum(p.size for p in parameters(SMALL))
    for depthwise in (True, False):
        masks = pruned(SMALL, PruneConfig(scope=scope, score=score, depthwise=depthwise))
        assert (filters <= set(masks)) == depthwise
        assert filters.isdisjoint(masks) != depthwise
        assert total - sum(int((~mask).sum()) for mask in masks.values()) == int(0.1 * total)
