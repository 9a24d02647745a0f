"""Datasets in several files of consecutive showers: many machines write them, and one object reads them."""
