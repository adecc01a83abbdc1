"""Weights of a tiny model, and forms that a file may hold them in."""

import functools

import safetensors.torch
import timm
import torch

MODEL = "test_efficientnet"


@functools.cache
def all_tensors():
    """All tensors of the model, classifier included, rounded to what bfloat16 and float16 both hold."""
    torch.manual_seed(7)
    state = timm.create_model(MODEL).state_dict()
    return {
        name: tensor.bfloat16().half().float().clamp(-2, 2) if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }


def cast(tensors, dtype):
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def without(tensors, *parts):
    return {name: tensor for name, tensor in tensors.items() if not any(part in name for part in parts)}


def as_safetensors(tensors, path):
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
