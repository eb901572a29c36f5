"""Checking data before anything is measured on it."""
