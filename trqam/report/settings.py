"""Which parameters are whose: what the settings tables share."""

from trqam.config.load import Config, domain_of
from trqam.report.selection import compared

CLIPPED = "clipped adjoint"  # zero where an action lies outside of its box


def base_method(config: Config, name: str) -> str | None:
    """The compared method that the ablation ``name`` has its agent from."""
    alike = [m for m in config.compared if config.methods[m].agent == config.methods[name].agent]
    return alike[0] if alike and name in config.scale.ablations else None


def own_parameters(config: Config) -> list[str]:
    """The methods of the scale that have parameters of their own, in the order of methods.yaml."""
    ablations = [name for name in config.scale.ablations if base_method(config, name) is None]
    return [method for method in [*compared(config), *ablations] if config.methods[method].parameters]


def per_domain(config: Config, method: str) -> list[str]:
    """The parameters that methods.yaml gives another value in some domain."""
    return list(dict.fromkeys(key for values in config.methods[method].domains.values() for key in values))


def runs_in(config: Config, method: str, domain: str) -> bool:
    """Whether the scale runs ``method`` on a task of ``domain``."""
    return any(m == method and domain_of(task) == domain for task, m in config.cells)
