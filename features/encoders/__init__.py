"""Encoders: what one is, its folder, and running it in torch or ONNX Runtime."""
