"""The hyper-parameters of every agent: a class each, which may inherit from another's. Free of torch.

`config/methods.yaml` gives the values; the agent's file, trqam/agents/NAME.py, says what they do.
"""

from collections.abc import Callable
from typing import ClassVar, Literal

from trqam.config.schema import Fraction, NotNegative, Positive, Small, Width
from trqam.config.strict import Strict

Policy = Literal["flow", "diffusion"]  # between noise and action (`trqam.maths.interpolants`)
OF_AGENT: dict[str, type[Strict]] = {}


def of(agent: str) -> Callable[[type[Strict]], type[Strict]]:
    """Makes a class that of an agent, by the name of its file."""

    def known(struct: type[Strict]) -> type[Strict]:
        OF_AGENT[agent] = struct
        return struct

    return known


def policy_of(agent: str) -> Policy:
    """What an agent's policy is, and the one that is cloned for it: a flow, unless its class says ``policy``."""
    return getattr(OF_AGENT[agent], "policy", "flow")


@of("behaviour_cloning")
class NoParameters(Strict):
    """Behaviour cloning has none."""


@of("diffusion_cloning")
class DiffusionCloningParameters(NoParameters):
    """None."""

    policy: ClassVar[Policy] = "diffusion"


@of("fql")
class FQLParameters(Strict):
    """FQL's."""

    distillation: NotNegative  # alpha


@of("ifql")
class IFQLParameters(Strict):
    """IFQL's."""

    expectile: Fraction  # kappa
    samples: Small  # N


@of("cgql_l")
class CGQLParameters(Strict):
    """CGQL-L's."""

    inverse_temperature: Positive
    guidance: NotNegative
    noisy_weight: NotNegative  # of the loss on noised actions
    exponent_clip: Positive  # beyond it LinEx is linear


@of("dsrl")
class DSRLParameters(Strict):
    """DSRL's."""

    noise_scale: Positive
    entropy_per_dimension: float  # target entropy over D


@of("qam")
class QAMParameters(Strict):
    """QAM's."""

    inverse_temperature: Positive
    clip_adjoint: bool


@of("qam_e")
class QAMEditParameters(QAMParameters):
    """QAM's and the edit policy's."""

    edit_scale: NotNegative
    entropy_per_dimension: float  # target entropy over D


class TrustRegionParameters(Strict):
    """Of the dual step; kl_budget is the domain's unless the method sets it."""

    clip_adjoint: bool
    kl_budget: Positive
    initial_multiplier: NotNegative
    dual_rate: NotNegative
    kl_ema_rate: Fraction
    kl_clip: Positive
    multiplier_min: NotNegative
    multiplier_max: Positive


@of("trqam")
class TRQAMParameters(TrustRegionParameters):
    """TRQAM's: its multiplier, which divides, is not zero."""

    initial_multiplier: Positive
    multiplier_scale: NotNegative


@of("trqam_scheduled")
class ScheduledTRQAMParameters(TRQAMParameters):
    """TRQAM's, and how the budget moves, in units of kl_budget."""

    schedule: Literal["linear", "cosine", "critic"]
    first_budget: NotNegative
    last_budget: NotNegative


@of("trqam_divergence")
class DivergenceTRQAMParameters(TRQAMParameters):
    """TRQAM's, and what the dual step holds at kl_budget."""

    divergence: Literal["reverse", "renyi"]


@of("sqam")
class SQAMParameters(TRQAMParameters):
    """TRQAM's and the weight c of the value penalty."""

    value_penalty: NotNegative


@of("external_kl")
class ExternalKLParameters(TrustRegionParameters):
    """The dual step's and QAM's inverse temperature (assumed: the domain's)."""

    inverse_temperature: Positive


@of("trqam_scalar")
class TRQAMScalarParameters(TRQAMParameters):
    """TRQAM's."""


@of("trqam_diffusion")
class TRQAMDiffusionParameters(TRQAMParameters):
    """TRQAM's."""

    policy: ClassVar[Policy] = "diffusion"


@of("trqam_per_state")
class TRQAMPerStateParameters(Strict):
    """TRQAM's without an average of the KL, and the network's behind lambda(s), whose logarithm and slope are taken."""

    clip_adjoint: bool
    kl_budget: Positive
    initial_multiplier: Positive
    multiplier_scale: NotNegative
    multiplier_width: Width
    multiplier_gain: Positive
    dual_rate: Positive
    kl_clip: Positive
    multiplier_min: Positive
    multiplier_max: Positive
