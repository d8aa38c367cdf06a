"""What every room stands on: configs, identity, errors, units, randomness. Imports nothing of ours."""
