"""What a ranking, a probability, a box or an explanation is worth."""
