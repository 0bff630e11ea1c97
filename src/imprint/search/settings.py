"""What a person may choose about the search."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from imprint.errors import SettingsError
from imprint.memory.config import MAX_EPISODES, MAX_GROUPS, RANKS, MemoryConfig, Target


class SpaceSettings(BaseModel):
    """The values each dimension of a memory config may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layer_groups: int = Field(default=4, ge=1, le=MAX_GROUPS, description="Groups of layers with a rank each.")
    ranks: tuple[int, ...] = Field(
        default=RANKS, min_length=1, description="Ranks a group may take; 0 is no memory there."
    )
    targets: tuple[Annotated[tuple[Target, ...], Field(min_length=1)], ...] = Field(
        default=(("down",), ("up", "down"), ("gate", "up", "down")), min_length=1, description="Sets of linears."
    )
    alpha_ratios: tuple[Annotated[float, Field(gt=0, le=64)], ...] = Field(
        default=(1.0, 2.0, 4.0), min_length=1, description="lora_alpha / rank."
    )
    n_memories: tuple[int, ...] = Field(default=(1, 2, 3, 4), min_length=1, description="Numbers of episodes.")
    learning_rate: tuple[float, float] = Field(default=(5e-4, 2e-2), description="Bounds, drawn log-uniformly.")
    epochs: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(
        default=(2, 4, 8), min_length=1, description="Passes over each episode's rows."
    )
    strengths: tuple[Annotated[float, Field(gt=0, le=4)], ...] = Field(
        default=(1.0,),
        min_length=1,
        description="What a trained update may be multiplied by. No dimension of TPE's: every trial is scored at each, "
        "which costs no training, and a study keeps the best.",
    )

    @field_validator("ranks")
    @classmethod
    def _known_ranks(cls, ranks: tuple[int, ...]) -> tuple[int, ...]:
        wrong = sorted(set(ranks) - set(RANKS))
        if wrong or not any(ranks):
            raise SettingsError(
                f"search.space.ranks: {ranks} given; allowed are values of {RANKS}, at least one above 0. "
                "Next: remove what is not among them."
            )
        return ranks

    @field_validator("n_memories")
    @classmethod
    def _known_episodes(cls, counts: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= count <= MAX_EPISODES for count in counts):
            raise SettingsError(
                f"search.space.n_memories: {counts} given; allowed are 1 to {MAX_EPISODES}. "
                "Next: remove what is not among them."
            )
        return counts

    @model_validator(mode="after")
    def _bounds_in_order(self) -> SpaceSettings:
        # hyperopt checks its bounds only where neither is 0, so ours are checked here
        low, high = self.learning_rate
        if not 0 < low < high <= 1:
            raise SettingsError(
                f"search.space.learning_rate: bounds [{low}, {high}] given; allowed is 0 < low < high <= 1. "
                "Next: put the smaller bound first, above 0."
            )
        return self


class SearchSettings(BaseModel):
    """How the memory config is found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: Literal["population", "cohort", "user"] = Field(
        default="user", description="Who has a config of their own: all users together, each cohort, or each user."
    )
    cohorts: int = Field(default=4, ge=1, description="Scope cohort: clusters of users by what the base makes of them.")
    warm_start: int = Field(
        default=4, ge=1, description="A further study begins at so many of the population's points, the surest first."
    )
    min_gain: float = Field(
        default=0.02,
        ge=0,
        description="Nats a response token: a user or cohort leaves the population's config for at least this gain.",
    )
    standard_errors: float = Field(
        default=1.0,
        ge=0,
        description="The population leaves the fixed config, where that lies in the space, only for a mean gain above "
        "so many of its standard errors over pilots; 0: for any gain.",
    )
    trials: int = Field(default=16, ge=1, le=10_000, description="Trials of the population's TPE study.")
    own_trials: int | None = Field(
        default=None, ge=1, le=10_000, description="Trials of each user's or cohort's study; null: as many as `trials`."
    )
    random_trials: int | None = Field(
        default=None, ge=0, description="Trials of the random study beside it; null: as many as TPE has."
    )
    startup_trials: int = Field(default=6, ge=1, description="First TPE trials drawn at random.")
    max_train_rows: int | None = Field(
        default=128, ge=8, description="A pilot trains on at most this many of their latest training rows; null: all."
    )
    max_validation_rows: int | None = Field(default=32, ge=1, description="And is scored on at most this many.")
    space: SpaceSettings = SpaceSettings()


class TrialSettings(BaseModel):
    """One memory config as single values, which a search outside of Imprint can set one by one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ranks: dict[str, int] = Field(min_length=1, description="Rank by layer group, `group_1` the first layers.")
    targets: tuple[Target, ...] = Field(description="Linears that carry a LoRA.")
    alpha_ratio: float = Field(description="lora_alpha / rank.")
    n_memories: int = Field(description="Episodes the history is cut into.")
    learning_rate: float = Field(description="Peak learning rate of AdamW.")
    epochs: int = Field(description="Passes over each episode's rows.")

    @field_validator("ranks")
    @classmethod
    def _groups_in_order(cls, ranks: dict[str, int]) -> dict[str, int]:
        named = [f"group_{number}" for number in range(1, len(ranks) + 1)]
        if sorted(ranks) != sorted(named):
            raise SettingsError(
                f"trial.ranks: {sorted(ranks)} given; allowed are group_1, group_2 and so on, none left out. "
                "Next: name a rank for each."
            )
        return {name: ranks[name] for name in named}

    def config(self, layers: int) -> MemoryConfig:
        """The config for a base of so many layers: with fewer layers than groups, each layer is a group of its own.

        Pydantic's `ValidationError`, a `ValueError`, for one that no base could carry.
        """
        return MemoryConfig(**{**self.model_dump(), "ranks": tuple(self.ranks.values())[:layers]})
