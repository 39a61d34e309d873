"""Measure networks: protocols, scores, costs, and the tables and HTML page of a leaderboard."""
