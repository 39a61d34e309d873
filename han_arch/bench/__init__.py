"""`basicsr bench`: HAN's speed and memory against its peers, in one process, alternating."""
