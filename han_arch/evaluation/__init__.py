"""Measure networks: protocols, scores, costs, and the tables and the page of a leaderboard."""
