"""A report of an evaluation as one HTML file: table, plots, and pairs of frames to look at."""

from rdvfi.evaluation.html_report.example_pairs import ExamplePairs
from rdvfi.evaluation.html_report.report_page import write_page

__all__ = ["ExamplePairs", "write_page"]
