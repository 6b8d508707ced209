"""Tests of the photographs people have: real noise, coded and grey pictures, graphics, tone, and what is left of detail."""

from mirl.evaluate.people.development import DEVELOPMENT_SCENES as DEVELOPMENT_SCENES
from mirl.evaluate.people.development import development_crops as development_crops
