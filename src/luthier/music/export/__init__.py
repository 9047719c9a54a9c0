"""The music family's ONNX graphs: contracts, floors, quality, cards."""
