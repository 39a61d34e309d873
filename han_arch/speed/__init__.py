"""What makes any network faster: kept memory, compiled blocks, convolutions by Winograd's algorithm."""
