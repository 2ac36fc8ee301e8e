"""Many runs from one plan: what they are, who computes them, and how far they are."""
