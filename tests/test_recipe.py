from dataclasses import replace

import pytest

from mirl.degrade.tasks import TASKS
from mirl.errors import MirlError
from mirl.recipe import (
    RECIPES,
    PruneConfig,
    Recipe,
    TrainConfig,
    named_recipe,
    recipe_from_dict,
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
