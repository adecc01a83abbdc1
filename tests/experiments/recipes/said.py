"""What stands for a network where only its answers matter."""

import torch


class Said(torch.nn.Module):
    """A network that says what it was told, whatever it is shown."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers

    def forward(self, shown):
        return self.answers
