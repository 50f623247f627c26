"""What the configuration files may hold: one struct a file's block, and `Run`, what they come to for one cell."""

from typing import Annotated, Any, Literal

import msgspec

from trqam.config.reading import seal
from trqam.config.strict import Strict

Count = Annotated[int, msgspec.Meta(ge=1, le=10**12)]
Width = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
Layers = Annotated[int, msgspec.Meta(ge=1, le=100)]
Small = Annotated[int, msgspec.Meta(ge=1, le=10_000)]  # of what there is a network, a process or a file each
Natural = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
CLONING = "behaviour_cloning"  # the method that clones, where a method does not name another
Finite = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300, description="a finite number")]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
NAME = r"[a-z0-9][a-z0-9_.-]{0,99}"
Name = Annotated[
    str,
    msgspec.Meta(pattern=rf"^{NAME}\Z", description="a name of small letters, digits, `_`, `-` and `.`"),
]
Label = Annotated[  # LaTeX and templates print it as it stands; no label needs what could be read as either
    str,
    msgspec.Meta(
        pattern=r"^[^\\{}\x00-\x1f\x7f-\x9f\u2028\u2029]{1,100}\Z",
        description="1 to 100 characters of plain text, without backslash and braces (no LaTeX, no templates)",
    ),
]
Prose = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[^\\{}\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]{0,2000}\Z",
        description="up to 2,000 characters of plain text, without backslash and braces (no LaTeX, no templates)",
    ),
]
FilePath = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f]+\Z", description="the path of a file or folder")]
Normalisation = bool | Literal["range"]  # of observations
Colour = Annotated[str, msgspec.Meta(pattern=r"^#[0-9a-f]{6}\Z", description="a colour such as '#0072b2'")]


class Domain(Strict):
    """A dataset of OGBench or Robomimic and what the experiment fixes for it (protocol: one row of the task table)."""

    label: Label
    horizon: Small
    hidden_width: Width
    hidden_layers: Layers
    actor_layer_norm: bool
    discount: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    pessimism: NotNegative
    kl_budget: Positive
    kl_budget_online: Positive | None
    normalise_observations: Normalisation
    in_paper: bool
    assumed: list[str]
    data_of: Label | None = None


class Method(Strict):
    """An agent, its hyper-parameters and how it is shown."""

    agent: Name
    label: Label
    group: Label
    colour: Colour
    stages: Annotated[list[Literal["pretrain", "offline", "online"]], msgspec.Meta(min_length=1)]
    parameters: dict[str, bool | int | float | str]
    domains: dict[str, dict[str, bool | int | float | str]]
    known: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()  # parameters that no paper gives
    reward_scale: Positive = 1.0
    cloned_by: Name = CLONING  # the method whose pretraining it begins from, or is


class Training(Strict):
    """What a scale file says, a cell's configuration takes over as it is, and every result is recorded with."""

    data_source: Literal["generated", "official"]
    transitions: Annotated[int, msgspec.Meta(ge=1, le=10**9)]
    data_seed: Natural
    sampling: Literal["uniform", "shards"]
    pretrain_steps: Count
    offline_steps: Count
    online_steps: Count
    online_start: Natural
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=2**20)]
    learning_rate: Positive
    target_rate: Fraction
    flow_steps: Annotated[int, msgspec.Meta(ge=2, le=10_000)]
    critics: Annotated[int, msgspec.Meta(ge=2, le=1000)]
    eval_interval: Count
    eval_episodes: Small
    eval_environments: Small
    log_interval: Count
    checkpoint_interval: Count


class Scale(Training, kw_only=True):
    """The keys of a scale file; config/config.yaml explains each."""

    scale: Name
    chosen: Prose = ""
    domains_file: FilePath
    methods_file: FilePath
    tasks: Annotated[list[Name], msgspec.Meta(min_length=1)]
    methods: Annotated[list[Name], msgspec.Meta(min_length=1)]
    baselines: list[Name]
    baseline_tasks: list[Name]
    ablations: list[Name]
    budgets: list[Positive]
    inverse_temperatures: list[Positive]
    reward_scales: list[Positive]
    ablation_tasks: list[Name]
    ablation_stages: list[Literal["offline", "online"]]
    ablation_eval_interval: Count
    seeds: Small
    seeds_per_job: Small
    replicas: Small | Literal["auto"]
    keep: Literal["policy", "all"]
    mixed: bool
    device: Literal["auto", "cpu", "cuda"]
    step: Literal["auto", "eager", "captured", "compiled"]
    data_dir: FilePath
    hidden_width: Width | None
    hidden_layers: Layers | None
    env_workers: Annotated[int, msgspec.Meta(ge=0, le=10_000)]


PATHS = ("domains_file", "methods_file", "data_dir")  # keys of a scale
TEXTS = ("scale", "chosen", *PATHS)  # those that are free text
EPISODE_TRANSITIONS = 1000  # of a generated dataset, at most; with one row more


class Run(Training):
    """Everything that determines the numbers of one cell (task x method); seeds come beside it."""

    task: str
    domain: str
    method: str
    agent: str
    parameters: dict[str, bool | int | float | str]
    kl_budget_online: float | None
    horizon: int
    hidden_width: int
    hidden_layers: int
    actor_layer_norm: bool
    discount: float
    pessimism: float
    normalise_observations: Normalisation
    reward_scale: float = 1.0  # what every reward of the data and of the environment is multiplied by
    cloned_by: str = CLONING  # of the method

    @property
    def cloned(self) -> str:
        """The name of the cloned policy that the run begins from, or that it makes."""
        return cloned(self.domain, self.cloned_by)

    def resolved(self, stage: str) -> dict[str, Any]:
        """The values that the results of ``stage`` depend on, as plain JSON types.

        Pretraining sees neither task nor method, offline training nothing of the online phase: editing what a stage
        does not read must not invalidate its results.
        """
        values = msgspec.to_builtins(self)
        online = ("online_steps", "online_start", "kl_budget_online")
        fine_tuning = ("offline_steps", "eval_interval", "eval_episodes", "eval_environments", "discount")
        cell = ("task", "method", "agent", "parameters", "pessimism", "critics", "target_rate", "flow_steps")
        drop = {"pretrain": online + fine_tuning + cell, "offline": online, "online": ()}[stage]
        drop += ("checkpoint_interval",)  # how often a run is saved changes no number
        # Defaults that older manifests do not name: a result stays valid when a choice is added.
        drop += ("sampling",) * (self.sampling == "uniform") + ("kl_budget_online",) * (self.kl_budget_online is None)
        drop += ("reward_scale",) * (stage == "pretrain" or self.reward_scale == 1)
        drop += ("cloned_by",) * (self.cloned_by == CLONING)
        return {key: value for key, value in values.items() if key not in drop}

    def at(self, stage: str) -> "Run":
        """The run as the agent of ``stage`` sees it: online the trust region may have another budget."""
        if stage != "online" or self.kl_budget_online is None:
            return self
        return msgspec.structs.replace(self, parameters={**self.parameters, "kl_budget": self.kl_budget_online})

    def digest(self, stage: str) -> str:
        """Sixteen hexadecimal digits of SHA-256 over the resolved values."""
        return digest(self.resolved(stage))


def cloned(domain: str, cloned_by: str) -> str:
    """The name of a cloned policy: its domain, and behind a plus the method that clones, if it is not the usual one."""
    return domain if cloned_by == CLONING else f"{domain}+{cloned_by}"


def digest(resolved: dict[str, Any]) -> str:
    """Sixteen hexadecimal digits of SHA-256 over what `Run.resolved` has given, or a manifest has recorded of it."""
    return seal(resolved)[:16]
