"""A method that somebody adds: one file, one class and one block, which inherits TRQAM's hyper-parameters."""

from pathlib import Path

AGENT = '''"""TRQAM that follows the critic at a temperature of its own, and logs how much that moves."""

from trqam.agents.trqam import TRQAM


class Toy(TRQAM):
    def inverse_temperature(self):
        return self.parameters.warmth

    def policy_loss(self, state, batch, noise):
        loss, metrics = super().policy_loss(state, batch, noise)
        return loss, {**metrics, "warm_adjoint": self.parameters.warmth * metrics["adjoint_norm"]}


AGENT = Toy
'''
CLASS = """

@of("toy")
class ToyParameters(TRQAMParameters):
    warmth: Positive
"""
BLOCK = """
toy:
  agent: toy
  label: Toyland
  group: Ours
  colour: "#123456"
  stages: [pretrain, offline, online]
  parameters: {warmth: 0.5, clip_adjoint: true, initial_multiplier: 1.0, multiplier_scale: 3.0, dual_rate: 0.01,
    kl_ema_rate: 0.1, kl_clip: 2.0, multiplier_min: 0.01, multiplier_max: 100.0}
  domains: {}
"""


def add_toy(folder: Path) -> None:
    """To a copy of the project."""
    (folder / "trqam/agents/toy.py").write_text(AGENT)
    for name, text in (("trqam/config/parameters.py", CLASS), ("config/methods.yaml", BLOCK)):
        with (folder / name).open("a") as file:
            file.write(text)
