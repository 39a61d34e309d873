"""What makes any network faster: the allocator's memory, compilation, convolutions by Winograd's algorithm."""
