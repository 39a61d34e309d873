"""Measure the scores and costs of networks, and write the tables and the HTML page of a leaderboard."""
