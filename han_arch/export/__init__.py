"""Export networks to ONNX, OpenVINO and torch.export files, and compare the pixels of each file with PyTorch's."""
