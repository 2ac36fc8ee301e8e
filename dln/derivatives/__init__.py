"""Derivatives of the loss of a deep linear network, in closed form."""
