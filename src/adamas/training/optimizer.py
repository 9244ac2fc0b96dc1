"""One optimizer: AdamW with warm-up, decay of its rate, clipping, and steps that are skipped when they are not finite."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from adamas import config
from adamas.utils.errors import UserError

DECAY_TO = 0.1  # share of the learning rate that is left after `decay_updates`
LOOK_EVERY = 10  # updates, each of `steps_per_update` steps, between two looks at the counter that lives on the device, for which the CPU waits
PATIENCE = 10  # skipped steps in a row, at a look, that end the run


class Optimizer:
    """Turns the gradients of a loss into an update of `module`.

    Args:
        name: of the part, for messages.
        module: whose parameters it moves.
        c: its learning rate and schedule.
        weight_decay: of matrices and kernels; biases, norms and embeddings do not decay.
        warmup_updates: over which the learning rate rises linearly, from 0 at the first.
        max_grad_norm: gradients are scaled down to this l2 norm.
        steps_per_update: steps that make one update in the sense of `c` and `warmup_updates`.
        eps: of AdamW.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        c: config.Optimization,
        weight_decay: float = 0.0,
        warmup_updates: int = 0,
        max_grad_norm: float = float("inf"),
        steps_per_update: int = 1,
        eps: float = 1e-8,
    ) -> None:
        self.name, self.config, self.warmup_updates, self.max_grad_norm = name, c, warmup_updates, max_grad_norm
        self.steps_per_update = steps_per_update
        self.parameters = list(module.parameters())
        self.adamw = torch.optim.AdamW(_groups(module, weight_decay), lr=c.learning_rate, eps=eps, fused=True)
        device = self.parameters[0].device
        self.steps = 0
        self.skipped = torch.zeros((), device=device)  # in all
        self.in_a_row = torch.zeros((), device=device)

    @property
    def learning_rate(self) -> float:
        """Rises linearly over the warm-up; falls linearly over `decay_updates` to the share DECAY_TO, then stays."""
        c, done = self.config, self.steps // self.steps_per_update
        rise = min(1.0, done / self.warmup_updates) if self.warmup_updates else 1.0
        fallen = min(1.0, done / c.decay_updates) if c.decay_updates else 0.0
        return c.learning_rate * rise * (1 - (1 - DECAY_TO) * fallen)

    def step(self, loss: Tensor) -> Tensor:
        """Clips the gradients of this loss and steps. Returns their l2 norm before clipping, float ().

        Raises:
            UserError: a look found that the last PATIENCE steps, or more, were not finite. The weights are still those
                before them.
        """
        norm = nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        bad = ~(norm.isfinite() & loss.isfinite())
        for group in self.adamw.param_groups:
            group["lr"] = self.learning_rate
        vars(self.adamw)["found_inf"] = bad.float()  # the fused kernel skips the step where this is 1, without a wait
        self.adamw.step()
        self.steps += 1
        self.skipped += bad
        self.in_a_row.add_(1).mul_(bad)
        if self.steps % (LOOK_EVERY * self.steps_per_update) == 0 and self.in_a_row >= PATIENCE:
            raise UserError(
                f"{self.name}: {PATIENCE} steps in a row had a loss or gradient that was not finite; "
                f"lower {self.name}.optimization.learning_rate (now {self.config.learning_rate:g}) or use precision=float32"
            )
        return norm

    def state_dict(self) -> dict[str, Any]:
        return {
            "adamw": self.adamw.state_dict(),
            "updates": self.steps,
            "steps_per_update": self.steps_per_update,
            "skipped": self.skipped,
            "in_a_row": self.in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        ours, theirs = self.adamw.state_dict()["param_groups"], state["adamw"]["param_groups"]
        groups = [{**mine, "lr": saved["lr"]} for mine, saved in zip(ours, theirs, strict=True)]  # settings of now
        self.adamw.load_state_dict({**state["adamw"], "param_groups": groups})
        self.steps = state["updates"] * self.steps_per_update // state.get("steps_per_update", self.steps_per_update)
        self.skipped.copy_(state["skipped"])
        self.in_a_row.copy_(state["in_a_row"])


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    decayed = [p for p in module.parameters() if p.ndim >= 2 and id(p) not in embeddings]
    free = [p for p in module.parameters() if p.ndim < 2 or id(p) in embeddings]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
