"""Training: a recipe as data, and what makes of it a run that can be stopped anywhere and goes on bit for bit."""
