"""A report of an evaluation as one HTML file: table, plots, and pairs of frames to look at."""

from rdvfi.evaluation.html_report.example_pairs import ExamplePairs
from rdvfi.evaluation.html_report.report_page import check_page, write_page

__all__ = ["ExamplePairs", "check_page", "write_page"]
