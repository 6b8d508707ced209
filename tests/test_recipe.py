from dataclasses import replace

import pytest

from mirl.degrade.tasks import TASKS
from mirl.errors import MirlError
from mirl.lottery.schedule import level_updates
from mirl.recipe import (
    RECIPES,
    PruneConfig,
    Recipe,
    TrainConfig,
    named_recipe,
    recipe_from_dict,
    small,
    tiny,
    to_dict,
)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json_and_name_real_tasks(name: str):
    recipe = named_recipe(name)
    assert recipe.name == name
    assert recipe_from_dict(to_dict(recipe)) == recipe
    assert {share.task for share in recipe.tasks} <= set(TASKS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["network"].pop("width") and v["network"].update(width="4"), "width"),
        (lambda v: v.update(colour="red"), "unknown field 'colour'"),
        (lambda v: v["prune"].update(scope="somewhere"), "scope"),
        (lambda v: v["train"].update(steps=True), "steps"),
        (lambda v: v["network"].update(blocks=[1, 2]), "blocks"),
        (lambda v: v.pop("train"), "train"),
        (lambda v: v.update(tasks=3), "tasks"),
    ],
)
def test_a_damaged_recipe_names_the_field(change, message: str):
    values = to_dict(tiny())
    change(values)
    with pytest.raises(MirlError, match=message):
        recipe_from_dict(values)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PruneConfig(keep=0),
        lambda: PruneConfig(keep=1.5),
        lambda: PruneConfig(fraction=1),
        lambda: PruneConfig(min_layer_density=2),
        lambda: TrainConfig(steps=0),
        lambda: TrainConfig(steps=1, patch=12),
        lambda: TrainConfig(steps=1, learning_rate=0),
        lambda: TrainConfig(steps=1, warmup_steps=2),
        lambda: TrainConfig(steps=1, ema_decay=1),
        lambda: replace(tiny(), tasks=()),
        lambda: replace(tiny(), rewind_step=10**6),
        lambda: named_recipe("huge"),
    ],
)
def test_impossible_values_are_refused(make):
    with pytest.raises(MirlError, match=r"found|expected|needs"):
        make()


def test_a_recipe_is_frozen():
    with pytest.raises(AttributeError):
        tiny().seed = 3  # type: ignore[misc]
    assert isinstance(tiny(), Recipe)


def test_early_patches_are_smaller_and_as_many_more() -> None:
    train = TrainConfig(steps=100, batch=4, patch=128, early_patch=64, early_share=0.25)
    assert [train.batch_at(step) for step in (0, 24, 25, 99)] == [(16, 64), (16, 64), (4, 128), (4, 128)]
    assert TrainConfig(steps=10).batch_at(0) == (8, 64)
    for wrong in ({"early_patch": 64}, {"early_share": 0.5}, {"early_patch": 48, "early_share": 0.5}):
        with pytest.raises(MirlError, match="early_patch"):
            TrainConfig(steps=10, patch=128, **wrong)


def test_gradual_pruning_shares_one_schedule_among_its_levels() -> None:
    recipe = replace(small(), train=TrainConfig(steps=1000), prune=PruneConfig(fraction=0.5, reset="none"), rewind_step=0)
    spans = [level_updates(recipe, level, 5) for level in range(5)]
    assert spans == [(0, 1000), (0, 62), (62, 125), (125, 187), (187, 1000)]
    with pytest.raises(MirlError, match="rewinds no weights"):
        replace(recipe, rewind_step=10)
    with pytest.raises(MirlError, match="too few"):
        level_updates(replace(recipe, train=TrainConfig(steps=10)), 1, 5)
