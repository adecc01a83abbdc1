"""timm's networks and the weights that fit them. Everything here may import torch."""
