"""`basicsr bench` compares networks; `basicsr data bench` compares the speed of data loading and of the network."""
