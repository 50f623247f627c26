"""What a scale can sweep: methods that differ from one of the table in the value of a single setting."""

from typing import Any, NamedTuple

import msgspec

from trqam.config.schema import Method


class Sweep(NamedTuple):
    """A setting, and the methods of which it is varied.

    ``setting`` is a parameter of the agents or a field of `Method`; ``online`` are fields of a run that replace it in
    that stage. ``name`` and ``label`` of a variant take the method's and the value. ``title`` heads all variants,
    ``words`` stand before the values in a sentence, ``quantity`` and ``unit`` at an axis.
    """

    setting: str
    methods: tuple[str, ...]
    name: str
    label: str
    title: str
    words: str
    quantity: str
    unit: str
    online: tuple[str, ...] = ()

    def variant(self, method: Method, value: float, colour: str) -> Method:
        """``method`` with ``value``, which holds in all domains."""
        changes: dict[str, Any] = {self.setting: value}
        if self.setting not in Method.__struct_fields__:
            others = {
                domain: {key: own for key, own in values.items() if key != self.setting}
                for domain, values in method.domains.items()
            }
            changes = {"parameters": {**method.parameters, self.setting: value}, "domains": others}
        label = self.label.format(method.label, value)
        return msgspec.structs.replace(method, label=label, group=self.title, colour=colour, **changes)


class Variant(NamedTuple):
    """``method`` with another ``value`` of what ``key`` of the scale lists."""

    key: str
    method: str
    value: float


SWEEPS = {  # by the scale's key that lists the values
    "budgets": Sweep(
        "kl_budget", ("trqam",), "{}_budget_{:g}", "{}, budget {:g}", "Budget sweep", "a KL budget of",
        "KL budget", "nats", ("kl_budget_online",),
    ),
    "inverse_temperatures": Sweep(
        "inverse_temperature", ("qam",), "{}_temperature_{:g}", "{}, inverse temperature {:g}", "Temperature sweep",
        "an inverse temperature of", "inverse temperature", "1 / Q",
    ),
    "reward_scales": Sweep(
        "reward_scale", ("trqam", "qam"), "{}_rewards_{:g}", "{}, rewards times {:g}", "Scale of rewards",
        "all rewards multiplied by", "rewards", "times the task's",
    ),
}  # fmt: skip
SHADES = {"trqam": ((255, 170, 60), (40, 10, 70)), "qam": ((120, 200, 240), (10, 20, 90))}  # RGB of the ends


def shade(method: str, share: float) -> str:
    """The colour of a variant of ``method``, from its light shade (0) to its dark one (1)."""
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(*SHADES[method], strict=True))
