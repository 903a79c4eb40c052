"""Names of accelerators, strategies and precisions that training takes; no import of torch.

Apart from `captioner.config.schema.check`, which checkpoints pass too: a checkpoint trained on a
TPU captions anywhere.
"""

from captioner.config.schema import TrainerConfig
from captioner.errors import UsageError, suggestion

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")

STRATEGIES = (
    "auto",
    "ddp",
    "ddp_find_unused_parameters_true",
    "ddp_find_unused_parameters_false",
    "ddp_fork",
    "ddp_notebook",
    "single_device",
)
"""Those that keep all weights on each device, as the checkpoints expect."""

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "32", "bf16", "16")
"""Those that keep weights in single precision, as the checkpoints expect; the last three are
Lightning's other names of the first three."""


def check_names(trainer: TrainerConfig) -> None:
    """Refuse names that training does not take.

    Raises:
        UsageError: the first unknown one, with the choices.
    """
    for name, value, choices in (
        ("accelerator", trainer.accelerator, ACCELERATORS),
        ("strategy", trainer.strategy, STRATEGIES),
        ("precision", trainer.precision, PRECISIONS),
    ):
        if value not in choices:
            near = suggestion(value, choices)
            near = f"{near} " if near.endswith("?") else ""
            listed = ", ".join(choices)
            raise UsageError(
                f"trainer.{name}: unknown {name} {value!r}; {near}choose one of {listed}"
            )
