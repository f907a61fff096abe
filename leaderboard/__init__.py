"""The static leaderboard: records in, site out. Imports no torch."""
