"""Countermeasures: what makes an attack dearer, each with what it does when measured."""
