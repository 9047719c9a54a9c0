"""From ONNX graphs to tensors, with numpy and ONNX Runtime only."""
