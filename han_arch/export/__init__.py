"""Export networks to ONNX, OpenVINO and torch.export files, and compare the output of each file with PyTorch's."""
