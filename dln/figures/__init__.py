"""Figures of runs and sweeps: functions of data and axes that return the axes, and whole figures built of them."""
