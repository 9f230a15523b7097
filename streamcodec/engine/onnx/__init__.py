"""The step as ONNX graphs: written from a model's architecture and weights, exported for other programs, run by ONNX Runtime."""
