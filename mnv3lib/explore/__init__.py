"""Seeing a configuration: the explorer, the network map and the figures. All numbers come from :mod:`mnv3lib.cost`."""
