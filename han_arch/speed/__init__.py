"""Make any network faster: keep freed memory, compile blocks, lower the precision, use Winograd's algorithm."""
